"""Find the images, depth and calibration that belong to posed cameras: in a run, in a folder, beside the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.camera_set import CameraSet, eye_and_frame
from export.cameras.looks import SIDES, Look, Pair, look, match, neighbours
from export.formats.run_folder import read_run
from utils.artifacts import has_maps, load_maps
from utils.errors import InputError
from utils.images import IMAGE_ENDINGS, find_map, read_rgb, without_ending
from utils.scene import Scene
from utils.stages import STAMP, skipped
from utils.types import BoolArray, Camera, FloatArray, Rig, Side


@dataclass(frozen=True, eq=False)
class Evidence:
    """What there is to hold cameras against, in the order of their names.

    `looks` has None for cameras without image or pose; `pairs` are neighbours that show the same; `rig` is the
    calibration, if any; `centres` (n, 3) is where a run places the same cameras, NaN unknown, None where its
    lengths need not be compared; `notes` say in words what is missing.
    """

    looks: tuple[Look | None, ...]
    pairs: tuple[Pair, ...]
    rig: Rig | None
    centres: FloatArray | None
    notes: list[str]

    def scale(self, world_from_camera: FloatArray) -> float:
        """Return the run's length of one unit of poses (n, 4, 4), by the distances between all cameras."""
        if self.centres is None:
            return 1.0
        ours, theirs = (_distances(centres) for centres in (world_from_camera[:, :3, 3], self.centres))
        usable = np.isfinite(ours) & np.isfinite(theirs) & (ours > 0)
        return float(np.median(theirs[usable] / ours[usable])) if usable.any() else 1.0

    def to_depth(self, world_from_camera: FloatArray) -> FloatArray:
        """Return poses (n, 4, 4) with their lengths in the unit of the depth."""
        scaled = world_from_camera.copy()
        scaled[:, :3, 3] *= self.scale(world_from_camera)
        return scaled


def _distances(centres: FloatArray) -> FloatArray:
    """Return the distances between all centres (n, 3)."""
    first, second = np.triu_indices(len(centres), 1)
    return np.asarray(np.linalg.norm(centres[first] - centres[second], axis=1))


def gather(cameras: CameraSet, run: Path | None, images: Path | None) -> Evidence:
    """Look at the image of every placed camera.

    Args:
        cameras: as read.
        run: a finished run of the same images: its depth, calibration, masks and, without `images`, its images.
        images: folder of the images.

    Raises:
        InputError: an unfinished run, no image of these cameras, or one that cannot be read.
    """
    own = read_run(run) if run else None
    scene = Scene.load(run / "scene") if run else None
    depths = _depth_folder(run) if run else None
    keys = view_keys(cameras.names)
    looks: list[Look | None] = []
    for index, key in enumerate(tqdm(keys, desc="images", unit="image", disable=None)):
        path = _image(cameras, index, scene, key, images) if cameras.placed[index] else None
        looks.append(_look(path, key, scene, depths) if path is not None else None)
    if (run or images) and not any(looks):
        raise InputError(
            f"{images or run} has no image of these cameras",
            found=f"cameras called {', '.join(cameras.names[:3])}, ...",
            expected="an image of every camera, called like it",
            do="give the folder from which the names start with --images, or a run of the same frames with --run",
        )
    notes = []
    without = sum(one is None for one in looks) - int((~cameras.placed).sum())
    if without:
        notes.append(f"{without} of {len(looks)} cameras have no image: only their numbers were checked")
    if any(looks) and not any(one is not None and one.depth_mm is not None for one in looks):
        notes.append("there is no depth: nothing was warped (give a run of these images with --run)")
    centres = _centres(cameras, keys, own) if own else None
    evidence = Evidence(tuple(looks), _pairs(looks), scene.rig if scene else None, centres, notes)
    scale = evidence.scale(cameras.world_from_camera)
    if abs(scale - 1) > 1e-6:
        notes.append(f"lengths are {cameras.unit}: one is taken for {scale:.6g} of the run's")
    return evidence


def _pairs(looks: list[Look | None]) -> tuple[Pair, ...]:
    near = tqdm(neighbours(looks), desc="matches", unit="pair", disable=None)
    return tuple(pair for a, b in near if (pair := match(looks, a, b)) is not None)


def view_keys(names: tuple[str, ...]) -> list[tuple[Side, str]]:
    """Return the eye and the frame of every camera: `right/1.png`, `r/images/1.png`, `right_1.png`, `1.png`."""
    found: list[tuple[Side, str]] = []
    for name in names:
        side, frame = eye_and_frame(name)
        for eye in SIDES:
            if frame.startswith(f"{eye}_"):
                side, frame = eye, frame.removeprefix(f"{eye}_")
        found.append((side, frame))
    if max(Counter(found).values(), default=1) > 1:  # folders that are no eyes: the path is the frame
        return [("left", without_ending(name)) for name in names]
    return found


def _depth_folder(run: Path) -> Path | None:
    """Return the best depth of a run: filtered renders, else the fused prior, else None."""
    for stage in ("filter", "prior"):
        if (run / stage / STAMP).exists() and not skipped(run / stage):
            return run / stage
    return None


def _image(
    cameras: CameraSet, index: int, scene: Scene | None, key: tuple[Side, str], images: Path | None
) -> Path | None:
    """Return the file of one image; None where there is none."""
    side, frame = key
    if images is not None:
        name = Path(cameras.names[index])
        given = images / name
        places = [images / name.parent, images, images / side, images / side[0] / "images"]
        found = (find_map(place, frame, IMAGE_ENDINGS) for place in places)
        return given if given.is_file() else next(filter(None, found), None)
    if scene is not None:
        return scene.image_path(side, frame) if f"{side}_{frame}" in scene.images else None
    return cameras.images[index] if cameras.images else None


def _look(path: Path, key: tuple[Side, str], scene: Scene | None, depths: Path | None) -> Look:
    side, frame = key
    image = read_rgb(path)
    height, width = image.shape[:2]
    depth_mm: FloatArray | None = None
    usable: tuple[BoolArray, BoolArray] | None = None
    calibrated: Camera | None = None
    if scene is not None and f"{side}_{frame}" in scene.images:
        calibrated = scene.rig.camera(side)
        if (calibrated.width, calibrated.height) == (width, height) and has_maps(
            scene.folder / "masks", side, frame
        ):
            usable = scene.masks(side, frame)
        if has_maps(depths, side, frame):
            assert depths is not None
            depth_mm = load_maps(depths, side, frame)["depth_mm"]
    return look(frame, side, image, usable=usable, depth_mm=depth_mm, calibrated=calibrated)


def _centres(cameras: CameraSet, keys: list[tuple[Side, str]], own: CameraSet) -> FloatArray | None:
    """Return where a run places the cameras (n, 3), NaN unknown; None where both are in mm."""
    if cameras.unit == own.unit == "mm":
        return None
    theirs = dict(zip(view_keys(own.names), own.world_from_camera[:, :3, 3], strict=True))
    return np.array([theirs.get(key, np.full(3, np.nan)) for key in keys])
