"""What other packages run: their own iterates against the methods that are said to be the same, and bad input."""

import ast
import itertools
import json
import math
import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flatdyn as fd
from flatdyn.core.algebra import Vector

DATA = Path(__file__).parent / "data" / "packages"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
PATHS = [(name, row) for name, kept in FILES.items() for row in kept["runs"] if "path" in row]
LAWS = [(name, row) for name, kept in FILES.items() for row in kept["runs"] if "matrix" in row]

# As in tests/packages_real.py, whose own programs are not loaded here
STARTS = {
    "plane": jnp.asarray([1.0, 2.0]),
    "tensors": Vector({"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray([3.0, -1.0])}),
}
CURVES = {
    "plane": jnp.asarray([4.0, 1.0]),
    "tensors": Vector({"a": jnp.asarray([4.0, 1.0]), "b": jnp.asarray([2.0, 0.5])}),
}
FACTORS = {
    "fall": lambda step: jnp.where(step < 5, 0.05, 0.005),
    "drop": lambda step: jnp.where(step < 5, 1.0, 0.1),
    "cosine": lambda step: (1 + jnp.cos(math.pi * jnp.minimum(step / 20, 1))) / 2,
}


def argument(value):
    """An argument as the file has it: a method, a call of another package, a schedule, or itself."""
    if isinstance(value, dict):
        return fd.packages.method(value["call"], **value["arguments"])
    if isinstance(value, str) and value.startswith("GD("):
        return eval(value, {"GD": fd.GD})
    return FACTORS.get(value, value) if isinstance(value, str) else value


def arguments(row):
    given = {name: argument(value) for name, value in row["arguments"].items()}
    if "groups" in given:
        given["groups"] = {"a": given["groups"][0], "b": given["groups"][1]}
    return given


def positions(method, row, stored=""):
    """Where the method is after each step, shape (steps + 1, dim), run without compiling it."""
    problem, stride = row.get("problem", "plane"), row.get("stride", 1)
    steps = (len(row["path"]) - 1) * stride if "at" not in row else row["at"]
    curves, state = CURVES[problem], method.init(STARTS[problem])
    where = (lambda state: getattr(method, stored)(state)) if stored else (lambda state: state.theta)
    path = [where(state)]
    for _ in range(steps):
        state = method.step(lambda theta: curves * theta, state)
        path.append(where(state))
    flat = np.array([np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(theta)]) for theta in path])
    return flat[-1:] if "at" in row else flat[::stride]


def stated(row):
    """The entry, its method, and the largest difference that its case says."""
    given = arguments(row)
    case, _ = fd.packages.mapping.settled(row["call"], (), dict(given))[1:]
    return fd.packages.entry(row["call"]), fd.packages.method(row["call"], **given), case.difference


# --- their iterates and laws against ours -----------------------------------------------------------------------


@pytest.mark.parametrize("package", sorted({name for name, _ in PATHS}))
def test_a_package_takes_the_steps_of_the_method_that_is_named(package):
    """As far apart as the table says: rounding, or what 32 bits inside the package leave."""
    compared = 0
    for row in (row for name, row in PATHS if name == package):
        try:
            entry, method, difference = stated(row)
        except LookupError:
            assert (row["call"], tuple(row["arguments"])) in NONE, row["call"]
            continue
        assert entry.version == FILES[package]["version"], "the table and the stored numbers are of one release"
        first = -(-row.get("since", 0) // row.get("stride", 1))
        own, theirs = positions(method, row, entry.positions)[first:], np.array(row["path"])[first:]
        assert_allclose(own, theirs, rtol=0, atol=difference, err_msg=f"{row['call']} {row['arguments']}")
        compared += 1
    assert compared or package in {"sam_sps"}


# Runs that are stored although no method is the same
NONE = {
    ("keras.optimizers.SGD", ("learning_rate", "use_ema", "ema_momentum", "gradient_accumulation_steps")),
    ("torch_optimizer.SGDW", ("lr", "weight_decay")),
}


def test_what_has_no_equal_does_what_the_table_says():
    """torch_optimizer's SGDW subtracts h d; Keras' average sees the old weights k − 1 times before each step."""
    rows = {(row["call"], tuple(row["arguments"])): row for _, row in PATHS}
    keras, constant = (rows[key] for key in sorted(NONE))
    theta, path = np.array([1.0, 2.0]), np.array(constant["path"])
    for position in path:
        assert_allclose(position, theta, rtol=1e-14)
        theta = theta - 0.1 * (np.array([4.0, 1.0]) * theta) - 0.1 * 0.3
    iterates = np.array([[1.0, 2.0]]) * (1 - 0.1 * np.array([4.0, 1.0])) ** np.arange(21)[:, None]
    average = iterates[1]
    for before, after, position in zip(iterates[1:-1], iterates[2:], keras["path"][2:], strict=True):
        average = 0.9 * (0.9 * average + 0.1 * before) + 0.1 * after
        assert_allclose(position, average, rtol=1e-13)


# The package's momentum over flatdyn's, where they differ
UNITS = {
    "posteriors.sgmcmc.baoa": lambda given: given.get("sigma", 1.0),
    "torch_sgld.SGLD": lambda given: math.sqrt(given["lr"]),
}


@pytest.mark.parametrize("package", sorted({name for name, _ in LAWS}))
def test_a_sampler_takes_the_step_of_the_recursion_that_is_named(package):
    """A to rounding (posteriors has its friction in 32 bits), Q to five standard errors of n draws, √(2/n)."""
    for row in (row for name, row in LAWS if name == package):
        step = fd.packages.recursion(row["call"], curvature=row["curvature"], **row["arguments"])
        matrix, noise = step.numbers()
        unit = np.diag([1.0, UNITS.get(row["call"], lambda _: 1.0)(row["arguments"])][: len(matrix)])
        matrix, noise = unit @ matrix @ np.linalg.inv(unit), unit @ noise @ unit
        size = len(row["matrix"])  # momenta that are drawn anew are not seen in the package's state
        assert_allclose(matrix[:size, :size], row["matrix"], rtol=0, atol=2e-8, err_msg=row["call"])
        seen, allowed = np.reshape(row["noise"], (size, size)), 5 * math.sqrt(2 / row["draws"])
        spread = np.sqrt(np.diag(noise[:size, :size]))
        assert (np.abs(seen - noise[:size, :size]) <= allowed * np.outer(spread, spread) + 1e-15).all(), row["call"]


@pytest.mark.parametrize(
    ("name", "given", "variance"),
    [
        ("blackjax.sgld", {"step_size": 0.5}, 4 / 3),
        ("posteriors.sgld", {"lr": 0.5, "beta": 1.0}, 1.0),
        ("posteriors.baoa", {"lr": 1.0, "alpha": 1.0}, 1.0),
        ("blackjax.sghmc", {"step_size": 0.1, "num_integration_steps": 10}, 1.15),
        ("blackjax.sghmc", {"step_size": 0.1, "num_integration_steps": 10, "temperature": 0.01}, 1.15),
        ("torch_sgld.SGLD", {"lr": 0.5, "momentum": 0.1}, 1.15),
        ("torch_sgld.SGLD", {"lr": 0.5, "momentum": 0.5}, 1.21),
        ("torch_sgld.SGLD", {"lr": 0.5, "momentum": 0.9}, 1.32),
        ("sdeint.itoint", {"h": 0.5}, 1.64),
        ("sdeint.itoint", {"h": 0.25}, 1.28),
        ("torchsde.sdeint", {"dt": 0.5, "method": "euler"}, 4 / 3),
        ("torchsde.sdeint", {"dt": 0.5}, 0.93),
    ],
)
def test_the_variances_that_were_seen_in_long_runs(name, given, variance):
    """On ½ θ² at temperature 1, as far as runs give it: to three hundredths, their own noise."""
    found = fd.stationary.covariance(fd.packages.recursion(name, **given))[0, 0]
    assert_allclose(found, variance, atol=0.03)


def test_an_explicit_scheme_that_is_unstable_says_when_it_is_not():
    with pytest.raises(ValueError, match=r"modulus 1\.02\d*; it is stable where lr \* curvature < alpha"):
        fd.stationary.covariance(fd.packages.recursion("posteriors.sghmc", lr=0.3, curvature=1.0, alpha=0.15))
    walk = fd.packages.recursion("blackjax.sghmc", step_size=0.3, num_integration_steps=10)
    with pytest.raises(ValueError, match="no stationary law"):
        fd.stationary.covariance(walk)


# --- the table itself -------------------------------------------------------------------------------------------


def test_every_entry_is_complete_and_every_expression_is_of_known_names():
    known = set(fd.packages.mapping.NAMES) | {"sgd", "common"}
    for name, row in fd.packages.entry.__globals__["entries"]().items():
        assert row.map.endswith("."), name
        assert row.formula, name
        parameters = set(row.parameters().parameters)
        for case in row.cases:
            assert (case.method is None) != (not case.reason), f"{name}: a method or a reason"
            assert case.method or case.difference is None, name
            for text in filter(None, (case.when, case.method)):
                inside = {node.arg for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.arg)}
                used = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
                assert used <= known | parameters | inside, f"{name}: {used - known - parameters - inside}"
        assert not row.base or fd.packages.entry(row.base), name
        assert row.cases[-1].when == "True", f"{name}: the last case holds for all that is left"


def test_what_is_said_to_be_equal_was_run():
    """Every case with a difference has a stored run that falls into it; what was read only says so."""
    reached = set()
    for _, row in PATHS:
        given = arguments(row)
        settled, case, _ = fd.packages.mapping.settled(row["call"], (), dict(given))
        reached.add((settled.name, case))
    laws = {fd.packages.entry(row["call"]).name for _, row in LAWS}
    for name in fd.packages.names():
        row = fd.packages.entry(name)
        missed = [case for case in row.cases if case.difference is not None and (name, case) not in reached]
        assert not missed, f"{name}: {missed}"
        assert not row.matrix or name in laws, name


def test_names_and_the_table_show_all():
    text = fd.packages.table()
    assert text.count("\n") == 2 + sum(len(fd.packages.entry(name).cases) for name in fd.packages.names())
    assert set(fd.packages.names("lightning")) == set(fd.packages.names("pytorch-lightning"))
    assert fd.packages.names("torch")[0] == "torch.optim.SGD"
    assert not [name for name in fd.packages.names("torch") if "optimizer" in name.split(".")[0]]
    assert fd.packages.entry("TZ.m.heavyball").name == "torchzero.m.HeavyBall"  # an alias, in any letters
    shown = str(fd.packages.entry("optax.contrib.sam"))
    for word in ("optax 0.2.8", "masked", "SAM(learning_rate, rho", "largest difference 1e-15"):
        assert word in shown


method = fd.packages.method
SAMS = itertools.product(
    ("normalize", "sgd", "adam"), (0.1, FACTORS["drop"]), (2, 3), (True, False), ((0.0, 0.0), (0.5, 0.3))
)


def test_optaxs_sam_with_any_arguments_is_what_is_named_or_refused():
    """Options in any combination, beside the transformation itself as the table describes it."""
    import optax

    compared, curves = 0, CURVES["plane"]
    for ascent, rho, period, reset, (momentum, decay) in SAMS:
        given = {
            "sync_period": period,
            "reset_state": reset,
            "ascent": ascent,
            "weight_decay": decay,
            "momentum": momentum,
        }
        try:
            named = method("optax.contrib.sam", 0.1, rho, **given)
        except LookupError:
            assert callable(rho) or ascent == "adam"
            continue
        inner = {"sgd": [], "normalize": [optax.contrib.normalize()], "adam": [optax.contrib.normalize()]}[ascent]
        inner = optax.chain(*inner, (optax.adam if ascent == "adam" else optax.sgd)(rho))
        outer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1, momentum))
        theirs = optax.contrib.sam(outer, inner, sync_period=period, reset_state=reset, opaque_mode=True)
        step = jax.jit(lambda g, state, x, theirs=theirs: theirs.update(g, state, x, grad_fn=lambda x, _: curves * x))
        x, own = STARTS["plane"], named.init(STARTS["plane"])
        state = theirs.init(x)
        for _ in range(7):  # past the step at which the schedule drops
            updates, state = step(curves * x, state, x)
            x, own = x + updates, named.step(lambda theta: curves * theta, own)
        # optax computes schedules in 32 bits, and Adam's ε is 1e-8
        assert_allclose(own.theta, x, rtol=0, atol=1e-7, err_msg=f"{given} {rho}")
        compared += 1
    assert compared > 20


def test_what_an_option_changes_is_in_the_method():
    lagged = method("pytorch_optimizer.SAM", closure_first=False, groups=[1.0, 0.0])
    assert (type(lagged), lagged.scope, lagged.mask) == (fd.methods.LaggedSAM, "all", [True, False])
    assert method("temperon.Temperon", 10, transfer="none").memory == "reset"
    assert "One step for every" in str(fd.packages.entry("keras.SGD"))
    assert method("lightning.StochasticWeightAveraging", GD, 3, 10, 5, swa_lrs=0.1).start == 10


# --- what is refused --------------------------------------------------------------------------------------------


GD, KEPT = fd.GD(0.1), "timm.utils.ModelEmaV2"
REFUSED = [
    (
        lambda: method("torch.optm.SGD"),
        ValueError,
        r"'torch\.optm\.SGD' \(did you mean torch\.optim\.SGD .*torch 2\.13",
    ),
    (lambda: method(3), TypeError, "name must be a text, got 3"),
    (lambda: method("torch.optim.SGD", momentun=0.9), ValueError, r"no 'momentun' here \(did you mean momentum\?\)"),
    (lambda: method("pytorch_optimizer.SAM", betas=0), ValueError, "neither .*SAM.* nor torch.optim.SGD inside"),
    (lambda: method("optax.sgd"), ValueError, "learning_rate of optax.sgd must be given"),
    (lambda: method("optax.sgd", 0.1, learning_rate=0.1), ValueError, "learning_rate of optax.sgd is given twice"),
    (lambda: method(KEPT, GD, 0.9, 1, 1, 1), ValueError, "takes 2 arguments here, got 5"),
    (lambda: method("torch.optim.Adam", betas=(0.9,)), ValueError, r"betas must be two numbers, got \(0.9,\)"),
    (lambda: method("optax.sgd", -0.1), ValueError, "optax.sgd: lr must be finite and > 0, got -0.1"),
    (lambda: method("torch_optimizer.SGDP", momentum=1.0), ValueError, "SGDP: an argument is out of range"),
    (lambda: method("torch_sgld.SGLD", 0.1, momentum=2.0), ValueError, "SGLD: an argument is out of range"),
    (lambda: method("ignite.handlers.EMAHandler", GD, 1.5), ValueError, "EMAHandler: decay must be finite and >= 0"),
    (lambda: method("optax.lookahead", GD, [3], 0.5), ValueError, "sync_period must be a"),
    (lambda: method("optax.sgd", 0.1, momentum=[0.1, 0.9]), ValueError, "momentum must be one number here"),
    (lambda: method("heavyball.SGD", lr="fast"), ValueError, "lr must be a number, got 'fast'"),
    (lambda: method("torch.optim.SGD", nesterov="yes"), TypeError, "nesterov must be"),
    (lambda: method("torch.optim.SGD", momentum=[0.1, 0.9]), ValueError, "momentum must be one number here"),
    (lambda: method(KEPT, 0.1), TypeError, "method must be .*Method"),
    (lambda: method("torch.optim.lr_scheduler.LambdaLR", GD, 0.9), TypeError, "lr_lambda must be a function of the"),
    (
        lambda: method("pytorch_optimizer.SAM", base="timm.utils.ModelEmaV2", method=GD),
        LookupError,
        "only gradient desc",
    ),
    (lambda: method("pytorch_optimizer.LookSAM", base="torch.optim.Adam"), LookupError, "than SGD was not compared"),
    (lambda: fd.packages.names("tourch"), ValueError, r"'tourch' is not known \(did you mean torch"),
    (lambda: fd.packages.recursion("sam_sps.SAM_SPS"), LookupError, "Polyak"),
    (lambda: fd.packages.recursion("blackjax.sgld", 0.1, curvature="k"), ValueError, "curvature must be a number"),
    (lambda: fd.packages.recursion("blackjax.sgld", [0.1, 0.2]), ValueError, "step_size must be one number in a rec"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_what_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


WARM = {"use_ema": True, "ema_overwrite_frequency": 5}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: method("keras.SGD", **WARM), "set to their average"),
        (lambda: method("optax.contrib.sam", 0.1, FACTORS["drop"], sync_period=3), "counts ascents"),
        (lambda: method("optax.contrib.sam", 0.1, FACTORS["drop"], ascent="adam", reset_state=False), "is none of"),
        (lambda: method("pytorch_optimizer.SAM", closure_first=False, adaptive=True), "not as ASAM"),
        (lambda: method("torchzero.m.SAM", eps=0.5), "least that is divided by"),
        (lambda: method("torchzero.m.ASAM", eps=0.5), "least that is divided by"),
        (lambda: method("temperon.Temperon", 10, transfer="all"), "'momentum' or 'none'"),
        (lambda: method("lightning.StochasticWeightAveraging", GD, 3, 10, 5, swa_lrs=0.01), "annealed to swa_lrs"),
        (lambda: method("optax.contrib.sam", 0.1, 0.1, mask=[1, 0]), "a step of one.*set_to_zero"),
        (lambda: method("optax.contrib.sam", 0.1, 0.1, sync_period=1), "unstable for every h"),
        (lambda: method("posteriors.sghmc", lr=0.1), "explicit Euler.*fd.packages.recursion"),
        (lambda: method("pytorch_optimizer.BSAM", 100), "never undone"),
        (lambda: method("pytorch_optimizer.WSAM", max_norm=1.0), "climbs"),
    ],
)
def test_without_an_equal_it_gives_the_reason_and_what_to_write(call, message):
    with pytest.raises(LookupError, match=message):
        call()


def test_another_version_than_the_one_tried_is_told(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.3.0+local")
    note = "optax 0.3.0.local is installed, and what is known of optax.sgd is of 0.2.8: pip install optax==0.2.8"
    with pytest.warns(UserWarning, match=note):
        method("optax.sgd", 0.1)
    assert re.search(note, str(fd.packages.entry("optax.sgd")))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.2.8+local")
    method("optax.sgd", 0.1)  # no warning: a build of the same release


def test_the_stored_numbers_say_where_they_are_from():
    tried = tomllib.loads((Path(fd.packages.__file__).parent / "table.toml").read_text())["versions"]
    for name, kept in FILES.items():
        assert kept["package"] == name
        assert kept["version"] == tried[name]
