"""Find where images were taken, by the trained flow of a run, and write the poses for other commands to read.

    python -m localisation.invert logs/phantom IMAGE... --method one_step

The answer is a start: median errors are degrees and millimetres (the record of the training says how many).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from localisation.flow import Inversion, PoseFlow
from localisation.learned.steps import METHODS, STEPS
from localisation.reading import Reader
from utils.artifacts import write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import read_rgb
from utils.scene import Scene
from utils.types import Side


def invert_images(
    run: Path,
    images: Sequence[Path],
    method: str = "one_step",
    steps: int | None = None,
    side: Side = "left",
    flow_folder: Path | None = None,
    out: Path | None = None,
) -> str:
    """Write the poses of images as an npz; return them in words.

    Args:
        run: with a finished field and a trained flow.
        images: files as the camera stored them: where the run's images were undistorted, these are too.
        method, steps: see `PoseFlow.invert`.
        side: the eye that took them; poses are those of the left eye all the same.
        flow_folder: default `<run>/localisation/flow`.
        out: default `<run>/localisation/inverted.npz`.

    Raises:
        InputError: no flow, a flow of another field, an image that cannot be read or is of another camera.
    """
    flow = PoseFlow.of_run(run, flow_folder)
    dataset = Scene.load(run / "scene")
    if side == "right" and dataset.rig.right is None:
        raise InputError("there is no right eye", found="--side right", expected="left", do="leave --side out")
    camera = dataset.rig.camera(side)
    reader = Reader.of(dataset)
    for path in images:
        reader.check_image(side, path)
    pixels = [reader.brought(side, read_rgb(path)) for path in images]
    found = flow.invert(pixels, method, steps, camera if side == "right" else None)
    out = out or run / "localisation" / "inverted.npz"
    write_npz(
        out,
        names=np.array([path.stem for path in images]),
        world_from_left=found.world_from_camera @ invert_rigid(dataset.rig.left_from(side)),
        residual=found.residual,
        **found.extra,
    )
    return "\n".join([*_table([path.name for path in images], found, flow), f"poses in {out}"])


def _table(names: Sequence[str], found: Inversion, flow: PoseFlow) -> list[str]:
    width = max(8, *(len(name) for name in names))
    unit = flow.record.get("unit", "mm")
    lines = [f"{'image':<{width}}  {'position (' + unit + ')':>26}  residual  reach  eigenvalues of the centre"]
    for index, name in enumerate(names):
        place = " ".join(f"{value:8.2f}" for value in found.world_from_camera[index, :3, 3])
        values = " ".join(f"{value:.3f}" for value in found.extra["eigenvalues"][index])
        reach = found.extra["reach"][index]
        lines.append(f"{name:<{width}}  {place}  {found.residual[index]:8.3f}  {reach:5.2f}  {values}")
    if (found.extra["reach"] > 1).any():
        lines.append("reach above 1: outside the poses that the flow was trained on")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(prog="python -m localisation.invert", description="Find poses of images.")
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>, with a trained flow")
    parser.add_argument("images", type=Path, nargs="+", help="image files of one eye")
    parser.add_argument("--method", choices=METHODS, default="one_step", help="default one_step")
    usual = ", ".join(f"{name} {count}" for name, count in STEPS.items())
    parser.add_argument("--steps", type=int, help=f"default {usual}")
    parser.add_argument("--side", choices=("left", "right"), default="left", help="the eye; default left")
    parser.add_argument("--flow", type=Path, help="default <run>/localisation/flow")
    parser.add_argument("--out", type=Path, help="npz of poses; default <run>/localisation/inverted.npz")
    words = parser.parse_args(arguments)
    return answer(
        lambda: invert_images(
            words.run, words.images, words.method, words.steps, words.side, words.flow, words.out
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
