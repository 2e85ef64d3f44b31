"""Progress bars that vanish when the work ends, whatever ended it, and lines now and then where there is no screen."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, Self

from tqdm.auto import tqdm

LINE_SECONDS = 30.0  # between two lines in a log


class Vanishing:
    """What a bar of tqdm lacks, on a screen or in a notebook: it vanishes at the end.

    Work that is stopped early because its answer is known has done well, but tqdm's bar in a notebook turns red and
    stays if it was closed below its total, or if an interrupt met it while it drew.
    """

    def __init__(self, **options: Any):
        super().__init__(**options, leave=False)

    def close(self) -> None:
        if self.disable:
            return
        self.total = self.n
        super().close()
        if (widget := getattr(self, "container", None)) is not None:  # an interrupted one has stayed
            widget.close()


class Bar(Vanishing, tqdm):
    """A bar as it suits the place: a widget in a notebook, characters on a terminal."""


class Lines:
    """Where stderr is a file: a line after 30 s and then at most every 30 s, with the same methods as a bar.

    Args:
        total: number of steps, 0 if it is not known
        unit: what is counted
        at_once: write a first line now, as who asks for progress expects
    """

    def __init__(self, total: int, unit: str, at_once: bool = False):
        self.n, self.total, self.unit, self.postfix = 0, total, unit, ""
        self._begun = self._last = time.monotonic()
        if at_once:
            self._write()

    def update(self, n: int = 1) -> None:
        self.n += n
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            self._write()

    def _write(self) -> None:
        how = {"unit": self.unit, "unit_scale": True, "postfix": self.postfix}
        text = tqdm.format_meter(self.n, self.total or None, self._last - self._begun, ncols=0, **how)
        with contextlib.suppress(AttributeError, ValueError, OSError):  # no stderr, a closed one, a full disk
            sys.stderr.write(text.strip() + "\n")
            sys.stderr.flush()

    def set_postfix_str(self, text: str) -> None:
        """What to say at the end of the next lines."""
        self.postfix = text

    def close(self) -> None:
        """Nothing is left to take away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def on_a_screen() -> bool:
    """Whether a bar can be drawn in place: in a notebook with widgets, or on a terminal."""
    if any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__):  # which nobody else needs to import
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False
