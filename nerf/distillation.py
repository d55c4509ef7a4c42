"""The door for changing a finished field's colours: differentiable views, real pixels that hold it, a new folder.

The surface stays as it was trained: what an image prior imagines is colour, and never becomes depth. So that
there is something to colour beyond what was seen, rays are followed beyond the field's box too, where its surface
goes on at the height that it has at the border: a canvas, whose depth nobody gets to see.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nerf.checkpoints import RECORD, WEIGHTS
from nerf.fields import SurfaceField
from nerf.finished_field import CHUNK, OPAQUE, FinishedField
from nerf.free_camera import free_cameras
from nerf.images import close_look, colour_of, view_rays
from nerf.losses import colour_loss
from nerf.model import SceneModel
from nerf.options import NerfOptions
from nerf.plane_lookup import CHANNELS, PlaneLayout
from nerf.rays import Box, Rays
from nerf.table import OnePassAdam
from nerf.views import PixelPool, cameras_of
from utils.artifacts import STAMP, damaged, file_hash, read_json, write_json
from utils.errors import InputError
from utils.types import Camera, FloatArray

REACH = 2.0  # half the size of the canvas, in units of that of the field's box
FINEST = 160  # cells of the shift's finest planes along the longest side of the canvas
SHIFT, CHANGE = "colours.safetensors", "colours.json"
BETAS, EPS = (0.9, 0.99), 1e-15  # as the tables were trained


class Canvas(Box):
    """The box of a field whose rays are followed beyond it."""

    def bounds(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Return z-depths (n,) where each ray enters and leaves the box `REACH` times as large."""
        matrix = self.box_from_world.clone()
        matrix[:3] /= REACH
        return Box(matrix, self.size_mm).bounds(rays)


class RecolouredField(nn.Module):
    """A trained surface whose features of colour are shifted by planes of their own; its shape stays."""

    surface = True

    def __init__(self, trained: SurfaceField, box_size_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.trained, self.features = trained, trained.features
        levels = []
        for level in range(math.ceil(trained.features / CHANNELS)):
            x, y, z = (max(round(FINEST * size / max(box_size_mm)) >> level, 4) for size in box_size_mm)
            levels.append((x, y, z))
        self.layout = PlaneLayout(levels)
        self.shift = nn.Parameter(torch.zeros(self.layout.rows, CHANNELS, device=trained.table.device))

    def forward(self, points_box: Tensor, unit_mm: float) -> tuple[Tensor, Tensor]:
        """Return signed distance (n,) mm, as trained, and features (n, features) of points (n, 3) in the box."""
        with torch.no_grad():
            distance, features = self.trained(points_box, unit_mm)
        shift = self.layout.lookup(self.shift, (points_box / REACH).clamp(-1.0, 1.0))
        return distance, features + shift[:, : self.features]

    @property
    def tables(self) -> list[Tensor]:
        """What learns."""
        return [self.shift]


@dataclass(frozen=True, eq=False)
class PreparedView:
    """A view whose samples stand: where its surface is does not change with its colours.

    `z` (h * w, s) mm; `size` is (height, width).
    """

    rays: Rays
    z: Tensor
    bounds: tuple[Tensor, Tensor]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Distillation:
    """A finished field with colours that can be changed.

    `trained` is the field's model with rays followed beyond its box, `model` the same with a `RecolouredField`;
    `pool` holds the real pixels of the training views.
    """

    field: FinishedField
    trained: SceneModel
    model: SceneModel
    pool: PixelPool
    run: Path

    @staticmethod
    def load(run: Path, device: str = "auto", chunk: int = CHUNK) -> Distillation:
        """Read a run up to its stage `render`.

        Raises:
            InputError: a run that is not finished, or a field whose colours cannot be parted from its surface.
        """
        field = FinishedField.load(run, device, chunk)
        views = field.views
        frames = [name for name in field.dataset.train if field.placed.placed(name)]
        cameras = cameras_of(field.dataset, field.placed, views, frames)
        options = NerfOptions(**read_json(run / "nerf" / RECORD)["options"])
        trained, model = recolourable(field.model)
        pool = PixelPool.load(field.dataset, cameras, views, run / "prior", (options.near, options.far))
        return Distillation(field, trained, model, pool.to(model.lamp_left.device), run)

    def prepare(self, camera: Camera, world_from_camera: FloatArray) -> PreparedView:
        """Return a view of any size, the camera carrying the lamp itself, exposed as the mean training frame."""
        guide_mm, unrefined_mm = (guide.projected_to(camera, world_from_camera) for guide in self.field.guides)
        device = self.model.lamp_left.device
        cameras = free_cameras(camera, world_from_camera, world_from_camera)
        pixels = torch.arange(camera.width * camera.height)
        rays_of = view_rays(cameras, 0, unrefined_mm, device)
        guide = torch.from_numpy(guide_mm).float().ravel()
        looks = [
            close_look(self.trained, rays_of(part), guide[part].to(device))
            for part in pixels.split(self.field.chunk)
        ]
        bounds = torch.cat([near for _, (near, _) in looks]), torch.cat([far for _, (_, far) in looks])
        return PreparedView(
            rays_of(pixels), torch.cat([z for z, _ in looks]), bounds, (camera.height, camera.width)
        )

    def render(self, view: PreparedView) -> Tensor:
        """Return the view (1, 3, h, w) in [0, 1], differentiable with respect to the colours."""
        return self._seen(view, slice(None))[:, :3].T.reshape(1, 3, *view.size)

    @torch.no_grad()
    def picture(self, view: PreparedView) -> tuple[NDArray[np.uint8], FloatArray]:
        """Return the view (h, w, 3) without gradients, and the depth (h, w) mm of what it shows.

        The depth, NaN where nothing opaque is, tells tissue from canvas; that of the canvas is no measurement.
        """
        chunk, count = self.field.chunk, len(view.z)
        parts = [self._seen(view, slice(start, start + chunk)).cpu() for start in range(0, count, chunk)]
        seen = torch.cat(parts).numpy().reshape(*view.size, 5)
        depth = np.where(seen[..., 3] >= OPAQUE, seen[..., 4], np.nan).astype(np.float32)
        return np.rint(255.0 * seen[..., :3]).astype(np.uint8), depth

    def _seen(self, view: PreparedView, part: slice) -> Tensor:
        """Return colours in [0, 1], opacity and depth (n, 5) of some rays."""
        near, far = (bound[part] for bound in view.bounds)
        found = self.model.render(view.rays.chosen(part), view.z[part], (near, far), torch.ones_like(near))
        geometry = torch.stack([found.geometry.opacity, found.geometry.depth], dim=1)
        return torch.cat([colour_of(found).clamp(max=1.0), geometry], dim=1)

    def real_pixels_loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the colour loss of `count` real pixels, drawn from the tissue of all training views."""
        tissue = self._tissue
        drawn = torch.randint(len(tissue), (count,), generator=generator, device=generator.device)
        pixels = tissue[drawn.to(tissue.device)]
        rays = self.pool.rays(pixels)
        z, bounds = close_look(self.trained, rays, self.pool.guide(pixels).depth)
        rendered = self.model.render(rays, z, bounds, None)
        weights = torch.ones_like(bounds[0])
        return colour_loss(rendered.rgb, self.pool.rgb[pixels].float() / 255.0, weights)

    @functools.cached_property
    def _tissue(self) -> Tensor:
        return torch.nonzero(self.pool.tissue)[:, 0]

    def optimiser(self, rate: float) -> torch.optim.Optimizer:
        """Return the optimiser of the colours; its gradients are nought after every step."""
        groups: list[dict[str, Any]] = [{"params": self.model.field.tables, "lr": rate}]
        if self.model.lamp_left.device.type == "cpu":
            return OnePassAdam(groups, BETAS, EPS)
        return torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)

    def save(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write the colours' change, and what it was made from and by, into a folder that is not the run's own.

        Raises:
            InputError: the folder is one of the run's stages.
        """
        if folder.resolve() == self.run.resolve() or any(
            (path / STAMP).exists() for path in (folder, *folder.absolute().parents)
        ):
            raise InputError(
                f"{folder} belongs to the run",
                found="the run's own folder, or one of its stages",
                expected="a folder for changed colours: what is imagined never replaces what was trained",
                do="choose another folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"shift": self._shift.detach().cpu().contiguous()}, folder / SHIFT)
        weights = file_hash(self.run / "nerf" / WEIGHTS)
        write_json(folder / CHANGE, {"weights": weights, "changed": "colours, not the surface"} | provenance)

    def restore(self, folder: Path) -> None:
        """Take the colours that `save` wrote.

        Raises:
            InputError: no such folder, a damaged one, or colours that were made from another training.
        """
        if not (folder / CHANGE).is_file():
            raise InputError(
                f"{folder} holds no changed colours",
                found=f"no {CHANGE}",
                expected=f"{CHANGE} and {SHIFT}, as `python -m novel_view.views --sds` writes them",
                do="correct the path",
            )
        if read_json(folder / CHANGE)["weights"] != file_hash(self.run / "nerf" / WEIGHTS):
            raise InputError(
                f"the colours in {folder} were made from another training",
                found="other weights in the run's stage `nerf`",
                expected="the run they were made from",
                do="make them again: python -m novel_view.views with --sds",
            )
        try:
            with torch.no_grad():
                self._shift.copy_(load_file(folder / SHIFT)["shift"])
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise damaged(folder / SHIFT, error) from error

    @property
    def _shift(self) -> Tensor:
        field: nn.Module = self.model.field
        assert isinstance(field, RecolouredField)
        return field.shift


def recolourable(model: SceneModel) -> tuple[SceneModel, SceneModel]:
    """Return copies of a model on a canvas: as trained, and one in which a shift of colour features can learn.

    The shift starts at nought, and nothing else learns.

    Raises:
        InputError: a field without a table, whose colours and surface are one network.
    """
    trained = copy.deepcopy(model).requires_grad_(False)
    if not isinstance(trained.field, SurfaceField):
        raise InputError(
            "the colours of this field cannot be changed alone",
            found="--field mlp: one network makes surface and colour",
            expected="a field trained with --field planes or hash",
            do="train it so, or leave --sds out",
        )
    trained.box = Canvas(model.box.box_from_world, model.box.size_mm)
    changed = copy.copy(trained)
    changed._modules = dict(trained._modules)
    changed.field = RecolouredField(trained.field, model.box.size_mm)  # type: ignore[assignment]
    return trained, changed
