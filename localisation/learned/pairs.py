"""Pairs of pose and image, rendered from a trained field around the path of its training frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from localisation.learned.small_images import Shrinker, never_tissue
from nerf.finished_field import OPAQUE, FinishedField
from utils.artifacts import damaged, read_json, read_npz
from utils.errors import InputError
from utils.types import BoolArray, Camera, FloatArray

RECORD, BORDER = "pairs.json", "border.npz"
SHARD = 250
COARSER = 4  # maps around the field are thinned for views this small
_TRIES = 20
_WIDEST_DEGREES, _SHARE_OF_VIEW, _SHARE_OF_DEPTH = 15.0, 0.25, 0.16


@dataclass(frozen=True)
class PairOptions:
    """What pairs are made of.

    Attributes:
        size: of the images, px.
        oversample: rays a pixel and axis, averaged.
        spread_degrees: largest turn about each of the camera's axes, away from a training frame.
        spread_mm: largest shift along each of the camera's axes.
        least_covered: views of which training views saw less are drawn again; a share of the pixels.
        seed: of the poses.
    """

    size: int
    oversample: int
    spread_degrees: float
    spread_mm: float
    least_covered: float
    seed: int


@dataclass(frozen=True, eq=False)
class PoseRange:
    """The poses that pairs are drawn from: a box of turns and shifts around each training frame.

    Attributes:
        world_from_left: (f, 4, 4) of the training frames, mm.
        spread_degrees, spread_mm: half the sides of the boxes, along the camera's axes.
    """

    world_from_left: FloatArray
    spread_degrees: float
    spread_mm: float

    def draw(self, rng: np.random.Generator, count: int, inner: float = 0.0, outer: float = 1.0) -> FloatArray:
        """Return poses (count, 4, 4) whose largest turn or shift is between `inner` and `outer` of the spread."""
        offsets = rng.uniform(-1.0, 1.0, (count, 6))
        reach = rng.uniform(inner**6, outer**6, count) ** (1.0 / 6.0)  # as a point in a box has it
        offsets *= (reach / np.abs(offsets).max(1))[:, None]
        base = self.world_from_left[rng.integers(len(self.world_from_left), size=count)]
        pose = base.copy()
        turn = Rotation.from_rotvec(np.radians(self.spread_degrees) * offsets[:, :3]).as_matrix()
        pose[:, :3, :3] = base[:, :3, :3] @ turn
        pose[:, :3, 3] += np.einsum("nij,nj->ni", base[:, :3, :3], self.spread_mm * offsets[:, 3:])
        return pose

    def reach(self, world_from_left: FloatArray) -> FloatArray:
        """Return (n,) how far poses are from the nearest frame, in spreads: up to 1 is inside the range."""
        nearest = np.full(len(world_from_left), np.inf)
        for base in self.world_from_left:
            offset = np.linalg.inv(base) @ world_from_left
            turn = np.degrees(np.abs(Rotation.from_matrix(offset[:, :3, :3]).as_rotvec()).max(1))
            shift = np.abs(offset[:, :3, 3]).max(1)
            nearest = np.minimum(nearest, np.maximum(turn / self.spread_degrees, shift / self.spread_mm))
        return nearest

    def to_json(self) -> dict[str, Any]:
        """Return a dict that `json` can write and `from_json` can read."""
        spreads = {"spread_degrees": self.spread_degrees, "spread_mm": self.spread_mm}
        return spreads | {"world_from_left": self.world_from_left.tolist()}

    @staticmethod
    def from_json(record: dict[str, Any]) -> PoseRange:
        """Read what `to_json` wrote."""
        return PoseRange(np.array(record["world_from_left"], float), record["spread_degrees"], record["spread_mm"])


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rendered pairs: rgb (n, s, s, 3) uint8, depth_mm (n, s, s), poses (n, 4, 4), share covered (n,)."""

    rgb: NDArray[np.uint8]
    depth_mm: FloatArray
    world_from_camera: FloatArray
    covered: FloatArray

    def __len__(self) -> int:
        return len(self.rgb)


class PairRenderer:
    """Renders small views of a field, as a left eye that carries the lamp takes them, at the mean exposure."""

    def __init__(self, field: FinishedField, size: int, oversample: int) -> None:
        self.field = field.coarser(COARSER)
        self.shrinker = Shrinker(field.dataset.rig.left, never_tissue(field.dataset), size)
        fine = size * oversample
        self.camera = self.shrinker.camera.resized(fine, fine)
        self.inside = ~_resized(self.shrinker.border, fine)

    def render(self, world_from_camera: FloatArray) -> tuple[NDArray[np.uint8], FloatArray, float]:
        """Return the image (s, s, 3), z-depth (s, s) mm and the share of its tissue that a training view saw."""
        image = self.field.render(self.camera, world_from_camera)
        depth, count = self.field.coverage(self.camera, world_from_camera, image)
        small = self.shrinker.size, self.shrinker.size
        rgb = self.shrinker.area(image.rgb)
        depth = np.where(self.inside & (image.opacity >= OPAQUE), depth, np.nan).astype(np.float32)
        thin = np.asarray(cv2.resize(depth, small, interpolation=cv2.INTER_AREA), np.float32)
        return np.rint(255 * rgb).astype(np.uint8), thin, float((count > 0)[self.inside].mean())

    def shard(
        self, options: PairOptions, poses: PoseRange, index: int, count: int
    ) -> tuple[dict[str, NDArray[Any]], int]:
        """Return the arrays of the first `count` pairs of a shard, and how many poses were drawn again.

        The seed and the shard's number fix every pose, however many are asked for.
        """
        rows, again = [], 0
        for place in range(count):
            rng = np.random.default_rng([options.seed, index, place])
            tries = []
            for _ in range(_TRIES):
                pose = poses.draw(rng, 1)[0]
                tries.append((*self.render(pose), pose))
                if tries[-1][2] >= options.least_covered:
                    break
            again += len(tries) - 1
            rows.append(max(tries, key=lambda one: one[2]))
        columns = [np.stack([row[part] for row in rows]) for part in range(4)]
        names = ("rgb", "depth_mm", "covered", "world_from_camera")
        return dict(zip(names, columns, strict=True)), again


def usual_spread(camera: Camera, working_mm: float) -> tuple[float, float]:
    """Return degrees and mm: a quarter of the field of view, at most 15, and 16 % of the working distance."""
    view = np.degrees(2.0 * np.arctan(0.5 * max(camera.width / camera.fx, camera.height / camera.fy)))
    return min(_WIDEST_DEGREES, _SHARE_OF_VIEW * float(view)), _SHARE_OF_DEPTH * working_mm


def working_distance(field: FinishedField) -> float:
    """Return the median depth in the middle of the training views, mm."""
    middles = []
    for view in field.seen:
        height, width = view.depth_mm.shape
        middles.append(view.depth_mm[height // 3 : -height // 3, width // 3 : -width // 3].ravel())
    return float(np.nanmedian(np.concatenate(middles)))


def training_poses(field: FinishedField) -> FloatArray:
    """Return the poses (f, 4, 4) of the left eye at the training frames that have one."""
    return np.array(
        [field.placed.world_from("left", name) for name in field.dataset.train if field.placed.placed(name)]
    )


def read_pairs(folder: Path, count: int | None = None) -> tuple[Pairs, dict[str, Any], BoolArray]:
    """Return the pairs of a folder, the first `count` of them, their record and the border (h, w).

    Raises:
        InputError: no pairs there, not all shards finished, or a damaged file.
    """
    if not (folder / RECORD).is_file():
        raise _missing(folder, "no record of pairs")
    record = read_json(folder / RECORD)
    count = count or int(record["n"])
    paths = [folder / shard_name(index) for index in range(-(-count // SHARD))]
    lost = [path.name for path in paths if not path.is_file()]
    if lost:
        raise _missing(folder, f"{len(lost)} of {len(paths)} shards are not there, the first is {lost[0]}")
    shards = [read_npz(path) for path in paths]
    try:
        columns = {
            key: np.concatenate([shard[key] for shard in shards])[:count] for key in Pairs.__dataclass_fields__
        }
        border = np.asarray(read_npz(folder / BORDER)["never_tissue"], bool)
    except (KeyError, ValueError) as error:
        raise damaged(folder, error) from error
    return Pairs(**columns), record, border


def shard_name(index: int) -> str:
    """Return the file of a shard."""
    return f"{index:04d}.npz"


def _missing(folder: Path, found: str) -> InputError:
    return InputError(
        f"{folder} has no finished pairs",
        found=found,
        expected="the folder that `python -m localisation.make_pairs` writes",
        do="run `python -m localisation.make_pairs <run>` first; it goes on where it stopped",
    )


def _resized(mask: BoolArray, size: int) -> BoolArray:
    whole = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(whole > 0.5)
