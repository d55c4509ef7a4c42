"""Maps that hold a 3-D point for each pixel: decoding, and whether the points fall on their own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.source import Finding, Lens
from utils.errors import InputError
from utils.geometry import pixel_grid
from utils.types import FloatArray

ROUNDED_PX, FINE_PX, USABLE_PX = 0.6, 1.5, 4.0  # median distance to the own pixel; rounding alone gives 0.4
_SAMPLES = 4000


def decode_points(data: bytes, where: str) -> NDArray[np.float32]:
    """Decode a TIFF of three float channels into (h, w, 3) points x, y, z; NaN where z is 0 or not finite.

    OpenCV turns three channels round, as if they were colours: that is undone here.

    Raises:
        InputError: it is no such TIFF.
    """
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if stored is None or stored.ndim != 3 or stored.shape[2] != 3 or stored.dtype.kind != "f":
        found = "a truncated or corrupt file" if stored is None else f"{stored.dtype} of shape {stored.shape}"
        raise InputError(
            f"{where} is no map of points",
            found=found,
            expected="a TIFF of three float channels: x, y, z in mm",
            do="get the file again",
        )
    points = stored[..., ::-1].astype(np.float32)
    points[~np.isfinite(points).all(axis=-1) | (points[..., 2] == 0)] = np.nan
    return points


@dataclass(frozen=True)
class Landing:
    """How far, in px (median), the points of a map fall from their pixels under each reading of the file."""

    distorted: float  # as documented: x, y, z, pixels of the stored, distorted image
    undistorted: float  # pixels of an image without distortion
    turned: float  # channels z, y, x
    rectified: float  # a pixel as if the image were rectified: points and image do not share the camera
    z_mm: float  # median of z


def landing(
    points: FloatArray, lens: Lens, rectified: tuple[FloatArray, FloatArray] | None = None
) -> Landing | None:
    """Project a map's points with their camera and compare with the pixels they are stored at.

    Args:
        points: (h, w, 3), NaN unknown.
        lens: the camera of the map.
        rectified: (3, 3) rotation and (3, 3) matrix of the rectified camera, to tell a map of rectified images.

    Returns:
        None where no point is known.
    """
    height, width = points.shape[:2]
    known = np.isfinite(points).all(axis=-1)
    if not known.any():
        return None
    step = max(1, int(known.sum()) // _SAMPLES)
    cloud = np.ascontiguousarray(points[known][::step], float)
    pixels = pixel_grid(width, height)[known][::step]
    plain = np.zeros(5)
    terms = np.array(lens.distortion) if lens.distortion else plain
    turned, matrix = rectified or (np.eye(3), lens.matrix)
    return Landing(
        distorted=_distance(cloud, lens.matrix, terms, pixels),
        undistorted=_distance(cloud, lens.matrix, plain, pixels),
        turned=_distance(cloud[:, ::-1], lens.matrix, terms, pixels),
        rectified=_distance(cloud @ turned.T, matrix, plain, pixels) if rectified else float("inf"),
        z_mm=float(np.median(cloud[:, 2])),
    )


def _distance(cloud: FloatArray, matrix: FloatArray, terms: FloatArray, pixels: FloatArray) -> float:
    front = cloud[:, 2] > 0
    if front.mean() < 0.5:
        return float("inf")
    landed, _ = cv2.projectPoints(np.ascontiguousarray(cloud[front]), np.zeros(3), np.zeros(3), matrix, terms)
    return float(np.median(np.linalg.norm(landed[:, 0] - pixels[front], axis=-1)))


def judge_landing(found: Landing | None, subject: str) -> Finding:
    """Say what a map's points say about the calibration and about how the file was written."""
    if found is None:
        return Finding("warn", subject, "no point of the map is known", "choose frames with depth")
    words = f"the points fall {found.distorted:.2f} px (median) from the pixels they are stored at"
    other, way = min((found.turned, "turned"), (found.undistorted, "undistorted"), (found.rectified, "rectified"))
    if found.distorted > ROUNDED_PX and other <= FINE_PX and other < found.distorted / 2:
        if way == "turned":
            words = f"the channels are z, y, x: so read, the points fall {other:.2f} px from their pixels"
            do = "the file was written by OpenCV, which turns channels round: get the publisher's file"
        else:
            words += f", and {other:.2f} px in the {way} image: it is not a map of the stored images"
            do = "use the maps that came with the dataset, not ones made by another tool"
        return Finding("refuse", subject, words, do)
    if found.distorted <= FINE_PX:
        return Finding("ok", subject, f"{words}; z median {found.z_mm:.1f} mm")
    do = "images, map or calibration of another sequence? compare with the publisher's files"
    return Finding("warn" if found.distorted <= USABLE_PX else "refuse", subject, words, do)


def read_points(path: Path) -> NDArray[np.float32]:
    """Read a map of points from a file; see `decode_points`."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    return decode_points(data, str(path))
