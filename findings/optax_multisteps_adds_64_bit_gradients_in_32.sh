#!/usr/bin/env bash
# optax 0.2.8: MultiSteps, which averages the gradients of several steps, with 64-bit numbers on.
#
# Expected: gradients and parameters of 64 bits are averaged in 64 bits.
# Seen: the accumulator has 32, the update 64. Two gradients of two numbers lead to an update that is off by 6e-10,
#   a hundred million times the rounding of 64 bits. Nothing is said.
# So: gradient accumulation can't be compared with the whole batch to more than seven digits.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
  optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu JAX_ENABLE_X64=1 "$folder/venv/bin/python" - <<'PY'
import jax.numpy as jnp
import optax

theta, gradients = jnp.array([1.0, 2.0]), [jnp.array([0.1, 0.3]), jnp.array([0.7, 0.11])]
steps = optax.MultiSteps(optax.sgd(0.1), 2)
state = steps.init(theta)
kind = state.acc_grads.dtype
for gradient in gradients:
    update, state = steps.update(gradient, state, theta)
off = float(abs(update + 0.1 * sum(gradients) / 2).max())
print(f"parameters {theta.dtype}, accumulator {kind}, update {update.dtype}, {off:.1e} off")
assert (str(theta.dtype), str(kind)) == ("float64", "float32"), "the accumulator has another type now"
assert 1e-11 < off < 1e-8, "the update is of another accuracy now"
print("as described")
PY
