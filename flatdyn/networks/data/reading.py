"""Where the files of a set are looked for, and how they are read: whole, checked against digests, run by nobody.

A set is looked for in the folder given, and there alone; without one in the folder that the environment variable
FLATDYN_DATA names, in data/ of the working directory, and where packages install it. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flatdyn.core import checks
from flatdyn.networks.data.builtin import DataMissing

# What readers of gzip, zip and tar raise at a damaged or encrypted file.
_DAMAGED = (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a set consists of and where it may lie.

    Attributes:
        title: of the set
        files: names of its files; several tuples if it comes in several forms
        folders: usual names of a folder inside the places
        archives: patterns of archives (.zip, .whl, .tar.gz) that hold the files
        installed: folders that packages install it to
        remedy: how to get it
    """

    title: str
    files: tuple[tuple[str, ...], ...]
    folders: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    installed: tuple[str, ...] = ()
    remedy: str = ""


class DataFile(NamedTuple):
    """A file's content, decompressed, and where it lay, for messages."""

    where: str
    content: bytes


def find(source: Source, folder: str | Path | None = None) -> dict[str, DataFile]:
    """The files of a set by name, from the first place that has all of them.

    Args:
        source: the set
        folder: the only place to look in, or None for the usual ones
    Raises:
        DataMissing: if no place has them; it lists the places and what each lacks
        ValueError: if a file or archive is damaged
    """
    if folder is not None:
        checks.kind("folder", folder, (str, Path))
    looked = []
    for place in _places(source, folder):
        for content in _contents(place, source.archives):
            missing = {names: [name for name in names if name not in content] for names in source.files}
            nearest = min(missing, key=lambda names: len(missing[names]))
            if not missing[nearest]:
                return {name: _whole(source, content, name) for name in nearest}
            nothing = len(missing[nearest]) == len(nearest)
            looked.append(f"{content}: " + ("has none of them" if nothing else "lacks " + ", ".join(missing[nearest])))
    forms = ", or ".join(", ".join(names) for names in source.files)
    raise DataMissing(
        f"{source.title} is not here. Wanted: {forms}"
        + (f", or an archive with them ({', '.join(source.archives)})" if source.archives else "")
        + ". Looked in:\n  "
        + "\n  ".join(looked)
        + f"\nTo get it: {source.remedy}. Put the files into one of these folders, or name a folder of your own by the "
        "argument `folder` or the environment variable FLATDYN_DATA. Nothing is downloaded, and nothing else is used "
        "in its place."
    )


def verify(source: Source, file: DataFile, digest: str, as_words: bool = False) -> None:
    """Refuse a file that is not the one pinned.

    Args:
        source: the set
        file: what was read
        digest: such as "sha256:…", of the decompressed content
        as_words: of its words with one blank between, so that line ends do not matter
    Raises:
        ValueError: if the digest is another
    """
    kind, _, expected = digest.partition(":")
    content = b" ".join(file.content.split()) if as_words else file.content
    computed = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if computed != expected:
        raise ValueError(
            f"{file.where} is not the file of {source.title}: its {kind} is {computed}, not {expected}. "
            f"It may be damaged, or another set's file of the same name: delete it, then {source.remedy}"
        )


def refuse(source: Source, file: DataFile, what: str) -> None:
    """Raise ValueError: this file of this set is wrong in this way."""
    raise ValueError(f"{file.where} cannot be read as {source.title}: {what}. Delete it, then {source.remedy}")


def idx(source: Source, file: DataFile, shape: Sequence[int]) -> np.ndarray:
    """The bytes of an IDX file as an array of this shape.

    Raises:
        ValueError: if it is no such file, has another shape, or is shorter or longer than its header says
    """
    head = 4 + 4 * len(shape)
    if file.content[:4] != bytes([0, 0, 8, len(shape)]):
        refuse(source, file, f"it begins with the bytes {file.content[:4].hex(' ')}, not 00 00 08 0{len(shape)}")
    declared = tuple(int.from_bytes(file.content[at : at + 4], "big") for at in range(4, head, 4))
    if declared != tuple(shape):
        refuse(source, file, f"its header says shape {declared}, not {tuple(shape)}")
    if len(file.content) != head + np.prod(shape):
        refuse(source, file, f"it has {len(file.content)} bytes, not {head + np.prod(shape)}")
    return np.frombuffer(file.content, np.uint8, offset=head).reshape(shape)


def unpickle(source: Source, file: DataFile) -> Any:
    """What a pickle of arrays, lists, texts and numbers holds; anything else in it is refused, not run.

    Raises:
        ValueError: if it is damaged, or asks for anything but NumPy's array constructors
    """
    try:
        return _Unpickler(io.BytesIO(file.content), encoding="latin1").load()
    except Exception as error:  # a damaged or hostile pickle can raise anything
        refuse(source, file, f"it is not a plain pickle of arrays ({error})")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
        construct = np.zeros(0).__reduce__()[0]
        allowed |= {(f"numpy.{core}.multiarray", "_reconstruct"): construct for core in ("core", "_core")}
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _places(source: Source, folder: str | Path | None) -> list[Path]:
    if folder is not None:
        bases = [Path(folder)]
    else:
        named = os.environ.get("FLATDYN_DATA")
        bases = [*([Path(named)] if named else []), Path("data").absolute(), *map(Path, source.installed)]
    return [base.expanduser() / inner for base in bases for inner in ("", *source.folders)]


def _contents(place: Path, archives: Sequence[str]) -> Iterator[_Folder | _Archive]:
    yield _Folder(place)
    for pattern in archives:
        yield from map(_Archive, sorted(place.glob(pattern)))


def _whole(source: Source, content: _Folder | _Archive, name: str) -> DataFile:
    where = f"{content}: {name}" if isinstance(content, _Archive) else str(content[name])
    try:
        return DataFile(where, content.read(name))
    except _DAMAGED as error:
        refuse(source, DataFile(where, b""), f"it is truncated or damaged ({error})")


class _Folder:
    """Files in a folder, each as it is or compressed by gzip."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path) if self.path.is_dir() else f"{self.path} (no such folder)"

    def __contains__(self, name: str) -> bool:
        return self[name] is not None

    def __getitem__(self, name: str) -> Path | None:
        return next((path for path in (self.path / name, self.path / f"{name}.gz") if path.is_file()), None)

    def read(self, name: str) -> bytes:
        content = self[name].read_bytes()
        return gzip.decompress(content) if self[name].suffix == ".gz" else content


class _Archive:
    """Files in an archive, by their last name, whatever folder they lie in there; nothing is extracted."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with self._open() as archive:
                names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
        except _DAMAGED as error:
            raise ValueError(
                f"{path} is a truncated or damaged archive ({error}): delete it and fetch it anew"
            ) from None
        self.members = {name.rsplit("/", 1)[-1]: name for name in names}

    def _open(self) -> zipfile.ZipFile | tarfile.TarFile:
        return tarfile.open(self.path) if ".tar" in self.path.name else zipfile.ZipFile(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str) -> bytes:
        with self._open() as archive:
            if isinstance(archive, zipfile.ZipFile):
                return archive.read(self.members[name])
            member = archive.extractfile(self.members[name])
            if member is None:
                raise tarfile.TarError("not a plain file")
            return member.read()
