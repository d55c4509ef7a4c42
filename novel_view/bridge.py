"""Bring camera poses of another frame to a run's: Sim(3) over the cameras that both know, with residuals.

    python -m novel_view.bridge logs/phantom THEIRS --to ours.npz

THEIRS names cameras in a world of its own: any rotation (z up), any unit, any camera axes. Those that carry the
name of a frame of the run are the bridge; all of them are written in the run's frame. Three cameras and more check
each other; from two the scale goes unchecked, from one nothing is checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from novel_view.bridge_report import Bridge, Camera, record, summary
from novel_view.readings import AXES, DIRECTIONS, IN_WORDS, Reading, mirrored_readings, readings
from novel_view.similarity import Fit, Limits, Similarity, extent, robust_fit
from utils.artifacts import write_json, write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.geometry import nearest_rotation
from utils.pose_lists import FORMATS, read_matrices, require_rigid
from utils.scene import load_poses
from utils.types import FloatArray, Poses, Side

MOST_OFF, MOST_TURNED = 0.05, 2.0  # of our cameras' extent, and degrees: beyond either a camera contradicts
SIDES: tuple[Side, Side] = ("left", "right")
AGREEING = 0.75  # share of the cameras that must not contradict
AS_GOOD = 3.0  # readings whose error is within this factor of the best (and 1 % of the limits) fit as well as it


@dataclass(frozen=True)
class Crossing:
    """What is asked for: how to read the file, what scale a single camera has, when cameras contradict."""

    axes: str = "auto"
    matrices: str = "auto"
    scale: float | None = None
    most_off: float | None = None
    most_turned: float = MOST_TURNED


def bridge(run: Path, theirs: Path, to: Path, asked: Crossing) -> str:
    """Write all poses of a file in the run's frame, and the report `<to>.json`; return the report in words.

    Args:
        run: with poses.
        theirs: see `utils.pose_lists`, in any frame, with the names of some frames of the run.
        to: npz to write, `names` and `world_from_camera` (n, 4, 4), OpenCV axes, the run's unit and world.

    Raises:
        InputError: no camera in common, a mirrored world, readings that fit as well as each other, or cameras that
            contradict each other.
    """
    _check(asked, to)
    require_stages(run, "scene", "poses")
    placed = load_poses(run / "poses", run / "nerf")
    names, matrices = read_matrices(theirs)
    # A run writes NaN where a frame could not be placed.
    there = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)))
    names, matrices = [names[index] for index in there], matrices[there]
    matrices, negative = _rotations(matrices, str(theirs))
    indices, labels, known = _matched(names, placed)
    if not indices:
        shown = ", ".join(names[:5])
        raise InputError(
            f"{theirs} and {run} have no camera in common",
            found=f"{len(names)} names: {shown}{', ...' if len(names) > 5 else ''}",
            expected=f"names of frames of the run: {', '.join(placed.names[:5])}, ... (right_... for right eyes)",
            do="give the npz an array `names` with the frames' names",
        )
    built = _built(matrices[indices], known, labels, negative, asked)
    moved = built.similarity.apply(built.reading.apply(matrices))
    write_npz(to, names=np.array(names, dtype=np.str_), world_from_camera=moved, ours_from_theirs=built.matrix)
    write_json(to.with_suffix(".json"), record(built, run, theirs, placed.unit, len(names)))
    return summary(built, placed.unit, len(names), to)


def _check(asked: Crossing, to: Path) -> None:
    numbers = [asked.scale, asked.most_off, asked.most_turned]
    if to.suffix != ".npz" or any(number is not None and not 0 < number < np.inf for number in numbers):
        raise InputError(
            "the bridge cannot be built as asked",
            found=f"--to {to}, scale, most_off, most_turned {numbers}",
            expected="a file .npz; positive numbers",
            do="correct the flag",
        )


def _rotations(matrices: FloatArray, what: str) -> tuple[FloatArray, bool]:
    """Return poses with exact rotations, whether they are mirrored. Raises InputError where neither."""
    with np.errstate(invalid="ignore"):
        negative = bool((np.linalg.det(matrices[:, :3, :3]) < 0).all())
    if not negative:
        return require_rigid(matrices, what), False
    flipped = matrices.copy()
    flipped[:, :3, 0] *= -1
    exact = require_rigid(flipped, what)
    exact[:, :3, 0] *= -1
    return exact, True


def _matched(names: Sequence[str], placed: Poses) -> tuple[list[int], list[str], FloatArray]:
    """Return which of the names are cameras of the run, what they are called there, and their poses (m, 4, 4)."""
    indices: list[int] = []
    labels: list[str] = []
    poses: list[FloatArray] = []
    for index, name in enumerate(names):
        found = _eye_and_frame(name, placed)
        if found is None:
            continue
        label = "_".join(found)
        if label in labels:
            raise InputError(
                f"two cameras of the file are {label} of the run",
                found=f"{names[indices[labels.index(label)]]} and {name}",
                expected="each camera once",
                do="take one of them out, or rename it",
            )
        indices.append(index)
        labels.append(label)
        poses.append(placed.world_from(*found))
    return indices, labels, np.array(poses)


def _eye_and_frame(name: str, placed: Poses) -> tuple[Side, str] | None:
    """Return the eye and the frame that a name means: `7`, `7.jpg`, `left_7`, `images/right/7.png`."""
    path = Path(name)
    side: Side = "right" if {"r", "right"} & set(path.parts[:-1]) else "left"
    for stem in (path.name, path.stem):
        marked: list[tuple[Side, str]] = [
            (side, stem),
            *((eye, stem.removeprefix(f"{eye}_")) for eye in SIDES if stem.startswith(f"{eye}_")),
        ]
        for eye, frame in marked:
            there = eye == "left" or placed.world_from_right is not None
            if there and frame in placed.names and placed.placed(frame):
                return eye, frame
    return None


def _built(matrices: FloatArray, known: FloatArray, labels: list[str], negative: bool, asked: Crossing) -> Bridge:
    if len(known) == 1:
        return _single(matrices, known, labels, negative, asked)
    size = extent(known[:, :3, 3])
    if size <= 0 or extent(matrices[:, :3, 3]) <= 0:
        raise InputError(
            "the scale cannot be told",
            found=f"{len(known)} cameras in one place: {', '.join(labels)}",
            expected="cameras in two places at least",
            do="name more frames of the run in the file",
        )
    limits = Limits(asked.most_off or MOST_OFF * size, asked.most_turned)
    tried = readings(asked.axes, asked.matrices)
    fits = [] if negative else _fits(tried, matrices, known, limits)
    if not fits or not _agree(fits[0][1]):
        raise _refusal(fits, matrices, known, labels, negative, asked, limits)
    (reading, best), others = fits[0], fits[1:]
    same = [other.name for other, fit in others if fit.median <= AS_GOOD * best.median + 0.01]
    if same:
        raise InputError(
            "the poses do not say which axes their cameras have",
            found=f"{reading.name} fits, and so does {', '.join(same)} (centres on a line, one direction)",
            expected="one reading that fits better than the others",
            do="say --axes and --matrices, or name more frames of the run in the file",
        )
    cameras = [
        Camera(label, float(fit_mm), float(degrees), float(error), bool(used))
        for label, fit_mm, degrees, error, used in zip(
            labels, best.centres, best.degrees, best.errors, best.used, strict=True
        )
    ]
    scores = [(other.name, fit) for other, fit in fits]
    centres = known[best.used, :3, 3]
    reach = float(np.linalg.norm(centres - centres.mean(0)))
    return Bridge(reading, best.similarity, cameras, scores, limits, reach)


def _fits(
    tried: Sequence[Reading], matrices: FloatArray, known: FloatArray, limits: Limits
) -> list[tuple[Reading, Fit]]:
    """Return the readings that have a similarity, the one with the least median error first."""
    found = [(reading, robust_fit(reading.apply(matrices), known, limits)) for reading in tried]
    fits = [(reading, fit) for reading, fit in found if fit is not None]
    return sorted(fits, key=lambda pair: pair[1].median)


def _agree(fit: Fit) -> bool:
    """Whether enough cameras agree: all of two or three, three quarters of more."""
    agreeing = int((fit.errors <= 1.0).sum())
    return agreeing >= max(min(3, len(fit.errors)), AGREEING * len(fit.errors))


def _refusal(
    fits: list[tuple[Reading, Fit]],
    matrices: FloatArray,
    known: FloatArray,
    labels: list[str],
    negative: bool,
    asked: Crossing,
    limits: Limits,
) -> InputError:
    """Return why no similarity is good enough: a mirrored world, or cameras that contradict each other."""
    ways = DIRECTIONS if asked.matrices == "auto" else (asked.matrices,)
    mirrored = _fits(mirrored_readings(ways, negative), matrices, known, limits)
    fits_mirrored = bool(mirrored) and _agree(mirrored[0][1])
    if negative or fits_mirrored:
        signs = "determinant -1 of every rotation" if negative else "rotations that only a reflection explains"
        fitting = "with z negated the cameras fit" if fits_mirrored else "negating an axis does not make them fit"
        return InputError(
            "the other world is mirrored",
            found=f"{signs}; {fitting}",
            expected="a right-handed world and rotations with determinant +1",
            do="negate one axis of the world in that program's export (left-handed: Unity, Unreal, some viewers)",
        )
    allowed = f"{limits.centre:.4g} and {limits.degrees:.3g} degrees"
    if not fits:
        found = "no two cameras from which a scale follows"
    else:
        reading, fit = fits[0]
        worst = [labels[k] for k in np.argsort(-fit.errors)[:3]]
        found = (
            f"{int((fit.errors <= 1).sum())} of {len(labels)} within {allowed} as {reading.name} "
            f"(rms {np.sqrt((fit.centres**2).mean()):.3g}, {np.sqrt((fit.degrees**2).mean()):.3g} degrees; "
            f"worst {', '.join(worst)})"
        )
    return InputError(
        "the cameras contradict each other",
        found=found,
        expected=f"three cameras and three quarters of all of them within {allowed} (all, of two or three)",
        do="check that names mean the same images in both; more tolerance: --most_off, --most_turned",
    )


def _single(matrices: FloatArray, known: FloatArray, labels: list[str], negative: bool, asked: Crossing) -> Bridge:
    """Return the bridge over one camera: its pose, with axes and scale as said or as ours are."""
    if negative:
        raise _refusal([], matrices, known, labels, negative, asked, Limits(1.0, 1.0))
    axes = "opencv" if asked.axes == "auto" else asked.axes
    reading = readings(axes, DIRECTIONS[0] if asked.matrices == "auto" else asked.matrices)[0]
    pose, scale = reading.apply(matrices)[0], asked.scale or 1.0
    rotation = nearest_rotation(known[0, :3, :3] @ pose[:3, :3].T)
    similarity = Similarity(scale, rotation, known[0, :3, 3] - scale * rotation @ pose[:3, 3])
    return Bridge(reading, similarity, [Camera(labels[0], 0.0, 0.0, 0.0, True)], [], None, 0.0)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m novel_view.bridge",
        description="Bring camera poses of another frame to a run's, over the cameras that both know.",
        epilog=f"Axes of a camera: {IN_WORDS}.",
    )
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument("theirs", metavar="THEIRS", type=Path, help=f"{FORMATS}; names of some frames of the run")
    parser.add_argument("--to", type=Path, required=True, help="npz to write, and the report as .json")
    parser.add_argument("--axes", choices=("auto", *AXES), default="auto", help="of their cameras; default: found")
    parser.add_argument("--matrices", choices=("auto", *DIRECTIONS), default="auto", help="default: found")
    parser.add_argument("--scale", type=float, help="our unit for 1 of theirs, from one camera alone; default 1")
    parser.add_argument("--most_off", type=float, help="where a centre contradicts; default 5 %% of the extent")
    parser.add_argument("--most_turned", type=float, default=MOST_TURNED, help="the same, degrees; default 2")
    words = vars(parser.parse_args(arguments))
    run, theirs, to = (words.pop(name) for name in ("run", "theirs", "to"))
    return answer(lambda: bridge(run, theirs, to, Crossing(**words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
