#!/usr/bin/env bash
# jax 0.10.2 on a CPU: jax.random.uniform(key, shape, minval=a, maxval=b), float32, default generator.
#
# Expected: u (b − a) + a with two roundings, as the source of the function says, from the u in [0, 1) that the same key
#   gives without limits: NumPy's arithmetic on these u gives the same numbers.
# Seen: about half of the numbers differ in the last bit. The compiler contracts the product and the sum to one fused
#   multiply-add; with one rounding, computed exactly from the same u, all numbers agree.
# So: weights drawn as uniform(-k, k) can't be reproduced from the random words by plain arithmetic, and a processor
#   without such an instruction draws other weights from the same key.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
from fractions import Fraction

import jax
import numpy as np

key, low, high, number = jax.random.key(0), np.float32(-0.3), np.float32(0.3), 2000
share = np.asarray(jax.random.uniform(key, (number,)))
drawn = np.asarray(jax.random.uniform(key, (number,), minval=low, maxval=high))
width = np.float32(high - low)
twice = np.maximum(low, share * width + low)


def nearest(exact):
    """The float32 nearest to a fraction; double precision holds it exactly or the two roundings are told apart."""
    first = np.float32(float(exact))
    around = [np.nextafter(first, np.float32(side)) for side in (-1, 1)]
    return min([first, *around], key=lambda value: abs(Fraction(float(value)) - exact))


once = np.array([nearest(Fraction(float(u)) * Fraction(float(width)) + Fraction(float(low))) for u in share])
print(f"of {number} numbers {np.sum(drawn != twice)} differ from two roundings, {np.sum(drawn != once)} from one")
assert np.sum(drawn != twice) > number // 10, "uniform numbers are rounded twice now"
assert np.sum(drawn != once) == 0, "uniform numbers are not those of one rounding"
print("as described")
PY
