"""Measure how honest the fused prior's sigma and confidence are, against the phantom's truth.

`python benchmarks/confidence.py` writes `confidence.md` and `confidence.png` to `benchmarks/results/`: predicted
sigma against actual error by decile, and the area under the sparsification error curve of our confidence, of the
left-right check alone and of the multi-view error alone. Flags of `run.py` that are not listed by `--help` here
reach the stages.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from benchmarks.uncertainty_scores import curve, reliability, sparsification_area
from utils.artifacts import load_maps
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import find_map, read_map
from utils.multi_view import multi_view_error
from utils.phantom import DEPTH_PNG_MM
from utils.scene import Scene
from utils.types import FloatArray, Side

SOURCE = "sgbm"
SPLITS = ("test", "train")
# What pixels are ordered by -> how it is called in the table.
ORDERS = {
    "confidence": "our confidence",
    "left_right": "left-right difference alone",
    "multi_view": "multi-view error alone",
    "sigma": "our sigma alone",
    "source": "the source's own confidence",
}
WITHIN = ("within 1 sigma", "within 2 sigma")
MEDIAN_OF_NORMAL = 0.6745  # median of the absolute value of a normal variable of deviation 1
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # %
REMOVED = np.linspace(0, 0.99, 100)
NOTES = (
    "Tissue pixels of both eyes whose prior and truth are known, pooled over the frames of a split; error is "
    "|prior / truth - 1|. Area under the sparsification error curve: pixels are removed from the most doubtful "
    "on, and the mean error of what is kept is compared with that of the oracle, which removes the largest errors "
    "first; the area between the two curves over the share removed, in units of the mean error of all (0 is a "
    "perfect order; Ilg et al., ECCV 2018). Pixels without a value (no other view, not measured by the source) "
    f"are removed first. *left-right difference*: of the depths that `{SOURCE}` gives in the two eyes; *the "
    "source's own confidence*: that, with texture, uniqueness and highlights."
)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels (n,) of one split of a phantom: relative error and sigma, confidence, and a doubt for each order."""

    error: FloatArray
    sigma: FloatArray
    confidence: FloatArray
    doubts: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Measured:
    """One phantom and the pixels of its splits."""

    example: Example
    splits: Mapping[str, Pixels]


def main(argv: Sequence[str]) -> int:
    """Measure every phantom, and write the tables and the plot; return the exit status."""
    given, extra = _parser().parse_known_args(argv)
    examples = setting.examples_of(given.rigs, given, extra)
    measured = []
    try:
        for example in tqdm(examples, desc="confidence", unit="phantom"):
            measured.append(measure(example))
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(report(measured, setting.command_line("confidence.py", argv)))
    (given.out / "confidence.md").write_text(text, encoding="utf-8")
    draw(given.out / "confidence.png", measured)
    sys.stdout.write("\n" + text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rigs", nargs="+", default=["parallel", "verged"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default 0 1 2")
    setting.add_example_flags(parser)
    return parser


def measure(example: Example) -> Measured:
    """Bring the stages up to `prior` up to date and read what they say of every pixel."""
    root = setting.prepare(example)
    scene = Scene.load(root / "scene")
    truth = setting.ROOT / "data" / "benchmarks" / example.name
    return Measured(example, {split: read_split(scene, root, truth, getattr(scene, split)) for split in SPLITS})


def read_split(scene: Scene, root: Path, truth: Path, names: Sequence[str]) -> Pixels:
    """Return the pixels of some frames, both eyes, on tissue where prior and truth are known."""
    columns, sources = [], root / "stereo" / SOURCE
    for side, name in ((side, name) for name in names for side in scene.sides):
        path = find_map(truth / side[0] / "depth", name)
        assert path is not None, "the phantom has the truth of every view"
        truth_depth_mm = read_map(path) * DEPTH_PNG_MM
        prior = load_maps(root / "prior", side, name)
        known = prior["tissue"] & (truth_depth_mm > 0) & np.isfinite(prior["depth_mm"])
        maps = {
            "error": np.abs(prior["depth_mm"] / np.where(known, truth_depth_mm, np.nan) - 1),
            "sigma": prior["sigma_mm"] / prior["depth_mm"],
            "confidence": prior["confidence"],
            "multi_view": prior["error"],
            "left_right": left_right_difference(scene, side, name, sources),
            "source": load_maps(sources, side, name)["confidence"],
        }
        columns.append({key: values[known].astype(np.float32) for key, values in maps.items()})
    pooled = {key: np.concatenate([one[key] for one in columns]) for key in columns[0]}
    doubts = pooled | {"confidence": -pooled["confidence"], "source": -pooled["source"]}
    return Pixels(
        pooled["error"], pooled["sigma"], pooled["confidence"], {order: doubts[order] for order in ORDERS}
    )


def left_right_difference(scene: Scene, side: Side, name: str, maps: Path) -> FloatArray:
    """Return the relative difference (h, w) of a source's depth in one eye to that in the other; NaN unknown."""
    rig, other = scene.rig, next(one for one in scene.sides if one != side)
    other_from_eye = invert_rigid(rig.left_from(other)) @ rig.left_from(side)
    here, there = (load_maps(maps, one, name)["depth_mm"] for one in (side, other))
    return multi_view_error(rig.camera(side), here, [(rig.camera(other), other_from_eye, there)], topk=1)


def report(measured: Sequence[Measured], command: str) -> list[str]:
    """Return the lines of the report."""
    lines = ["# Confidence", "", f"- `{command}`", f"- {setting.machine()}", f"- {NOTES}", ""]
    for rig in dict.fromkeys(one.example.rig for one in measured):
        mine = [one for one in measured if one.example.rig == rig]
        example = mine[0].example
        lines += [f"## {rig} rig, {example.frames} stereo frames of {example.width}×{example.height} px", ""]
        for split in SPLITS:
            lines += [f"Area under the sparsification error curve, {split} frames, by seed:", ""]
            lines += [*setting.markdown_rows(area_table(mine, split)), ""]
        for split in SPLITS:
            lines += [f"Reliability of sigma, {split} frames, all seeds, by decile of predicted sigma:", ""]
            lines += [*setting.markdown_rows(reliability_table(mine, split)), ""]
        lines += ["Confidence by decile, test frames, all seeds:", ""]
        lines += [*setting.markdown_rows(confidence_table(mine, "test")), ""]
    return lines


def area_table(mine: Sequence[Measured], split: str) -> list[list[str]]:
    """Return head and rows, one an order: its area by seed, the mean, and on how many our confidence is better."""
    parts = [one.splits[split] for one in mine]
    areas = {order: [sparsification_area(part.doubts[order], part.error) for part in parts] for order in ORDERS}
    rows = [["ordered by", *(f"seed {one.example.seed}" for one in mine), "mean", "our confidence better"]]
    for order, name in ORDERS.items():
        wins = sum(ours < theirs for ours, theirs in zip(areas["confidence"], areas[order], strict=True))
        numbers = [f"{area:.3f}" for area in [*areas[order], float(np.mean(areas[order]))]]
        rows.append([name, *numbers, "" if order == "confidence" else f"{wins}/{len(mine)}"])
    return rows


def reliability_table(mine: Sequence[Measured], split: str) -> list[list[str]]:
    """Return head and rows, one a decile and one for all: predicted sigma and actual error, % of the depth."""
    sigma, error = pooled_sigma(mine, split)
    rows = [["decile", "sigma, %", "median error, %", "median error / 0.674 sigma", "rms error, %", *WITHIN]]
    bins = [*reliability(sigma, error), *reliability(sigma, error, bins=1)]
    for number, one in enumerate(bins, start=1):
        name, ratio = "all" if number == len(bins) else str(number), one.median / (MEDIAN_OF_NORMAL * one.sigma)
        sigma_percent, median_percent, rms_percent = (f"{100 * v:.3f}" for v in (one.sigma, one.median, one.rms))
        shares = [f"{one.within_1:.1%}", f"{one.within_2:.1%}"]
        rows.append([name, sigma_percent, median_percent, f"{ratio:.2f}", rms_percent, *shares])
    rows.append(["a normal error", "", "", "1.00", "", "68.3%", "95.4%"])
    return rows


def pooled_sigma(mine: Sequence[Measured], split: str) -> tuple[FloatArray, FloatArray]:
    """Return relative sigma and error (n,) of the pixels of all seeds."""
    parts = [one.splits[split] for one in mine]
    return np.concatenate([part.sigma for part in parts]), np.concatenate([part.error for part in parts])


def confidence_table(mine: Sequence[Measured], split: str) -> list[list[str]]:
    """Return head and rows, one a decile from the least confident on: what errors are there, % of the depth."""
    error = np.concatenate([one.splits[split].error for one in mine])
    confidence = np.concatenate([one.splits[split].confidence for one in mine])
    rows = [["decile", "confidence", "mean error, %", "median error, %", "95th percentile, %"]]
    for number, part in enumerate(np.array_split(np.argsort(confidence, kind="stable"), 10), start=1):
        values = (error[part].mean(), *np.percentile(error[part], (50, 95)))
        percent = [f"{100 * value:.3f}" for value in values]
        rows.append([str(number), f"{np.median(confidence[part]):.3f}", *percent])
    return rows


def draw(path: Path, measured: Sequence[Measured]) -> None:
    """Draw, a row a rig, the sparsification curves of the test frames (mean over seeds) and the reliability."""
    rigs = list(dict.fromkeys(one.example.rig for one in measured))
    figure, axes = plt.subplots(len(rigs), 2, figsize=(11, 4.4 * len(rigs)), squeeze=False)
    for (left, right), rig in zip(axes, rigs, strict=True):
        mine = [one for one in measured if one.example.rig == rig]
        _draw_curves(left, mine)
        _draw_reliability(right, mine)
        left.set_title(f"{rig} rig, test frames: sparsification")
        right.set_title(f"{rig} rig: reliability of sigma")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_curves(axes: Axes, mine: Sequence[Measured]) -> None:
    parts = [one.splits["test"] for one in mine]
    for order, name in ORDERS.items():
        mean = np.mean([curve(part.doubts[order], part.error, REMOVED) for part in parts], axis=0)
        axes.plot(REMOVED, mean, label=name, linewidth=2.5 if order == "confidence" else 1.2)
    oracle = np.mean([curve(part.error, part.error, REMOVED) for part in parts], axis=0)
    axes.plot(REMOVED, oracle, "k--", label="oracle", linewidth=1)
    axes.set(xlabel="share removed", ylabel="mean error of what is kept / of all", xlim=(0, 1), ylim=(0, 1.1))
    axes.legend(fontsize=8)


def _draw_reliability(axes: Axes, mine: Sequence[Measured]) -> None:
    for split, marker in zip(SPLITS, "os", strict=True):
        bins = reliability(*pooled_sigma(mine, split))
        predicted = [100 * one.sigma for one in bins]
        from_median = [100 * one.median / MEDIAN_OF_NORMAL for one in bins]
        axes.plot(predicted, from_median, marker + "-", label=f"{split}, median error / {MEDIAN_OF_NORMAL:.2f}")
        axes.plot(predicted, [100 * one.rms for one in bins], marker + ":", label=f"{split}, rms error")
    axes.plot(TICKS, TICKS, "k--", linewidth=1, label="honest")
    axes.set(xscale="log", yscale="log", xlabel="predicted sigma, % of the depth", ylabel="actual error, %")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
