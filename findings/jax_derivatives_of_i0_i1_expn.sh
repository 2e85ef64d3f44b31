#!/usr/bin/env bash
# jax 0.10.2: derivatives of jax.scipy.special.i0, i1 and expn, float64.
#
# Expected: i0(x) = 1 + x²/4 + ..., so at x = 0 i0' = 0, i0'' = 1/2, i1' = 1/2, i1'' = 0; expn(2, x)'' = exp(-x)/x.
# Seen at x = 0: i0' = 1, i0'' = 1.5 and i1'' = 1 by forward and by reverse mode, without a word; i1' and everything at
#   x = 0.001 are right. (Both are written with |x|, whose derivative at 0 is 1 in JAX: the two sides do not cancel.)
#   The second derivative of expn is a TypeError about a tracer.
# So: the symmetric point of a loss with a Bessel function is no critical point, and its sharpness is wrong by a factor
#   of three. A landscape needs derivatives of the expression, not of these functions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6 scipy==1.17.1
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import numpy as np
from jax.scipy.special import expn, i0, i1

jax.config.update("jax_enable_x64", True)


def forward(f):
    return lambda x: jax.jvp(f, (x,), (1.0,))[1]


def check(name, seen, told):
    print(f"{name:24} {float(seen):.9g}")
    np.testing.assert_allclose(float(seen), told, rtol=1e-6, atol=1e-9, err_msg=name)


check("i0' at 0, forward", forward(i0)(0.0), 1.0)
check("i0' at 0, reverse", jax.grad(i0)(0.0), 1.0)
check("i1' at 0", forward(i1)(0.0), 0.5)
check("i0'' at 0, forward", forward(forward(i0))(0.0), 1.5)
check("i0'' at 0, reverse", jax.grad(jax.grad(i0))(0.0), 1.5)
check("i1'' at 0", forward(forward(i1))(0.0), 1.0)
check("i0'' at 0.001", forward(forward(i0))(1e-3), 0.5 + 3 / 16 * 1e-6)
check("expn(2, x)' at 1", forward(lambda x: expn(2, x))(1.0), -0.219383934)
try:
    forward(forward(lambda x: expn(2, x)))(1.0)
except TypeError as error:
    assert "Tracer" in str(error), error
    print("expn(2, x)''             TypeError")
else:
    raise AssertionError("expn has a second derivative now")
print("as described")
PY
