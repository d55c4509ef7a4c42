"""Show views beyond what was seen, side by side: render, sample, after SDS, nearest real view, difference.

    python -m novel_view.views logs/phantom --poses FILE|beyond [--sds STEPS] [--prior warp|FOLDER] [--out DIR]

Seen tissue comes from the field, the rest from a prior; every pixel keeps its provenance, and what is generated
has no depth. Nothing of the run is changed: distilled colours go into the new folder.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nerf.distillation import Distillation
from nerf.finished_field import FinishedField
from novel_view.completion import GENERATED, KEEPS, NOTHING, RENDERED, Sampling, complete, known_depth
from novel_view.field_sds import Distilling, distil
from novel_view.imagination import WARP, Imagination, imagination
from novel_view.page import Picture, Shown, compose, difference, overlay
from novel_view.sds import WEIGHTS, Pull
from novel_view.targets import CONDITIONS, Condition, Target, conditions_of, fitted, look
from novel_view.wanted import BEYOND, wanted_poses
from utils.artifacts import replace_folder, write_json, write_npz
from utils.commands import answer
from utils.errors import InputError
from utils.images import write_rgb
from utils.pose_lists import FORMATS, read_named_poses
from utils.stages import STAMP, read_stamp
from utils.visibility import SAME_SURFACE

RECORD, PAGE, COLOURS = "novel_views.json", "index.html", "colours"


@dataclass(frozen=True)
class Request:
    """What is asked for; `sds` None: no distillation, `out` None: `<run>/novel_view/<poses>`."""

    poses: str
    prior: str
    sampling: Sampling
    sds: Distilling | None = None
    conditions: int = CONDITIONS
    guidance: float = 3.0
    out: Path | None = None
    device: str = "auto"


@dataclass(frozen=True, eq=False)
class Work:
    """What every view is made with, the folder it goes to, and the record that grows with it."""

    field: FinishedField
    door: Distillation | None
    imagined: Imagination
    request: Request
    folder: Path
    record: dict[str, Any]


def show_views(run: Path, request: Request) -> str:
    """Write page, pictures, maps and record of the wanted views; return what a reader would ask for.

    Raises:
        InputError: a run without a finished field, poses that see nothing of it, a prior that cannot be had, a
            folder that is in use.
    """
    out = request.out or run / "novel_view" / Path(request.poses).stem
    _check(request, out)
    door = Distillation.load(run, request.device) if request.sds else None
    field = door.field if door else FinishedField.load(run, request.device)
    imagined = imagination(request.prior, field, request.guidance, request.device)
    names, poses = wanted_poses(request.poses, field)
    left = field.dataset.rig.camera("left")
    camera, _ = fitted(left, *imagined.size(left))
    bar = tqdm(names, desc="render", unit="view", disable=None)
    targets = [look(field, name, camera, pose) for name, pose in zip(bar, poses, strict=True)]
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        work = Work(field, door, imagined, request, partial, _about(run, field, imagined, request))
        if door and request.sds:
            before, after = distil(door, poses, left, imagined, request.sds)
            work.record["sds"] = asdict(request.sds) | {"real_pixels_before": before, "real_pixels_after": after}
            door.save(partial / COLOURS, work.record)
        numbers = tqdm(range(1, len(targets) + 1), desc="sample", unit="view", disable=None)
        shown = [_view(number, target, work) for number, target in zip(numbers, targets, strict=True)]
        write_json(partial / RECORD, work.record)
        (partial / PAGE).write_text(compose(work.record, shown), encoding="utf-8")
        replace_folder(partial, out, out.with_name(out.name + ".old.partial"))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return _summary(work.record, out)


def _check(request: Request, out: Path) -> None:
    sampling = request.sampling
    if sampling.steps < 1 or not 0 <= sampling.eta <= 1 or request.conditions < 1 or not request.guidance >= 0:
        raise InputError(
            "nothing can be sampled with these numbers",
            found=f"steps {sampling.steps}, eta {sampling.eta}, conditions {request.conditions}, "
            f"guidance {request.guidance}",
            expected="steps and conditions from 1, eta from 0 to 1, guidance from 0",
            do="correct the flag",
        )
    if request.poses != BEYOND:
        read_named_poses(Path(request.poses))  # before anything is loaded
    if any((folder / STAMP).exists() for folder in (out, *out.absolute().parents)) or (
        out.exists() and not (out / RECORD).is_file()
    ):
        raise InputError(
            f"{out} is not a folder of novel views",
            found="a stage of a run" if not out.exists() or (out / STAMP).exists() else f"no {RECORD} in it",
            expected="a new folder, or one that this command made",
            do="choose another --out",
        )


def _about(run: Path, field: FinishedField, imagined: Imagination, request: Request) -> dict[str, Any]:
    return {
        "run": run.resolve().name,
        "field": read_stamp(run / "nerf")["hash"],
        "poses": request.poses,
        "unit": field.placed.unit,
        "prior": imagined.name,
        **asdict(request.sampling),
        "provenance": {"0": "nothing", "1": "real", "2": "rendered from seen tissue", "3": "generated"},
        "sds": None,
    }


def _view(number: int, target: Target, work: Work) -> Shown:
    """Complete one view, write its maps and pictures, add it to the record; return what the page shows."""
    field, door = work.field, work.door
    chosen = conditions_of(field, target, work.request.conditions)
    done = complete(field, target, chosen, work.imagined, work.request.sampling)
    maps: dict[str, Any] = {
        "rgb": done.rgb,
        "provenance": done.provenance,
        "depth_mm": known_depth(target.surface.depth_mm, done.provenance),
        "coverage": target.coverage,
        "render_rgb": target.rgb,
        "world_from_camera": target.world_from_camera,
        "matrix": target.camera.matrix,
    }
    after = target.rgb
    if door:
        after, maps["sds_provenance"] = _after(door, target)
        maps["sds_rgb"] = after
    nearest, other = "_".join(chosen[0].view), "after SDS" if door else "render"
    # The file's name, the caption, the picture.
    pictures: list[tuple[str, str, Picture]] = [
        ("render", "render", target.rgb),
        ("sample", "sample", done.rgb),
        *([("sds", "after SDS", after)] if door else []),
        ("nearest", f"nearest real view: {nearest}", _real(field, target, chosen[0])),
        ("difference", f"difference of sample and {other}", difference(done.rgb, after)),
        ("provenance", "sample: what is generated", overlay(done.rgb, done.provenance)),
    ]
    write_npz(work.folder / "maps" / f"{number:04d}.npz", **maps)
    for name, _, image in pictures:
        write_rgb(work.folder / "pictures" / f"{number:04d}_{name}.png", image)
    seen, made = float(target.seen.mean()), float((done.provenance == GENERATED).mean())
    conditions = [
        {"view": "_".join(one.view), "sees": round(one.share, 4), "degrees": round(one.degrees, 2)}
        for one in chosen
    ]
    view = {"number": number, "pose": target.name, "seen": round(seen, 4), "generated": round(made, 4)}
    work.record.setdefault("views", []).append(view | {"conditions": conditions})
    words = (
        f"{100 * seen:.0f} % of the pixels show tissue that a training image saw; {100 * made:.0f} % are generated"
    )
    return Shown(target.name, words, {caption: image for _, caption, image in pictures})


def _after(door: Distillation, target: Target) -> tuple[Picture, Picture]:
    """Return the view of the distilled field, its provenance (h, w): seen tissue may hide behind the canvas."""
    rgb, depth = door.picture(door.prepare(target.camera, target.world_from_camera))
    surface = target.surface.depth_mm
    there = np.where(np.isfinite(depth), GENERATED, NOTHING)
    with np.errstate(invalid="ignore"):
        tissue = target.seen & (np.abs(depth - surface) < SAME_SURFACE * surface)
    return rgb, np.where(tissue, RENDERED, there).astype(np.uint8)


def _real(field: FinishedField, target: Target, condition: Condition) -> Picture:
    """Return the input image that sees most of the target, cut to the target's shape."""
    camera = target.camera
    view = field.seen[condition.index]
    _, (rows, columns) = fitted(view.camera, camera.height, camera.width)
    return field.dataset.image(*condition.view)[rows, columns]


def _summary(record: dict[str, Any], out: Path) -> str:
    views = record["views"]
    lines = [f"{len(views)} views in {out}: open {out / PAGE}"]
    lines += [
        f"{view['pose']:<16} seen {100 * view['seen']:5.1f} %, generated {100 * view['generated']:5.1f} %, "
        f"nearest {view['conditions'][0]['view']}"
        for view in views
    ]
    if record["sds"]:
        before, after = record["sds"]["real_pixels_before"], record["sds"]["real_pixels_after"]
        lines.append(
            f"SDS: colour loss on real pixels {before:.5f} before, {after:.5f} after; {COLOURS}/ has the change"
        )
    lines.append("generated pixels have no depth: provenance 3 in the maps")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m novel_view.views", description="Show views of a finished run beyond what was seen."
    )
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    add = parser.add_argument
    add("--poses", default=BEYOND, help=f"beyond (default): six around the path; or {FORMATS}")
    add("--prior", default=WARP, help="warp (default; needs no weights), or a folder of Zero-1-to-3-type weights")
    add("--sds", type=int, metavar="STEPS", help="distil the prior into a copy of the field's colours")
    add("--sds_weight", choices=tuple(WEIGHTS), default="noise", help="of levels of noise; default noise")
    add("--sds_levels", nargs=2, type=float, default=(0.02, 0.98), metavar=("FIRST", "LAST"), help="shares")
    add("--sds_rate", type=float, default=Distilling.rate, help=f"learning rate; default {Distilling.rate}")
    add("--sds_hold", type=float, default=Distilling.hold, help=f"of real pixels; default {Distilling.hold:g}")
    add("--steps", type=int, default=Sampling.steps, help=f"of the sampler; default {Sampling.steps}")
    add("--eta", type=float, default=Sampling.eta, help="0 deterministic to 1 ancestral; default 1")
    add("--keep", choices=KEEPS, default="render", help="what seen pixels show; default render")
    add("--conditions", type=int, default=CONDITIONS, help=f"input views a target; default {CONDITIONS}")
    add("--guidance", type=float, default=3.0, help="of a prior with weights; default 3")
    add("--seed", type=int, default=0, help="default 0")
    add("--out", type=Path, help="default <run>/novel_view/<poses>")
    add("--device", default="auto", help="auto, cpu or cuda")
    given = parser.parse_args(arguments)

    def work() -> str:
        sampling = Sampling(given.steps, given.eta, given.keep, given.seed)
        sds = None
        if given.sds is not None:
            pull = Pull(given.sds_weight, *given.sds_levels)
            sds = Distilling(given.sds, given.sds_rate, given.sds_hold, seed=given.seed, pull=pull)
        request = Request(
            given.poses, given.prior, sampling, sds, given.conditions, given.guidance, given.out, given.device
        )
        return show_views(given.run, request)

    return answer(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
