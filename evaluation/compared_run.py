"""The scores of a finished run as a comparison reads them, and what they were made from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.right_eye import ALL
from utils.artifacts import damaged, read_json
from utils.errors import InputError
from utils.finished_run import require_finished
from utils.scene import Scene
from utils.stages import STAMP, read_stamp

COLOUR = "rgb"
_KEYS = ("frame", "split", "side", "method", "region", "alignment")

Place = tuple[str, str, str]  # method, region, alignment (empty for colour)
Seen = tuple[str, str]  # side, frame


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run that has been evaluated.

    `scores` holds split (`all` too) -> place -> (side, frame) -> the scores of that view; `hashes` are those of
    image files by `<side>_<frame>`, `truth` and `masks` those of such files by their path in the dataset; `lenses`
    calibrate the stored images of each eye.
    """

    root: Path
    scene: Scene
    metrics: Mapping[str, Any]
    scores: Mapping[str, Mapping[Place, Mapping[Seen, Mapping[str, float]]]]
    hashes: Mapping[str, str]
    truth: Mapping[str, str]
    masks: Mapping[str, str]
    lenses: Mapping[str, Any]
    stamp: Mapping[str, Any]
    scene_stamp: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.root.resolve().name

    @property
    def metric(self) -> bool:
        """Whether lengths are millimetres."""
        return bool(self.metrics["metric"])

    @property
    def units(self) -> Mapping[str, Any]:
        """What a unit of the stored truth means."""
        return {name: self.options.get(name) for name in ("depth_png_mm", "disparity_png_px")}

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the evaluation."""
        return dict(self.stamp.get("options", {}))

    @cached_property
    def lpips_files(self) -> set[str]:
        """The hashes of the files that LPIPS was computed with; empty without."""
        files = self.stamp.get("files", {})
        return {value for path, value in files.items() if Path(path).suffix == ".pth"}

    @cached_property
    def seed(self) -> int | None:
        """The seed that the field was trained with; None without a field."""
        path = self.root / "nerf" / STAMP
        seed = read_stamp(path.parent).get("options", {}).get("seed") if path.exists() else None
        return None if seed is None else int(seed)


def read_compared(root: Path) -> ComparedRun:
    """Read the scores of a finished run.

    Raises:
        InputError: no run there, one that was not evaluated, or scores that are older than its maps.
    """
    evaluation = root / "evaluation"
    stamp = read_stamp(evaluation) if (evaluation / STAMP).exists() else {}
    beside = [name for name in stamp.get("inputs", {}) if (root / name / STAMP).exists()]
    require_finished(root, *beside, "evaluation")
    if stamp.get("skipped"):
        raise InputError(
            f"{root} has no scores",
            found=f"its evaluation was skipped: {stamp['skipped']}",
            expected="a run that was scored",
            do="leave --demo out, run again",
        )
    metrics = read_json(evaluation / "metrics.json")
    if not isinstance(metrics, dict) or not {"metric", "protocol"} <= set(metrics):
        raise damaged(evaluation / "metrics.json", "no record of scores: it has no `metric` or `protocol`")
    record, scene_stamp = read_json(root / "scene" / "frames.json"), read_stamp(root / "scene")
    inside = _in_dataset(scene_stamp)
    return ComparedRun(
        root=root,
        scene=Scene.load(root / "scene"),
        metrics=metrics,
        scores=_read_scores(evaluation / "per_frame.csv"),
        hashes=dict(record.get("hashes", {})),
        truth=_in_dataset(stamp),
        masks={path: value for path, value in inside.items() if path.startswith("mask_")},
        lenses=dict(record.get("lenses", {})),
        stamp=stamp,
        scene_stamp=scene_stamp,
    )


def _in_dataset(stamp: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of a stage's files that lie in the dataset, by their path in it."""
    datadir = Path(stamp.get("options", {}).get("datadir", ""))
    files = {Path(path): value for path, value in stamp.get("files", {}).items()}
    return {
        path.relative_to(datadir).as_posix(): value
        for path, value in files.items()
        if path.is_relative_to(datadir)
    }


def _read_scores(path: Path) -> dict[str, dict[Place, dict[Seen, dict[str, float]]]]:
    found: dict[str, dict[Place, dict[Seen, dict[str, float]]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(_KEYS) <= set(reader.fieldnames or ()):
            raise damaged(path, f"its columns are {', '.join(reader.fieldnames or ())}")
        for row in reader:
            place = row["method"], row["region"], row["alignment"]
            try:
                values = {key: float(text) for key, text in row.items() if key not in _KEYS and text}
            except (TypeError, ValueError) as error:
                raise damaged(path, error) from error
            for split in (row["split"], ALL):
                found.setdefault(split, {}).setdefault(place, {})[row["side"], row["frame"]] = values
    return found
