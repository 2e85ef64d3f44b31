"""Records as Datasets and DataFrames: names of dimensions, units, and what comes back from a file."""

import dataclasses
import importlib
import itertools
import json
import pkgutil

import jax
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

import flatdyn as fd
from flatdyn import records
from flatdyn.core import tables

KEY = jax.random.key(0)
L = fd.landscapes.saddle((1.0, -1.0))
NOISY = fd.Iteration(L, fd.SAM(0.1, 0.1), fd.noise.Gaussian(1.0))


def kinds():
    """All classes of records."""
    for module in pkgutil.walk_packages(fd.__path__, "flatdyn."):
        importlib.import_module(module.name)
    found, new = set(), {records.Record}
    while new:
        found, new = found | new, {sub for kind in new for sub in kind.__subclasses__()}
    return sorted((kind for kind in found - {records.Record} if kind.__module__.startswith("flatdyn")), key=str)


def made_up(kind):
    """A record of a class, each dimension of another size, as its form says."""
    sizes, count = {"two": 2}, itertools.count(3)

    def size(dim):
        return sizes.setdefault(dim, next(count))

    def array(form):
        types, *dims = form.split()
        shape = [n for dim in dims for n in ([size(dim), size(dim + "'")] if dim[0] == "*" else [size(dim)])]
        if types == "U":
            return np.array([f"w{i}" for i in range(int(np.prod(shape)))]).reshape(shape)
        dtype = complex if "c" in types else {"f": float, "i": np.int8, "b": bool}[types[0]]
        return np.zeros(shape, dtype)

    names = [field.name for field in dataclasses.fields(kind) if field.name not in ("config", "provenance")]
    arrays = {name: array(kind._form.get(name) or "f " + kind._dims.get(name, "")) for name in names}
    assert kind.misfit(arrays) is None
    return kind(config={"runs": "3"}, provenance=records.provenance(), **arrays)


@pytest.fixture(scope="module")
def all_kinds():
    return kinds()


def test_every_field_of_every_record_has_dimensions_a_unit_and_a_meaning(all_kinds):
    assert len(all_kinds) > 20
    for kind in all_kinds:
        record = made_up(kind)
        found = record.to_xarray()
        for name, array in record.arrays().items():
            assert_array_equal(found[name], array)
            where = f"{kind.__name__}.{name}"
            assert found[name].attrs.get("comment"), f"{where} is not in the docstring under Attributes"
            known = name in {**tables._UNITS, **kind._units, **kind._flags}
            assert known or array.dtype.kind in "Ub", f"{where} has no unit: give it in {kind.__name__}._units"
            generated = [dim for dim in found[name].dims if dim.startswith(f"{name}_")]
            assert not generated, f"{where} has dimensions without names: give them in _form or _dims"
        assert json.loads(found.attrs["config"]) == {"runs": "3"}
        rows = record.to_dataframe()
        assert len(rows) > 0
        assert len(rows.columns) > 0


@pytest.fixture(scope="module")
def runs():
    return fd.simulate(NOISY, np.zeros((5, 2)), 6, KEY, every=3)


def test_an_ensemble_has_runs_times_and_coordinates(runs):
    found = runs.to_xarray()
    assert found.theta.dims == ("runs", "times", "dim")
    assert_array_equal(found.theta.sel(times=3), runs.theta[:, 1])
    assert found.theta.attrs["units"] == "theta"
    assert found.times.attrs["units"] == "steps"
    assert found.status.attrs["flag_meanings"].startswith("0 UNDECIDED, 1 CONVERGED")
    assert "observed" not in found  # it was not asked for
    single = fd.simulate(NOISY, np.zeros(2), 6, KEY, every=3).to_xarray()
    assert single.theta.dims == ("times", "dim")
    assert single.status.dims == ()
    seen = fd.simulate(
        NOISY, np.zeros((5, 2)), 6, KEY, every=3, observe=lambda state: state.theta @ state.theta
    ).to_xarray()
    assert seen.observed.dims == ("runs", "times")


def test_a_table_has_a_row_for_each_run_or_what_is_asked_for(runs):
    rows = runs.to_dataframe()
    assert list(rows.columns) == ["final_0", "final_1", "status", "steps"]
    assert rows.index.name == "runs"
    assert_array_equal(rows["final_1"], runs.final[:, 1])
    long = runs.to_dataframe(["runs", "times"])
    assert list(long.columns) == ["theta_0", "theta_1"]
    assert long.loc[(4, 6), "theta_0"] == runs.theta[4, 2, 0]
    turned = runs.to_dataframe(["times", "runs"])
    assert turned.loc[(6, 4), "theta_0"] == runs.theta[4, 2, 0]
    with pytest.raises(ValueError, match=r"over must be dimensions of the record, .*runs.*got"):
        runs.to_dataframe("seeds")
    with pytest.raises(TypeError, match="over"):
        runs.to_dataframe(3)


def test_complex_arrays_can_be_split():
    kind = fd.fixedpoints.Branch
    whole, split = made_up(kind).to_xarray(), made_up(kind).to_xarray(split_complex=True)
    assert whole.multipliers.dtype == complex
    assert {"multipliers_real", "multipliers_imag"} <= set(split)
    assert "multipliers" not in split
    with pytest.raises(TypeError, match="split_complex"):
        made_up(kind).to_xarray(split_complex="yes")


FORMATS = {
    "scipy": ("scipy", lambda data, path: data.to_netcdf(path, engine="scipy"), xr.load_dataset),
    "h5netcdf": ("h5netcdf", lambda data, path: data.to_netcdf(path, engine="h5netcdf"), xr.load_dataset),
    "zarr": ("zarr", lambda data, path: data.to_zarr(path), lambda path, engine: xr.open_zarr(path).load()),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore:.*Zarr.*", "ignore:.*zarr.*", "ignore:.*Consolidated.*")
def test_every_record_comes_back_from_a_file(form, all_kinds, runs, tmp_path):
    package, write, read = FORMATS[form]
    pytest.importorskip(package)
    for i, record in enumerate([runs, *map(made_up, all_kinds)]):
        data = record.to_xarray(split_complex=True)
        write(data, tmp_path / f"{i}")
        again = read(tmp_path / f"{i}", engine=form)
        assert again.equals(data), type(record).__name__
        assert again.attrs == data.attrs
        for name in data.variables:
            units = data[name].attrs.get("units")
            assert again[name].attrs.get("units") == units
