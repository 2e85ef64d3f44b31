"""Unfinished work on disks that are full or read-only, and files of any content: nothing lost, nothing misread."""

import dataclasses
import errno
import importlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn import escape, notebook, records
from flatdyn.basins import labels
from flatdyn.core import stores
from flatdyn.sweeps import grid

KEY = jax.random.key(0)
L = fd.landscapes.saddle((2.0, -2.0))
NOISY = fd.Iteration(L, fd.GD(0.1), fd.noise.Gaussian(1.0))
WELLS = fd.Iteration(fd.Landscape.from_expression("(x**2 - 1)**2 / 4", "x", box=((-2, 2),)), fd.GD(0.1))
DATA = fd.networks.spirals(20, 1.0)
TASK = fd.networks.classifier(fd.networks.MLP((2, 4, 2), KEY), DATA)
TRAINED = fd.Iteration(TASK.landscape, fd.GD(0.1))


def escapes(store, **options):
    return escape.escape_times(NOISY, jnp.zeros(2), escape.Ball((0.0, 0.0), 0.5), 8, 50, KEY, store=store, **options)


def mapped(store, **options):
    return fd.map_basins(WELLS, ((-2, 2),), 9, [(-1.0,), (1.0,)], max_steps=500, store=store, **options)


def trained(store, **options):
    return fd.networks.train(TASK, TRAINED, TASK.start, 4, every=2, eval_sets={"data": DATA}, store=store, **options)


def swept(store, **options):
    return fd.sweep(
        lambda lr: fd.Iteration(L, fd.GD(lr)), {"lr": [0.1, 0.2]}, lambda p, key: 1.0, store=store, **options
    )


def shares(store, **options):
    call = lambda lr: WELLS, "lr", [0.1], [(-2.0, 2.0)], 20, KEY, [(-1.0,), (1.0,)]
    return fd.fractions_in(*call, max_steps=500, store=store, **options)


FILES, FOLDERS = (escapes, mapped, trained), (swept, shares)
ALL = FILES + FOLDERS


def numbers(result):
    arrays = result.arrays() if hasattr(result, "arrays") else {name: result[name].values for name in result}
    return {name: np.asarray(values) for name, values in arrays.items() if name != "seconds"}


@pytest.fixture(scope="module")
def plain():
    return {call: numbers(call(None)) for call in ALL}


def place(call, folder):
    return folder / "kept"


def kept(call, folder):
    """The file that a finished call has left."""
    files = sorted(place(call, folder).glob("*.npz"))
    assert len(files) == (2 if call is swept else 1)
    return files[0]


# --- places that can't be written -----------------------------------------------------------------------------


@pytest.fixture
def working(monkeypatch):
    """Whether anything was computed."""
    calls = []
    work = (fd.runs.queues, "_worker"), (fd.networks.training.training, "_advance"), (fd.basins.searches, "discover")
    for module, name in work:
        monkeypatch.setattr(
            module, name, lambda *args, **kwargs: calls.append(1) or pytest.fail("it has begun to work")
        )
    return calls


def no_room(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(*_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("call", [*FILES, shares])
@pytest.mark.parametrize("broken", [no_room, read_only])
def test_a_place_that_cannot_be_written_is_found_before_the_work(call, broken, tmp_path, monkeypatch, working):
    monkeypatch.setattr(os, "open" if broken is read_only else "fsync", broken)
    with pytest.raises(OSError, match=r"store: .*kept.* can't be written.*free\): make room, or give another folder"):
        call(place(call, tmp_path))
    with pytest.raises(ValueError, match="can't be written"):
        call(place(call, tmp_path))


def test_a_sweep_asks_nothing_where_it_cannot_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space left on device"):
        fd.sweep(lambda lr: WELLS, {"lr": [0.1]}, lambda p, key: pytest.fail("asked"), store=tmp_path)


def test_a_map_finds_out_before_it_looks_for_attractors(tmp_path, monkeypatch, working):
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space left"):
        fd.map_basins(WELLS, ((-2, 2),), 9, store=tmp_path / "kept")
    assert not working


def test_too_little_room_for_the_end_of_the_work_is_known_at_its_start(tmp_path, monkeypatch, working):
    usage = stores.shutil.disk_usage
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda path: usage(path)._replace(free=100))
    with pytest.raises(OSError, match=r"0\.2 KiB are needed; 0\.1 KiB are free"):  # 8 (1 + 8 + 1 + 1 + 2 * 8) bytes
        escapes(tmp_path / "kept")


def test_files_as_earlier_versions_wrote_them_and_no_path_at_all(tmp_path, contents, working):
    (tmp_path / "file").write_bytes(contents[escapes].read_bytes())
    for call in ALL:
        with pytest.raises(ValueError, match=r"store must be a folder, .*file is a file, which is not read: delete it"):
            call(tmp_path / "file")
        with pytest.raises(ValueError, match="store must be a path, got 3"):
            call(3)
        with pytest.raises(ValueError, match="can't be written"):
            call(tmp_path / "file" / "kept")  # below a file
    assert not working


def test_many_calls_share_a_folder(tmp_path, plain, monkeypatch):
    for call in (escapes, mapped, trained, shares):
        call(tmp_path)
    more = escape.escape_times(NOISY, jnp.zeros(2), escape.Ball((0.0, 0.0), 0.5), 9, 50, KEY, store=tmp_path)
    assert len(more.steps) == 9
    monkeypatch.setattr(os, "open", read_only)  # all of it is read
    for call in (escapes, mapped, trained, shares):
        for name, values in numbers(call(tmp_path)).items():
            assert_array_equal(values, plain[call][name])


def test_a_file_that_its_owner_protects_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "kept.npz"
    path.write_text("mine")
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user who is not root
    with pytest.raises(OSError, match="write-protected"):
        stores.check_writable(path)


@pytest.mark.parametrize("call", ALL)
def test_what_is_finished_can_be_read_where_nothing_can_be_written(call, tmp_path, monkeypatch, plain):
    call(place(call, tmp_path))
    monkeypatch.setattr(os, "open", read_only)
    for name, values in numbers(call(place(call, tmp_path))).items():
        assert_array_equal(values, plain[call][name])


# --- disks that fill up on the way ----------------------------------------------------------------------------


def full_after(number, monkeypatch, until=10**9):
    """Let the disk be full from one write on, to another one."""
    calls, fsync = [], os.fsync

    def full(handle):
        calls.append(1)
        if number < len(calls) <= until:
            no_room()
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    return calls


@pytest.mark.parametrize("call", ALL)
def test_a_disk_that_fills_up_ends_nothing(call, tmp_path, monkeypatch, plain):
    monkeypatch.setattr(stores, "CHECKPOINT_SECONDS", 0.0)
    full_after(2 if call is mapped else 1, monkeypatch)  # a map looks before its search for attractors, too
    with pytest.warns(UserWarning, match="could not be written|keep the result") as warned:
        found = call(place(call, tmp_path))
    for name, values in numbers(found).items():
        assert_array_equal(values, plain[call][name])
    first, last = (str(warning.message) for warning in warned)  # once on the way, once at the end
    assert "could not be written" in first
    assert "No space left on device" in first
    assert str(place(call, tmp_path)) in first
    assert "keep the result yourself" in last
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("call", [trained, swept])
def test_what_did_not_fit_is_kept_when_there_is_room_again(call, tmp_path, monkeypatch, plain):
    monkeypatch.setattr(stores, "CHECKPOINT_SECONDS", 0.0)
    full_after(1, monkeypatch, until=2)
    with pytest.warns(UserWarning, match="the next checkpoint tries again") as warned:
        call(place(call, tmp_path))
    assert len(warned) == 1
    monkeypatch.undo()
    if call is swept:
        assert len(list(place(call, tmp_path).glob("*.npz"))) == 2
    for name, values in numbers(call(place(call, tmp_path))).items():
        assert_array_equal(values, plain[call][name])


LIMITED = """
import resource, sys, warnings
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
import flatdyn as fd
noisy = fd.Iteration(fd.landscapes.saddle((2.0, -2.0)), fd.GD(0.1), fd.noise.Gaussian(1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # the operating system refuses: no pretence
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    found = fd.escape_times(noisy, jnp.zeros(2), fd.escape.Ball((0.0, 0.0), 0.5), 2000, 50, jax.random.key(0),
                            store=sys.argv[1])
print(int(found.steps.sum()), [str(warning.message).split(":")[0] for warning in warned])
"""


def test_a_file_that_the_system_refuses_loses_no_run(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "kept")]
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}  # it writes, too
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    found = escape.escape_times(NOISY, jnp.zeros(2), escape.Ball((0.0, 0.0), 0.5), 2000, 50, KEY)
    assert printed.startswith(f"{int(found.steps.sum())} ")
    assert "File too large" in printed
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_folder_in_place_of_a_file_is_said(tmp_path):
    """The remedy is said, whichever way a call keeps its work."""
    for call in (escapes, swept):
        store = tmp_path / call.__name__
        call(store)
        (file,) = [path for path in store.iterdir() if path.suffix == ".npz"][:1]
        file.unlink()
        file.mkdir()
        with pytest.raises(OSError, match=r"\.npz is a folder where a file is kept: move it away"):
            call(store)


def test_a_link_to_nothing_is_no_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="link is a link to nothing: make its target"):
        swept(tmp_path / "link")


# --- modes and left-overs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_the_umask_gives(mask, tmp_path):
    before = os.umask(mask)
    try:
        records.write_whole(tmp_path / "folder" / "x.npz", b"content")
        swept(tmp_path / "cells")
        paths = [tmp_path / "folder" / "x.npz", *(tmp_path / "cells").iterdir()]
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o666 & ~mask}


def test_parts_that_a_kill_left_are_cleared_when_they_are_old(tmp_path):
    old, new, other = (tmp_path / f".{name}.part" for name in ("kept.npz.0a", "kept.npz.0b", "mine.npz.0a"))
    for path in (old, new, other):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    stores.check_writable(tmp_path / "kept.npz")
    assert not old.exists()
    assert new.exists()  # another process may be writing it
    assert other.exists()


# --- files of any content -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The file of each finished call."""
    folder, found = tmp_path_factory.mktemp("contents"), {}
    for call in ALL:
        (folder / call.__name__).mkdir()
        call(place(call, folder / call.__name__))
        found[call] = kept(call, folder / call.__name__)
    return found


def spoilt(path):
    """Versions of a file that a reader could trip over."""
    arrays, header = records.load_arrays(path)
    yield from ((arrays, other) for other in ([], "text", {}, 3, None))
    yield {}, header
    yield arrays | {"more": np.zeros(3)}, header
    for name, values in arrays.items():
        yield {key: array for key, array in arrays.items() if key != name}, header
        if name != "value.value":  # a cell of another shape is seen beside the others
            yield arrays | {name: values[..., None, None]}, header
        yield arrays | {name: np.zeros(values.shape, "U8" if values.dtype.kind != "U" else float)}, header
        if name.split(".")[0] in ("status", "label", "labels", "parts", "carry") and values.dtype.kind == "i":
            yield arrays | {name: np.full_like(values, np.iinfo(values.dtype).min)}, header
            yield arrays | {name: np.full_like(values, np.iinfo(values.dtype).max)}, header
        if name == "steps":
            yield arrays | {name: -1 - values}, header
    for key in set(header) - {"process", "inside", "seconds"}:  # these describe; a fingerprint has what they describe
        yield arrays, {name: entry for name, entry in header.items() if name != key}
        yield arrays, header | {key: None}


@pytest.mark.parametrize("call", FILES)
def test_a_file_of_other_content_is_refused_and_nothing_else_happens(call, tmp_path, contents, working):
    path, content = place(call, tmp_path) / contents[call].name, contents[call].read_bytes()
    path.parent.mkdir()
    for arrays, header in spoilt(contents[call]):
        path.write_bytes(records.packed(arrays, header))
        with pytest.raises(ValueError, match=r"is not a complete record|holds another"):
            call(path.parent)
    for cut in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="is not a complete record"):
            call(path.parent)


@pytest.mark.parametrize("call", FOLDERS)
def test_a_part_of_other_content_is_computed_again(call, tmp_path, contents, plain, caplog, monkeypatch):
    computed, sampled, asked = [], fd.basins.fractions.basin_fractions, grid.Store.prepare
    monkeypatch.setattr(fd.basins.fractions, "basin_fractions", lambda *a, **k: computed.append(1) or PLAIN_SAMPLE[0])
    PLAIN_SAMPLE[:] = [sampled(WELLS, [(-2.0, 2.0)], 20, KEY, [(-1.0,), (1.0,)], max_steps=500)]
    monkeypatch.setattr(grid.Store, "prepare", lambda self: computed.append(1) or asked(self))
    call(place(call, tmp_path))
    path = kept(call, tmp_path)
    for number, (arrays, header) in enumerate(spoilt(contents[call])):
        computed.clear()
        caplog.clear()
        path.write_bytes(records.packed(arrays, header))
        found = numbers(call(place(call, tmp_path)))
        assert len(computed) == 1, number  # that part and no other
        assert len(caplog.messages) == 1
        for name, values in found.items():
            assert_array_equal(values, plain[call][name])
    computed.clear()
    call(place(call, tmp_path))
    assert not computed  # it was mended


PLAIN_SAMPLE = []


importlib.import_module("flatdyn.curvature")  # it is loaded when it is used


def subclasses(kind):
    return [kind, *(found for one in kind.__subclasses__() for found in subclasses(one))]


RECORDS = [kind for kind in subclasses(records.Record) if kind._form and kind.__module__.startswith("flatdyn")]


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_record_is_held_to_its_form(kind, tmp_path):
    sizes = {"two": 2}
    arrays = {field.name: np.zeros(0) for field in dataclasses.fields(kind) if field.name not in kind._own}
    for name, form in kind._form.items():
        kinds, *dims = form.split()
        shape = [sizes.setdefault(dim, 3 + len(sizes)) for dim in dims]
        arrays[name] = np.zeros(shape, {"U": "U3", "b": bool, "i": int}.get(kinds[0], float))
    record = kind(config=dict.fromkeys(kind._asked, ""), provenance={}, **arrays)
    path = record.save(tmp_path / "record.npz")
    assert set(kind.load(path).arrays()) == set(arrays)
    for name, form in kind._form.items():
        values, many = arrays[name], form.split()[1:]
        wrong = [values[..., None, None], values.astype("S3")]
        if many and sum(many[0] in other.split()[1:] for other in kind._form.values()) > 1:
            wrong.append(np.concatenate([values, values]))  # of another length than its like
        wrong += [values + 7] if name == "status" else [values - 7] if name == "steps" else []
        for other in wrong:
            records.save_arrays(path, arrays | {name: other}, record.header())
            with pytest.raises(ValueError, match="is not a complete record"):
                kind.load(path)


def test_records_are_held_to_their_form(tmp_path, contents):
    run = fd.simulate(NOISY, jnp.zeros((3, 2)), 4, KEY, every=2)
    path = run.save(tmp_path / "run.npz")
    arrays, header = records.load_arrays(path)
    for name in ("times", "theta", "final", "status", "steps"):
        records.save_arrays(path, arrays | {name: arrays[name][..., None, None]}, header)
        with pytest.raises(ValueError, match=f"not a complete record .{name} is"):
            records.Ensemble.load(path)
    for name, wrong in (("status", arrays["status"] + 7), ("steps", arrays["steps"] - 100)):
        records.save_arrays(path, arrays | {name: wrong}, header)
        with pytest.raises(ValueError, match=f"not a complete record .{name}"):
            records.Ensemble.load(path)
    records.save_arrays(path, arrays | {"final": arrays["final"][:2]}, header)  # three runs elsewhere
    with pytest.raises(ValueError, match="final is float64 of shape"):
        records.Ensemble.load(path)
    for name in ("config", "provenance"):
        records.save_arrays(path, arrays, {key: entry for key, entry in header.items() if key != name})
        with pytest.raises(ValueError, match="configuration or provenance is missing"):
            records.Ensemble.load(path)
    single = fd.simulate(NOISY, jnp.zeros(2), 4, KEY, every=2)
    assert records.Ensemble.load(single.save(path)).theta.shape == single.theta.shape
    sample = labels.Sample.load(contents[shares])
    arrays, header = records.load_arrays(contents[shares])
    for wrong in (-3, len(sample.names)):
        records.save_arrays(path, arrays | {"labels": np.full_like(sample.labels, wrong)}, header)
        with pytest.raises(ValueError, match="labels are none of its attractors"):
            labels.Sample.load(path)


# --- another question -----------------------------------------------------------------------------------------


def test_a_constant_inside_a_compiled_loss_is_another_question(tmp_path):
    def left(target):
        target = jnp.array(target)
        loss = jax.jit(lambda theta: jnp.sum((theta - target) ** 2))
        process = fd.Iteration(fd.Landscape.from_function(loss, 2), fd.GD(0.1))
        return escape.escape_times(process, jnp.zeros(2), escape.Ball((0.0, 0.0), 1.0), 1, 50, store=tmp_path)

    assert left((1.0, 1.0)).steps == 6  # |theta| = sqrt(2) (1 - 0.8^k) > 1 from k = 5.5 on
    assert left((-3.0, 5.0)).steps == 1  # sqrt(34) (1 - 0.8^k) > 1 from the first step on
    assert left((1.0, 1.0)).steps == 6


def test_the_box_of_a_landscape_is_part_of_what_a_sweep_asks(tmp_path):
    def share(low):
        wells = fd.Landscape.from_expression("(x**2 - 1)**2 / 4", "x", box=((low, 0.5),))

        def ask(process, key):
            return process.box[0][0]

        return float(fd.sweep(lambda lr: fd.Iteration(wells, fd.GD(lr)), {"lr": [0.1]}, ask, store=tmp_path).value[0])

    assert [share(-2.0), share(-1.0), share(-2.0)] == [-2.0, -1.0, -2.0]


def test_the_name_of_a_sweeps_result_is_not_that_of_the_first_call(tmp_path):
    for name in ("a", "b"):
        assert name in swept(tmp_path, name=name)


@pytest.mark.parametrize("call", FILES)
def test_each_argument_of_a_call_is_part_of_its_question(call, tmp_path, contents, working):
    """What is changed here is computed anew; the same call reads what is there."""
    path, key = contents[call].parent, jax.random.key(1)
    others = {
        escapes: [
            lambda r=r, a=a: escape.escape_times(NOISY, jnp.zeros(2), escape.Ball((0.0, 0.0), r), *a, store=path)
            for r, *a in ((0.6, 8, 50, KEY), (0.5, 9, 50, KEY), (0.5, 8, 51, KEY), (0.5, 8, 50, key))
        ],
        mapped: [
            lambda o=o: fd.map_basins(WELLS, **({"box": ((-2, 2),), "resolution": 9, "store": path} | BASE | o))
            for o in ({"box": ((-2, 3),)}, {"resolution": 10}, {"tol": 1e-9}, {"bound": 1e6 + 0.5}, {"stay": 3})
        ],
        trained: [
            lambda o=o: fd.networks.train(TASK, TRAINED, TASK.start, store=path, **(SHORT | o))
            for o in (
                {"steps": 5},
                {"every": 1},
                {"eval_sets": {}},
                {"eval_sets": {"data": fd.networks.spirals(20, 2.0)}},
            )
        ],
    }
    for other in others[call]:
        with pytest.raises(pytest.fail.Exception, match="it has begun to work"):
            other()
    begun = len(working)
    call(path)
    assert len(working) == begun


BASE = {"attractors": [(-1.0,), (1.0,)], "max_steps": 500}
SHORT = {"steps": 4, "every": 2, "eval_sets": {"data": DATA}}


def test_another_way_to_evaluate_networks_is_another_training(contents, working):
    for task in (
        fd.networks.classifier(fd.networks.MLP((2, 4, 2), KEY), DATA, weight_decay=0.1),
        fd.networks.classifier(fd.networks.MLP((2, 4, 2), KEY, activation=jnp.tanh), DATA),
    ):
        with pytest.raises(pytest.fail.Exception, match="it has begun to work"):
            fd.networks.train(task, TRAINED, TASK.start, store=contents[trained].parent, **SHORT)


def test_a_key_that_nothing_uses_has_a_word(tmp_path):
    """A process that draws nothing, with a key: the word of such a call held an address in memory."""
    trained(tmp_path / "kept", key=KEY)
    word = fd.runs.fingerprints.of_key
    assert word(KEY) == word(jax.random.key(0)) != word(None)


# --- figures --------------------------------------------------------------------------------------------------


def test_a_figure_that_cannot_be_saved_is_known_when_the_sizes_are_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATDYN_FIGURES", str(tmp_path))
    monkeypatch.setenv("FLATDYN_PRESET", "full")
    assert notebook.preset(quick=1, full=2) == 2
    monkeypatch.setattr(os, "fsync", no_room)
    notebook.check_figures.cache_clear()
    with pytest.raises(OSError, match=r"figures: .* can't be written \(No space left"):
        notebook.preset(quick=1, full=2)
    monkeypatch.setenv("FLATDYN_PRESET", "quick")
    assert notebook.preset(quick=1, full=2) == 1


# --- kill -9 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", ["escapes"])
def test_kill_9_loses_and_repeats_nothing_that_was_kept(work):
    """Once each of what `make kills` does ten times; sweeps are killed in test_sweeps, figures in test_regenerate."""
    code = os.path.join(os.path.dirname(__file__), "kills.py")
    done = subprocess.run([sys.executable, code, "--times", "1", "--only", work], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("bit-equal") == 2
