"""Small corrections of the cameras, learned with the field: a turn and a shift a frame, and one for the rig."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nerf.rays import Cameras
from nerf.views import View
from utils.geometry import invert_rigid
from utils.types import FloatArray, Poses

# A direction that a path has less of, as a share of its length, is none; and a path of fewer frames has none.
FLATTEST, FEWEST_FRAMES = 0.03, 12


class PoseCorrections(nn.Module):
    """Corrects the cameras of training views.

    `of_frames` (f, 6) are turn (a rotation vector, radians) and shift (in units of the working distance) of each
    frame's left camera in the world, about its own centre. `of_rig` (6,) turns the right camera in its place, then
    its place about the left camera: the baseline keeps its length, which gives all its unit.

    What images cannot tell is left as it was. A turn and shift that all cameras share is only another frame of the
    world. And turns and shifts that grow in proportion to where a camera stands look like a shallower or deeper
    surface (the bas-relief ambiguity: Belhumeur et al. 1999): left free, they drift until all depth is half a
    percent off, where the poses had been right.
    """

    left_from_camera: Tensor
    right: Tensor
    ambiguous: Tensor

    def __init__(self, cameras: Cameras, views: list[View], reference_mm: float) -> None:
        super().__init__()
        self.cameras, self.reference_mm = cameras, reference_mm
        between = torch.linalg.inv(_square(cameras.world_from_left)) @ _square(cameras.world_from_camera)
        self.register_buffer("left_from_camera", between[:, :3], persistent=False)
        self.register_buffer("right", torch.tensor([side == "right" for side, _ in views]), persistent=False)
        self.of_frames = nn.Parameter(torch.zeros(int(cameras.frame.max()) + 1, 6))
        self.of_rig = nn.Parameter(torch.zeros(6))
        self.register_buffer("ambiguous", ambiguous(cameras, len(self.of_frames)), persistent=False)

    @property
    def told(self) -> Tensor:
        """The corrections of the frames (f, 6), without what images cannot tell."""
        return self.of_frames - self.ambiguous @ (self.ambiguous.T @ self.of_frames)

    def forward(self) -> Cameras:
        """Return the corrected cameras, differentiable in their `world_from_camera`."""
        left = corrected(self.cameras.world_from_left, self.told[self.cameras.frame], self.reference_mm)
        between, rig = self.left_from_camera, self.of_rig
        seen = torch.cat([turn(rig[:3]) @ between[:, :, :3], (between[:, :, 3] @ turn(rig[3:]).T)[..., None]], -1)
        between = torch.where(self.right[:, None, None], seen, between)
        shift = (left[:, :, :3] @ between[:, :, 3:]) + left[:, :, 3:]
        world = torch.cat([left[:, :, :3] @ between[:, :, :3], shift], dim=-1)
        return replace(self.cameras, world_from_camera=world, world_from_left=left.detach())


def ambiguous(cameras: Cameras, frames: int) -> Tensor:
    """Return an orthonormal basis (f, up to 4) of what is the same for all frames, or linear in their places.

    Few frames would have nothing left to be corrected: there only what is the same for all is in it.
    """
    even = torch.full((frames, 1), frames**-0.5, dtype=torch.double, device=cameras.frame.device)
    if frames < FEWEST_FRAMES:
        return even.float()
    places = torch.zeros(frames, 3, dtype=torch.double, device=cameras.frame.device)
    places[cameras.frame] = cameras.world_from_left[:, :, 3].double()
    along, size, _ = torch.linalg.svd(places - places.mean(0), full_matrices=False)
    return torch.cat([even, along[:, size > FLATTEST * size[0]]], dim=1).float()


def turn(vector: Tensor) -> Tensor:
    """Return the rotations (..., 3, 3) of rotation vectors (..., 3), radians (Rodrigues); smooth at zero."""
    x, y, z = vector.unbind(-1)
    nought = torch.zeros_like(x)
    cross = torch.stack([nought, -z, y, z, nought, -x, -y, x, nought], dim=-1).unflatten(-1, (3, 3))
    angle = (vector.square().sum(-1) + 1e-20).sqrt()[..., None, None]
    first, second = torch.sinc(angle / torch.pi), 0.5 * torch.sinc(angle / (2 * torch.pi)).square()
    return torch.eye(3).to(vector) + first * cross + second * (cross @ cross)


def corrected(world_from_left: Tensor, correction: Tensor, reference_mm: float) -> Tensor:
    """Return poses (n, 3, 4), turned about their centres and shifted by corrections (n, 6)."""
    rotation = turn(correction[:, :3]) @ world_from_left[:, :, :3]
    return torch.cat([rotation, world_from_left[:, :, 3:] + reference_mm * correction[:, 3:, None]], dim=-1)


@dataclass(frozen=True)
class Between:
    """Corrections of frames that trained nothing, (n, 6), and the share of their neighbours' that they are."""

    corrections: FloatArray
    share: float


def carry_over(positions: FloatArray, corrections: FloatArray, wanted: FloatArray) -> Between:
    """Return corrections for frames between the trained ones: what their neighbours have, as far as that tells.

    Errors of poses may drift along a sequence, then a frame's correction is that of its neighbours; or each frame
    has its own, then neighbours say nothing. The share of a neighbours' line that is taken is the one that would
    have told the trained frames' own corrections best (least squares), between 0 and 1; nothing is learned from
    the image of a frame that trained nothing.

    Args:
        positions: (f,) ascending places of the trained frames in the sequence.
        corrections: (f, 6) of them.
        wanted: (n,) places of the others.
    """
    share = 0.0
    if len(positions) > 2:
        left, right = positions[:-2], positions[2:]
        along = ((positions[1:-1] - left) / (right - left))[:, None]
        told = corrections[:-2] * (1.0 - along) + corrections[2:] * along
        share = float(np.clip((told * corrections[1:-1]).sum() / max((told**2).sum(), 1e-30), 0.0, 1.0))
    line = [np.interp(wanted, positions, column) for column in corrections.T]
    return Between(share * np.stack(line, axis=-1), share)


def corrected_poses(corrections: PoseCorrections, poses: Poses, frames: list[str]) -> tuple[Poses, dict[str, Any]]:
    """Return all poses corrected, and what was done to them: numbers for people.

    Args:
        corrections: learned.
        poses: what they correct, of all frames of the sequence.
        frames: the trained ones, in the order of their numbers.
    """
    learned = corrections.told.detach().cpu().double().numpy()
    order = np.argsort([poses.names.index(name) for name in frames])
    trained = np.array([float(poses.names.index(name)) for name in frames])
    everywhere = carry_over(trained[order], learned[order], np.arange(len(poses.names), dtype=float))
    correction = everywhere.corrections
    correction[trained.astype(int)] = learned
    before = torch.from_numpy(np.asarray(poses.world_from_left, dtype=float)[:, :3])
    left = poses.world_from_left.copy()
    left[:, :3] = corrected(before, torch.from_numpy(correction), corrections.reference_mm).numpy()
    right, rig = poses.world_from_right, corrections.of_rig.detach().cpu().double()
    if right is not None:
        between = np.array([invert_rigid(a) @ b for a, b in zip(poses.world_from_left, right, strict=True)])
        between[:, :3, :3] = turn(rig[:3]).numpy() @ between[:, :3, :3]
        between[:, :3, 3] = between[:, :3, 3] @ turn(rig[3:]).numpy().T
        right = left @ between
    size = np.sqrt((learned.reshape(-1, 2, 3) ** 2).sum(-1).mean(0))
    report = {
        "turned_degrees_rms": float(np.degrees(size[0])),
        "shifted_rms": float(size[1] * corrections.reference_mm),
        "unit": poses.unit,
        "right_eye_turned_degrees": float(np.degrees(np.linalg.norm(rig[:3].numpy()))),
        "baseline_turned_degrees": float(np.degrees(np.linalg.norm(rig[3:].numpy()))),
        "share_carried_to_other_frames": everywhere.share,
    }
    return replace(poses, world_from_left=left, world_from_right=right), report


def _square(poses: Tensor) -> Tensor:
    """Return poses (n, 3, 4) as matrices (n, 4, 4)."""
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(poses)
    return torch.cat([poses, last.expand(len(poses), 1, 4)], dim=1)
