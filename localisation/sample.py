"""Draw what the camera would see from given poses, by the trained flow of a run, beside renders of its field.

python -m localisation.sample logs/phantom --pose FRAME|FILE|16 numbers
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from localisation.flow import PoseFlow
from localisation.learned.pairs import PairRenderer
from localisation.learned.steps import METHODS, STEPS
from nerf.finished_field import FinishedField
from utils.artifacts import write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.images import write_rgb
from utils.pose_lists import FORMATS, parse_pose, read_named_poses
from utils.scene import Scene, load_poses
from utils.types import FloatArray

_OVERSAMPLE = 2
_SHOWN_PX = 256  # side of a view in the picture
_NOISES = 3  # other draws of the noise, to be looked at


def sample_poses(
    run: Path,
    pose: str,
    method: str = "euler",
    steps: int | None = None,
    seed: int = 0,
    flow_folder: Path | None = None,
    out: Path | None = None,
) -> str:
    """Write samples and a picture a pose: field, sample, their difference, samples of other noise.

    Args:
        run: with a finished field and a trained flow.
        pose: a frame of the run, sixteen numbers, or a file (`utils.pose_lists`), of the left eye.
        method, steps, seed: see `PoseFlow.sample`.
        flow_folder: default `<run>/localisation/flow`.
        out: folder; default `<run>/localisation/samples`.

    Raises:
        InputError: no flow, a flow of another field, no such frame or file.
    """
    flow = PoseFlow.of_run(run, flow_folder)
    names, poses = _poses(run, pose)
    out = out or run / "localisation" / "samples"
    draws = [flow.sample(poses, method, steps, seed + index) for index in range(1 + _NOISES)]
    renderer = PairRenderer(FinishedField.load(run, "cpu"), flow.shrinker.size, _OVERSAMPLE)
    lines = []
    for index, name in enumerate(names):
        rendered, _, covered = renderer.render(poses[index])
        truth = rendered.astype(np.float32) / 255.0
        views = [draw[index] for draw in draws]
        write_npz(out / f"{name}.npz", rgb=_bytes(views[0]), world_from_left=poses[index])
        write_rgb(out / f"{name}.png", _picture(truth, views))
        reach = float(flow.poses.reach(poses[index : index + 1])[0])
        lines.append(
            f"{name}: {psnr(views[0], truth):.1f} dB against the field, of which training images saw "
            f"{100 * covered:.0f} %; reach {reach:.2f}" + (", outside the training range" if reach > 1 else "")
        )
    legend = f"left to right: field, sample, five times their difference, {_NOISES} samples of other noise"
    return "\n".join([*lines, f"{len(names)} pictures in {out} ({legend})"])


def psnr(image: FloatArray, truth: FloatArray) -> float:
    """Return the peak signal-to-noise ratio of images in [0, 1], dB."""
    return float(-10.0 * np.log10(max(float(np.mean((image - truth) ** 2)), 1e-12)))


def _poses(run: Path, pose: str) -> tuple[list[str], FloatArray]:
    numbers = parse_pose(pose)
    if numbers is not None:
        return ["pose"], numbers
    dataset, placed = Scene.load(run / "scene"), load_poses(run / "poses", run / "nerf")
    if pose in dataset.names and placed.placed(pose):
        return [pose], placed.world_from("left", pose)[None]
    if not Path(pose).exists():
        raise InputError(
            f"--pose {pose} is neither a frame with a pose nor a file",
            found=f"no file {pose}, and no such frame",
            expected=f"a frame of the run, 16 numbers, or {FORMATS}",
            do="correct the frame or the path",
        )
    return read_named_poses(Path(pose))


def _picture(truth: FloatArray, views: Sequence[FloatArray]) -> NDArray[np.uint8]:
    difference = np.abs(views[0] - truth) * 5.0
    shown: list[Any] = [truth, views[0], difference, *views[1:]]
    size = (_SHOWN_PX, _SHOWN_PX)
    return np.hstack([cv2.resize(_bytes(one), size, interpolation=cv2.INTER_NEAREST) for one in shown])


def _bytes(image: FloatArray) -> NDArray[np.uint8]:
    return np.rint(255.0 * image.clip(0.0, 1.0)).astype(np.uint8)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(prog="python -m localisation.sample", description="Draw views of poses.")
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>, with a trained flow")
    parser.add_argument("--pose", required=True, help=f"a frame, 16 numbers in quotes, or a file: {FORMATS}")
    parser.add_argument("--method", choices=METHODS, default="euler", help="default euler")
    usual = ", ".join(f"{name} {count}" for name, count in STEPS.items())
    parser.add_argument("--steps", type=int, help=f"default {usual}")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; default 0")
    parser.add_argument("--flow", type=Path, help="default <run>/localisation/flow")
    parser.add_argument("--out", type=Path, help="folder; default <run>/localisation/samples")
    words = parser.parse_args(arguments)
    return answer(
        lambda: sample_poses(words.run, words.pose, words.method, words.steps, words.seed, words.flow, words.out)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
