"""The trained field of a finished run, ready to be rendered from anywhere: the door for what comes after a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nerf.free_camera import render_free
from nerf.guidance import TrainingDepth
from nerf.images import RenderedImage
from nerf.model import SceneModel
from nerf.trained import load_model, training_depth
from nerf.views import View
from utils.artifacts import load_maps
from utils.devices import choose_device
from utils.errors import InputError
from utils.finished_run import require_stages
from utils.scene import Scene, load_poses
from utils.types import Camera, FloatArray, Poses
from utils.visibility import DepthView, coverage

OPAQUE = 0.5
STAGES = ("scene", "poses", "prior", "nerf", "render")
CHUNK = 16384


@dataclass(frozen=True, eq=False)
class FinishedField:
    """A trained field and what guides its views: `guides` refined and unrefined, `seen` by the training views."""

    dataset: Scene
    placed: Poses
    model: SceneModel
    guides: tuple[TrainingDepth, TrainingDepth]
    seen: list[DepthView]
    chunk: int = CHUNK

    @staticmethod
    def load(run: Path, device: str = "auto", chunk: int = CHUNK) -> FinishedField:
        """Read a run up to its stage `render`.

        Args:
            run: `logs/<expname>`.
            device: auto, cpu or cuda.
            chunk: rays rendered at a time.

        Raises:
            InputError: a run that is not finished, or weights that this version does not have.
        """
        require_stages(run, *STAGES)
        dataset, placed = Scene.load(run / "scene"), load_poses(run / "poses", run / "nerf")
        try:
            model, _ = load_model(run / "nerf", choose_device(device))
        except (RuntimeError, TypeError, KeyError) as error:  # weights or options that this version does not have
            raise InputError(
                f"the field of {run} cannot be read",
                found=" ".join(str(error).split())[:160],
                expected="a field trained by this version of Specula",
                do="train it again: python run.py with its configuration",
            ) from error
        refined, unrefined = (
            training_depth(run / "nerf", run / "prior", refined=which) for which in (True, False)
        )
        seen = []
        for side, name in refined:
            maps = load_maps(run / "render", side, name)
            tissue, _ = dataset.masks(side, name)
            depth = np.where(tissue & (maps["opacity"] >= OPAQUE), maps["depth_mm"], np.nan)
            seen.append(DepthView(dataset.rig.camera(side), placed.world_from(side, name), depth))
        guides = (TrainingDepth(dataset, placed, refined), TrainingDepth(dataset, placed, unrefined))
        return FinishedField(dataset, placed, model, guides, seen, chunk)

    @property
    def views(self) -> list[View]:
        """The training views, (side, frame), in the order of `seen`."""
        return list(self.guides[0].depth_mm)

    def coarser(self, factor: int) -> FinishedField:
        """Return the same field with maps of 1/factor of the rows and columns around it, for small views.

        What guides the samples and tells coverage is then projected faster; the field itself is as it was.
        """
        rig, first = self.dataset.rig, factor // 2

        def small(camera: Camera) -> Camera:
            """Return the camera of every `factor`-th pixel."""
            width, height = (-(-(size - first) // factor) for size in (camera.width, camera.height))
            cx, cy = (camera.cx - first) / factor, (camera.cy - first) / factor
            return Camera(camera.fx / factor, camera.fy / factor, cx, cy, width, height)

        def thin(depth_mm: FloatArray) -> FloatArray:
            return np.ascontiguousarray(depth_mm[first::factor, first::factor])

        small_rig = replace(rig, left=small(rig.left), right=small(rig.right) if rig.right else None)
        dataset = replace(self.dataset, rig=small_rig)
        refined, unrefined = (
            TrainingDepth(dataset, self.placed, {view: thin(depth) for view, depth in guide.depth_mm.items()})
            for guide in self.guides
        )
        seen = [DepthView(small(view.camera), view.world_from_camera, thin(view.depth_mm)) for view in self.seen]
        return replace(self, guides=(refined, unrefined), seen=seen)

    def render(
        self,
        camera: Camera,
        world_from_camera: FloatArray,
        *,
        world_from_left: FloatArray | None = None,
        position: float | None = None,
    ) -> RenderedImage:
        """Render one view; samples are guided by depth that is projected from the training views.

        Args:
            camera: of the picture; any size.
            world_from_camera: (4, 4) mm.
            world_from_left: (4, 4) mm, the left eye, which carries the lamp; None: this camera carries it itself.
            position: place in the sequence whose exposure is meant, in frames; None: the mean exposure.
        """
        lamp = world_from_camera if world_from_left is None else world_from_left
        return render_free(self.model, self.guides, camera, world_from_camera, lamp, position, self.chunk)

    def coverage(
        self, camera: Camera, world_from_camera: FloatArray, image: RenderedImage
    ) -> tuple[FloatArray, NDArray[np.uint16]]:
        """Return depth (h, w) mm, NaN where nothing opaque is, and how many training views have seen it there."""
        depth = np.where(image.opacity >= OPAQUE, image.depth_mm, np.nan).astype(np.float32)
        return depth, coverage(DepthView(camera, world_from_camera, depth), self.seen)
