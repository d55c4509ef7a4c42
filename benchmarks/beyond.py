"""What is a view beyond the path worth, where it was seen and where it was imagined? Against exact renders.

`python benchmarks/beyond.py` trains a field on each phantom, completes views beside its path with the prior that
needs no weights, and writes `beyond.md` to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as utils does, before PyTorch is loaded

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from benchmarks.setting import Example
from nerf.distillation import Distillation
from novel_view.completion import Sampling, as_rgb, complete
from novel_view.field_sds import Distilling, distil
from novel_view.imagination import Warp
from novel_view.similarity import fit_similarity
from novel_view.targets import Target, conditions_of, look
from novel_view.wanted import BEYOND, wanted_poses
from utils.artifacts import read_npz
from utils.errors import InputError
from utils.phantom import PhantomOptions
from utils.phantom_render import Eye, Picture, render
from utils.phantom_rig import make_rig
from utils.phantom_surface import make_organ
from utils.types import FloatArray

HEAD = ("picture", "seen part, dB", "generated part, dB", "generated, worst view", "generated, best view")
RENDER, REAL, GUESS, SAMPLE, CANVAS, AFTER = (
    "render (nothing where unseen)",
    "sample, `--keep real`",
    "the prior's mean",
    "sample (no SDS)",
    "the field gone on beyond its box, before SDS",
    "after SDS",
)
NOTES = (
    "PSNR against the phantom rendered exactly at the same poses (`utils/phantom_render.py`), at the mean "
    "exposure of the training frames, after the truth's poses were brought to the run's by a "
    "Sim(3) over all frames, held-out ones included. Seen: pixels "
    "whose surface a training view has seen; generated: the rest, inside the round picture of the endoscope. Six "
    "views a phantom, from the middle training frame: a quarter of the working distance (about 20 mm) to either "
    "side, up, down, and turned by 20 degrees to either side. A row is the mean over views, phantoms and seeds of "
    "sampling or distillation; ± is the standard deviation over the seeds of one view and phantom, averaged."
)
Image = NDArray[np.uint8]
Scores = dict[str, list[list[tuple[float, float]]]]  # by picture: for each view, of each seed, seen and generated


@dataclass(frozen=True, eq=False)
class Truth:
    """The true picture of one target."""

    target: Target
    picture: Picture

    def score(self, image: Image) -> tuple[float, float]:
        """Return PSNR of the seen and of the generated part, dB."""
        squared = np.square(image.astype(float) - self.picture.rgb).mean(-1) / 255.0**2
        parts = (self.picture.tissue & part for part in (self.target.seen, ~self.target.seen))
        seen, generated = (float(-10 * np.log10(squared[part].mean())) for part in parts)
        return seen, generated


def main(argv: Sequence[str]) -> int:
    """Measure every phantom and write the table after each; return the exit status."""
    given = _parser().parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    scores: Scores = {}
    shares: list[float] = []
    held: list[tuple[float, float]] = []
    text = ""
    try:
        for example in setting.examples_of(given.rig, given, ()):
            found, generated, losses = measure(example, given)
            for name, views in found.items():
                scores.setdefault(name, []).extend(views)
            shares += generated
            held += losses
            text = _write(given.out, setting.command_line("beyond.py", argv), scores, shares, held, given)
    except InputError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 2
    sys.stdout.write("\n" + text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "", allow_abbrev=False)
    parser.add_argument("--rig", nargs="+", default=["parallel"], choices=("parallel", "verged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of phantoms; default 0 1 2")
    parser.add_argument("--draws", type=int, default=3, help="seeds of sampling; default 3")
    parser.add_argument("--distillations", type=int, default=2, help="seeds of SDS; default 2")
    parser.add_argument("--sds", type=int, default=Distilling.steps, help=f"steps; default {Distilling.steps}")
    parser.add_argument("--iters", type=int, help="steps of the field; default: the product's own")
    setting.add_example_flags(parser)
    return parser


def measure(example: Example, given: argparse.Namespace) -> tuple[Scores, list[float], list[tuple[float, float]]]:
    """Return the scores of one phantom, the share of every view that is generated, and real pixels' losses."""
    root = setting.LOGS / f"{example.name}_beyond"
    setting.forget_where_code_changed(root, setting.ALL_CODE)
    setting.run_product([*example.flags(root), *setting.iterations_flags(given.iters)], until="render")
    door = Distillation.load(root)
    field, warp = door.field, Warp()
    _, poses = wanted_poses(BEYOND, field)
    camera = field.dataset.rig.camera("left")
    targets = [look(field, str(number), camera, pose) for number, pose in enumerate(poses, 1)]
    truths = _truths(example, door, targets)
    chosen = [conditions_of(field, target) for target in targets]
    scores: Scores = {name: [[] for _ in targets] for name in (RENDER, REAL, GUESS, SAMPLE, CANVAS, AFTER)}
    for index, (target, truth) in enumerate(zip(targets, truths, strict=True)):
        scores[RENDER][index].append(truth.score(target.rgb))
        scores[CANVAS][index].append(truth.score(door.picture(door.prepare(camera, poses[index]))[0]))
        prior, conditions = warp.about(field, target, chosen[index])
        mean = as_rgb((conditions.weights * prior.means).sum(0, keepdim=True))  # type: ignore[attr-defined]
        scores[GUESS][index].append(
            truth.score(np.where(target.seen[..., None], target.rgb, mean).astype(np.uint8))
        )
        for seed in range(given.draws):
            for name, keep in ((SAMPLE, "render"), (REAL, "real")):
                done = complete(field, target, chosen[index], warp, Sampling(keep=keep, seed=seed))
                scores[name][index].append(truth.score(done.rgb))
    losses = []
    for seed in range(given.distillations):
        door = Distillation.load(root)
        losses.append(distil(door, poses, camera, warp, Distilling(steps=given.sds, seed=seed)))
        for index, truth in enumerate(truths):
            scores[AFTER][index].append(truth.score(door.picture(door.prepare(camera, poses[index]))[0]))
    return scores, [float((~target.seen).mean()) for target in targets], losses


def _truths(example: Example, door: Distillation, targets: list[Target]) -> list[Truth]:
    """Return the phantom at the targets' poses, exactly."""
    stored, placed = read_npz(example.data / "truth_poses.npz"), door.field.placed
    names = [str(name) for name in stored["names"]]
    common = [index for index, name in enumerate(names) if name in placed.names and placed.placed(name)]
    ours = np.array([placed.world_from("left", names[index]) for index in common])
    truth_from_ours = fit_similarity(ours, stored["world_from_left"][common])
    if truth_from_ours is None:
        raise InputError(
            f"{example.name} has no path", found="cameras in one place", expected="a path", do="take more frames"
        )
    train = [index for index in common if names[index] in door.field.dataset.train]
    exposure = float(np.exp(np.log(stored["exposure"][train]).mean()))
    options = PhantomOptions(example.rig, example.seed, example.frames, example.width, example.height)
    rig = make_rig(options.phantom, options.phantom_width, options.phantom_height)
    organ = make_organ(np.random.default_rng([options.phantom_seed, 1]), rig.organ_scale)
    truths = []
    for target in targets:
        pose: FloatArray = truth_from_ours.apply(target.world_from_camera[None])[0]
        lamp = pose[:3, :3] @ rig.lamp_left + pose[:3, 3]
        eye = Eye(rig.camera_left, pose, lamp, example.width, example.height, rig.distance_mm)
        truths.append(Truth(target, render(organ, eye, exposure, np.random.default_rng(0))))
    return truths


def _write(
    out: Path,
    command: str,
    scores: Scores,
    shares: list[float],
    held: list[tuple[float, float]],
    given: argparse.Namespace,
) -> str:
    rows = [HEAD, *(_row(name, views) for name, views in scores.items())]
    before, after = np.mean(held, axis=0) if held else (np.nan, np.nan)
    lines = [
        "# Views beyond the path: seen and generated parts against the truth",
        "",
        f"`{command}`",
        "",
        setting.machine(),
        "",
        *setting.markdown_rows(rows),
        "",
        f"{len(shares)} views; generated: {100 * np.mean(shares):.0f} % of their pixels on average, "
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %. {given.sds} steps of SDS over all views of a "
        f"phantom together; the colour loss on the same real training pixels: {before:.5f} before, {after:.5f} "
        "after.",
        "",
        NOTES,
        "",
    ]
    (out / "beyond.md").write_text("\n".join(lines))
    return "\n".join(lines)


def _row(name: str, views: list[list[tuple[float, float]]]) -> tuple[str, ...]:
    if not views or not views[0]:
        return (name, "–", "–", "–", "–")
    seen, generated = (np.array([[pair[part] for pair in view] for view in views]) for part in (0, 1))
    means = generated.mean(1)
    spread = f" ± {generated.std(1).mean():.2f}" if generated.shape[1] > 1 else ""
    return (name, f"{seen.mean():.2f}", f"{means.mean():.2f}{spread}", f"{means.min():.2f}", f"{means.max():.2f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
