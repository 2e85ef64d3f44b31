"""Leases: who computes which part, where several calls, processes or machines work on the parts of one folder.

A lease is a small file beside the part. It is made only where none is, which every disk can do, also one on the
network without locks. Its holder touches it every few seconds. One that is not touched any more has expired: whoever
held it is dead, and another takes the part over. Clocks of different machines are not compared: a lease is watched for
a while. If two hold the same part nevertheless, it is computed twice, with the same result.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import threading
import time
import warnings
from pathlib import Path
from typing import NamedTuple

BEAT = 5.0  # seconds between two touches
PATIENCE = 30.0  # seconds without one, after which a lease has expired
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Holder(NamedTuple):
    """Who holds a lease.

    Attributes:
        call: a word for the call that it belongs to
        token: of this lease alone
        host, process: where
    """

    call: str = ""
    token: str = ""
    host: str = ""
    process: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}" if self.host else "another process"


class Leases:
    """The leases that this process holds in a folder for one call.

    Args:
        folder: which all who share the work see; it is there
        call: a word for the call. A lease of the same call is that of an earlier try, and is taken over at once
    """

    def __init__(self, folder: Path, call: str):
        self.folder, self.call = folder, call
        self._held: dict[Path, str] = {}
        self._seen: dict[Path, tuple[tuple, float]] = {}  # what others' leases looked like, and since when
        self._beat: threading.Thread | None = None
        self._stopped = threading.Event()
        self._warned = False

    def take(self, name: str) -> bool:
        """Whether the part is this process's to compute now. On a disk that keeps no leases it always is."""
        path = self._file(name)
        for _ in range(3):  # another may be quicker in taking over what has expired
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._expired(path):
                    return False
                continue
            except OSError as error:
                self._without(error)
                return True
            self._keep(path, handle)
            return True
        return False

    def holder(self, name: str) -> Holder | None:
        """Who holds the lease of a part; None if nobody does, or if it has expired."""
        path = self._file(name)
        seen = _read(path)
        return None if seen is None or self._is_dead(path, *seen) else seen[0]

    def is_free(self, name: str) -> bool:
        """Whether nobody holds the lease of a part; an expired one is taken away, so that others need not wait too."""
        return self._expired(self._file(name))

    def free(self, name: str) -> None:
        """Give a lease back, if this process holds it still."""
        path = self._file(name)
        token = self._held.pop(path, None)
        seen = _read(path) if token is not None else None
        if seen is not None and seen[0].token == token:
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Give all leases back."""
        self._stopped.set()
        for path in list(self._held):
            self.free(path.name[1 : -len(".lease")])

    def _file(self, name: str) -> Path:
        return self.folder / f".{name}.lease"

    def _keep(self, path: Path, handle: int) -> None:
        token = secrets.token_hex(8)
        holder = Holder(self.call, token, socket.gethostname(), os.getpid())
        try:
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(holder._asdict()))
        except OSError as error:  # no room: an empty lease would be held against all until it expires
            with contextlib.suppress(OSError):
                path.unlink()
            self._without(error)
            return
        self._held[path] = token
        if self._beat is None:
            self._beat = threading.Thread(target=self._touch, name="flatdyn leases", daemon=True)
            self._beat.start()

    def _touch(self) -> None:
        while not self._stopped.wait(BEAT):
            for path in list(self._held):
                with contextlib.suppress(OSError):  # another has taken it over
                    os.utime(path)

    def _expired(self, path: Path) -> bool:
        """Whether nobody holds this lease any more; then its file is taken away."""
        seen = _read(path)
        if seen is None:  # given back just now
            return True
        holder, _ = seen
        earlier = holder.call == self.call and path not in self._held
        if not earlier and not self._is_dead(path, *seen):
            return False
        again = _read(path)
        if again is not None and again[0] == holder:  # or else another has been quicker
            with contextlib.suppress(OSError):
                path.unlink()
        self._seen.pop(path, None)
        return True

    def _is_dead(self, path: Path, holder: Holder, touched: int) -> bool:
        if holder.host == socket.gethostname() and not _is_alive(holder.process):
            return True
        now, looks = time.monotonic(), (holder, touched)
        before, since = self._seen.get(path, (None, now))
        if before != looks:
            self._seen[path] = looks, now
            return False
        return now - since > PATIENCE

    def _without(self, error: OSError) -> None:
        """Say once that calls may compute the same parts; of a full disk whoever writes the parts speaks."""
        if not self._warned and error.errno not in _FULL:
            self._warned = True
            warnings.warn(
                f"{self.folder} keeps no leases ({error.strerror or error}): calls that share it at the same time may "
                "compute the same parts twice; nothing is lost, and the results are the same",
                stacklevel=2,
            )


def _read(path: Path) -> tuple[Holder, int] | None:
    """What stands in a lease, and when it was touched; None if there is none. To open it asks a network disk anew."""
    try:
        with open(path) as file:
            text, touched = file.read(), os.fstat(file.fileno()).st_mtime_ns
        return Holder(**json.loads(text)), touched
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):  # its holder is writing it, or died while it did
        with contextlib.suppress(OSError):
            return Holder(), path.stat().st_mtime_ns
        return None


def _is_alive(process: int) -> bool:
    """Whether there is a process of this number on this machine; where that can't be asked, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError, TypeError):  # somebody else's
        return True
    return True
