"""Measure the matchers and their densification against the phantom's truth, and time them.

`python benchmarks/matching.py` writes `benchmarks/results/matching.md`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np
from scipy.ndimage import map_coordinates

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.ablation import spread
from benchmarks.setting import Example
from stereo_prior import matches as matches_stage
from stereo_prior import scene as scene_stage
from stereo_prior.densify import DENSIFIERS, densify
from stereo_prior.matcher import Matches, MatchOptions
from stereo_prior.pair import load_eye
from stereo_prior.rectification import Rectification
from utils.errors import InputError
from utils.geometry import directions
from utils.images import find_map, read_map
from utils.phantom import DEPTH_PNG_MM, PhantomOptions, ensure_phantom
from utils.scene import Scene
from utils.types import FloatArray

Result = TypeVar("Result")
HEAD = (
    "matcher, densify",
    "points a pair",
    "median, px",
    "95th percentile, px",
    "beyond 1 px",
    "s a pair",
    "CPU s",
)
TIMED = ("what", "points", "s a pair", "CPU s")
REPEATS = 5
_SAME_SURFACE = 0.03
NOTES = (
    "Error: |x_left - x_right - truth| of a match after rectification; the truth is the true 3-D point of the "
    "left pixel, seen by the rectified right camera. Points without truth are left out; points that the right eye "
    "cannot see count, and are errors. Over all points of all frames of a phantom; mean ± standard deviation over "
    "seeds. Seconds are the stage's, matching and files included, compilation and pictures not; CPU "
    "seconds are those of all cores together, and say more where the machine had other work."
)


@dataclass(frozen=True)
class Score:
    """What one way of matching found on one phantom."""

    points: float
    median_px: float
    tail_px: float
    beyond: float
    seconds: float
    cpu_seconds: float


def main(argv: Sequence[str]) -> int:
    """Measure every way of matching on every phantom and write the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matchers", nargs="+", default=["sift"], choices=tuple(matches_stage.MATCHERS))
    parser.add_argument("--weights_dir", default="", help="weights of the learned matchers")
    parser.add_argument("--rigs", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    setting.add_example_flags(parser)
    given = parser.parse_args(argv)
    ways = [(matcher, how) for matcher in given.matchers for how in ("none", *DENSIFIERS)]
    lines = ["# Matching", "", f"- `{setting.command_line('matching.py', argv)}`", f"- {setting.machine()}"]
    lines += [f"- {NOTES}", ""]
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "matching.md"
    try:
        lines += timing(given.matchers, given.weights_dir)
        for rig in given.rigs:
            examples = [Example(rig, seed, given.frames, given.width, given.height) for seed in given.seeds]
            lines += accuracy(examples, ways, given.weights_dir)
            table.write_text("\n".join(lines), encoding="utf-8")
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write(table.read_text(encoding="utf-8"))
    return 0


def accuracy(examples: Sequence[Example], ways: Sequence[tuple[str, str]], weights_dir: str) -> list[str]:
    """Return the table of one rig: a row a way, mean and standard deviation over the seeds."""
    first = examples[0]
    patterns = (".0f", ".3f", ".3f", ".2%", ".2f", ".2f")
    rows: list[Sequence[str]] = [HEAD]
    for matcher, how in ways:
        options = MatchOptions(matcher=matcher, densify=how, weights_dir=weights_dir, viz=False)
        scores = [astuple(measure(example, options)) for example in examples]
        columns = zip(*scores, strict=True)
        cells = [spread(values, pattern) for values, pattern in zip(columns, patterns, strict=True)]
        rows.append((f"{matcher}, {how}", *cells))
    title = f"## {first.rig} rig, {first.frames} stereo frames of {first.width}×{first.height} px"
    return [title, "", *setting.markdown_rows(rows), ""]


def measure(example: Example, options: MatchOptions) -> Score:
    """Run the stage `matches` on one phantom and compare what it finds with the truth."""
    data, scene = prepare(example)
    out = folder(example, options)
    out.mkdir(parents=True, exist_ok=True)
    _, seconds, cpu_seconds = clocked(lambda: matches_stage.run(options, out=out, scene=scene))
    loaded = Scene.load(scene)
    keys = ("pixels_left", "pixels_right") if options.densify == "none" else ("dense_left", "dense_right")
    errors = []
    for name in loaded.names:
        with np.load(out / f"{name}.npz") as file:
            errors.append(errors_px(data, Rectification.of(loaded.rig), name, file[keys[0]], file[keys[1]]))
    pooled = np.concatenate(errors)
    known = pooled[np.isfinite(pooled)]
    median_px, tail_px = np.percentile(known, [50, 95]) if known.size else (np.nan, np.nan)
    beyond = float((known > 1).mean()) if known.size else np.nan
    frames = len(loaded.names)
    found = len(pooled) / frames
    return Score(found, float(median_px), float(tail_px), beyond, seconds / frames, cpu_seconds / frames)


def clocked(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """Return what a function returns, the seconds that it took, and those of all cores that it used."""
    began, used = time.monotonic(), time.process_time()
    result = work()
    return result, time.monotonic() - began, time.process_time() - used


def folder(example: Example, options: MatchOptions) -> Path:
    """Return where one way of matching writes."""
    return setting.LOGS / "matching" / example.name / f"{options.matcher}_{options.densify}"


def prepare(example: Example) -> tuple[Path, Path]:
    """Make a phantom and its stage `scene` where they are not there yet; return both folders."""
    data = setting.ROOT / "data" / "benchmarks" / example.name
    sizes = (example.seed, example.frames, example.width, example.height)
    ensure_phantom(data, PhantomOptions(example.rig, *sizes))
    scene = setting.LOGS / "matching" / example.name / "scene"
    if not (scene / "frames.json").exists():
        scene.mkdir(parents=True, exist_ok=True)
        scene_stage.run(scene_stage.SceneOptions(datadir=str(data)), out=scene)
    return data, scene


def errors_px(
    data: Path, rectification: Rectification, name: str, pixels_left: FloatArray, pixels_right: FloatArray
) -> FloatArray:
    """Return (m,) the absolute error of the rectified disparity; NaN where the truth is unknown."""
    path = find_map(data / "l" / "depth", name)
    assert path is not None
    depth_mm = read_map(path) * DEPTH_PNG_MM
    left = rectification.rectify_pixels(pixels_left.astype(float), "left")
    right = rectification.rectify_pixels(pixels_right.astype(float), "right")
    truth_px = true_disparity(rectification, np.where(depth_mm > 0, depth_mm, np.nan), pixels_left.astype(float))
    return np.abs(left[:, 0] - right[:, 0] - truth_px)


def true_disparity(rectification: Rectification, depth_mm: FloatArray, pixels_left: FloatArray) -> FloatArray:
    """Return (m,) px: where the rectified right camera sees the true points of left pixels (m, 2)."""
    rays_left = directions(rectification.original.left.matrix, pixels_left)
    points_rectified = rays_left * sample(depth_mm, pixels_left)[:, None] @ rectification.rotation_left.T
    return rectification.disparity_from_depth(points_rectified[:, 2])


def sample(depth_mm: FloatArray, pixels: FloatArray) -> FloatArray:
    """Return depth (m,) at pixels (m, 2): inverse depth linear on one surface, the nearest at steps."""
    inverse, at = 1 / depth_mm, pixels.T[::-1]
    linear, nearest = (map_coordinates(inverse, at, order=order, mode="nearest") for order in (1, 0))
    return 1 / np.where(np.abs(linear / nearest - 1) < _SAME_SURFACE, linear, nearest)


def timing(matchers: Sequence[str], weights_dir: str) -> list[str]:
    """Return the table of seconds for one pair of 640 x 512 px; the first call, which compiles, does not count."""
    example = Example("parallel", 0, 2, 640, 512)
    _, scene = prepare(example)
    loaded = Scene.load(scene)
    rectification, name = Rectification.of(loaded.rig), loaded.names[0]
    left, right = (load_eye(loaded, rectification, side, name) for side in loaded.sides)
    rows: list[Sequence[str]] = [TIMED]
    for matcher in matchers:
        options = MatchOptions(matcher=matcher, weights_dir=weights_dir, viz=False)
        score = measure(example, options)
        with np.load(folder(example, options) / f"{name}.npz") as file:
            kept = Matches(
                rectification.rectify_pixels(file["pixels_left"], "left"),
                rectification.rectify_pixels(file["pixels_right"], "right"),
                file["score"],
            )
        rows.append(timed_row(f"{matcher}: the stage", len(kept.score), score.seconds, score.cpu_seconds))
        for how in DENSIFIERS:
            runs = [clocked(partial(densify, how, left, right, kept)) for _ in range(1 + REPEATS)]
            seconds, cpu_seconds = np.median([run[1:] for run in runs[1:]], axis=0)
            rows.append(timed_row(f"{matcher}: {how} alone", len(runs[0][0].score), seconds, cpu_seconds))
    title = f"## One pair of {example.width}×{example.height} px"
    return [title, "", *setting.markdown_rows(rows), ""]


def timed_row(what: str, points: int, seconds: float, cpu_seconds: float) -> tuple[str, ...]:
    """Return one row of the table of times."""
    return what, str(points), f"{seconds:.2f}", f"{cpu_seconds:.2f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
