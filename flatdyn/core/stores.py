"""Where finished parts of long work are kept: a folder, with a file that one call renews or a file for each part.

What is kept is written whole, under a name that its reader knows, with all that it depends on in its header. A place
that can't be written is refused before the work begins. If it can't be written later on, the work goes on in memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flatdyn.core import records

_LOG = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 20.0  # between two writes of unfinished work
_PROBE = 1 << 12  # bytes: one block of most disks
_LEFT_OVER = 3600.0  # seconds after which the file of a write that was killed is nobody's
_DESCRIPTIONS = ("process", "inside")  # entries of a header for readers; the fingerprint identifies what they describe

Arrays = dict[str, np.ndarray]


class CannotWrite(OSError, ValueError):
    """Unfinished work can't be kept where it should be."""


def path_of(store: Any) -> Path:
    """The path that a user gives.

    Raises:
        ValueError: if it is none
    """
    if not isinstance(store, (str, os.PathLike)) or not os.fspath(store):
        raise ValueError(f"store must be a path, got {store!r}")
    return Path(store).expanduser()


def folder_of(store: Any) -> Path:
    """The folder that a user gives; it need not exist.

    Raises:
        ValueError: if it is no path, a link to nothing, or a file: earlier versions kept a call's work in one
    """
    path = path_of(store)
    if path.is_symlink() and not path.exists():
        raise ValueError(f"store must be a folder, {store} is a link to nothing: make its target, or give a folder")
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"store must be a folder, {store} is a file, which is not read: delete it if an earlier version of flatdyn "
            "wrote it, or give a folder"
        )
    return path


def _is_there(path: Path) -> bool:
    """Whether there is a file.

    Raises:
        CannotWrite: if a folder stands in its place
    """
    if path.is_dir():
        raise CannotWrite(f"store: {path} is a folder where a file is kept: move it away, or give another folder")
    return path.exists()


def check_writable(path: Path, size: int = 0, what: str = "store") -> None:
    """Check that a file of `size` bytes can be written at `path`, by writing a small one beside it.

    Raises:
        CannotWrite: if not, saying where, why, and what is needed and free
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file that is there is write-protected")
        _clear(path.parent, f".{path.name}.*.part")
        records.write_beside(path, bytes(_PROBE)).unlink()
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise OSError(errno.ENOSPC, f"{_shown_size(size)} are needed")
    except OSError as error:
        raise CannotWrite(
            f"{what}: {path} can't be written ({error.strerror or error}{_free(path)}): make room, or give another "
            "folder"
        ) from None


def _clear(folder: Path, pattern: str) -> None:
    """Remove what writes that were killed have left."""
    for part in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _LEFT_OVER:
                part.unlink()


def _shown_size(size: float) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f"; {_shown_size(shutil.disk_usage(path.parent).free)} are free"
    return ""


class _Keeper:
    """Writes that may fail; the first failure is a warning that says why."""

    _warned = False

    def _failed(self, path: Path, size: int, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            reason = getattr(error, "strerror", None) or error
            warnings.warn(
                f"{path} could not be written ({_shown_size(size)}; {reason}{_free(path)}): the work "
                "goes on in memory, and the next checkpoint tries again",
                stacklevel=4,
            )


class File(_Keeper):
    """A file that one call renews as its work goes on, and from which the same call goes on after an interruption.

    It is named by what identifies the call, so many calls can share a folder.

    Args:
        store: the folder; made when there is something to keep
        config: what identifies the call; with an entry `fingerprint` of all that it depends on
        what: what the file holds if it is another call's
    """

    def __init__(self, store: Any, config: dict[str, str], what: str):
        identifying = {name: value for name, value in config.items() if name not in _DESCRIPTIONS}
        name = records.digest(json.dumps(identifying, sort_keys=True))[:32]
        self.path, self.config, self.what, self._behind = folder_of(store) / f"{name}.npz", config, what, False

    def read(self, misfit: Callable[[Arrays], str | None]) -> Arrays | None:
        """What the file holds; None if there is none.

        Args:
            misfit: says what is wrong with arrays that can't be this call's, or None
        Raises:
            ValueError: if it is damaged, or another call's
        """
        if not _is_there(self.path):
            return None
        arrays, header = records.load_arrays(self.path)
        names = [name for name in {**self.config, **header} if name not in _DESCRIPTIONS]
        different = [name for name in names if header.get(name) != self.config.get(name)]
        if different:
            raise ValueError(f"{self.path} holds {self.what} (different: {', '.join(different)}): delete this file")
        try:
            problem = misfit(arrays)
        except Exception as error:  # arrays of any names, types and shapes
            problem = f"{type(error).__name__}: {error}"
        if problem:
            raise records.damaged(self.path, problem)
        return arrays

    def prepare(self, size: int) -> None:
        """Raise CannotWrite if `size` bytes can't be kept; call it when there is work to do."""
        check_writable(self.path, size)

    def write(self, arrays: Arrays) -> None:
        """Renew the file, whole or not at all; a failure is a warning."""
        content = b""
        try:
            content = records.packed(arrays, self.config)
            records.write_whole(self.path, content)
            self._behind = False
        except (OSError, MemoryError) as error:
            self._behind = True
            self._failed(self.path, len(content), error)

    def finish(self) -> None:
        """Say so if the last state of the work is not in the file."""
        if self._behind:
            warnings.warn(f"{self.path} does not hold the end of the work: keep the result yourself", stacklevel=3)


class Folder(_Keeper):
    """A folder with one file for each finished part, named by what the part depends on.

    Args:
        store: where; made when the first part is begun
        what: the name of a part in messages
    """

    def __init__(self, store: Any, what: str):
        self.path, self.what, self._ready = folder_of(store), what, False
        self._waiting: dict[Path, bytes] = {}  # finished parts that could not be written

    def read(self, name: str, expected: dict[str, Any]) -> tuple[Arrays, dict[str, Any]] | None:
        """Arrays of a part and what its header says besides `expected`; None if it is not there, or not whole."""
        path = self.file(name)
        if not _is_there(path):
            return None
        try:
            arrays, header = records.load_arrays(path)
        except ValueError as error:
            self.refuse(error)
            return None
        if any(header.get(key) != value for key, value in expected.items()):
            _LOG.warning("%s holds another %s: it is computed again", path, self.what)
            return None
        return arrays, {key: value for key, value in header.items() if key not in expected}

    def file(self, name: str) -> Path:
        """The path of a part's file."""
        return self.path / f"{name}.npz"

    def refuse(self, error: Exception) -> None:
        """Say that a part which was read can't be used, and is made anew."""
        _LOG.warning("%s; this is done now", error)

    def prepare(self) -> None:
        """Raise CannotWrite if nothing can be kept; call it before each part: the first call looks."""
        if not self._ready:
            check_writable(self.path / "part.npz")
            for left in (".*.part", ".*.lease"):  # who is alive touches his lease
                _clear(self.path, left)
            self._ready = True

    def write(self, name: str, arrays: Arrays, header: dict[str, Any]) -> None:
        """Keep a part, whole or not at all; a failure is a warning."""
        path, content = self.file(name), records.packed(arrays, header)
        self._waiting[path] = content
        try:
            self._flush()
        except OSError as error:
            self._failed(path, len(content), error)

    def _flush(self) -> None:
        for path in list(self._waiting):
            records.write_whole(path, self._waiting[path])
            del self._waiting[path]

    def finish(self) -> None:
        """Try again what could not be written, and say so if it still can't."""
        with contextlib.suppress(OSError):
            self._flush()
        if self._waiting:
            warnings.warn(
                f"{len(self._waiting)} finished parts are not in {self.path}: keep the result yourself", stacklevel=3
            )
