"""Find the input view that sees most of what a camera would see, by co-visibility and not by angle alone.

    python -m export.nearest logs/phantom --pose FILE|FRAME|16 numbers

The score of a view is the share of the target's visible surface that it sees too: the surface's points are
projected into the view and must agree with its own depth within 2 %, so that what something hides there, an
instrument too, does not count; holes in its depth are left out. The surface is what all views' depth shows when it
is projected into the target. A view in the target's very place comes first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.measured_run import MeasuredRun, View
from utils.commands import answer
from utils.covisibility import Overlap, overlap, visible_surface
from utils.errors import InputError
from utils.pose_lists import FORMATS, join_numbers, parse_pose, read_named_poses
from utils.types import FloatArray, Side
from utils.visibility import SAME_SURFACE, DepthView

SIDES: tuple[Side, Side] = ("left", "right")
SHOWN = 10
IN_PLACE, IN_PLACE_DEGREES = 1e-4, 0.01  # of the way to the farthest view: what printed digits lose
MOST_NAMED = 40  # frames in a message
AS_MUCH = 0.01  # views whose score is within this share of the best see as much as it does


def nearest_views(run: Path, pose: str, side: Side = "left") -> dict[str, Any]:
    """Rank the input views of a run for each target pose; the record is what `--json` prints.

    Args:
        run: a run with depth.
        pose: a frame (`7`, its eye is `side`; `left_7`), sixteen numbers, or a file (`utils.pose_lists`). An input
            view is compared with all others.
        side: the eye whose intrinsics the target has.

    Raises:
        InputError: no such run, frame or file, or no target that sees anything of the reconstruction.
    """
    measured = MeasuredRun.load(run)
    names, targets, itself, side = _targets(measured, pose, side)
    camera = measured.scene.rig.camera(side)
    depths = {view: measured.depth_view(view) for view in measured.views}
    others = {view: _with_instruments(measured, view, depths[view]) for view in measured.views if view != itself}
    records = []
    for name, world_from_target in zip(names, targets, strict=True):
        target = visible_surface(camera, world_from_target, list(depths.values()))
        known = float(np.isfinite(target.depth_mm).mean())
        found = [(view, overlap(target, other)) for view, other in others.items()] if known else []
        records.append({"pose": name, "surface": round(known, 4), "views": _ranked(measured, found)})
    if not any(record["views"] for record in records):
        raise InputError(
            "the pose sees nothing of the reconstruction",
            found=f"no point of {len(depths)} views' depth in its image",
            expected="a camera-to-world pose in the run's world and unit, z the viewing direction",
            do="compare it with poses/poses.npz: is it world-to-camera, or has it other axes?",
        )
    return {
        "run": str(run),
        "pose": pose,
        "unit": measured.unit,
        "depth": measured.source,
        "tolerance": SAME_SURFACE,
        "targets": records,
    }


def _with_instruments(measured: MeasuredRun, view: View, seen: DepthView) -> DepthView:
    """Return what a view sees, with depth 0 where something before the tissue hides it."""
    tissue, _ = measured.scene.masks(*view)
    return replace(seen, depth_mm=np.where(tissue, seen.depth_mm, 0.0))


def _ranked(measured: MeasuredRun, found: list[tuple[View, Overlap]]) -> list[dict[str, Any]]:
    """Return what there is to say about each view: one in the very place, those that see as much as the best, the
    nearest first, then the others, the one that sees most first."""
    widest = max((seen.distance_mm for _, seen in found), default=0.0)
    best = max((seen.share for _, seen in found), default=0.0)

    def order(pair: tuple[View, Overlap]) -> tuple[float, ...]:
        seen = pair[1]
        if seen.distance_mm <= IN_PLACE * widest and seen.angle_degrees <= IN_PLACE_DEGREES:
            return (-1.0, seen.distance_mm, seen.angle_degrees)
        if seen.share >= (1 - AS_MUCH) * best:
            return (0.0, seen.distance_mm, seen.angle_degrees)
        return (1.0, -seen.share, seen.angle_degrees, seen.distance_mm)

    best_first = sorted(found, key=order)
    return [
        {
            "view": "_".join(view),
            "split": measured.scene.split(view[1]),
            "image": str(measured.scene.image_path(*view)),
            "score": round(seen.share, 4),
            "angle_degrees": round(seen.angle_degrees, 2),
            "distance_mm": round(seen.distance_mm, 3),
        }
        for view, seen in best_first
    ]


def _targets(measured: MeasuredRun, pose: str, side: Side) -> tuple[list[str], FloatArray, View | None, Side]:
    """Return names and poses (n, 4, 4), the input view that is meant if one is, and the eye."""
    if side == "right" and not measured.scene.rig.stereo:
        raise InputError("there is no right eye", found="--side right", expected="left", do="leave --side out")
    numbers = parse_pose(pose)
    if numbers is not None:
        return ["1"], numbers, None, side
    for eye in SIDES:
        if pose.startswith(f"{eye}_") and (eye, pose.removeprefix(f"{eye}_")) in measured.views:
            view: View = (eye, pose.removeprefix(f"{eye}_"))
            return [pose], measured.world_from(view)[None], view, eye
    if (side, pose) in measured.views:
        return [pose], measured.world_from((side, pose))[None], (side, pose), side
    if not Path(pose).exists():
        names = [name for eye, name in measured.views if eye == side]
        names = names if len(names) <= MOST_NAMED else [*names[: MOST_NAMED // 2], "...", names[-1]]
        raise InputError(
            f"--pose {pose} is neither a frame with depth nor a file",
            found=f"no file {pose}; the frames of the {side} eye are {', '.join(names)}",
            expected=f"a frame ({'_'.join(measured.views[0])} names the eye too), 16 numbers, or {FORMATS}",
            do="correct the frame or the path",
        )
    return *read_named_poses(Path(pose)), None, side


def table(record: dict[str, Any]) -> str:
    """Return the record in words: the best view and a table for one target, a line for each of several."""
    targets = record["targets"]
    if len(targets) == 1:
        best = targets[0]["views"][0]
        lines = [f"{best['view']} sees {100 * best['score']:.1f} % of what the pose sees: {best['image']}", ""]
        lines.append(f"{'view':<16} {'split':<6} {'sees':>7} {'angle':>8} {'distance':>9}")
        lines += [
            f"{view['view']:<16} {view['split']:<6} {100 * view['score']:>5.1f} % {view['angle_degrees']:>6.1f} °"
            f" {view['distance_mm']:>9.2f}"
            for view in targets[0]["views"][:SHOWN]
        ]
        if len(targets[0]["views"]) > SHOWN:
            lines.append(f"and {len(targets[0]['views']) - SHOWN} more; --json lists all")
        lines.append("")
    else:
        lines = [_line(target) for target in targets]
    known = ", ".join(f"{100 * target['surface']:.0f} %" for target in targets[:1])
    about = f"known surface fills {known} of the image; " if len(targets) == 1 else ""
    return "\n".join([*lines, f"{about}depth of `{record['depth']}`, distances in {record['unit']}"])


def _line(target: dict[str, Any]) -> str:
    if not target["views"]:
        return f"pose {target['pose']}: sees nothing of the reconstruction"
    best = target["views"][0]
    return f"pose {target['pose']}: {best['view']} sees {100 * best['score']:.1f} % ({best['image']})"


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m export.nearest", description="Find the input view that sees most of what a pose sees."
    )
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument("--pose", required=True, help=f"a frame (7, left_7), 16 numbers, or a file: {FORMATS}")
    parser.add_argument("--side", choices=SIDES, default="left", help="the eye whose lens it has; default left")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    words = parser.parse_args(join_numbers(arguments, "--pose"))

    def work() -> str:
        record = nearest_views(words.run, words.pose, words.side)
        return json.dumps(record, indent=1) if words.json else table(record)

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
