"""What imagines the unseen part of a view: a prior without weights from carried images, or a model's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from nerf.finished_field import FinishedField
from novel_view.carrying import Carried, carry, gone_on
from novel_view.denoising import Conditions
from novel_view.gaussian_prior import GaussianPrior
from novel_view.targets import Condition, Target, fitted
from novel_view.view_prior import ViewPrior
from novel_view.wanted import working_distance
from novel_view.weights import fusion_weights, weights_by_pixel
from utils.geometry import invert_rigid
from utils.types import Camera, FloatArray

WARP = "warp"
SURE = 0.02  # least spread of carried pixels, of the range -1 to 1: noise and rounding of an image


class Imagination(Protocol):
    """Makes a prior, and the conditions that it is asked with, for one target."""

    @property
    def name(self) -> str:
        """What it is called in records."""
        ...

    def size(self, camera: Camera) -> tuple[int, int]:
        """Return the (height, width) that targets have."""
        ...

    def about(self, field: FinishedField, target: Target, chosen: list[Condition]) -> tuple[ViewPrior, Conditions]:
        """Return the prior of a target of that size, and its conditions."""
        ...


@dataclass(frozen=True)
class Warp:
    """The prior without weights: real images carried into the target, a smooth guess where none reaches.

    It invents nothing: no vessel, no fold that no image shows.
    """

    name: str = WARP

    def size(self, camera: Camera) -> tuple[int, int]:
        """Return the camera's own size."""
        return camera.height, camera.width

    def about(self, field: FinishedField, target: Target, chosen: list[Condition]) -> tuple[ViewPrior, Conditions]:
        """Return a normal prior.

        Where a view sees the surface its mean is the view's image carried there, with the spread of the difference
        to the render; elsewhere its smooth continuation, with the spread of the tissue's colours.
        """
        carried = [carry(field, target, condition) for condition in chosen]
        means, spreads = zip(*(_mean_and_spread(one, target) for one in carried), strict=True)
        seen = np.stack([one.seen for one in carried])
        weights = weights_by_pixel(_weights(chosen), seen)[:, None].astype(np.float32)
        device = field.model.lamp_left.device
        prior = GaussianPrior(_images(means).to(device), _images(spreads).to(device))
        return prior, _conditions(field, target, chosen, torch.from_numpy(weights), self.size(target.camera))


@dataclass(frozen=True, eq=False)
class Model:
    """A view prior with weights, of any kind; every target has the size that it was trained at."""

    name: str
    prior: ViewPrior

    def size(self, camera: Camera) -> tuple[int, int]:  # noqa: ARG002  a model has one size
        """Return the model's size."""
        return self.prior.image_size

    def about(self, field: FinishedField, target: Target, chosen: list[Condition]) -> tuple[ViewPrior, Conditions]:
        """Return the model, and the condition images cropped and resized as it wants them."""
        weights = torch.from_numpy(_weights(chosen).astype(np.float32))
        return self.prior, _conditions(field, target, chosen, weights, self.prior.image_size)


def imagination(prior: str, field: FinishedField, guidance: float, device: str) -> Imagination:
    """Return what `--prior` names: `warp`, or a folder of Zero-1-to-3-type weights.

    Raises:
        InputError: no such folder, no such weights, or diffusers is not installed.
    """
    if prior == WARP:
        return Warp()
    from novel_view.diffusers_prior import Zero123Options, load_zero123

    options = Zero123Options(working_distance(field), guidance=guidance)
    return Model(Path(prior).name, load_zero123(Path(prior), options, device))


def _mean_and_spread(one: Carried, target: Target) -> tuple[FloatArray, FloatArray]:
    """Return mean and spread (h, w, 3), both in units of an image in [-1, 1]."""
    mean = 2.0 * gone_on(one.rgb, one.seen) - 1.0
    if not one.seen.any():
        return np.zeros_like(mean), np.ones_like(mean)
    rendered = 2.0 * target.rgb[one.seen].astype(np.float32) / 255.0 - 1.0
    off = np.sqrt(np.square(mean[one.seen] - rendered).mean(0))
    colours = mean[one.seen].std(0)
    return mean, np.where(one.seen[..., None], np.maximum(off, SURE), np.maximum(colours, SURE))


def _weights(chosen: list[Condition]) -> FloatArray:
    """Return the weights (k,) of real views, as published."""
    return fusion_weights(np.array([condition.degrees for condition in chosen]), np.zeros(0), 1, 1)


def _conditions(
    field: FinishedField, target: Target, chosen: list[Condition], weights: Tensor, size: tuple[int, int]
) -> Conditions:
    images, poses = [], []
    for condition in chosen:
        view = field.seen[condition.index]
        _, (rows, columns) = fitted(view.camera, *size)
        cut = field.dataset.image(*condition.view)[rows, columns]
        resized = cv2.resize(cut, size[::-1], interpolation=cv2.INTER_AREA)
        images.append(2.0 * resized.astype(np.float32) / 255.0 - 1.0)
        poses.append(invert_rigid(target.world_from_camera) @ view.world_from_camera)
    device = field.model.lamp_left.device
    return Conditions(
        _images(images).to(device), torch.tensor(np.array(poses)).float().to(device), weights.to(device)
    )


def _images(images: list[FloatArray] | tuple[FloatArray, ...]) -> Tensor:
    """Return (k, 3, h, w) of images (h, w, 3)."""
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32))
