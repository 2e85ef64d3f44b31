"""Call every public name with one or two arguments replaced by odd values, and list the bad answers.

    python tests/fuzz.py --calls 10000            goes on where it stopped; ends with a table of bad answers
    python tests/fuzz.py --call "simulate steps=plain/None key=key/seed"     repeats one call, with its traceback

A good answer is a result without silent NaN, or an error of flatdyn's own (ValueError, TypeError, or one that is
documented) that names the argument and does not speak the inner words of JAX, NumPy or Python. Everything else is bad:
other errors, errors from deeper down, NaN that no status tells, warnings from inside, a hang, a crash.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import os
import re
import resource
import selectors
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "flatdyn"
SECONDS = 30  # of CPU that one call may take, compiling included
SILENT = 180  # wall-clock seconds after which a worker that says nothing is taken for hung
MEMORY = 24 * 2**30  # of addresses, which XLA takes generously

INNER = re.compile(
    r"tracer|abstract|jaxpr|pytree|custom_jvp|nonetype|has no attribute|broadcast|unsupported operand|subscriptable"
    r"|not iterable|inhomogeneous|ufunc|unpack|\baval|vmap|hashable|not callable|positional argument|setting an array"
    r"|loop of|isnan|invalid literal|could not convert|interpreted as|jvp|\bcarry\b|concret",
    re.IGNORECASE,
)
FILES = {"path", "store", "folder"}  # arguments for which the system's own errors are right


class Slow(BaseException):
    """A call took longer than it may."""


@dataclasses.dataclass(frozen=True)
class Call:
    """Which arguments of which name are replaced by what: (argument, kind, value)."""

    name: str
    replaced: tuple[tuple[str, str, str], ...]

    def __str__(self) -> str:
        return " ".join([self.name.replace(" ", "~"), *(f"{a}={k}/{v}".replace(" ", "~") for a, k, v in self.replaced)])

    @classmethod
    def parse(cls, text: str) -> Call:
        name, *rest = (word.replace("~", " ") for word in text.split())
        parts = [word.split("=", 1) for word in rest]
        return cls(name, tuple((argument, *value.split("/", 1)) for argument, value in parts))


def drawn(number: int, seed: int, recipes: dict, fixtures) -> Call:
    """The call with a number: names take turns in an order that changes from round to round."""
    import numpy as np
    from fuzz_values import NAMES

    names = list(recipes)
    turn, place = divmod(number, len(names))
    name = names[np.random.default_rng([seed, turn]).permutation(len(names))[place]]
    random = np.random.default_rng([seed, number, 1])
    arguments = list(recipes[name](fixtures)[1])
    if not arguments:
        return Call(name, ())
    if len(arguments) > 1 and random.random() < 0.08:
        a, b = random.choice(len(arguments), 2, replace=False)
        return Call(name, ((arguments[a], "swap", arguments[b]),))
    many = min(len(arguments), 1 + (random.random() < 0.25))
    chosen = random.choice(len(arguments), many, replace=False)
    return Call(name, tuple((arguments[i], *NAMES[random.integers(len(NAMES))]) for i in chosen))


def run(call: Call, recipes: dict, fixtures) -> str:
    """What was bad about the answer; nothing if it was good."""
    import fuzz_values

    function, arguments = recipes[call.name](fixtures)
    for argument, kind, value in call.replaced:
        if kind == "swap":
            arguments[argument], arguments[value] = arguments[value], arguments[argument]
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                odd = fuzz_values.make(kind, value, arguments[argument], fixtures)
            except Exception:  # this value can't be made from that one
                odd = object()
        arguments[argument] = odd
    return _judged(call, function, arguments, fixtures)


def _judged(call: Call, function, arguments: dict, fixtures) -> str:
    def slow(*_):
        raise Slow

    signal.signal(signal.SIGPROF, slow)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings(record=True) as heard, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            result = function(**arguments)
            if call.name != "notebook.preset":  # which gives back what it was given
                _used(result, fixtures)
    except Slow:
        return "hang"
    except MemoryError as error:
        return f"MemoryError: {error}"
    except Exception as error:
        return _of_error(error, call, arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    for warning in heard:
        own = issubclass(warning.category, UserWarning) and not INNER.search(str(warning.message))
        if not own or "Explicitly requested dtype" in str(warning.message):
            return f"warning {warning.category.__name__}: {warning.message}"
    return _of_result(result, call)


def _of_error(error: Exception, call: Call, arguments: dict) -> str:
    from flatdyn.networks import DataMissing

    text, kind = str(error), type(error).__name__
    message = f"{kind}: {text}"[:300]
    if "a fault of the user's own function" in text and isinstance(error, ZeroDivisionError):
        return ""
    replaced = {name for name, *_ in call.replaced} | {other for _, how, other in call.replaced if how == "swap"}
    if isinstance(error, OSError) and replaced & FILES:
        return ""
    if type(error) not in (ValueError, TypeError, DataMissing, NotImplementedError, RuntimeError):
        return message
    frames = traceback.extract_tb(error.__traceback__)
    if PACKAGE not in Path(frames[-1].filename).parents:
        return f"from {Path(frames[-1].filename).name}:{frames[-1].lineno} {message}"
    if INNER.search(re.sub(r"got .*", "", text, flags=re.DOTALL)):
        return f"inner words: {message}"
    if isinstance(error, DataMissing):
        return ""
    words = {name for name in arguments if name in replaced} or set(arguments)
    known = words | {spoken for name in words for spoken in ALIASES.get(name, ())}
    if not any(re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE) for word in known):
        return f"argument not named: {message}"
    return ""


# What a message may call an argument besides its name.
ALIASES = {
    "theta0": ("start", "theta", "walkers"),
    "data": ("labels", "inputs", "y must", "split", "examples"),
    "first": ("block", "mask"),
    "blocks": ("block", "mask"),
    "make_process": ("process",),
    "parameters": ("lr",),
    "loss": ("theta must have shape", "a must have shape", "theta_a must be one point", "the expression"),
    "landscape": ("expression", "minimum must have shape", "theta must have shape", "start must be inside"),
    "values": ("make_process failed", "method.lr"),
    "curvatures": ("curvature", "parameter c1", "parameters c1"),
    "relax": ("walkers",),
    "inside": ("runs leave", "center has"),
    "method": ("SAM has no",),
    "replicates": ("walkers",),
    "steps": ("survival", "was watched"),
    "name": ("was not evaluated",),
    "by": ("was not evaluated",),
    "theta": ("mask is empty", "mask must", "rules none of", "sphere needs", "coordinates there are"),
    "attractors": ("attractor", "no start is uncertain"),
    "symbols": ("box", "coordinate too"),
    "box": ("start is uncertain",),
    "dim": ("box",),
    "expression": (
        "the loss",
        "a loss",
    ),
    "network": ("normalization layer", "tree", "y must"),
    "scores": ("coordinates there are",),
    "sampler": ("box", "scale"),
    "normalized": ("eps",),
    "offset": ("start must be inside",),
    "center": ("start must be inside",),
    "radius": ("start must be inside",),
    "sides": ("start must be inside",),
    "level": ("start must be inside",),
    "normal": ("start must be inside",),
    "flat": ("parameter",),
    "sharp": ("parameter",),
    "barrier": ("parameter",),
    "target": ("parameter",),
    "stiffness": ("parameter",),
    "word": ("words", "mask is empty"),
    "fast": ("mask", "block"),
    "a": ("mask",),
    "b": ("mask",),
    "second": ("outside the ranges",),
    "choose": ("split",),
    "report": ("split",),
}


def _used(result, fixtures) -> None:
    """Whatever describes something must also work, or fail as it should, when it is used."""
    import jax.numpy as jnp
    import numpy as np

    import flatdyn as fd
    from flatdyn.methods.constraints import Constraint

    if isinstance(result, fd.methods.Method):
        result = fd.Iteration(fixtures.L, result)
    elif isinstance(result, fd.noise.Minibatches):
        result = fd.Iteration(fixtures.examples, fd.GD(0.1), result)
    elif isinstance(result, fd.noise.Noise):
        result = fd.Iteration(fixtures.L, fd.GD(0.1), result)
    elif isinstance(result, Constraint):
        result = fd.Iteration(fixtures.L, fd.ConstrainedLangevin(0.1, result))
    if isinstance(result, fd.Landscape):
        value = result.loss(jnp.full(result.dim, 0.3))
        assert value.shape == (), f"a loss of shape {value.shape}"
    elif isinstance(result, fd.escape.Ball | fd.escape.Box | fd.escape.HalfSpace | fd.escape.Sublevel):
        fd.escape_times(fixtures.process, [0.5, 0.25], result, 2, 3, progress=False)
    elif isinstance(result, fd.Attractor | fd.Region):
        fd.map_basins(fixtures.process, [(-2, 2)] * 2, 4, [result], max_steps=20, progress=False)
    elif isinstance(result, fd.Process) and result.dim <= 8:
        theta = np.full(result.dim, 0.5)
        if isinstance(result, fd.Iteration):
            theta = result.project(theta)
        key = fixtures.key if result.random else None
        fd.simulate(result, theta, 2, key, progress=False)


def _of_result(result, call: Call) -> str:
    status = getattr(result, "status", None)
    if status is not None and not isinstance(result, str):
        import numpy as np

        if np.any(np.asarray(status) != 1):
            return ""
    if call.name in NUMBERS_OF_THE_USERS:
        return ""
    return "; ".join(sorted(f"silent NaN in {place or 'the result'}" for place in _nans(result)))


# Where NaN in what was given is NaN in the answer, place by place, and where records document it.
NUMBERS_OF_THE_USERS = {
    "Landscape.loss", "Landscape.grad", "Landscape.hessian", "FunctionLandscape.loss", "ExamplesLandscape.loss",
    "records.load_arrays", "Record.load", "notebook.Number", "notebook.preset", "notebook.say",
    "FunctionLandscape.flatten",
    "Extended.theta", "probe", "statistics.sem_of_interval", "networks.flops", "curvature.interpolate",
    "curvature.slice1d", "curvature.slice2d",
    "methods.State", "survival.mean", "survival.rate", "survival.compare", "Escapes.mean", "Escapes.rate",
    "Escapes.compare", "networks.critical_rho", "escape.least_noise", "escape.quasipotential",
    "map_basins", "map_basins given", "basin_fractions", "fractions_in", "masks.complement",
    "masks.union", "Attractor", "boundaries.basin_entropy",
}  # fmt: skip


def _nans(result, place: str = "") -> list[str]:
    """Where a result holds NaN."""
    import jax
    import numpy as np

    if dataclasses.is_dataclass(result) and not isinstance(result, type) and hasattr(result, "arrays"):
        parts = result.arrays().items()
    elif hasattr(result, "data_vars"):
        parts = ((str(name), result[name].values) for name in result.data_vars)
    elif isinstance(result, dict):
        parts = ((str(name), part) for name, part in result.items())
    elif hasattr(result, "_fields"):
        parts = result._asdict().items()
    elif isinstance(result, list | tuple):
        parts = ((str(i), part) for i, part in enumerate(result))
    else:
        if isinstance(result, float | np.ndarray | np.generic | jax.Array):
            array = np.asarray(result)
            if array.dtype.kind in "fc" and np.isnan(array).any():
                return [place]
        return []
    return [where for name, part in parts for where in _nans(part, f"{place}.{name}".lstrip("."))]


# --- workers and their driver -----------------------------------------------------------------------------------


def prepared(wide: bool):
    """Fixtures and recipes in a fresh interpreter."""
    sys.path.insert(0, str(HERE))
    import jax

    jax.config.update("jax_enable_x64", wide)
    jax.config.update("jax_traceback_filtering", "off")  # the frame that raised is looked at
    from fuzz_recipes import RECIPES, Fixtures

    fixtures = Fixtures()
    assert fixtures.folder
    if wide:
        return RECIPES, fixtures
    in_64_bits = re.compile(r"Saddle\.|critical_rho|networks\.displacement|transverse_|zero_unit|tied_pair|split_unit")
    return {name: make for name, make in RECIPES.items() if not in_64_bits.search(name)}, fixtures


def work(numbers: range, seed: int, wide: bool, only: str | None) -> None:
    """Make calls and write a line for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    recipes, fixtures = prepared(wide)
    if only:
        recipes = {name: make for name, make in recipes.items() if re.search(only, name)}
    for number in numbers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call = drawn(number, seed, recipes, fixtures)
        except Exception as error:
            print(
                json.dumps({"number": number, "call": "fixture", "bad": f"{type(error).__name__}: {error}"}), flush=True
            )
            continue
        print(json.dumps({"number": number, "call": str(call)}), flush=True)
        began = time.process_time()
        bad = run(call, recipes, fixtures)
        record = {"number": number, "call": str(call), "bad": bad, "seconds": round(time.process_time() - began, 2)}
        print(json.dumps(record), flush=True)


def drive(calls: int, seed: int, wide: bool, only: str | None, kept: Path) -> list[dict]:
    """Make all calls in worker processes, go on where `kept` ends, and return a record of each."""
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    began, bad = time.monotonic(), sum(bool(one["bad"]) for one in done)
    with kept.open("a") as file:
        while len(done) < calls:
            first = done[-1]["number"] + 1 if done else 0
            number = min(calls - len(done), 2500)  # compiled programs are given back with the process
            for record in _worker(first, number, seed, wide, only):
                done.append(record)
                bad += bool(record["bad"])
                file.write(json.dumps(record) + "\n")
                file.flush()
                if len(done) % 50 == 0 or len(done) == calls:
                    print(f"{len(done)} of {calls} calls, {bad} bad, {time.monotonic() - began:.0f} s", flush=True)
    return done


def _worker(first: int, number: int, seed: int, wide: bool, only: str | None):
    """Records of one worker; if it hangs or dies, that is the record of the call it was at, and it ends."""
    command = [sys.executable, __file__, "--work", str(first), str(number), "--seed", str(seed)]
    command += [] if wide else ["--x32"]
    command += ["--only", only] if only else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    at = {"number": first, "call": "start of the worker"}
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(SILENT):
                line = process.stdout.readline()
                if not line:
                    break
                at = json.loads(line)
                if "bad" in at:
                    yield at
            else:
                process.kill()
                yield at | {"bad": "hang: the process was ended", "seconds": SILENT}
                return
        process.wait()
        if process.returncode:
            yield at | {"bad": f"the process died of {process.returncode}", "seconds": 0}
    finally:
        process.kill()
        process.wait()


def table(done: list[dict], x32: bool) -> str:
    """Bad answers by name, with a line that repeats each."""
    bad = [one for one in done if one["bad"]]
    lines = [f"{len(bad)} bad answers of {len(done)} calls"]
    by_name = collections.Counter(one["call"].split()[0] for one in bad)
    lines += [f"{count:5d}  {name.replace('~', ' ')}" for name, count in by_name.most_common()]
    option = " --x32" if x32 else ""
    for one in sorted(bad, key=lambda one: one["call"]):
        lines += ["", f'python tests/fuzz.py{option} --call "{one["call"]}"', f"    {one['bad']}"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--x32", action="store_true", help="in JAX's default precision")
    parser.add_argument("--only", help="names that match this regular expression")
    parser.add_argument("--kept", type=Path, help="file with the answers so far")
    parser.add_argument("--call", help="repeat one call")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(range(asked.work[0], sum(asked.work)), asked.seed, not asked.x32, asked.only)
        return 0
    if asked.call:
        recipes, fixtures = prepared(not asked.x32)
        global _of_error
        judge = _of_error

        def _of_error(error, *rest):
            traceback.print_exception(error)
            return judge(error, *rest)

        print(run(Call.parse(asked.call), recipes, fixtures) or "good")
        return 0
    kept = asked.kept or Path(f"build/fuzz_{asked.seed}{'_x32' if asked.x32 else ''}.jsonl")
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = drive(asked.calls, asked.seed, not asked.x32, asked.only, kept)
    print(table(done, asked.x32))
    return int(any(one["bad"] for one in done))


if __name__ == "__main__":
    os.environ.setdefault("FLATDYN_PROGRESS", "0")
    sys.exit(main())
