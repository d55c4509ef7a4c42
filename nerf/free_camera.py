"""Render a camera that stands where no image was taken."""

from __future__ import annotations

import torch

from nerf.guidance import TrainingDepth
from nerf.images import RenderedImage, render_image
from nerf.model import SceneModel
from nerf.rays import Cameras
from utils.types import Camera, FloatArray


def render_free(
    model: SceneModel,
    guides: tuple[TrainingDepth, TrainingDepth],
    camera: Camera,
    world_from_camera: FloatArray,
    world_from_left: FloatArray,
    position: float | None,
    chunk: int,
) -> RenderedImage:
    """Render one view; samples are guided by depth that is projected from the training views.

    Args:
        guides: depth to look around, and the same before any refinement.
        world_from_camera: (4, 4) mm.
        world_from_left: (4, 4) mm, the left eye that carries the lamp meanwhile.
        position: place in the sequence whose exposure is meant, in frames; None: the mean exposure.
        chunk: rays at a time.
    """
    cameras = free_cameras(camera, world_from_camera, world_from_left)
    gain = model.exposure.gain_at(position) if model.use_exposure and position is not None else 1.0
    guide_mm, unrefined_mm = (guide.projected_to(camera, world_from_camera) for guide in guides)
    return render_image(model, cameras, 0, guide_mm, unrefined_mm, gain, chunk)


def free_cameras(camera: Camera, world_from_camera: FloatArray, world_from_left: FloatArray) -> Cameras:
    """Return the one camera that `render_free` describes."""
    return Cameras(
        torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]], dtype=torch.float32),
        torch.tensor(world_from_camera[None, :3], dtype=torch.float32),
        torch.tensor(world_from_left[None, :3], dtype=torch.float32),
        torch.tensor([-1]),
    )
