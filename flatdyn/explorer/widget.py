"""The explorer in a notebook: an anywidget that draws on a canvas, and a still picture for pages without a kernel."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget

if TYPE_CHECKING:
    from flatdyn.explorer.exploring import Explorer

_HERE = Path(__file__).parent


class View(anywidget.AnyWidget):
    """One view of an explorer; it is kept and updated, never built anew."""

    _esm = _HERE / "view.js"
    _css = _HERE / "view.css"

    def __init__(self, explorer: Explorer):
        super().__init__()
        self._explorer, self._lock = explorer, threading.Lock()
        explorer.connect(self._tell)
        self.on_msg(lambda widget, content, buffers: explorer.asked(content))

    def _tell(self, message: dict, parts: list) -> None:
        with self._lock:  # two lanes speak
            self.send(message, parts)

    def close(self) -> None:
        """Take the view away, and end the work behind it."""
        self._explorer.close()
        super().close()


def picture(explorer: Explorer) -> bytes:
    """The explorer's figure as PNG."""
    import matplotlib.pyplot as plt

    figure, file = explorer.figure(), io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    plt.close(figure)
    return file.getvalue()


def bundle(view: View, explorer: Explorer, **options: Any) -> Any:
    """What a notebook stores: the widget, and a picture for those that show no widgets."""
    shown = view._repr_mimebundle_(**options)
    data, *rest = shown if isinstance(shown, tuple) else (shown,)
    return ({**(data or {}), "image/png": picture(explorer), "text/plain": repr(explorer)}, *rest)
