"""Structure from motion with COLMAP: writes its images, starts the worker process, reads what it made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from monocular.colmap_arrays import image_name
from utils.artifacts import read_json, write_json, write_npz
from utils.errors import InputError
from utils.images import write_rgb
from utils.scene import Scene
from utils.sift import usable_pixels
from utils.types import FloatArray, Side

_ROOT = Path(__file__).resolve().parents[1]
_MARGIN = 0.008  # of the image's width: features see this far into what is masked out


@dataclass(frozen=True)
class SparseModel:
    """Poses and points of one reconstruction, in the scene's order of frames and in our conventions.

    `world_from_left`, `world_from_right` (n, 4, 4) with rows of NaN for frames without a pose, `points_world`
    (m, 3), and one row an observation: `point`, `frame`, `side` (0 left, 1 right), `pixels` (k, 2), `error_px`.
    """

    names: tuple[str, ...]
    world_from_left: FloatArray
    world_from_right: FloatArray
    points_world: FloatArray
    point: NDArray[np.int64]
    frame: NDArray[np.int64]
    side: NDArray[np.int64]
    pixels: FloatArray
    error_px: FloatArray

    @property
    def placed(self) -> tuple[str, ...]:
        """The frames that have a pose."""
        known = np.asarray(np.isfinite(self.world_from_left).all(axis=(1, 2)))
        return tuple(name for name, has_pose in zip(self.names, known, strict=True) if has_pose)

    @staticmethod
    def load(path: Path) -> SparseModel:
        """Read the worker's `model.npz`."""
        with np.load(path) as file:
            arrays = {key: file[key] for key in file.files if key != "names"}
            return SparseModel(names=tuple(str(name) for name in file["names"]), **arrays)


@dataclass(frozen=True)
class ColmapWorkspace:
    """A folder with the images and masks that COLMAP reads, and its database once there is one.

    Args:
        folder: absolute path; made by `prepare`.
        scene: the scene.
        sides: the eyes that take part.
        seed: makes COLMAP repeat.
    """

    folder: Path
    scene: Scene
    sides: tuple[Side, ...]
    seed: int

    def prepare(self) -> None:
        """Write the images' green channel, and masks; 0 in a mask keeps features away.

        Blood absorbs green light, so that vessels stand out there more than shading does.
        """
        for side in self.sides:
            for name in tqdm(self.scene.names, desc=f"images for COLMAP, {side}", unit="frame", disable=None):
                image = self.scene.image(side, name)
                margin_px = max(1, round(_MARGIN * image.shape[1]))
                usable = usable_pixels(*self.scene.masks(side, name), margin_px)
                green = np.ascontiguousarray(image[..., 1])
                write_rgb(self.folder / "images" / image_name(side, name), green)
                mask = self.folder / "masks" / (image_name(side, name) + ".png")
                write_rgb(mask, np.where(usable, 255, 0).astype(np.uint8))

    def map(self, scale: dict[str, float]) -> tuple[SparseModel | None, dict[str, Any]]:
        """Find poses and points; None where COLMAP found no model. Second: counts for the report."""
        return self._run("map", {"scale": scale})

    def triangulate(
        self,
        names: Sequence[str],
        world_from_left: FloatArray,
        *,
        scale: dict[str, float],
        refine: bool = False,
        fixed: Sequence[str] = (),
    ) -> tuple[SparseModel | None, dict[str, Any]]:
        """Find points for known poses (n, 4, 4), NaN where unknown; `refine` moves all frames but `fixed`."""
        poses = self.folder / "known_poses.npz"
        write_npz(poses, names=np.array(names), world_from_left=world_from_left)
        extra = {"scale": scale, "poses": str(poses), "refine": refine, "fixed": list(fixed)}
        return self._run("known", extra)

    @property
    def sparse(self) -> Path:
        """The COLMAP model that the last call wrote."""
        return self.folder / "out" / "sparse"

    def _run(self, action: str, extra: dict[str, Any]) -> tuple[SparseModel | None, dict[str, Any]]:
        out = self.folder / "out"
        job = {
            "action": action,
            "rig": self.scene.rig.to_json(),
            "names": list(self.scene.names),
            "sides": list(self.sides),
            "images": str(self.folder / "images"),
            "masks": str(self.folder / "masks"),
            "database": str(self.folder / "database.db"),
            "out": str(out),
            "seed": self.seed,
            "fixed": [],
        }
        result = run_worker(job | extra)
        model = out / "model.npz"
        return (SparseModel.load(model) if model.exists() else None), result


def read_colmap_model(model: Path, names: Sequence[str], folder: Path) -> tuple[SparseModel, list[str]]:
    """Read a COLMAP model folder, text or binary, images matched to frames by their stem.

    Args:
        model: folder with cameras, images and points3D files.
        names: frames of the scene.
        folder: where the worker may write.

    Returns:
        The model in its own world and scale, and a few of its image names.
    """
    out = folder / "read"
    result = run_worker({"action": "read", "model": str(model.resolve()), "names": list(names), "out": str(out)})
    return SparseModel.load(out / "model.npz"), list(result["images_in_model"])


def run_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job of `colmap_worker` in a process of its own, with a progress bar; return its result.

    Raises:
        InputError: the process died; the message ends with its last words.
    """
    out = Path(job["out"])
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_json(out / "job.json", job)
    command = [sys.executable, "-m", "monocular.colmap_worker", str(out / "job.json")]
    with open(out / "worker.log", "w+") as errors, tqdm(desc="COLMAP", unit="frame", disable=None) as bar:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            for line in process.stdout or ():
                _show(bar, line)
            code = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        last_words = " | ".join(errors.read().strip().splitlines()[-3:])
    if code != 0 or not (out / "result.json").exists():
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise InputError(
            f"COLMAP stopped while doing `{job['action']}`",
            found=f"{ended}: {last_words or 'no message'}",
            expected="a finished reconstruction",
            do="try --poses odometry (stereo), or bring poses with --poses file",
        )
    return dict(read_json(out / "result.json"))


def _show(bar: Any, line: str) -> None:
    """Move the progress bar to what a line of the worker says; other lines are COLMAP's own chatter."""
    try:
        said = json.loads(line)
        bar.set_description(f"COLMAP {said['phase']}")
        bar.total = said["of"] or None
        bar.n = said["done"]
        bar.refresh()
    except (ValueError, KeyError, TypeError):
        return
