#!/usr/bin/env bash
# cloudpickle 3.1.2 with Equinox 0.13.8: a module whose class is defined in a script or notebook, sent to a worker.
#
# Expected: it arrives as it left, with its numbers as leaves of the tree; or packing or unpacking fails.
# Seen: attributes, dataclass fields and the text of the module are right, but jax.tree.leaves is empty: a norm over its
#   parameters is 0, tree.map gives a module without attributes, and jit and grad find none in it ("has no attribute").
#   Packing and unpacking say nothing. cloudpickle makes the class empty first and fills it then; Equinox registers the
#   tree in the first of the two steps.
# So: with Dask, loky, joblib or any other engine that packs so, what counts or sums parameters on the worker is wrong
#   without a word, and the rest fails far from the cause. Put the class into a module that both sides import.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
  cloudpickle==3.1.2 equinox==0.13.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
export JAX_PLATFORMS=cpu
cat > "$folder/imported.py" <<'PY'
import equinox as eqx
import jax


class Line(eqx.Module):
    slope: jax.Array
    shift: jax.Array
PY
cat > "$folder/sender.py" <<'PY'
import sys

import cloudpickle
import equinox as eqx
import imported
import jax
import jax.numpy as jnp


class Line(eqx.Module):
    slope: jax.Array
    shift: jax.Array


lines = [kind(jnp.array(2.0), jnp.array(1.0)) for kind in (Line, imported.Line)]
assert [len(jax.tree.leaves(line)) for line in lines] == [2, 2]
with open(sys.argv[1], "wb") as file:
    cloudpickle.dump(lines, file)
PY
cat > "$folder/worker.py" <<'PY'
import pickle
import sys

import jax

with open(sys.argv[1], "rb") as file:
    own, imported = pickle.load(file)
print("attributes:", float(own.slope), float(own.shift), "leaves:", len(jax.tree.leaves(own)))
print("of an imported class, leaves:", len(jax.tree.leaves(imported)))
assert (float(own.slope), float(own.shift)) == (2.0, 1.0), "the attributes are lost, too"
assert jax.tree.leaves(own) == [], "the leaves arrive now"
assert not hasattr(jax.tree.map(lambda leaf: 2 * leaf, own), "slope"), "tree.map keeps the attributes now"
try:
    jax.grad(lambda line: line.slope * 3.0)(own)
except AttributeError as error:
    print("grad:", error)
else:
    raise AssertionError("grad finds the attributes now")
assert len(jax.tree.leaves(imported)) == 2, "those of an imported class are lost, too"
print("as described")
PY
cd "$folder"
"$folder/venv/bin/python" -W error "$folder/sender.py" "$folder/sent"
"$folder/venv/bin/python" -W error "$folder/worker.py" "$folder/sent"
