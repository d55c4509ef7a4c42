"""Read what the stages `scene` and `poses` wrote: frames, splits, images, masks, calibration, poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.artifacts import damaged, load_maps, read_json, read_npz, write_json, write_npz
from utils.images import read_rgb
from utils.types import BoolArray, Poses, Rig, Side

POSES = "poses.npz"


@dataclass(frozen=True)
class Scene:
    """The prepared dataset; every image is undistorted and has the size of its camera in `rig`.

    `names` are image file names without ending, in natural order; `sides` are the eyes that have images;
    `images` maps `<side>_<frame>` to a file (absolute, or inside `folder`).
    """

    folder: Path
    rig: Rig
    names: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    sides: tuple[Side, ...]
    images: dict[str, str]

    @staticmethod
    def load(folder: Path) -> Scene:
        """Read `frames.json` and `rig.json` of a finished scene folder. Raises InputError where one is damaged."""
        record, rig = read_json(folder / "frames.json"), _read_rig(folder / "rig.json")
        try:
            return Scene(
                folder=folder,
                rig=rig,
                names=tuple(record["names"]),
                train=tuple(record["train"]),
                test=tuple(record["test"]),
                sides=tuple(record["sides"]),
                images=dict(record["images"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder / "frames.json", error) from error

    def save(self, extra: dict[str, Any]) -> None:
        """Write `frames.json` and `rig.json`; `extra` is added to the former (sizes, hashes)."""
        record = {key: list(getattr(self, key)) for key in ("names", "train", "test", "sides")}
        write_json(self.folder / "frames.json", record | {"images": self.images} | extra)
        write_json(self.folder / "rig.json", self.rig.to_json())

    def image_path(self, side: Side, name: str) -> Path:
        """Return the file of one image."""
        return self.folder / self.images[f"{side}_{name}"]

    def image(self, side: Side, name: str) -> NDArray[np.uint8]:
        """Return one image, (h, w, 3) RGB uint8."""
        return read_rgb(self.image_path(side, name))

    def masks(self, side: Side, name: str) -> tuple[BoolArray, BoolArray]:
        """Return (h, w) tissue and highlight of one image; a highlight may lie outside the tissue."""
        maps = load_maps(self.folder / "masks", side, name)
        return maps["tissue"], maps["highlight"]

    def ever_tissue(self, side: Side) -> BoolArray:
        """Return (h, w) of an eye: where any training mask has tissue; the rest is the endoscope's border."""
        found = [self.masks(side, name)[0] for name in self.train]
        camera = self.rig.camera(side)
        return np.any(found, axis=0) if found else np.ones((camera.height, camera.width), bool)

    def split(self, name: str) -> str:
        """Return `train` or `test`, or an empty string for a frame that is in neither list."""
        return "train" if name in self.train else "test" if name in self.test else ""


def _read_rig(path: Path) -> Rig:
    record = read_json(path)
    try:
        return Rig.from_json(record)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def save_poses(folder: Path, poses: Poses) -> None:
    """Write `poses.npz`."""
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(poses.names, dtype=np.str_),
        "world_from_left": poses.world_from_left,
        "metric": np.array(poses.metric),
    }
    if poses.world_from_right is not None:
        arrays["world_from_right"] = poses.world_from_right
    write_npz(folder / POSES, **arrays)


def load_poses(folder: Path, refined: Path | None = None) -> Poses:
    """Read `poses.npz` of the stage `poses`, or that of the stage `nerf` where `--refine_poses` has written one.

    Args:
        folder: of the stage `poses`.
        refined: folder of the stage `nerf`, finished, skipped, or not there.

    Raises:
        FileNotFoundError: neither has written any.
        InputError: the file is damaged.
    """
    better = refined is not None and (refined / POSES).exists()
    path = (refined if refined and better else folder) / POSES
    arrays = read_npz(path)
    try:
        names = tuple(str(name) for name in arrays["names"])
        left, metric = arrays["world_from_left"], bool(arrays["metric"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    right = arrays.get("world_from_right")
    for matrices in (left, right):
        if matrices is not None and matrices.shape != (len(names), 4, 4):
            raise damaged(path, f"{len(names)} names, matrices of shape {matrices.shape}")
    return Poses(names, left, right, metric)
