"""Packages that flatdyn does without until they are asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from types import ModuleType

# With these the tests compared the numbers.
TESTED = {"torch": "2.13.0", "tojax": "1.0.1"}


def needed(name: str, use: str) -> ModuleType:
    """A module that is imported when it is needed.

    Raises:
        ImportError: if it cannot be; it says what to install
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a package that does not fit another's version fails in its own way
        raise ImportError(
            f"{use} needs the package {name}, which cannot be imported ({type(error).__name__}): {remedy()}"
        ) from error


def remedy() -> str:
    """What to install, and on what it was tested."""
    tested = " ".join(f'"{name}=={version}"' for name, version in TESTED.items())
    python = "" if sys.version_info >= (3, 12) else ", in Python 3.12 or newer, which tojax needs"
    return f"the tested versions are installed by pip install {tested}{python}"


def versions() -> str:
    """Which of these packages are here, and which were tested, for messages."""
    here = []
    for name, tested in TESTED.items():
        try:
            found_here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found_here = "none"
        here.append(f"{name} {found_here} (tested: {tested})")
    return ", ".join(here)
