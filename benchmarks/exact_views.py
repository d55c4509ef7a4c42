"""A phantom seen exactly from anywhere in a run's frame: what a camera there would have taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.setting import Example
from utils.artifacts import read_npz
from utils.geometry import invert_rigid, rigid
from utils.phantom_render import Eye, Picture, render
from utils.phantom_rig import Rig, make_rig
from utils.phantom_surface import Organ, make_organ
from utils.scene import Scene, load_poses
from utils.types import FloatArray, Side


@dataclass(frozen=True, eq=False)
class ExactPhantom:
    """The organ and rig of a phantom, and `run_from_truth` (4, 4), mm: without a scale, the run is metric."""

    organ: Organ
    rig: Rig
    run_from_truth: FloatArray
    truth: dict[str, FloatArray]
    exposure: float
    size: tuple[int, int]

    @staticmethod
    def of(example: Example, run: Path) -> ExactPhantom:
        """Align the truth's poses with those of the training frames of a run: nothing of a test pose enters."""
        scene, placed = Scene.load(run / "scene"), load_poses(run / "poses", run / "nerf")
        arrays = read_npz(example.data / "truth_poses.npz")
        truth = dict(zip(map(str, arrays["names"]), arrays["world_from_left"], strict=True))
        names = [name for name in scene.train if placed.placed(name)]
        relative = [placed.world_from("left", name) @ invert_rigid(truth[name]) for name in names]
        turn = Rotation.from_matrix([one[:3, :3] for one in relative]).mean().as_matrix()
        there = np.array([truth[name][:3, 3] for name in names])
        here = np.array([placed.world_from("left", name)[:3, 3] for name in names])
        rig = make_rig(example.rig, example.width, example.height)
        organ = make_organ(np.random.default_rng([example.seed, 1]), rig.organ_scale)
        exposures = dict(zip(map(str, arrays["names"]), arrays["exposure"], strict=True))
        return ExactPhantom(
            organ,
            rig,
            rigid(turn, (here - there @ turn.T).mean(axis=0)),
            truth,
            float(np.mean([exposures[name] for name in names])),
            (example.width, example.height),
        )

    def pose(self, name: str) -> FloatArray:
        """Return the true pose (4, 4) of a frame's left camera in the run's frame, mm."""
        return np.asarray(self.run_from_truth @ self.truth[name])

    def picture(self, world_from_left: FloatArray, side: Side, seed: int, brightness: float = 1.0) -> Picture:
        """Return what an eye of the rig takes at a pose (4, 4) of the run's frame, with noise of its own."""
        truth_from_left = invert_rigid(self.run_from_truth) @ world_from_left
        left_from_eye = np.eye(4) if side == "left" else invert_rigid(self.rig.right_from_left)
        eye = Eye(
            camera=self.rig.camera_left if side == "left" else self.rig.camera_right,
            world_from_camera=truth_from_left @ left_from_eye,
            lamp_world=truth_from_left[:3, :3] @ self.rig.lamp_left + truth_from_left[:3, 3],
            width=self.size[0],
            height=self.size[1],
            distance_mm=self.rig.distance_mm,
        )
        return render(self.organ, eye, brightness * self.exposure, np.random.default_rng(seed))
