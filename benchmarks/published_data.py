"""Tell whether a finished run is on the public data that it is said to be on, by what its files show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from utils.artifacts import damaged, read_json
from utils.errors import InputError
from utils.finished_run import require_finished

RECORD = "dataset.json"  # python -m utils.datasets leaves it beside what it wrote


@dataclass(frozen=True)
class Data:
    """Public data that published numbers are on, and how a run on it is known.

    Args:
        dataset: its name among the published numbers.
        clip: the part of it, named so there too; empty where no clip has a number under a protocol of ours.
        kind: its layout, as `python -m utils.datasets --kind` takes it.
        size: (width, height) of its images, px; None where it is not the same everywhere.
        frames: how many there are; None where our notes do not say.
        every: every n-th frame of the recording is used; None where that is left open.
        keyframe: (dataset, keyframe) of SCARED, as the folder's name tells it.
        scored: frames that the runs must have scored together, where a list goes over several recordings.
    """

    dataset: str
    clip: str
    kind: str
    size: tuple[int, int] | None = None
    frames: int | None = None
    every: int | None = None
    keyframe: tuple[int, int] | None = None
    scored: int | None = None


_ENDONERF = Data("EndoNeRF", "", "endonerf", (640, 512), every=1)
_SCARED = Data("SCARED", "", "scared", (1280, 1024))
_SKIPPED = {1: 2, 2: 1, 3: 4, 6: 8, 7: 8}  # of EndoSurf: dataset of SCARED -> every n-th frame of its keyframe 1
DATA = {
    "endonerf-pulling": replace(_ENDONERF, clip="pulling_soft_tissues", frames=63),
    "endonerf-cutting": replace(_ENDONERF, clip="cutting_tissues_twice", frames=156),
    **{
        f"scared-d{number}k1": replace(_SCARED, clip=f"d{number}k1", every=every, keyframe=(number, 1))
        for number, every in _SKIPPED.items()
    },
    "scared-afsfm": replace(_SCARED, clip="550 test frames", scored=550),
    "stereomis": Data("StereoMIS", "", "stereomis"),
    "c3vd": Data("C3VD", "", "c3vd"),
    "hamlyn": Data("Hamlyn", "", "hamlyn"),
}


@dataclass(frozen=True)
class Run:
    """A finished run on the data: its folder, `metrics.json`, its images, whether these were undistorted first."""

    folder: Path
    metrics: dict[str, Any]
    source: Path
    undistorted: bool

    @property
    def name(self) -> str:
        """What the run is called: its folder, for two may have the same last name."""
        return str(self.folder)


def read_run(folder: Path, data: Data) -> Run:
    """Read the scores of a run. Raises InputError where it is not finished, or not on this data."""
    require_finished(folder, "evaluation")
    frames = folder / "scene" / "frames.json"
    record, metrics = read_json(frames), read_json(folder / "evaluation" / "metrics.json")
    try:
        names, size = [str(name) for name in record["names"]], (record["image_size"][0], record["image_size"][1])
        source, factor = Path(record["datadir"]), record["factor"]
        undistorted = bool(record["undistorted"])
    except (KeyError, TypeError, IndexError) as error:
        raise damaged(frames, error) from error
    if not isinstance(metrics, dict):
        raise damaged(folder / "evaluation" / "metrics.json", "no table of scores")
    _require_kind(folder, source, data)
    if data.size is not None and (size != data.size or factor != 1):
        found = f"{size[0]}x{size[1]}" + (f", --factor {factor}" if factor != 1 else "")
        raise _other_data(folder, data, found, f"images of {data.size[0]}x{data.size[1]}, as they are published")
    if data.frames is not None and len(names) != data.frames:
        raise _other_data(folder, data, f"{len(names)} frames", f"all {data.frames} frames of {data.clip}")
    if data.every is not None:
        _require_step(folder, names, data)
    return Run(folder, metrics, source, undistorted)


def _require_kind(folder: Path, source: Path, data: Data) -> None:
    path = source / RECORD
    if not path.is_file():
        expected = f"{RECORD} of `python -m utils.datasets`, which says of which public layout the images are"
        raise _other_data(folder, data, f"no {path}", expected)
    record = read_json(path)
    kind = record.get("kind") if isinstance(record, dict) else None
    if kind != data.kind:
        raise _other_data(folder, data, f"kind {kind} in {path}", f"kind {data.kind}")
    if data.keyframe is not None:
        named = str(record.get("source", ""))
        number, keyframe = data.keyframe
        pattern = rf"(dataset_?0*{number}\D+keyframe_?0*{keyframe}|d0*{number}_?k0*{keyframe})(?!\d)"
        if not re.search(pattern, named):
            expected = f"dataset_{number}/keyframe_{keyframe} in the name of the folder that was read"
            raise _other_data(folder, data, f"{named or 'no folder'} in {path}", expected)


def _require_step(folder: Path, names: Sequence[str], data: Data) -> None:
    """Names keep the number that a frame has in its recording: their steps show which frames were taken."""
    numbers = [int(digits[-1]) if (digits := re.findall(r"\d+", name)) else -1 for name in names]
    steps = {after - before for before, after in pairwise(numbers)}
    if steps != {data.every}:
        found = "steps of " + ", ".join(str(step) for step in sorted(steps)[:5]) if steps else "one frame"
        raise _other_data(folder, data, found, f"frames whose numbers go in steps of {data.every}")


def _other_data(folder: Path, data: Data, found: str, expected: str) -> InputError:
    options = f"--kind {data.kind}" + (f" --every {data.every}" if (data.every or 1) > 1 else "")
    return InputError(
        f"the run {folder} is not known to be on {' '.join((data.dataset, data.clip)).strip()}",
        found=found,
        expected=expected,
        do=f"convert the data with `python -m utils.datasets SRC DST {options}`, and run on DST",
    )
