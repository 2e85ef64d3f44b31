"""The transfer operator of one coordinate with one number of memory: on a strip of (θ, v)."""

from __future__ import annotations


def kernels(steps, inside, start, box, panels):
    raise TypeError("not yet")
