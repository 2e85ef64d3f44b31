"""Fractions along a parameter: the same name for the same attractor, and nothing computed twice."""

import dataclasses
import inspect
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import flatdyn as fd
from flatdyn.basins import Mapper, fractions, match_attractors, match_by_overlap
from flatdyn.basins.attractors import given
from flatdyn.basins.searches import extent
from flatdyn.core.statistics import binomial_error

KEY = jax.random.key(0)


class Halving(eqx.Module):
    """Half of the way to edge + 1 for points right of `edge`, to edge − 1 for others; to `edge` itself for one well.

    The edge is a number that the process holds: other values need no new program.
    """

    edge: float
    wells: int = eqx.field(static=True, default=2)

    def __call__(self, t):
        well = self.edge + (jnp.sign(t - self.edge) if self.wells == 2 else 0)
        return well + (t - well) / 2


def two_wells(edge):
    return fd.Map(Halving(edge), 1)


HALVES, ENDS = two_wells(0.0), {"left": (-1.0,), "right": (1.0,)}


def test_fractions_follow_the_boundary_and_names_stay():
    edges = np.linspace(-0.6, 0.6, 4)
    curve = fd.fractions_in(two_wells, "edge", edges, [(-2.0, 2.0)], 2000, KEY, max_steps=200, reach=0.5)
    assert len(curve.names) == 4  # two attractors throughout, although both move by 1.2
    right = curve.theta[:, 0, 0] > curve.theta[:, 1, 0]
    share, error = curve[str(curve.names[0 if right[0] else 1])]
    assert (right == right[0]).all()
    assert (np.abs(share - (2 - edges) / 4) <= 4 * error).all()
    assert_allclose(curve.fractions.sum(axis=1), 1)
    assert_allclose(curve.stderr, binomial_error(np.round(2000 * curve.fractions), 2000), rtol=1e-12)
    whole, error = curve.of_kind("point")
    assert_allclose(whole, 1)
    assert_allclose(error, binomial_error(2000, 2000), rtol=1e-9)
    assert_array_equal(curve.of_kind("point", "cycle")[0], whole)
    assert (curve.of_kind("cycle")[0] == 0).all()
    assert curve.at(edges[1] * (1 + 1e-15), "point") == (whole[1], error[1])
    with pytest.raises(ValueError, match=r"at which the curve was computed, -0.6, -0.2, 0.2, 0.6; got 0.1"):
        curve.at(0.1, "point")
    assert_array_equal(curve.kinds, np.tile(["point", "point", "", ""], (4, 1)))


def test_the_extent_of_starts_is_the_diagonal_of_the_box_around_them():
    nowhere = fd.Map(lambda t: t, 2)
    fenced = fd.Iteration(fd.Landscape.from_expression("x**2 + y**2", "x y", box=[(-3, 3), (-4, 4)]), fd.GD(0.1))
    starts, gone = np.array([[0.0, 0.0], [3.0, 1.0], [1.0, 4.0]]), np.array([[1.0, 1.0], [3.0, 2.0], [1.0, 16.0]])
    assert extent(nowhere, starts, lambda: gone) == extent(fenced, starts, lambda: gone) == 5.0
    together = np.ones((3, 2))
    assert extent(fenced, together, lambda: gone) == 10.0
    assert extent(nowhere, together, lambda: gone) == 15.0  # the run that goes farthest
    assert extent(nowhere, together, lambda: together) == pytest.approx(2**0.5)
    assert extent(nowhere, 0 * together, lambda: 0 * together) == 1.0
    for unit in (2.0**600, 2.0**-600):  # whose squares over- or underflow
        assert extent(nowhere, unit * starts, lambda: gone) == 5 * unit
        assert extent(nowhere, 0 * together, lambda unit=unit: unit * gone) == unit * extent(
            nowhere, 0 * together, lambda: gone
        )


def test_basins_tell_which_attractor_is_which_when_positions_cannot():
    ends = {1.0: {"left": (-1.0,), "right": (1.0,)}, 2.0: {"a": (5.0,), "b": (-5.0,)}}

    def jumping(depth):  # the left half ends at -1, then at 5; the right half at 1, then at -5
        left, right = (-1.0, 1.0) if depth == 1 else (5.0, -5.0)
        return fd.Map(lambda t: jnp.where((t == left) | ((t < 0) & (t != right)), left, right), 1)

    call = jumping, "depth", [1.0, 2.0], [(-2.0, 2.0)], 400, KEY, ends.get
    by_place = fd.fractions_in(*call, reach=1.0, max_steps=10, check_every=1)
    assert list(by_place.names[:4]) == ["left", "right", "a", "b"]  # two have gone, two are new
    curve = fd.fractions_in(*call, matching="overlap", max_steps=10, check_every=1)
    assert list(curve.names) == ["left", "right", "diverged", "undecided"]
    assert_array_equal(curve.theta[:, :2, 0], [[-1, 1], [5, -5]])
    assert_array_equal(curve.fractions[0], curve.fractions[1])
    with pytest.raises(ValueError, match="matching must be"):
        fd.fractions_in(*call, matching="by eye")


def test_overlaps_are_counted_in_the_smaller_basin():
    whole = fd.basin_fractions(HALVES, [(-2.0, 2.0)], 8, KEY, ENDS, max_steps=20)

    def labels(*numbers):
        return dataclasses.replace(whole, labels=np.array(numbers, np.int16))

    before = labels(0, 0, 0, 0, 1, 1, 1, 1)
    assert match_by_overlap(before, [0, 1], labels(1, 1, 1, 0, 0, 0, 0, 0), 2) == [1, 0]
    assert match_by_overlap(before, [2, 0], labels(0, 0, 0, 1, 1, 1, 1, 1), 3) == [2, 0]  # what is known has indices
    assert match_by_overlap(before, [0, 1], labels(0, -1, -1, -1, -1, -1, -1, 1), 2) == [0, 1]  # both have shrunk
    larger = labels(0, 0, 0, 0, 0, 1, 1, 1)
    assert match_by_overlap(larger, [0, 1], labels(1, 1, 1, 1, 1, 1, 1, 1), 2) == [2, 0]  # an empty one is new
    assert match_by_overlap(before, [], before, 0) == [0, 1]
    assert match_attractors(np.zeros((0, 2)), (), 0.5) == []
    assert match_by_overlap(before, [2**40, 0], labels(1, 1, 1, 0, 0, 0, 0, -1), 2**62) == [0, 2**40]  # takes no memory
    with pytest.raises(ValueError, match=re.escape("indices must be different, got [1, 1]")):
        match_by_overlap(before, [1, 1], before, 2)
    with pytest.raises(ValueError, match="the same starts"):
        match_by_overlap(before, [0, 1], labels(0, 1), 2)
    with pytest.raises(ValueError, match="indices must be"):
        match_by_overlap(before, [0, 2], before, 2)
    with pytest.raises(ValueError, match="one for each attractor"):
        match_by_overlap(before, [0], before, 2)


def test_a_mapper_asks_what_its_process_and_rules_ask():
    rules = {"max_steps": 40, "radius": 0.25, "check_every": 5}
    mapper = Mapper(HALVES, ENDS, **rules)
    box, runs = [(-2.0, 2.0)], 200
    same = [
        (fd.map_basins(mapper, box, 9), fd.map_basins(HALVES, box, 9, ENDS, **rules)),
        (fd.basin_fractions(mapper, box, runs, KEY), fd.basin_fractions(HALVES, box, runs, KEY, ENDS, **rules)),
    ]
    for one, other in same:
        assert one.config == other.config
        for name in ("labels", "steps", "final"):
            assert_array_equal(getattr(one, name), getattr(other, name))
    share = fd.basin_stability(mapper, "right", box, runs, KEY)
    assert share == (same[1][0].fractions()["right"], same[1][0].errors()["right"])
    alone = fd.basin_stability(Mapper(HALVES, **rules), (1.0,), box, runs, KEY)
    assert alone[0] == pytest.approx(share[0], abs=1e-12)
    curve = fd.fractions_in(lambda edge: Mapper(two_wells(edge), ENDS, **rules), "edge", [0.0], box, runs, KEY)
    assert curve["right"][0] == share[0]
    assert repr(mapper).startswith("Mapper(Map(")
    assert "2 attractors, max_steps=40, radius=0.25" in repr(mapper)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mapper(HALVES, [(1.0, 0.0)]), r"shape \(1,\)"),
        (lambda: Mapper(HALVES, max_steps=0), "max_steps must be"),
        (lambda: Mapper(HALVES, radius=-1.0), "radius must be"),
        (lambda: fd.map_basins(Mapper(HALVES), [(-1, 1)], 3, ENDS), "the mapper has its own attractors"),
        (lambda: fd.map_basins(Mapper(HALVES), [(-1, 1)], 3, max_steps=9, stay=2), "its own max_steps, stay"),
        (lambda: fd.map_basins(Mapper(HALVES), [(-1, 1)] * 2, 3), "box must"),
        (lambda: fd.basin_stability(Mapper(HALVES, ENDS), "middle", [(-1, 1)], 9, KEY), "attractor must be"),
        (lambda: fd.fractions_in(lambda e: Mapper(HALVES), "e", [0.0], [(-1, 1)] * 2, 9, KEY), "box must"),
    ],
)
def test_a_mapper_that_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


QUESTIONS = {  # about basins, and a call of each with the rules that are given
    fd.map_basins: lambda **rules: fd.map_basins(HALVES, [(-1, 1)], 3, **rules),
    fd.basin_fractions: lambda **rules: fd.basin_fractions(HALVES, [(-1, 1)], 9, KEY, **rules),
    fd.basin_stability: lambda **rules: fd.basin_stability(HALVES, (1.0,), [(-1, 1)], 9, KEY, **rules),
    fd.fractions_in: lambda **rules: fd.fractions_in(two_wells, "edge", [0.0], [(-1, 1)], 9, KEY, **rules),
    fd.boundaries.uncertainty_exponent: lambda **rules: fd.boundaries.uncertainty_exponent(
        HALVES, [(-1, 1)], [0.1, 0.2, 0.3], 9, KEY, **rules
    ),
}


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {one.name: (one.default, str(one.annotation)) for one in parameters if one.kind is one.KEYWORD_ONLY}


def test_the_questions_have_the_rules_of_a_mapper_with_its_defaults():
    rules = keywords(Mapper)
    assert len(rules) == 6
    each = [keywords(question) for question in QUESTIONS]
    for question, own in zip(QUESTIONS, each, strict=True):
        assert {name: own.get(name) for name in rules} == rules, question.__name__
    how = {"chunk", "progress", "store", "version"}  # a call is made, whatever it asks
    assert set.intersection(*map(set, each)) - how == set(rules)


@pytest.mark.parametrize("rule", keywords(Mapper))
def test_every_question_hands_every_rule_on(rule):
    for call in QUESTIONS.values():
        with pytest.raises(ValueError, match=f"{rule} must"):
            call(**{rule: -1})


def test_what_is_no_process_makes_no_mapper():
    with pytest.raises(TypeError, match="process must be a Process"):
        Mapper(fd.GD(0.1))
    with pytest.raises(TypeError, match="process must be a Process or a Mapper, got"):
        fd.map_basins(fd.GD(0.1), [(-1, 1)], 3)


def test_an_attractor_that_goes_keeps_its_name_and_a_new_one_gets_another():
    def wells(x):
        if x < 1:
            return two_wells(0.0)
        return fd.Map(Halving(1.0, wells=1), 1) if x < 2 else fd.Map(Halving(9.0, wells=1), 1)

    curve = fd.fractions_in(wells, "x", [0, 1, 2, 0], [(-2.0, 2.0)], 500, KEY, max_steps=200, reach=0.3)
    assert list(curve.names) == ["point (1)", "point (-1)", "point (9)", "diverged", "undecided"] or list(
        curve.names
    ) == ["point (-1)", "point (1)", "point (9)", "diverged", "undecided"]
    one = list(curve.names).index("point (1)")
    gone = list(curve.names).index("point (-1)")
    assert curve.fractions[1, one] == curve.fractions[2, 2] == 1
    assert curve.fractions[1, gone] == 0
    assert_array_equal(curve.fractions[0], curve.fractions[3])  # the same starts, and the names are back
    assert np.isnan(curve.theta[1, gone]).all()
    assert_allclose(curve.stderr[1, gone], binomial_error(0, 500), rtol=1e-12)  # no run was seen to go there
    assert curve.kinds[1, gone] == ""


def test_matching_is_the_best_assignment_and_not_the_nearest_first():
    known, _ = given([(0.0, 0.0), (1.0, 0.0)], 2)
    present, _ = given([(0.9, 0.0), (1.9, 0.0)], 2)
    assert match_attractors(known, present, 1.0) == [0, 1]  # 0.9 + 0.9 beats 0.1 and none
    assert match_attractors(known, present, 0.5) == [1, 2]
    assert match_attractors([], present, 1.0) == [0, 1]
    assert match_attractors(known, [], 1.0) == []


def test_given_attractors_may_depend_on_the_value():
    curve = fd.fractions_in(
        two_wells, "edge", [0.0, 0.5], [(-2.0, 2.0)], 500, KEY, lambda e: {"low": (e - 1,), "high": (e + 1,)}, reach=0.6
    )
    assert list(curve.names) == ["low", "high", "diverged", "undecided"]


def test_finished_values_are_kept_and_not_computed_again(tmp_path, monkeypatch):
    call = (two_wells, "edge", [-0.5, 0.0, 0.5], [(-2.0, 2.0)], 300, KEY)
    whole = fd.fractions_in(*call)
    computed = []
    plain = fractions.basin_fractions

    def counted(process, *args, **kwargs):
        computed.append(repr(process))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return plain(process, *args, **kwargs)

    monkeypatch.setattr(fractions, "basin_fractions", counted)
    with pytest.raises(KeyboardInterrupt):
        fd.fractions_in(*call, store=tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    again = fd.fractions_in(*call, store=tmp_path)
    assert len(computed) == 4  # two, the interrupted one, and that one again
    assert_array_equal(again.fractions, whole.fractions)
    next(iter(tmp_path.glob("*.npz"))).write_bytes(b"half a record")
    assert_array_equal(fd.fractions_in(*call, store=tmp_path).fractions, whole.fractions)
    assert len(computed) == 5


def test_a_curve_is_a_record(tmp_path):
    curve = fd.fractions_in(two_wells, "edge", [0.0, 0.1], [(-2.0, 2.0)], 100, KEY, max_steps=200)
    again = fractions.FractionCurve.load(curve.save(tmp_path / "curve.npz"))
    assert_array_equal(again.fractions, curve.fractions)
    assert repr(again) == repr(curve)
    with pytest.raises(KeyError, match="is none of"):
        curve["somewhere"]


def test_a_sample_with_diverged_runs_is_a_record_and_one_with_other_labels_is_none(tmp_path):
    far = fd.Map(lambda t: jnp.where(t > 1, t**2, t / 2), 1)
    sample = fd.basin_fractions(far, [(-2.0, 2.0)], 40, KEY, max_steps=200)
    assert sample.counts()["diverged"] > 0
    again = type(sample).load(sample.save(tmp_path / "sample.npz"))
    assert again.counts() == sample.counts()
    assert_array_equal(again.labels, sample.labels)
    for label in (-3, len(sample.names)):
        other = dataclasses.replace(sample, labels=np.where(sample.labels == 0, label, sample.labels))
        with pytest.raises(ValueError, match="labels are none of its attractors"):
            type(sample).load(other.save(tmp_path / f"other{label}.npz"))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [([], {}, "at least one number"), ([np.nan], {}, "values must be finite"), ([0.0], {"reach": 0}, "reach must be")],
)
def test_bad_input_is_refused_with_a_reason(values, options, message):
    with pytest.raises(ValueError, match=message):
        fd.fractions_in(two_wells, "edge", values, [(-2.0, 2.0)], 10, KEY, **options)
