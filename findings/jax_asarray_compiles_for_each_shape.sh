#!/usr/bin/env bash
# jax 0.10.2 on a CPU: jnp.asarray of a NumPy array, jnp.atleast_2d, jnp.int32 of a number, jnp.zeros.
#
# Expected: a copy from the host to the device, as jax.device_put makes it, and no compiled program.
# Seen: each of them compiles a program of its own for every new shape or type, 20 to 30 ms with tracing and lowering.
#   jax.device_put of the same array compiles none and gives an equal array.
# So: in short scripts such programs are the larger part of all that is compiled; a library that converts its arguments
#   should use device_put, and NumPy for what is made on the host.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

compiled = []


def listen(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(seconds)


jax.monitoring.register_event_duration_secs_listener(listen)


def programs(call, arguments):
    before = len(compiled)
    for argument in arguments:
        jax.block_until_ready(call(argument))
    return len(compiled) - before


arrays = [np.ones(n, np.float32) for n in (3, 5, 7, 11)]
seen = {
    "jnp.asarray": programs(jnp.asarray, arrays),
    "jnp.atleast_2d": programs(jnp.atleast_2d, arrays),
    "jnp.zeros": programs(jnp.zeros, (13, 17, 19, 23)),
    "jax.device_put": programs(jax.device_put, arrays),
}
print("programs for four shapes:", seen)
assert seen["jax.device_put"] == 0, "device_put compiles"
assert seen["jnp.asarray"] >= 4, "asarray compiles no program for a shape any more"
assert seen["jnp.atleast_2d"] >= 4, "atleast_2d compiles no program for a shape any more"
assert seen["jnp.zeros"] >= 4, "zeros compiles no program for a shape any more"
print("as described")
PY
