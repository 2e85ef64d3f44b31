#!/usr/bin/env bash
# jax 0.10.2 on a CPU: sums along the last axes of an array, and what is made of them (log_softmax).
#
# Expected: a row that is reduced by itself has the same bits however many rows lie beside it, as elementwise functions,
#   maxima and batched matrix products have. Runs that are computed side by side are then those of one alone.
# Seen: of the first 64, 16, 3 or 1 of 256 blocks, many entries of log_softmax differ in the last bits from the same
#   blocks computed with all 256, in float32 and in float64; of plain sums some do for 3 blocks and for 1. Exponentials,
#   maxima and batched products do not differ at all. The order of summation is chosen by the leading extent.
# So: networks trained side by side agree with fewer of them to rounding only where a loss sums in this way, and chaotic
#   training soon not at all. A statement of equal bits over chunk sizes has to be tested with the compiler's defaults.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
x = np.random.default_rng(0).normal(size=(256, 32, 10))


def differing(function, kind):
    """How many entries of the first blocks differ from those computed with all blocks."""
    program, values = jax.jit(function), x.astype(kind)
    whole = np.asarray(program(values))
    return {n: int((np.asarray(program(values[:n])) != whole[:n]).sum()) for n in (64, 16, 3, 1)}


products = lambda x: jnp.einsum("nij,nkj->nik", x, x)  # noqa: E731
for name, function, depends in (
    ("log_softmax", jax.nn.log_softmax, True),
    ("sum", lambda x: x.sum(2), True),
    ("exponential", jnp.exp, False),
    ("maximum", lambda x: x.max(2), False),
    ("batched product", products, False),
):
    single, double = differing(function, np.float32), differing(function, np.float64)
    print(f"{name}: float32 {single}, float64 {double}")
    for kind, seen in (("float32", single), ("float64", double)):
        assert (sum(seen.values()) > 0) == depends, f"{name} in {kind}: it is no longer {depends} that blocks matter"
print("as described")
PY
