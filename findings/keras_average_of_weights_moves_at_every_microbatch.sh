#!/usr/bin/env bash
# Keras 3.15.1: use_ema with gradient_accumulation_steps.
#
# Expected: the average of the weights moves when the weights do, once in k micro-batches. Six micro-batches, two to a
#   step, leave the average where three steps without accumulation leave it: 0.871.
# Seen: it moves at every micro-batch, towards weights that stand still in between: 0.8629.
# So: ema_momentum d with k micro-batches is nearer to d**k, and changes with how a batch is cut.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
  keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu KERAS_BACKEND=jax "$folder/venv/bin/python" - <<'PY'
import jax.numpy as jnp
import keras
import numpy as np


def average(count, micro):
    """The weight and its average after so many gradients of 1."""
    weight = keras.Variable(np.ones(1, "float32"))
    sgd = keras.optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=None, gradient_accumulation_steps=micro
    )
    sgd.build([weight])
    for _ in range(count):
        sgd.apply([jnp.ones(1)], [weight])
    before = float(weight.value[0])
    sgd.finalize_variable_values([weight])  # puts the average in the weight's place
    return before, float(weight.value[0])


whole, cut = average(3, None), average(6, 2)
print(f"three steps {whole[0]:.4f}, average {whole[1]:.4f}; six micro-batches {cut[0]:.4f}, average {cut[1]:.4f}")
assert abs(whole[0] - cut[0]) < 1e-6, "the steps differ"
assert abs(whole[1] - 0.871) < 1e-5, "the average of whole steps is another one"
assert abs(cut[1] - 0.8629) < 1e-4, "the average of micro-batches is another one now"
print("as described")
PY
