"""COLMAP's conventions and ours: camera parameters, image names, and a reconstruction as plain arrays.

COLMAP maps world to camera and puts the centre of the top-left pixel at (0.5, 0.5); its half pixel is added
and taken off in this file alone. Nothing here imports pycolmap.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.artifacts import write_npz
from utils.geometry import FloatArray, invert_rigid, rigid
from utils.types import Camera, Side

_HALF_PIXEL = 0.5
_ALL_PAIRS_UP_TO = 60
_NEIGHBOURS = 8
LARGE_IMAGE_PX = 1024  # features of larger images are found at this size
_AREA_PER_FEATURE_PX = 90  # 320 x 256: 910; 480 x 470 and above: 2500
_FEATURES = (700, 2500)
_COARSEST_OCTAVE_WIDTH_PX = 320  # images of this width are not halved in the search for features


def colmap_parameters(camera: Camera) -> list[float]:
    """Return fx, fy, cx, cy of COLMAP's PINHOLE model."""
    return [camera.fx, camera.fy, camera.cx + _HALF_PIXEL, camera.cy + _HALF_PIXEL]


def image_name(side: Side, name: str) -> str:
    """Return the name of an image inside COLMAP."""
    return f"{side}/{name}.png"


def split_name(text: str) -> tuple[Side, str]:
    """Return the eye and the frame of a COLMAP image name; without a folder it is the left eye."""
    path = Path(text)
    return "right" if {"right", "r"} & set(path.parent.parts) else "left", path.stem


def image_pairs(names: Sequence[str], sides: Sequence[Side]) -> list[tuple[str, str]]:
    """Return the image pairs to match.

    One eye's images all with each other up to 60 frames; above that with 8 neighbours and ever farther frames
    (16, 32, ...). The two eyes only within a frame and with the next one: what one eye sees later, the same
    eye matches best, and half the time is saved.
    """
    pairs = [(image_name("left", name), image_name("right", name)) for name in names if len(sides) == 2]
    for first, second in itertools.combinations(range(len(names)), 2):
        apart = second - first
        power_of_two = apart & (apart - 1) == 0
        if len(names) > _ALL_PAIRS_UP_TO and apart > _NEIGHBOURS and not power_of_two:
            continue
        pairs += [(image_name(side, names[first]), image_name(side, names[second])) for side in sides]
        if len(sides) == 2 and apart == 1:
            pairs.append((image_name("left", names[first]), image_name("right", names[second])))
            pairs.append((image_name("right", names[first]), image_name("left", names[second])))
    return pairs


def forget_pairs(database: Any, names: Collection[str]) -> None:
    """Delete from an open pycolmap database what images of other frames than `names` were matched with."""
    frame_of = {image.image_id: split_name(image.name)[1] for image in database.read_all_images()}
    strangers = [image_id for image_id, frame in frame_of.items() if frame not in names]
    for first in strangers:
        for second in frame_of:
            if first != second and database.exists_two_view_geometry(first, second):
                database.delete_two_view_geometry(first, second)


def feature_settings(width: int, height: int) -> dict[str, int]:
    """Return how many features an image of this size (px) gets, and in which octaves they are sought.

    Coarse octaves are left out: their features sit on shading, which moves with the lamp, and make the path
    shorter (seen on the phantom: 0.7 % with four octaves, 0.3 % with two).
    """
    longest = min(max(width, height), LARGE_IMAGE_PX)
    first = 0 if longest > 0.8 * LARGE_IMAGE_PX else -1
    last = max(0, round(float(np.log2(longest / _COARSEST_OCTAVE_WIDTH_PX))))
    features = int(np.clip(width * height // _AREA_PER_FEATURE_PX, *_FEATURES))
    return {"features": features, "first_octave": first, "octaves": last - first + 1}


def camera_from_world(image: Any) -> FloatArray:
    """Return the (4, 4) transform of a registered pycolmap image."""
    found = image.cam_from_world()
    return rigid(found.rotation.matrix(), found.translation)


def registered_images(reconstruction: Any) -> list[Any]:
    """Return the images that have a pose, in the order of their ids."""
    return [reconstruction.image(image_id) for image_id in sorted(reconstruction.reg_image_ids())]


def world_from_side(reconstruction: Any, side: Side) -> dict[str, FloatArray]:
    """Return frame -> camera-to-world (4, 4) of one eye, for the frames that have a pose."""
    poses = {}
    for image in registered_images(reconstruction):
        eye, name = split_name(image.name)
        if eye == side:
            poses[name] = invert_rigid(camera_from_world(image))
    return poses


def observed_depths(reconstruction: Any) -> FloatArray:
    """Return the z-depth of every point in every image that observes it."""
    depths: list[FloatArray] = [np.zeros(0)]
    for image in registered_images(reconstruction):
        ids = [seen.point3D_id for seen in image.get_observation_points2D()]
        if ids:
            points_world = np.array([reconstruction.point3D(point_id).xyz for point_id in ids])
            row = camera_from_world(image)[2]
            depths.append(points_world @ row[:3] + row[3])
    return np.concatenate(depths)


def settling(
    reconstruction: Any, names: Sequence[str], rule: Mapping[str, float]
) -> tuple[float, FloatArray, dict[str, Any]]:
    """Return how to bring a reconstruction to our world: the frame of the first placed left camera.

    Args:
        reconstruction: with at least one frame placed.
        names: all frames in order.
        rule: {"travel": length from the first to the last placed camera}, {"median_depth": length of the
            median z-depth over observations}, or {} to keep the scale.

    Returns:
        Scale, settled_from_world (4, 4) to apply before it, and what the report says of it.
    """
    poses = world_from_side(reconstruction, "left")
    placed = [name for name in names if name in poses]
    first, last = poses[placed[0]], poses[placed[-1]]
    depths = observed_depths(reconstruction)
    depth = float(np.median(depths)) if len(depths) else 0.0
    travel = float(np.linalg.norm(last[:3, 3] - first[:3, 3]))
    scale = 1.0
    if "travel" in rule and travel > 0:
        scale = rule["travel"] / travel
    if "median_depth" in rule and depth > 0:
        scale = rule["median_depth"] / depth
    record = {"scale": scale, "first": placed[0], "last": placed[-1]}
    record["travel_per_depth"] = travel / depth if depth > 0 else 0.0
    return scale, invert_rigid(first), record


def write_arrays(reconstruction: Any, names: Sequence[str], path: Path) -> None:
    """Write poses, points and observations in our conventions.

    Keys: `names`, `world_from_left` and `world_from_right` (n, 4, 4) with rows of NaN for frames without a
    pose, `points_world` (m, 3), and per observation `point`, `frame`, `side` (0 left, 1 right), `pixels`
    (k, 2), `error_px`.
    """
    ids = sorted(reconstruction.point3D_ids())
    index_of = {point_id: index for index, point_id in enumerate(ids)}
    points_world = np.array([reconstruction.point3D(point_id).xyz for point_id in ids]).reshape(-1, 3)
    position = {name: index for index, name in enumerate(names)}
    rows: list[tuple[int, int, int]] = []
    pixels, error_px = [], []
    for image in registered_images(reconstruction):
        side, name = split_name(image.name)
        if name not in position:
            continue
        for seen in image.get_observation_points2D():
            projected = image.project_point(reconstruction.point3D(seen.point3D_id).xyz)
            rows.append((index_of[seen.point3D_id], position[name], 0 if side == "left" else 1))
            pixels.append(np.asarray(seen.xy) - _HALF_PIXEL)
            error_px.append(np.nan if projected is None else float(np.linalg.norm(projected - seen.xy)))
    table = np.array(rows, np.int64).reshape(-1, 3)
    unknown = np.full((4, 4), np.nan)
    poses = {side: world_from_side(reconstruction, side) for side in ("left", "right")}
    write_npz(
        path,
        names=np.array(names),
        world_from_left=np.stack([poses["left"].get(name, unknown) for name in names]),
        world_from_right=np.stack([poses["right"].get(name, unknown) for name in names]),
        points_world=points_world,
        point=table[:, 0],
        frame=table[:, 1],
        side=table[:, 2],
        pixels=np.array(pixels, float).reshape(-1, 2),
        error_px=np.array(error_px, float),
    )
