"""How well does the pose-image flow find cameras, and how far from its training poses?

`python benchmarks/flow.py logs/phantom` takes a finished run, makes pairs, trains a flow for each sigma and a
plain regression for the same time, and writes `flow.md` and `flow.png` to `benchmarks/results/`. Pairs and
finished trainings are kept in `<run>/localisation`, and an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import utils as utils  # isort: skip  # before PyTorch: it says how OpenMP waits

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import setting
from localisation.flow import RECORD, PoseFlow
from localisation.learned.pairs import PairRenderer, Pairs, PoseRange, read_pairs
from localisation.learned.steps import STEPS
from localisation.learned.training import TrainingOptions, pose_errors
from localisation.make_pairs import Request as PairRequest
from localisation.make_pairs import make_pairs
from localisation.sample import psnr
from localisation.train_flow import Request, split, train_flow
from nerf.finished_field import FinishedField
from utils.commands import answer
from utils.images import write_rgb
from utils.scene import Scene, load_poses
from utils.types import FloatArray, Side

Images = NDArray[np.float32]
Find = Callable[[Images], FloatArray]
NOISES = (0.03, 0.1)
RANGES = ((0.0, 0.9), (0.9, 1.1), (1.1, 1.5), (1.5, 2.0), (2.0, 3.0))
WAYS = ("one_step", "euler", "midpoint", "fixed_point")
QUICK = ("nearest", "regression", "one step", "euler")
SHOWN, SHOWN_PX = 8, 128
NOTES = (
    "Queries are renders of the field at poses that no training saw, at the flow's size; noise is added there. "
    "`filled`: where the field has no surface, black in renders, another query's pixels stand, as a camera would "
    "see something there. Errors are medians, with the quartiles in brackets. `nearest` takes the pose of the "
    "most alike of the training renders, by squared differences of colours, or of colours less their mean over "
    "their deviation (`evened`). `regression` is the flow's network trained for as long on the step from image to "
    "pose alone. Reach is the largest turn or shift away from the nearest training frame, in spreads: training "
    "poses are below 1. Generation: PSNR of samples against renders."
)


@dataclass(frozen=True, eq=False)
class Queries:
    """Small images (k, s, s, 3) in [0, 1], where the field has no surface (k, s, s), poses (k, 4, 4), coverage."""

    images: Images
    unknown: NDArray[np.bool_]
    poses: FloatArray
    covered: float


def measure(run: Path, given: argparse.Namespace, command: str) -> str:
    """Make, train and measure what is missing; write and return the tables."""
    folder = run / "localisation" / "pairs"
    make_pairs(run, PairRequest(n=given.n, seed=given.seed))
    pairs, record, _ = read_pairs(folder, given.n)
    field = str(record["field"])
    flows = {
        f"sigma {sigma:g}": trained(run, f"sigma{sigma:g}", given, field, sigma=sigma) for sigma in given.sigmas
    }
    regression = trained(run, "regression", given, field, regression=True)
    train, _ = split(pairs)
    finders = methods(flows, regression, train)
    renderer = PairRenderer(
        FinishedField.load(run, "cpu"), record["options"]["size"], record["options"]["oversample"]
    )
    poses = PoseRange.from_json(record["range"])
    found = {span: queries(renderer, poses, span, given.queries, given.seed) for span in RANGES}
    inside = found[RANGES[0]]
    text = [
        *head(command, run, record, given, {**flows, "regression": regression}),
        *("## Renders inside the training range", ""),
        *setting.markdown_rows(noise_rows(finders, inside, given.seed)),
        *("", "## From inside to beyond the training range", ""),
        *setting.markdown_rows(range_rows(finders, found, flows)),
        *("", "## The camera's own images", ""),
        *setting.markdown_rows(real_rows(finders, flows, Scene.load(run / "scene"), run)),
        *("", "## Residual as a confidence", "", confidence(next(iter(flows.values())), found), ""),
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    write_rgb(given.out / "flow.png", picture(flows, found))
    (given.out / "flow.md").write_text("\n".join(text))
    return "\n".join(text)


def trained(run: Path, name: str, given: argparse.Namespace, field: str, **changes: Any) -> PoseFlow:
    """Return a flow of a field, trained now unless it was before."""
    out = run / "localisation" / "benchmark" / name
    if not (out / RECORD).exists():
        options = TrainingOptions(
            minutes=given.minutes, batch=given.batch, precision=given.precision, seed=given.seed
        )
        train_flow(run, Request(replace(options, **changes), "rays", None, out))
    return PoseFlow.load(out, field)


def methods(flows: dict[str, PoseFlow], regression: PoseFlow, train: Pairs) -> dict[str, Find]:
    """Return what each way to find poses is called, and how it does."""

    def by(flow: PoseFlow, method: str) -> Find:
        return lambda images: flow.invert_small(images, method).world_from_camera

    known = train.rgb.astype(np.float32) / 255.0
    found: dict[str, Find] = {
        "nearest": nearest(known, train.world_from_camera, even=False),
        "nearest, evened": nearest(known, train.world_from_camera, even=True),
        "regression": by(regression, "one_step"),
    }
    for name, flow in flows.items():
        for method in WAYS:
            words = method.replace("_", " ") + (f" {STEPS[method]}" if STEPS[method] > 1 else "")
            found[f"{name}, {words}"] = by(flow, method)
    return found


def nearest(known: Images, poses: FloatArray, *, even: bool) -> Find:
    """Return the search for the most alike of known images."""

    def features(images: Images) -> FloatArray:
        flat = images.reshape(len(images), -1).astype(np.float64)
        return (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True) if even else flat

    there = features(known)
    squares = (there**2).sum(1)

    def find(images: Images) -> FloatArray:
        return poses[np.argmin(squares - 2.0 * features(images) @ there.T, axis=1)]

    return find


def queries(renderer: PairRenderer, poses: PoseRange, span: tuple[float, float], count: int, seed: int) -> Queries:
    """Render queries whose reach lies in a span; views of which training saw less than a third are left out."""
    rng = np.random.default_rng([seed, 7, round(10 * span[0]), 2**16])  # no stream of the pairs
    kept: list[Any] = []
    while len(kept) < count:
        pose = poses.draw(rng, 1, *span)
        if span[0] <= poses.reach(pose)[0] <= span[1]:
            rgb, depth, covered = renderer.render(pose[0])
            if covered > 1 / 3:
                kept.append((rgb.astype(np.float32) / 255.0, np.isnan(depth), pose[0], covered))
    images, unknown, places = (np.stack([one[part] for one in kept]) for part in range(3))
    share = float(np.mean([one[3] for one in kept]))
    return Queries(images, unknown & (images.max(-1) < 0.02), places, share)


def noise_rows(finders: dict[str, Find], inside: Queries, seed: int) -> list[list[str]]:
    """Return a row a method: errors of clean, noisy and filled queries, and seconds an image."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=inside.images.shape)
    shown = {"clean": inside.images}
    shown |= {f"noise {sd:g}": (inside.images + sd * noise).clip(0, 1).astype(np.float32) for sd in NOISES}
    other = inside.images[rng.permutation(len(inside.images))]
    shown["filled"] = np.where(inside.unknown[..., None], other, inside.images)
    rows = [["method", *(f"{name}, {unit}" for name in shown for unit in ("°", "mm")), "ms an image"]]
    for name, find in finders.items():
        cells = []
        for images in shown.values():
            cells += cell(find(images), inside.poses)
        started = time.perf_counter()
        find(inside.images[:1])
        rows.append([name, *cells, f"{1e3 * (time.perf_counter() - started):.0f}"])
    return rows


def range_rows(
    finders: dict[str, Find], found: dict[tuple[float, float], Queries], flows: dict[str, PoseFlow]
) -> list[list[str]]:
    """Return a row a method: errors by reach; then what was generated there."""
    rows = [["method", *(f"reach {low:g} to {high:g}, {unit}" for low, high in found for unit in ("°", "mm"))]]
    few = [name for name in finders if any(word in name for word in QUICK) and "evened" not in name]
    for name in few:
        rows.append(
            [name, *(text for some in found.values() for text in cell(finders[name](some.images), some.poses))]
        )
    for name, flow in flows.items():
        for method in ("one_step", "euler"):
            cells = []
            for some in found.values():
                drawn = flow.sample(some.poses, method)
                values = [psnr(a, b) for a, b in zip(drawn, some.images, strict=True)]
                cells += [f"{np.median(values):.1f} dB", f"({spread(values)})"]
            rows.append([f"{name}, sampled by {method.replace('_', ' ')}", *cells])
    seen = [text for some in found.values() for text in (f"{100 * some.covered:.0f} %", "")]
    return [*rows, ["seen by training images", *seen]]


def real_rows(finders: dict[str, Find], flows: dict[str, PoseFlow], dataset: Scene, run: Path) -> list[list[str]]:
    """Return a row a method: errors on images of training and held-out frames, against the run's own poses."""
    placed, shrinker = load_poses(run / "poses", run / "nerf"), next(iter(flows.values())).shrinker
    sides: tuple[Side, ...] = ("left", "right") if placed.world_from_right is not None else ("left",)
    groups = [
        (side, split, names)
        for side in sides
        for split, names in (("train", dataset.train), ("test", dataset.test))
    ]
    rows = [["method"]]
    rows += [[name] for name in finders]
    for side, split_name, names in groups:
        names = tuple(name for name in names if placed.placed(name))
        if not names:
            continue
        camera = None if side == "left" else dataset.rig.camera(side)
        images = np.stack([shrinker.shrink(dataset.image(side, name), camera) for name in names])
        truth = np.array([placed.world_from(side, name) for name in names])
        rows[0] += [f"{side}, {split_name} ({len(names)}), {unit}" for unit in ("°", "mm")]
        for row, find in zip(rows[1:], finders.values(), strict=True):
            row += cell(find(images), truth)
    return rows


def cell(found: FloatArray, truth: FloatArray) -> list[str]:
    """Return median and quartiles of rotation and position errors."""
    return [f"{np.median(errors):.2f} ({spread(errors)})" for errors in pose_errors(found, truth)]


def spread(values: Any) -> str:
    """Return the quartiles."""
    low, high = np.percentile(values, [25, 75])
    return f"{low:.1f}–{high:.1f}"


def confidence(flow: PoseFlow, found: dict[tuple[float, float], Queries]) -> str:
    """Say how the residual of one step goes with the error, and how it is for mirrored images."""
    from scipy.stats import spearmanr

    images = np.concatenate([some.images for some in found.values()])
    poses = np.concatenate([some.poses for some in found.values()])
    result = flow.invert_small(images)
    ranks = [
        spearmanr(result.residual, errors).statistic for errors in pose_errors(result.world_from_camera, poses)
    ]
    inside = found[RANGES[0]].images
    own, mirrored = (flow.invert_small(some).residual for some in (inside, inside[:, :, ::-1].copy()))
    limit = np.percentile(own, 95)
    return (
        f"Over all queries of the second table, one step, first sigma: rank correlation of residual and error "
        f"{ranks[0]:.2f} (rotation), {ranks[1]:.2f} (position). Median residual {np.median(own):.3f} inside the "
        f"range, {np.median(mirrored):.3f} for the same images mirrored, which show an organ that there is not; "
        f"the limit that keeps 95 % of the first refuses {100 * np.mean(mirrored > limit):.0f} % of the second."
    )


def picture(flows: dict[str, PoseFlow], found: dict[tuple[float, float], Queries]) -> NDArray[np.uint8]:
    """Return pictures: a row of renders, then samples by one step and by Euler a flow; inside, edge, beyond."""
    blocks = []
    for span in (RANGES[0], RANGES[1], RANGES[3]):
        some = found[span]
        rows = [some.images[:SHOWN]]
        for flow in flows.values():
            rows += [flow.sample(some.poses[:SHOWN], method) for method in ("one_step", "euler")]
        blocks += [np.concatenate([_large(image) for image in row], axis=1) for row in rows]
        blocks.append(np.full((SHOWN_PX // 8, SHOWN * SHOWN_PX, 3), 255, np.uint8))
    return np.concatenate(blocks[:-1])


def _large(image: FloatArray) -> NDArray[np.uint8]:
    whole = np.rint(255 * image).astype(np.uint8)
    return np.asarray(cv2.resize(whole, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_NEAREST), np.uint8)


def head(
    command: str, run: Path, record: dict[str, Any], given: argparse.Namespace, flows: dict[str, PoseFlow]
) -> list[str]:
    """Return what was measured, on what, and what the trainings came to."""
    options = record["options"]
    lines = ["# Poses from images by a flow", "", f"- `{command}`", f"- {setting.machine()}"]
    lines.append(
        f"- run `{run.resolve().name}`: {given.n} pairs of {options['size']}x{options['size']} px within "
        f"{options['spread_degrees']:.3g}° and {options['spread_mm']:.3g} mm of "
        f"{len(record['range']['world_from_left'])} training frames; {given.queries} queries a range"
    )
    lines += [f"- {name}: {_training(flow.record)}" for name, flow in flows.items()]
    return [*lines, "", NOTES, ""]


def _training(record: dict[str, Any]) -> str:
    options, held = record["options"], record["held_out"]
    minutes = record["seconds"] / 60, record["processor_seconds"] / 60
    return (
        f"{record['steps']} steps of {options['batch']} pairs in {minutes[0]:.1f} min by the clock, "
        f"{minutes[1]:.1f} min of one core ({options['precision']}); held-out pairs {held['degrees']:.2f}°, "
        f"{held['mm']:.2f} mm"
    )


def main(argv: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--n", type=int, default=6000, help="pairs; default 6000")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each training; default 15")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.1, 1.0], help="default 0.1 1")
    parser.add_argument("--batch", type=int, default=64, help="pairs a step; default 64")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the trainings")
    parser.add_argument("--queries", type=int, default=128, help="a range; default 128")
    parser.add_argument("--seed", type=int, default=0, help="of pairs, trainings, queries; default 0")
    parser.add_argument("--out", type=Path, default=setting.RESULTS, help="folder for tables")
    given = parser.parse_args(argv)
    return answer(lambda: measure(given.run, given, setting.command_line("flow.py", argv)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
