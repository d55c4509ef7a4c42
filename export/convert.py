"""Convert camera poses: `python -m export.convert SRC DST [--from FORMAT] [--to FORMAT]`.

SRC is a run of Specula or a camera file of any known format, DST a new folder or file of another one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.conversion import UNITS_MM, Order, convert
from export.formats import FORMATS, READABLE
from export.image_files import ALPHAS, POLICIES
from utils.commands import answer


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    order = _order(_parser().parse_args(arguments))
    return answer(lambda: "\n".join(convert(order)))


def _parser() -> argparse.ArgumentParser:
    formats = "; ".join(f"{name}: {format.title}" for name, format in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="python -m export.convert", description="Convert camera poses.", epilog=f"Formats: {formats}."
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="logs/<expname>, or a camera file or its folder")
    parser.add_argument("target", metavar="DST", type=Path, help="a new folder; a file for npz, tum and kitti")
    parser.add_argument(
        "--from", dest="read_as", choices=READABLE, default="", help="default: told by the content"
    )
    parser.add_argument("--to", dest="write_as", choices=tuple(FORMATS), default="", help="default: told by DST")
    parser.add_argument("--sides", choices=("both", "left", "right"), default="both", help="default both eyes")
    parser.add_argument(
        "--images",
        choices=POLICIES,
        default="",
        help="reference: name them where they are (nerfstudio, instant-ngp; default there); copy: beside the file "
        "(default elsewhere); link; rgba: PNG with the background cut out; none",
    )
    parser.add_argument(
        "--alpha",
        choices=ALPHAS,
        default="tissue",
        help="rgba: cut out what is not tissue (default), or what has no depth",
    )
    parser.add_argument("--from_unit", choices=tuple(UNITS_MM), default="", help="of a file that does not say it")
    parser.add_argument("--unit", choices=tuple(UNITS_MM), default="", help="of the new file; default mm")
    parser.add_argument(
        "--scale", type=float, help="length in the new file for 1 mm (or 1 arbitrary unit); default 1"
    )
    parser.add_argument(
        "--bounds", nargs=2, type=float, metavar=("NEAR", "FAR"), help="depth bounds; default: of the run's depth"
    )
    parser.add_argument("--strict", action="store_true", help="stop where the format loses something")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier conversion wrote")
    return parser


def _order(given: argparse.Namespace) -> Order:
    values = vars(given)
    return Order(**values | {"bounds": tuple(given.bounds) if given.bounds else None})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
