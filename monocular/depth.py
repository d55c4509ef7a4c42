"""Stage `monocular`: relative inverse depth of every image, as a network sees it in that image alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from monocular.depth_files import check_files, list_files, prepare_files
from monocular.depth_source import Map, MonocularOptions, Predict, Source, Task
from monocular.field_depth import field_files
from monocular.pretrained import pretrained
from monocular.small_training import check_small, prepare_small
from utils.devices import choose_device
from utils.errors import NotApplicable
from utils.images import colour_depth, write_rgb
from utils.relative_maps import save_relative
from utils.scene import Scene, load_poses
from utils.stages import Stage
from utils.types import Side
from utils.views import View, Views

SOURCES: dict[str, Source] = {
    "small": Source(
        prepare_small,
        ("monocular_iters", "monocular_lrate", "ns_path", "ns_loss_weight", "seed", "device"),
        check_small,
        field_files,
    ),
    "depth_anything": pretrained("depth_anything"),
    "dpt": pretrained("dpt"),
    "files": Source(prepare_files, ("monocular_path",), check_files, list_files),
}


def chosen_source(options: MonocularOptions, scene: Scene) -> str:
    """Return the name of the source. Raises NotApplicable where none is asked for."""
    if options.monocular == "none":
        raise NotApplicable("no depth from single images was asked for (--monocular none)")
    if options.monocular != "auto":
        return options.monocular
    if "right" in scene.sides and not options.ns_path:
        raise NotApplicable("two eyes measure depth better than one (--monocular auto)")
    return "small"


def check(options: MonocularOptions) -> None:
    """Refuse options without sense, missing files and a missing device before any stage runs."""
    SOURCES["small"].check(options)
    if options.monocular != "none":
        choose_device(options.device)
    if options.monocular in SOURCES:
        SOURCES[options.monocular].check(options)


def files(options: MonocularOptions) -> list[Path]:
    """Return the files outside `logs/` that the chosen source reads."""
    name = "small" if options.monocular == "auto" else options.monocular
    return SOURCES[name].files(options) if name in SOURCES else []


def counted(options: MonocularOptions) -> set[str]:
    """Return the names of the flags that the chosen source depends on; for `auto` those of `small`, run or not."""
    source = SOURCES.get("small" if options.monocular == "auto" else options.monocular)
    return {"monocular", *(source.options if source else ())}


def run(options: MonocularOptions, *, out: Path, scene: Path, matches: Path, poses: Path) -> str:
    """Write the relative inverse depth of every image, of test images too: each from that image alone.

    Raises:
        NotApplicable: no source is asked for, or there is nothing to train it with.
        InputError: files or weights that do not fit.
    """
    loaded = Scene.load(scene)
    name = chosen_source(options, loaded)
    views = Views(loaded, load_poses(poses) if (poses / "poses.npz").exists() else None)
    predict = SOURCES[name].prepare(Task(options, views, matches, poses, out))
    shares = [
        _write_frame(views, frame, predict, out)
        for frame in tqdm(loaded.names, desc=f"monocular, {name}", unit="frame", disable=None)
    ]
    return f"{len(loaded.names)} frames by {name}, {100 * np.mean(shares):.1f} % of the tissue known"


def _write_frame(views: Views, frame: str, predict: Predict, out: Path) -> float:
    """Write the maps and the picture of one frame; return the share of the left eye's tissue that is known."""
    maps: dict[Side, Map] = {}
    for side in views.scene.sides:
        tissue, _ = views.scene.masks(side, frame)
        maps[side] = np.where(tissue, predict(View(side, frame)), np.nan).astype(np.float32)
    save_relative(out, frame, maps)
    image, tissue = views.scene.image("left", frame), views.scene.masks("left", frame)[0]
    with np.errstate(divide="ignore"):
        picture = colour_depth(np.where(maps["left"] > 0, 1.0 / maps["left"], np.nan))
    write_rgb(out / f"{frame}.png", np.ascontiguousarray(np.concatenate([image, picture], axis=1)))
    return float(np.isfinite(maps["left"])[tissue].mean()) if tissue.any() else 1.0


STAGE = Stage(
    "monocular",
    run,
    MonocularOptions,
    reads=("scene", "matches", "poses"),
    version=3,
    files=files,
    check=check,
    counted=counted,
    resumable=True,
)
