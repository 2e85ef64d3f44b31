#!/usr/bin/env bash
# Equinox 0.13.8: nn.BatchNorm(mode="ema") in inference mode, with the state that it was made with.
#
# Expected: the running averages begin with mean 0 and variance 1, as in PyTorch and Flax: the input comes out as it
#   went in, up to 5e-6.
# Seen: it comes out 316 times as large, 1/sqrt(1e-5): the running variance begins with 0. Nothing is said.
#   With mode="batch" it comes out as it went in.
# So: what is measured of a network as it starts, in inference mode, is that of another scale at each normalisation.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
  equinox==0.13.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import warnings

import equinox as eqx
import jax

warnings.simplefilter("error")


def scale(mode):
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode=mode, momentum=0.9)
    x = 7 * jax.random.normal(jax.random.key(0), (64, 3)) + 5
    over = jax.vmap(eqx.nn.inference_mode(norm), axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    return float(abs(over(x, state)[0] / x).mean())


ema, batch = scale("ema"), scale("batch")
print(f"ema: {ema:.1f} times as large, batch: {batch:.6f}")
assert ema > 300, "the variance begins with another number now"
assert abs(batch - 1) < 1e-4, 'mode="batch" scales, too'
print("as described")
PY
