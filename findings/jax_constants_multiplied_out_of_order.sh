#!/usr/bin/env bash
# jax 0.10.2 (XLA for CPU): products with constants inside jax.jit, float64.
#
# Expected: fast-math is off, so each product is rounded where it is written: (s * 1e200) * 1e200 at s = 1e-300 is
#   1e100, and (s c) * (s c) with s = 2**560, c = 3e-169 is 1.28.
# Seen: inf and NaN. The simplifier moves constants together, s * (1e200 * 1e200) and (s * s) * (c * c), whatever
#   their sizes. Call by call, without jit, both are right, and so they are behind jax.lax.optimization_barrier.
# So: lengths that are scaled by powers of two against under- and overflow need a barrier after the scale.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
barrier = jax.lax.optimization_barrier
twice = lambda s: (s * 1e200) * 1e200
square = lambda s: (s * 3e-169) * (s * 3e-169)
behind = lambda s: barrier(s * 3e-169) * barrier(s * 3e-169)
small, large = np.float64(1e-300), np.float64(2.0**560)
rows = {
    "twice, by hand": (twice(small), 1e100),
    "twice, jit": (jax.jit(twice)(small), np.inf),
    "square, by hand": (square(large), 1.2818513145),
    "square, jit": (jax.jit(square)(large), np.nan),
    "square, jit with barriers": (jax.jit(behind)(large), 1.2818513145),
}
for name, (seen, told) in rows.items():
    print(f"{name:26} {float(seen):g}")
    np.testing.assert_allclose(float(seen), told, rtol=1e-9, err_msg=name)
print("as described")
PY
