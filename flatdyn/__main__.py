"""What can be asked from a shell: `flatdyn sweeps show FOLDER`, or `python -m flatdyn …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import flatdyn
from flatdyn.sweeps import manifest


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words of the command line say; 0 if it went well."""
    parser = argparse.ArgumentParser("flatdyn", description="optimisers as dynamical systems: what is in a store")
    parser.add_argument("--version", action="version", version=f"flatdyn {flatdyn.__version__}")
    rooms = parser.add_subparsers(metavar="sweeps", required=True)
    sweeps = rooms.add_parser("sweeps", help="stores of fd.sweep").add_subparsers(metavar="show", required=True)
    show = sweeps.add_parser("show", help="parameters, versions, seconds per cell and failures in a store")
    show.add_argument("folder", help="store= of a sweep")
    chosen = parser.parse_args(words)
    try:
        print(manifest.shown(chosen.folder))
    except ValueError as error:
        print(f"flatdyn: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
