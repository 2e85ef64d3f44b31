#!/usr/bin/env bash
# jax 0.10.2: two programs that differ in an array inside a nested jit have the same jaxpr text and no constants.
#
# Expected: make_jaxpr(f) shows what f computes: arrays that f closes over stand in `.consts`, so that the text together
#   with `.consts` tells two programs apart (it is what people hash to name a cache).
# Seen: an array captured by a function under jax.jit, called inside f, is a constant of the inner jaxpr alone. The text
#   names its type only, the outer `.consts` is empty, and both are equal for arrays (1, 2) and (-3, 5), whose programs
#   give 6 and 35. Captured without the inner jit the array is in the outer `.consts`. The inner one is found by walking
#   the equations' parameters.
# So: a digest of a computation has to walk into every nested program; a cache named by text and outer constants returns
#   another question's answer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np


def question(target, nested):
    target = jnp.asarray(target)
    loss = lambda t: jnp.sum((t - target) ** 2)
    inner = jax.jit(loss) if nested else loss
    return lambda t: inner(t) + 1.0


x = jnp.zeros(2)
plain, nested = ([jax.make_jaxpr(question(target, inside))(x) for target in ([1.0, 2.0], [-3.0, 5.0])] for inside in (False, True))
answers = [float(question(target, True)(x)) for target in ([1.0, 2.0], [-3.0, 5.0])]
print("answers", answers, "| texts equal:", str(nested[0]) == str(nested[1]), "| outer constants:", nested[0].consts)
assert answers == [6.0, 35.0]
assert len(plain[0].consts) == 1 and not np.array_equal(plain[0].consts[0], plain[1].consts[0]), "without jit they show"
assert str(nested[0]) == str(nested[1]), "the text tells them apart now"
assert not nested[0].consts and not nested[1].consts, "they stand outside now"
inside = [[p.consts for eqn in traced.eqns for p in eqn.params.values() if hasattr(p, "consts")] for traced in nested]
assert not np.array_equal(inside[0][0][0], inside[1][0][0]), "they are not found by walking"
print("as described")
PY
