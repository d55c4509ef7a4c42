"""Render a finished run's field along a path, and say where the views show what no training image saw.

    python -m nerf.trajectory logs/phantom --path between|along|spiral|FILE

A surface point counts as seen by a training view where it lies inside that image's tissue and the depth rendered
there agrees with its own within 2 % (`utils.visibility`): what stands in front of it hides it, and so does an
instrument or the image's border.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nerf.camera_paths import Stop
from nerf.finished_field import OPAQUE, STAGES, FinishedField
from nerf.trajectory_pictures import Maps, write_pictures
from nerf.trajectory_request import FRAMES, PATHS, Request, check, choose_stops
from utils.artifacts import replace_folder, write_json, write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.pose_lists import FORMATS
from utils.scene import Scene, load_poses
from utils.stages import read_stamp
from utils.visibility import SAME_SURFACE

RECORD = "views.json"


def render_trajectory(run: Path, request: Request) -> str:
    """Render a path, write maps, pictures, videos and the record; return what a reader would ask for.

    Raises:
        InputError: a run without a finished field, a path that this run does not have, a folder that is in use.
    """
    require_stages(run, *STAGES)
    dataset, placed = Scene.load(run / "scene"), load_poses(run / "poses", run / "nerf")
    check(request)
    name = request.path if request.path in PATHS else Path(request.path).stem
    out = request.out or run / "trajectories" / name
    _refuse_other_folders(out)
    stops = choose_stops(request, dataset, placed, run)
    field = FinishedField.load(run, request.device, request.chunk)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "maps").mkdir(parents=True)
        record = _render(field, stops, partial, request)
        record = {
            "run": run.resolve().name,
            "field": read_stamp(run / "nerf")["hash"],
            "path": request.path,
        } | record
        write_json(partial / RECORD, record)
        replace_folder(partial, out, out.with_name(out.name + ".old.partial"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return _summary(record, out)


def _render(field: FinishedField, stops: list[Stop], partial: Path, request: Request) -> dict[str, Any]:
    """Write maps, cameras, pictures and videos; return what there is to say about each view."""
    numbers = [f"{index:04d}" for index in range(1, len(stops) + 1)]
    views = []
    for number, stop in zip(tqdm(numbers, desc="render", unit="view", disable=None), stops, strict=True):
        maps = _view(field, stop)
        write_npz(partial / "maps" / f"{number}.npz", **maps)
        opaque = maps["opacity"] >= OPAQUE
        views.append(
            {
                "view": number,
                "extrapolated": _share(maps["extrapolated"]),
                "clear": _share(~opaque),
                "median_coverage": float(np.median(maps["coverage"][opaque])) if opaque.any() else 0.0,
            }
        )
    write_npz(
        partial / "cameras.npz",
        world_from_camera=np.array([stop.world_from_camera for stop in stops]),
        matrix=np.array([stop.camera.matrix for stop in stops]),
    )
    scales = write_pictures(partial, numbers, request.fps)
    return {
        "unit": field.placed.unit,
        "tolerance": SAME_SURFACE,
        "training_views": len(field.seen),
        "scales": asdict(scales),
        "extrapolated": round(float(np.mean([view["extrapolated"] for view in views])), 4),
        "views": views,
    }


def _share(where: Any) -> float:
    return round(float(np.mean(where)), 4)


def _view(field: FinishedField, stop: Stop) -> Maps:
    """Return the maps (h, w) of one stop; `extrapolated`: no training view saw the surface, or there is none."""
    pose, lamp = stop.world_from_camera, stop.world_from_left
    image = field.render(stop.camera, pose, world_from_left=lamp, position=stop.position)
    depth, count = field.coverage(stop.camera, pose, image)
    return {
        "rgb": image.rgb,
        "depth_mm": depth,
        "depth_std_mm": image.depth_std_mm,
        "opacity": image.opacity,
        "coverage": count,
        "extrapolated": count == 0,
    }


def _refuse_other_folders(out: Path) -> None:
    """A trajectory made before is replaced, anything else is not."""
    if out.exists() and not (out / RECORD).is_file():
        raise InputError(
            f"{out} exists and is no trajectory",
            found="a file" if out.is_file() else f"a folder without {RECORD}",
            expected="a new folder, or one that this command made",
            do="choose another --out",
        )


def _summary(record: dict[str, Any], out: Path) -> str:
    views = record["views"]
    worst = max(views, key=lambda view: float(view["extrapolated"]))
    lines = [
        f"{len(views)} views in {out}",
        f"extrapolated (seen by none of {record['training_views']} training views, hatched): "
        f"{100 * record['extrapolated']:.1f} % of the pixels, "
        f"at most {100 * worst['extrapolated']:.1f} % (view {worst['view']})",
    ]
    low, high = record["scales"]["depth_mm"]
    lines.append(
        f"depth {low:.4g} (blue) to {high:.4g} (red), spread 0 to {record['scales']['spread_mm'][1]:.3g} "
        f"({record['unit']})"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m nerf.trajectory", description="Render a finished run along a path."
    )
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument("--path", required=True, help=f"between, along, spiral, or a file: {FORMATS}")
    parser.add_argument("--frame", help="for between: the frame; default the middle one of the training frames")
    parser.add_argument("--frames", type=int, help=f"number of views; default {FRAMES}")
    parser.add_argument("--fps", type=int, default=12, help="frames a second of the videos; default 12")
    parser.add_argument("--out", type=Path, help="default <run>/trajectories/<path>")
    parser.add_argument("--chunk", type=int, default=16384, help="rays rendered at a time; default 16384")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    words = vars(parser.parse_args(arguments))
    run = words.pop("run")
    return answer(lambda: render_trajectory(run, Request(**words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
