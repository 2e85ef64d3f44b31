#!/usr/bin/env bash
# matfree 0.6.3: decomp.tridiag_sym with full reorthogonalisation, when the matrix has few different eigenvalues.
#
# Expected: Lanczos breaks down after as many steps as there are different eigenvalues. Then comes a zero beside the
#   diagonal, or NaN, or an error: all Ritz values stay between the smallest and the largest eigenvalue.
# Seen: for 3 I in 400 dimensions and 40 products the Ritz values run from -3581 to 3587; for 50 each of 1, 2 and 5 and
#   12 products from -98 to 102. Nothing tells. As many products as different eigenvalues are right.
# So: a spectral density by stochastic Lanczos quadrature lies outside the spectrum for a Hessian with a large kernel.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check matfree==0.6.3 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import numpy as np
from matfree import decomp

jax.config.update("jax_enable_x64", True)


def ritz(eigenvalues, products):
    start = jax.random.rademacher(jax.random.key(0), eigenvalues.shape, float)
    found = decomp.tridiag_sym(products, reortho="full")(lambda v: eigenvalues * v, start)
    return np.linalg.eigvalsh(np.asarray(found.J_small))


alike, three = np.full(400, 3.0), np.repeat([1.0, 2.0, 5.0], 50)
for name, eigenvalues, enough, many in (("3 I", alike, 1, 40), ("1, 2, 5", three, 3, 12)):
    low, high = eigenvalues.min(), eigenvalues.max()
    few, far = ritz(eigenvalues, enough), ritz(eigenvalues, many)
    print(f"{name}: {enough} products {few.min():.4g} to {few.max():.4g}, {many} products {far.min():.4g} to {far.max():.4g}")
    assert low - 1e-9 < few.min() and few.max() < high + 1e-9, "few products are wrong, too"
    assert far.min() < low - 1 or far.max() > high + 1, "many products are right now"
print("as described")
PY
