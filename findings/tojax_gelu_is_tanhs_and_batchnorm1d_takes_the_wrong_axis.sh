#!/usr/bin/env bash
# tojax 1.0.1 (PyTorch 2.13.0): nn.GELU and nn.BatchNorm1d in evaluation mode.
#
# Expected: a converter gives PyTorch's numbers up to the rounding of 32 bits, or an error.
# Seen: nn.GELU(), which is exact in PyTorch, is the tanh approximation: 3e-4 off. nn.GELU("tanh") agrees.
#   nn.BatchNorm1d(5) turns an input (7, 5) into an output (5, 7, 5). For an input (5, 5, 4) the shape is right and the
#   numbers are wrong: the running mean goes along the batch. Nothing is said.
# So: the logits of a vision transformer are off, and those of a perceptron with BatchNorm are another network's.
# Needs Python 3.12.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
  tojax==1.0.1 torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import numpy as np
import tojax
import torch

torch.manual_seed(0)


def both(module, x):
    module = module.eval()
    return module(x).detach().numpy(), np.asarray(tojax.tojax(module)(jax.numpy.asarray(x.numpy())))


def off(module, x):
    one, other = both(module, x)
    return abs(one - other).max()


points = torch.randn(7, 5)
exact, tanh = off(torch.nn.GELU(), points), off(torch.nn.GELU("tanh"), points)
print(f"GELU {exact:.1e} off, GELU of tanh {tanh:.1e}")
assert exact > 1e-4, "GELU is exact now"
assert tanh < 1e-6, "GELU of tanh is off, too"
norm = torch.nn.BatchNorm1d(5)
norm.running_mean += torch.arange(5.0)
shapes = [part.shape for part in both(norm, points)]
print("BatchNorm1d:", *shapes)
assert shapes == [(7, 5), (5, 7, 5)], "the shape of BatchNorm1d has changed"
series = off(norm, torch.randn(5, 5, 4))
print(f"BatchNorm1d of five series: {series:.1f} off")
assert series > 1, "BatchNorm1d of series is right now"
print("as described")
PY
