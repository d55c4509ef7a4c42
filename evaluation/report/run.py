"""Read what a report page shows of a run: its stages, scores and poses, and its maps on demand."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import truth
from evaluation.options import EvaluationOptions
from evaluation.scores import DEPTH_FOLDERS, View, read_depth, views_of
from utils.artifacts import damaged, has_maps, load_maps, read_json
from utils.errors import InputError
from utils.scene import Scene, load_poses
from utils.stages import STAMP, read_stamp
from utils.types import ARBITRARY_UNITS, FloatArray, Poses, Side
from utils.undistortion import Lens

_SCORED = {"mesh": "export", "rgb": "render", "depth_sources": "stereo"}  # a block of metrics.json, its stage
_LOG_LINE = re.compile(r"^\S+ \S+ (INFO|WARNING|ERROR) (\w+): (.*)$")


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its evaluation sees it.

    `folders` are the stages that did their work, `stamps` those of all stages, `skipped` says why a stage did
    nothing; `scores` are the lines of `per_frame.csv`. `changed` are stages that were made again since the scores:
    what was scored of their folders is left out of `metrics` and `scores`.
    """

    root: Path
    options: EvaluationOptions
    scene: Scene
    metrics: Mapping[str, Any]
    scores: tuple[Mapping[str, str], ...]
    stamps: Mapping[str, Mapping[str, Any]]
    folders: Mapping[str, Path]
    skipped: Mapping[str, str]
    changed: tuple[str, ...] = ()

    def outdated(self, stage: str) -> str | None:
        """Return why nothing is said of what a stage made; None where its scores are those of its folder."""
        if stage not in self.changed:
            return None
        return f"the stage {stage} has changed since these scores were made: run evaluation again"

    @property
    def lost_data(self) -> str | None:
        """Why images and truth cannot be shown; None where the dataset is where the run says."""
        if Path(self.options.datadir).is_dir():
            return None
        return f"the dataset {self.options.datadir} is not there: truth and images that lie in it cannot be read"

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.root.resolve().name

    @property
    def metric(self) -> bool:
        """Whether lengths are millimetres."""
        return bool(self.metrics["metric"])

    @property
    def unit(self) -> str:
        """The unit of lengths, in words."""
        return "mm" if self.metric else ARBITRARY_UNITS

    @property
    def short_unit(self) -> str:
        """The unit of lengths, in one word."""
        return "mm" if self.metric else "units"

    @property
    def alignment(self) -> str:
        """Which of the two alignments to the truth the page shows."""
        return "raw" if self.metric else "median_scaled"

    @property
    def split(self) -> str:
        """The split that the page judges by: held-out frames where there are any."""
        return "test" if self.scene.test else "train"

    @property
    def judged(self) -> str:
        """What the page judges by, in words."""
        return "held-out frames" if self.scene.test else "all frames"

    @cached_property
    def method(self) -> str | None:
        """The last method that has depth maps: what the run stands for."""
        known = [method for method, stage in DEPTH_FOLDERS.items() if stage in self.folders]
        return known[-1] if known else None

    @cached_property
    def frames(self) -> Mapping[str, Any]:
        """The record of the dataset, checks of the calibration included."""
        return dict(read_json(self.scene.folder / "frames.json"))

    @cached_property
    def poses(self) -> Poses | None:
        """The poses that were used; None where the stage was skipped."""
        return load_poses(self.folders["poses"], self.folders.get("nerf")) if "poses" in self.folders else None

    @cached_property
    def pose_report(self) -> Mapping[str, Any]:
        """What the stage `poses` says of its work; empty where it was skipped."""
        path = self.folders["poses"] / "report.json" if "poses" in self.folders else None
        return dict(read_json(path)) if path is not None and path.exists() else {}

    @cached_property
    def lenses(self) -> Mapping[Side, Lens]:
        """Camera and distortion of the stored images."""
        return truth.load_lenses(self.scene.folder)

    def views(self) -> list[View]:
        """Return the views that the page judges by, in the order of the sequence."""
        return [view for view in views_of(self.scene) if view.split == self.split]

    def has(self, stage: str, view: View) -> bool:
        """Whether a stage has maps of a view."""
        return has_maps(self.folders.get(stage), view.side, view.name)

    def maps(self, stage: str, view: View) -> dict[str, NDArray[Any]]:
        """Return the maps of a stage for a view; empty where there are none."""
        return load_maps(self.folders[stage], view.side, view.name) if self.has(stage, view) else {}

    def depth(self, method: str, view: View) -> FloatArray | None:
        """Return the depth (h, w) of a method, NaN where unknown; None where there is no map."""
        stage = DEPTH_FOLDERS[method]
        return read_depth(method, self.folders[stage], view.side, view.name) if self.has(stage, view) else None

    def truth(self, view: View) -> FloatArray | None:
        """Return the true depth (h, w), mm, NaN where unknown; None where there is none."""
        found = truth.read_truth(self.options, self.scene, self.lenses, view.side, view.name)
        return None if found is None else np.where(found > 0, found, np.nan)

    def series(self, method: str, key: str, side: str) -> FloatArray:
        """Return one score on tissue over all frames of the scene; NaN where there is none.

        Args:
            method: one of the methods of depth, or `rgb`.
            key: the score's name in `per_frame.csv`.
            side: eye.
        """
        alignment = "" if method == "rgb" else self.alignment
        wanted = {"method": method, "side": side, "region": "tissue", "alignment": alignment}
        found = {
            row["frame"]: float(row[key])
            for row in self.scores
            if row.get(key) and all(row[name] == value for name, value in wanted.items())
        }
        return np.array([found.get(name, np.nan) for name in self.scene.names])

    def warnings(self) -> list[str]:
        """Return the warnings that the log keeps of the last time each stage ran."""
        path = self.root / "run.log"
        kept: dict[str, list[str]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            found = _LOG_LINE.match(line)
            if found is None:
                continue
            level, stage, words = found.groups()
            if words == "started":
                kept[stage] = []
            elif level == "WARNING":
                kept.setdefault(stage, []).append(f"{stage}: {words}")
        return [line for name in self.stamps for line in kept.get(name, [])]


def read_run(options: EvaluationOptions, scene: Path, out: Path, inputs: Mapping[str, Path]) -> Run:
    """Read a run for its page.

    Args:
        options: of the stage `evaluation`.
        scene: folder of the stage `scene`.
        out: folder that holds `metrics.json` and `per_frame.csv`.
        inputs: folders of the other stages by name, finished or skipped.
    """
    stamps = {name: read_stamp(folder) for name, folder in ({"scene": scene} | dict(inputs)).items()}
    reasons = {name: str(stamp["skipped"]) for name, stamp in stamps.items() if stamp.get("skipped")}
    loaded = Scene.load(scene)
    changed = made_again(out, stamps)
    metrics, scores = _still_true(_read_metrics(out / "metrics.json"), read_table(out / "per_frame.csv"), changed)
    return Run(
        root=scene.parent,
        options=find_data(options, scene),
        scene=loaded,
        metrics=metrics,
        scores=tuple(scores),
        stamps=stamps,
        folders={name: folder for name, folder in inputs.items() if name not in reasons},
        skipped=reasons,
        changed=changed,
    )


def made_again(out: Path, stamps: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the stages that are others than those scored, or gone; scores in the making have no stamp yet."""
    scored = read_stamp(out)["inputs"] if (out / STAMP).exists() else {}
    return tuple(name for name, hash in scored.items() if stamps.get(name, {}).get("hash") != hash)


def _read_metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path)
    if not isinstance(metrics, dict) or "metric" not in metrics:
        raise damaged(path, "no record of scores: it has no `metric`")
    return metrics


def _still_true(
    metrics: Mapping[str, Any], scores: list[dict[str, str]], changed: Collection[str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Leave out the scores of stages that have changed."""
    gone = {block for block, stage in _SCORED.items() if stage in changed}
    gone |= {"protocols", "protocols_refused"} if changed else set()
    kept = {name: values for name, values in metrics.items() if name not in gone}
    methods = {method for method, stage in DEPTH_FOLDERS.items() if stage in changed} | gone
    if "depth" in kept:
        kept["depth"] = {method: values for method, values in kept["depth"].items() if method not in methods}
    return kept, [row for row in scores if row["method"] not in methods]


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file, each by the names of its columns."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stamped_options(evaluation: Path) -> EvaluationOptions:
    """Return the options that a finished evaluation was made with.

    Raises:
        InputError: no finished evaluation there, or one that was skipped.
    """
    if not (evaluation / "stamp.json").exists() or not (evaluation / "metrics.json").exists():
        reason = read_stamp(evaluation).get("skipped") if (evaluation / "stamp.json").exists() else None
        raise InputError(
            f"{evaluation.parent} has no finished evaluation",
            found=f"it was skipped: {reason}" if reason else "no stamp.json and metrics.json in `evaluation`",
            expected="the folder of a run that has been evaluated: logs/<expname>",
            do="correct the path, or run the stage `evaluation` first",
        )
    known = {field.name for field in fields(EvaluationOptions)}
    stamped = read_stamp(evaluation).get("options", {})
    return EvaluationOptions(**{name: value for name, value in stamped.items() if name in known})


def find_data(options: EvaluationOptions, scene: Path) -> EvaluationOptions:
    """Return the options with the dataset's absolute place, where the relative one leads nowhere from here."""
    written = read_json(scene / "frames.json").get("datadir")
    return options if Path(options.datadir).is_dir() or not written else replace(options, datadir=str(written))
