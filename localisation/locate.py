"""Locate new images in a finished run: poses in mm with covariance, or a refusal with its reason.

    python -m localisation.locate logs/phantom IMAGE... [--right IMAGE...]

Writes `<run>/localisation/located/`: `poses.json`, `poses.npz` (what other commands read) and a picture an image:
the image, the field's render at the pose that was found, and their difference.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from localisation.flow import PoseFlow
from localisation.locator import Located, Locator
from localisation.picture import comparison
from localisation.reading import Files, Reader, list_queries
from localisation.record import load_error_scales, record_of, save_error_scales, words_of
from localisation.verdict import Limits
from nerf.finished_field import FinishedField
from utils.artifacts import write_json, write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.images import write_rgb
from utils.pose_lists import FORMATS, join_numbers, parse_pose, read_named_poses
from utils.stages import read_stamp
from utils.types import FloatArray

RECORD, POSES = "poses.json", "poses.npz"
USUAL = Limits()

log = logging.getLogger("specula")


@dataclass(frozen=True)
class Request:
    """What is to be located, from where, and what is believed."""

    left: tuple[Path, ...]
    right: tuple[Path, ...] = ()
    masks: Path | None = None
    start: str | None = None
    out: Path | None = None
    device: str = "auto"
    limits: Limits = USUAL


def locate(run: Path, request: Request) -> Path:
    """Locate images and write records and pictures; return their folder.

    The record is written after every image: what is finished is kept where a later one ends the work.

    Raises:
        InputError: a run without a finished field, images of another camera, starts that do not fit.
    """
    queries = list_queries(request.left, request.right, request.masks)
    field = FinishedField.load(run, request.device)
    reader = Reader.of(field.dataset)
    for files in queries:
        reader.check(files)
    starts = _starts(request.start, queries, field)
    out = request.out or run / "localisation" / "located"
    stamp = read_stamp(run / "nerf")["hash"]
    limits = request.limits if field.placed.metric else request.limits.named(field.placed.unit)
    locator = Locator(field, limits, _flow(run, stamp))
    locator.error_scales.update(load_error_scales(run, stamp))
    found: list[Located] = []
    for files, start in zip(tqdm(queries, desc="locate", unit="image", disable=None), starts, strict=True):
        query = reader.read(files)
        found.append(locator.locate(query, start))
        picture = comparison(field, query, found[-1].world_from_left)
        write_rgb(out / "pictures" / f"{files.name}.png", picture)
        save_error_scales(run, stamp, locator.error_scales)
        _write(out, run, queries, found, locator, stamp)
    return out


def _flow(run: Path, stamp: str) -> PoseFlow | None:
    """Return the flow that was trained on this field, if there is one."""
    folder = run / "localisation" / "flow"
    if not folder.exists():
        return None
    try:
        return PoseFlow.load(folder, stamp)
    except InputError as error:
        log.warning("locate: goes on without a flow: %s", error)
        return None


def _starts(given: str | None, queries: Sequence[Files], field: FinishedField) -> list[FloatArray | None]:
    """Return a start (4, 4) an image: one for all, or those of a file that have the images' names."""
    if given is None:
        return [None] * len(queries)
    if given in field.placed.names and field.placed.placed(given):
        return [field.placed.world_from("left", given)] * len(queries)
    numbers = parse_pose(given)
    if numbers is not None:
        return [numbers[0]] * len(queries)
    if not Path(given).is_file():
        raise InputError(
            f"--start {given} is neither a placed frame nor a file",
            found="no such frame of the run, no such file",
            expected=f"a frame of the run, 16 numbers, or {FORMATS}",
            do="correct the frame or the path",
        )
    names, poses = read_named_poses(Path(given))
    if len(poses) == 1:
        return [poses[0]] * len(queries)
    missing = [files.name for files in queries if files.name not in names]
    if missing:
        raise InputError(
            f"{given} has no start for every image",
            found=f"none named {', '.join(missing[:5])}",
            expected="one pose for all images, or a pose under the name of each",
            do="name the poses as the images (without ending), or give one pose",
        )
    return [poses[names.index(files.name)] for files in queries]


def _write(
    out: Path, run: Path, queries: Sequence[Files], found: Sequence[Located], locator: Locator, stamp: str
) -> None:
    """Write the record of all images, and the poses of those that were located."""
    placed = locator.field.placed
    unit = placed.unit
    images: list[dict[str, Any]] = [
        record_of(one, files, placed) for one, files in zip(found, queries[: len(found)], strict=True)
    ]
    record = {
        "run": run.resolve().name,
        "field": stamp,
        "unit": unit,
        "pose": "world_from_left, 4 x 4, OpenCV axes, camera to world",
        "covariance": "of a twist on the camera's side, T exp(twist): rotation vector in rad, then translation",
        "field_error": {
            str(eyes): round(scale, 3) for eyes, scale in locator.error_scales.items() if np.isfinite(scale)
        },
        "images": images,
    }
    write_json(out / RECORD, record)
    believed = [one for one in found if one.reason is None]
    write_npz(
        out / POSES,
        names=np.array([one.name for one in believed], dtype=np.str_),
        world_from_left=np.array([one.world_from_left for one in believed]).reshape(-1, 4, 4),
        metric=np.array(locator.field.placed.metric),
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m localisation.locate",
        description="Find where images were taken, in the frame of a finished run.",
    )
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument("images", type=Path, nargs="+", help="images of the left eye (or the only one)")
    parser.add_argument("--right", type=Path, nargs="+", default=[], help="their right images, in the same order")
    parser.add_argument("--masks", type=Path, help="folder of masks, tissue = nonzero, or of mask_l and mask_r")
    parser.add_argument(
        "--start",
        help=f"about where the camera was: a frame of the run, 16 numbers, or {FORMATS}; default anywhere",
    )
    parser.add_argument("--out", type=Path, help="folder for results; default <run>/localisation/located")
    parser.add_argument(
        "--min_explained", type=float, default=USUAL.explained,
        help=f"share of the image that the render must explain; default {USUAL.explained:g}",
    )  # fmt: skip
    parser.add_argument(
        "--min_overlap", type=float, default=USUAL.overlap,
        help=f"share of the image that the reconstruction must show; default {USUAL.overlap:g}",
    )  # fmt: skip
    parser.add_argument("--max_std_mm", type=float, default=USUAL.std_mm, help=f"default {USUAL.std_mm:g}")
    parser.add_argument(
        "--max_std_degrees", type=float, default=USUAL.std_degrees, help=f"default {USUAL.std_degrees:g}"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print the record instead of a table")
    words = parser.parse_args(join_numbers(arguments, "--start"))

    def work() -> str:
        limits = Limits(words.min_explained, words.min_overlap, words.max_std_degrees, words.max_std_mm)
        limits.check()
        request = Request(
            tuple(words.images), tuple(words.right), words.masks, words.start, words.out, words.device, limits
        )
        out = locate(words.run, request)
        record = json.loads((out / RECORD).read_text())
        return json.dumps(record, indent=1) if words.json else words_of(record, out)

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
