"""Render pairs of pose and small image from a finished run, in shards that a crash does not lose.

    python -m localisation.make_pairs logs/phantom --n 5000 --size 32

Poses are drawn from a box of turns and shifts around each training frame. Views that training images saw little
of are drawn again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from localisation.learned.pairs import (
    BORDER,
    RECORD,
    SHARD,
    PairOptions,
    PairRenderer,
    PoseRange,
    shard_name,
    training_poses,
    usual_spread,
    working_distance,
)
from nerf.finished_field import STAGES, FinishedField
from utils.artifacts import read_json, read_npz, write_json, write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.stages import read_stamp


@dataclass(frozen=True)
class Request:
    """What is asked for; None: the usual spread of this run."""

    n: int = 5000
    size: int = 32
    oversample: int = 2
    spread_degrees: float | None = None
    spread_mm: float | None = None
    least_covered: float = 0.5
    seed: int = 0
    out: Path | None = None
    device: str = "auto"


def make_pairs(run: Path, request: Request) -> str:
    """Render what is missing of the pairs of a run; return what a reader would ask for.

    Raises:
        InputError: a run without a finished field, senseless numbers, pairs of other options in the folder.
    """
    _check(request)
    require_stages(run, *STAGES)
    out = request.out or run / "localisation" / "pairs"
    field = FinishedField.load(run, request.device)
    working_mm = working_distance(field)
    degrees, mm = usual_spread(field.dataset.rig.left, working_mm)
    options = PairOptions(
        request.size,
        request.oversample,
        request.spread_degrees if request.spread_degrees is not None else degrees,
        request.spread_mm if request.spread_mm is not None else mm,
        request.least_covered,
        request.seed,
    )
    fixed = {"field": read_stamp(run / "nerf")["hash"], "options": asdict(options)}
    _refuse_others(out, fixed)
    renderer = PairRenderer(field, options.size, options.oversample)
    poses = PoseRange(training_poses(field), options.spread_degrees, options.spread_mm)
    count = max(request.n, read_json(out / RECORD)["n"] if (out / RECORD).exists() else 0)
    record = fixed | {
        "run": run.resolve().name,
        "n": count,
        "unit": field.placed.unit,
        "working_mm": working_mm,
        "camera": asdict(renderer.shrinker.camera),
        "range": poses.to_json(),
    }
    write_json(out / RECORD, record)
    write_npz(out / BORDER, never_tissue=renderer.shrinker.border)
    rendered, again = _render_missing(renderer, options, poses, count, out)
    return _summary(out, count, rendered, again, options)


def _render_missing(
    renderer: PairRenderer, options: PairOptions, poses: PoseRange, count: int, out: Path
) -> tuple[int, int]:
    """Write the shards that are not there; return how many pairs were rendered and how many drawn again."""
    rendered, again = 0, 0
    wanted = [min(SHARD, count - start) for start in range(0, count, SHARD)]
    missing = [index for index, number in enumerate(wanted) if _held(out / shard_name(index)) < number]
    with tqdm(total=sum(wanted[index] for index in missing), desc="pairs", unit="view", disable=None) as bar:
        for index in missing:
            arrays, drawn_again = renderer.shard(options, poses, index, wanted[index])
            write_npz(out / shard_name(index), **arrays)
            rendered, again = rendered + wanted[index], again + drawn_again
            bar.update(wanted[index])
            bar.set_postfix_str(f"{100 * again / (rendered + again):.0f} % drawn again", refresh=False)
    return rendered, again


def _held(path: Path) -> int:
    """Return how many pairs a shard holds; 0 where it is not there or damaged."""
    try:
        return len(read_npz(path)["covered"])
    except (FileNotFoundError, InputError, KeyError):
        return 0


def _summary(out: Path, count: int, rendered: int, again: int, options: PairOptions) -> str:
    covered = np.concatenate([read_npz(out / shard_name(index))["covered"] for index in range(-(-count // SHARD))])
    poor = float((covered < options.least_covered).mean())
    lines = [
        f"{count} pairs in {out}, {rendered} rendered now; within {options.spread_degrees:.3g} degrees and "
        f"{options.spread_mm:.3g} of a training frame"
    ]
    if rendered:
        lines.append(
            f"{100 * again / (rendered + again):.1f} % of the poses were drawn again: training images saw less "
            f"than {100 * options.least_covered:.0f} % of their view"
        )
    lines.append(f"seen by training images: {100 * covered.mean():.1f} % of a view on average")
    if poor > 0:
        lines.append(f"{100 * poor:.1f} % of the pairs stay below that share: a smaller spread would fit better")
    return "\n".join(lines)


def _refuse_others(out: Path, fixed: dict[str, Any]) -> None:
    """Refuse a folder whose pairs come from another field or other options: they would be mixed."""
    if not (out / RECORD).exists():
        return
    there = read_json(out / RECORD)
    differing = [
        f"{key} {there.get('options', {}).get(key)} there, {value} now"
        for key, value in fixed["options"].items()
        if there.get("options", {}).get(key) != value
    ]
    if there.get("field") != fixed["field"]:
        differing.insert(0, "another training of the field")
    if differing:
        raise InputError(
            f"{out} holds pairs of another kind",
            found="; ".join(differing),
            expected="pairs of the same field and options, which are added to",
            do="choose another --out, or remove that folder",
        )


def _check(request: Request) -> None:
    numbers = {"n": request.n, "size": request.size, "oversample": request.oversample}
    wrong = [f"--{name} {value}" for name, value in numbers.items() if value < 1]
    wrong += [f"--size {request.size}"] if request.size % 8 else []
    for name in ("spread_degrees", "spread_mm"):
        value = getattr(request, name)
        wrong += [f"--{name} {value}"] if value is not None and not value > 0 else []
    wrong += [] if 0 <= request.least_covered <= 1 else [f"--least_covered {request.least_covered}"]
    if wrong:
        raise InputError(
            "no pairs can be made with these numbers",
            found=", ".join(dict.fromkeys(wrong)),
            expected="n and oversample 1 or more, size a multiple of 8, spreads above 0, least_covered 0 to 1",
            do="correct the flag",
        )


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    usual = Request()
    parser = argparse.ArgumentParser(prog="python -m localisation.make_pairs", description="Render pairs.")
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument("--n", type=int, default=usual.n, help=f"number of pairs; default {usual.n}")
    parser.add_argument("--size", type=int, default=usual.size, help=f"of the images; default {usual.size}")
    parser.add_argument(
        "--oversample", type=int, default=usual.oversample, help="rays a pixel and axis, averaged; default 2"
    )
    parser.add_argument(
        "--spread_degrees",
        type=float,
        help="largest turn about each camera axis; default a quarter of the field of view, at most 15",
    )
    parser.add_argument(
        "--spread_mm", type=float, help="largest shift along each axis; default 16 %% of the working distance"
    )
    parser.add_argument(
        "--least_covered",
        type=float,
        default=usual.least_covered,
        help="views of which training images saw less are drawn again; default 0.5",
    )
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the poses; default 0")
    parser.add_argument("--out", type=Path, help="default <run>/localisation/pairs")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    words = vars(parser.parse_args(arguments))
    run = words.pop("run")
    return answer(lambda: make_pairs(run, Request(**words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
