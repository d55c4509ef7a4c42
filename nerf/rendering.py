"""The stage `render`: colour, depth, spread and opacity of every frame for both eyes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nerf.guidance import TrainingDepth
from nerf.images import RenderedImage, render_image
from nerf.level_set import MESH_METHOD, write_level_set
from nerf.middle import render_middle
from nerf.trained import load_model, training_depth
from nerf.videos import write_video
from nerf.views import View, cameras_of
from utils.artifacts import save_maps
from utils.devices import choose_device
from utils.errors import InputError, NotApplicable
from utils.images import colour_depth, write_rgb
from utils.options import option
from utils.scene import Scene, load_poses
from utils.stages import Stage, skipped
from utils.types import BoolArray, Side

log = logging.getLogger("specula")


@dataclass(frozen=True)
class RenderOptions:
    """How views are rendered."""

    chunk: int = option(16384, "rays rendered at a time", affects_result=False)
    device: str = option("auto", "auto, cpu or cuda")
    render_middle: bool = option(
        False, "render the virtual camera half-way between the eyes too, for --ns_path (training frames)"
    )
    mesh_method: str = option("tsdf", MESH_METHOD, choices=("tsdf", "density"))
    video_fps: int = option(12, "frames a second of the videos", affects_result=False)


def check(options: RenderOptions) -> None:
    """Raise InputError for options that nothing can be rendered with."""
    choose_device(options.device)
    if options.chunk < 1 or options.video_fps < 1:
        raise InputError(
            "nothing can be rendered with these numbers",
            found=f"chunk {options.chunk}, video_fps {options.video_fps}",
            expected="1 or more each",
            do="correct the configuration",
        )


@dataclass(frozen=True)
class Surround:
    """What no training frame's mask calls tissue: the black border of an endoscope, at the same pixels always."""

    never_tissue: BoolArray
    colour: NDArray[np.uint8]


def run(options: RenderOptions, *, out: Path, scene: Path, poses: Path, prior: Path, nerf: Path) -> str:
    """Render every frame that has a pose, each calibrated eye; write maps, pictures and a video an eye."""
    if skipped(nerf):
        raise NotApplicable(f"no field to render ({skipped(nerf)})")
    dataset, placed = Scene.load(scene), load_poses(poses, nerf)
    model, _ = load_model(nerf, choose_device(options.device))
    trained = TrainingDepth(dataset, placed, training_depth(nerf, prior))
    unrefined = TrainingDepth(dataset, placed, training_depth(nerf, prior, refined=False))
    names = [name for name in dataset.names if placed.placed(name)]
    sides = dataset.rig.sides if placed.world_from_right is not None else dataset.rig.sides[:1]
    views: list[View] = [(side, name) for side in sides for name in names]
    cameras = cameras_of(dataset, placed, views, [])
    surrounds = surrounds_of(dataset, {side for side, _ in trained.depth_mm})
    opacity = []
    for index, (side, name) in enumerate(tqdm(views, desc="render", unit="view")):
        guide = trained.guide((side, name))
        gain = model.exposure.gain_at(float(dataset.names.index(name))) if model.use_exposure else 1.0
        shape = unrefined.guide((side, name))
        image = render_image(model, cameras, index, guide, shape, gain, options.chunk)
        rgb = blacken(image.rgb, surrounds.get(side))
        save_maps(
            out,
            side,
            name,
            rgb=rgb,
            depth_mm=image.depth_mm,
            depth_median_mm=image.depth_median_mm,
            depth_std_mm=image.depth_std_mm,
            opacity=image.opacity,
        )
        write_rgb(out / "pictures" / f"{side}_{name}.png", _picture(rgb, image, surrounds.get(side)))
        opacity.append(float((image.opacity >= 0.5).mean()))
    if options.render_middle:
        if len(sides) == 2:
            render_middle(model, dataset, placed, (trained, unrefined), options.chunk, out)
        else:
            log.warning("render: --render_middle is left out: one eye, or poses without mm, has no middle")
    if options.mesh_method == "density":
        write_level_set(model, out)
    for side in sides:
        pictures = [out / "pictures" / f"{side}_{name}.png" for name in names]
        write_video(out / f"{side}.mp4", pictures, options.video_fps)
    torch.cuda.empty_cache()
    return f"{len(views)} views, {100 * float(np.mean(opacity)):.1f} % of the pixels opaque"


def surrounds_of(dataset: Scene, trained: Collection[Side]) -> dict[Side, Surround | None]:
    """Return the surround of every eye; an eye whose images train nothing gets the colours of the other's."""
    found = {side: surround(dataset, side) for side in dataset.sides}
    known = next((one for side, one in found.items() if side in trained and one), None)
    return {
        side: one
        if one is None or side in trained
        else Surround(one.never_tissue, _borrowed(one.never_tissue, known))
        for side, one in found.items()
    }


def _borrowed(never_tissue: BoolArray, other: Surround | None) -> NDArray[np.uint8]:
    """Return colours (h, w, 3) of a border that no training image shows: the other eye's, its usual one, black."""
    colour = np.zeros((*never_tissue.shape, 3), np.uint8)
    if other is not None:
        colour[:] = np.median(other.colour[other.never_tissue], axis=0)
        if other.never_tissue.shape == never_tissue.shape:
            colour[other.never_tissue] = other.colour[other.never_tissue]
    return colour


def surround(dataset: Scene, side: Side) -> Surround | None:
    """Return where no training image of an eye has tissue, with their mean colour there; None if nowhere."""
    never, total = None, None
    for name in dataset.train:
        tissue, _ = dataset.masks(side, name)
        never = ~tissue if never is None else never & ~tissue
        image = dataset.image(side, name).astype(np.float32)
        total = image if total is None else total + image
    if never is None or total is None or not never.any():
        return None
    return Surround(never, np.rint(total / len(dataset.train)).astype(np.uint8))


def blacken(rgb: NDArray[np.uint8], border: Surround | None) -> NDArray[np.uint8]:
    """Put the border's colour where no training image ever had tissue: the field is not trained there."""
    if border is None or border.never_tissue.shape != rgb.shape[:2]:
        return rgb
    return np.where(border.never_tissue[..., None], border.colour, rgb)


def _picture(rgb: NDArray[np.uint8], image: RenderedImage, border: Surround | None) -> NDArray[np.uint8]:
    shown = image.opacity >= 0.5
    if border is not None and border.never_tissue.shape == shown.shape:
        shown &= ~border.never_tissue
    depth = np.where(shown, image.depth_mm, np.nan)
    return np.hstack([rgb, colour_depth(depth)])


STAGE = Stage("render", run, RenderOptions, ("scene", "poses", "prior", "nerf"), version=3, check=check)
