"""Turn a public dataset into this program's layout, or only look at it: `python -m utils.datasets SRC DST`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.commands import answer
from utils.datasets.conversion import RECORD, Order, check, convert, report
from utils.datasets.doctor import require_healthy
from utils.datasets.options import PARTS, ReaderOptions
from utils.datasets.registry import AUTO, KINDS
from utils.datasets.write import SETTINGS
from utils.errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Return the exit status: 0 done, 2 refused (see `utils.commands`)."""
    given = _parser().parse_args(arguments)
    options = ReaderOptions(
        every=given.every,
        start=given.start,
        stop=given.stop,
        poses=not given.no_poses,
        mask_polarity=given.mask_polarity,
        depth_scale=given.depth_scale,
        baseline_mm=given.baseline_mm,
        part=given.part,
    )
    if given.check:
        return answer(lambda: _check(given.source, given.kind, options))
    return answer(lambda: _convert(given.source, given.target, given.kind, options))


def _check(folder: Path, kind: str, options: ReaderOptions) -> str:
    source, findings = check(folder, kind, options)
    text = "\n".join([f"{folder}, read as {source.kind}", *report(findings)])
    try:
        require_healthy(source, findings)
    except InputError:
        print(text)
        raise
    return text


def _convert(folder: Path, target: Path | None, kind: str, options: ReaderOptions) -> str:
    if target is None:
        raise InputError(
            "no folder to write to",
            found="SRC alone",
            expected="SRC DST, or SRC --check",
            do="name a new folder, or add --check",
        )
    done = convert(Order(folder, target, kind, options))
    if not done.fresh:
        first = f"{target}: made before from the same files with the same options, nothing to do"
    else:
        first = f"{target}: {done.record['frames']} frames of {folder}, read as {done.record['kind']}"
    lines = [first, *report(done.findings), "", f"settings for run.py, also in {target / SETTINGS}:"]
    lines += [f"    {line}" for line in done.record["settings"]]
    return "\n".join([*lines, "", f"python run.py --config {target / SETTINGS}"])


def _parser() -> argparse.ArgumentParser:
    kinds = "; ".join(f"{name}: {kind.layout}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m utils.datasets",
        description=f"Turn a public dataset into this program's layout ({RECORD} keeps what was found).",
        epilog=f"Kinds: {kinds}.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="the dataset's folder")
    parser.add_argument("target", metavar="DST", type=Path, nargs="?", help="a new folder")
    parser.add_argument("--kind", default=AUTO, help=f"auto (default), {', '.join(KINDS)}")
    parser.add_argument("--check", action="store_true", help="print what is found, and write nothing")
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--start", type=int, default=0, help="first frame, from 0")
    parser.add_argument("--stop", type=int, help="the frame after the last one")
    parser.add_argument("--no_poses", action="store_true", help="leave the dataset's poses out")
    parser.add_argument(
        "--mask_polarity",
        choices=("auto", "tissue", "tool"),
        default="auto",
        help="what nonzero means in masks; default: what the layout says",
    )
    parser.add_argument("--depth_scale", type=float, help="mm a unit of stored depth; default: as the layout says")
    parser.add_argument("--baseline_mm", type=float, help="distance of the eyes where the layout does not say it")
    parser.add_argument("--part", choices=PARTS, default=AUTO, help="of a folder with a measured pair and a video")
    return parser
