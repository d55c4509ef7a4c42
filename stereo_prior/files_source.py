"""The source `files`: depth or disparity from any other program, and how far to trust it."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from stereo_prior import map_files
from stereo_prior.map_agreement import colmap_scale, precision
from stereo_prior.map_files import ENDINGS, GivenMap, Reader, colmap_reader, stored_reader
from stereo_prior.pair import flip
from stereo_prior.rectification import Rectification
from stereo_prior.source import DepthMaps, Map, Measure, Source, Task
from utils.geometry import invert_rigid, pixel_grid, project, transform, unproject
from utils.stored_maps import SIDES, stored_files
from utils.types import FloatArray, Side
from utils.warping import sample_depth, warp_disparity

log = logging.getLogger("specula")

_OTHER: dict[Side, Side] = {"left": "right", "right": "left"}
_UNCHECKED = 0.7  # confidence where the other eye says nothing
_AGREE_PX = 0.5  # left-right difference, beyond the maps' own deviation, that still is agreement
_PRECISE_PX = 1.0  # deviation from the matches that halves confidence
_BEND_PX = 1.0  # departure from a plane within two pixels that halves confidence


def prepare(task: Task) -> Measure:
    """Compare the maps with the matches, and return the function that measures a frame.

    Raises:
        InputError: maps that do not fit the images, the rig or the matches.
    """
    folder = Path(task.options.stereo_path)
    if task.options.datadir and folder.resolve() == Path(task.options.datadir).resolve():
        log.warning(
            "stereo: --stereo_path is the dataset: its maps are the truth, scores of the prior say nothing"
        )
    if stored_files(folder, ENDINGS):
        read = stored_reader(task, folder)
    else:
        read = _scaled(task, colmap_reader(task, folder))
    sigma_px = precision(task, read)

    def measure(name: str) -> dict[Side, DepthMaps]:
        given = {side: found.depth_mm for side in SIDES if (found := read(side, name)) is not None}
        depth_mm = _both_eyes(task, given)
        off_px = {side: np.full(depth_mm[side].shape, np.nan) for side in SIDES}
        if len(given) == 2:
            off_px = _disagreement(task, depth_mm, _AGREE_PX + max(sigma_px.values()))
        return {side: _judged(task, depth_mm[side], side, off_px[side], sigma_px[side]) for side in SIDES}

    return measure


def _scaled(task: Task, read: Reader) -> Reader:
    """Return a reader of COLMAP's maps in mm."""
    scale = colmap_scale(task, read)
    unseen = [name for name in task.scene.names if all(read(side, name) is None for side in SIDES)]
    if unseen:
        log.warning("stereo: COLMAP has no depth of %d frames: %s", len(unseen), ", ".join(unseen[:5]))

    def in_mm(side: Side, name: str) -> GivenMap | None:
        found = read(side, name)
        if found is None:
            return None
        depth_mm = scale * found.depth_mm
        return GivenMap(depth_mm.astype(np.float32), depth_mm, found.stored)

    return in_mm


def _both_eyes(task: Task, given: dict[Side, FloatArray]) -> dict[Side, FloatArray]:
    """Return the depth of both eyes, that of a missing one carried over from the other; unknown without any."""
    if not given:
        cameras = {side: task.scene.rig.camera(side) for side in SIDES}
        return {side: np.full((camera.height, camera.width), np.nan) for side, camera in cameras.items()}
    if len(given) == 2:
        return given
    side: Side = "left" if "left" in given else "right"
    return {side: given[side], _OTHER[side]: carried_over(task.rectification, given[side], side)}


def carried_over(rectification: Rectification, depth_mm: FloatArray, side: Side) -> FloatArray:
    """Carry z-depth (h, w) of one eye to the other, by a forward warp of its rectified disparity.

    Where several points land on a pixel the nearest wins; what this eye does not see stays NaN.
    """
    disparity_px = rectification.disparity_from_depth(_rectified_depth(rectification, depth_mm, side))
    infinity_px = rectification.disparity_offset_px
    # seen in a mirror, the right eye is the left one, and disparity keeps its sign
    warped = (
        warp_disparity(disparity_px, infinity_px)
        if side == "left"
        else flip(warp_disparity(flip(disparity_px), infinity_px))
    )
    return rectification.unrectify_depth(rectification.depth_from_disparity(warped), _OTHER[side])


def _rectified_depth(rectification: Rectification, depth_mm: FloatArray, side: Side) -> FloatArray:
    """Return depth along the rectified axis in rectified pixels: linear on one surface, the nearest elsewhere."""
    along_mm = depth_mm / rectification.depth_scale(side)
    if rectification.identity:
        return along_mm
    camera = rectification.camera(side)
    pixels = rectification.unrectify_pixels(pixel_grid(camera.width, camera.height), side)
    smooth = sample_depth(along_mm, pixels)
    nearest = rectification.rectify(along_mm.astype(np.float32), side, nearest=True, outside=float("nan"))
    return np.where(np.isfinite(smooth), smooth, nearest)


def _judged(task: Task, depth_mm: FloatArray, side: Side, off_px: FloatArray, sigma_px: float) -> DepthMaps:
    """Say how far to trust one eye's depth. data_layout.md has the formula.

    Args:
        task: rig and rectification.
        depth_mm: z-depth (h, w), NaN unknown.
        side: the eye.
        off_px: |difference| to the other eye's map, NaN where it says nothing.
        sigma_px: deviation of this eye's maps from the matches.
    """
    known = np.isfinite(depth_mm)
    parallax_px = _parallax(task, depth_mm, side)
    agreement = np.exp(-0.5 * (off_px / (_AGREE_PX + sigma_px)) ** 2)
    checked = np.where(np.isfinite(off_px), agreement, _UNCHECKED)
    precise = 1.0 / (1.0 + (sigma_px / _PRECISE_PX) ** 2)
    even = 1.0 / (1.0 + (_bend(parallax_px) / _BEND_PX) ** 2)
    deviation_px = np.hypot(sigma_px, 0.5 * np.nan_to_num(off_px))
    sigma_mm = depth_mm * deviation_px / parallax_px
    confidence = np.where(known, precise * checked * even, 0.0)
    return DepthMaps(depth_mm.astype(np.float32), sigma_mm.astype(np.float32), confidence.astype(np.float32))


def _parallax(task: Task, depth_mm: FloatArray, side: Side) -> FloatArray:
    """Return (h, w) the rectified disparity, less that of infinity, that a depth means; px."""
    rectification = task.rectification
    focal_mm = rectification.left.fx * abs(rectification.baseline_mm)
    return np.asarray(focal_mm * rectification.depth_scale(side) / depth_mm)


def _disagreement(task: Task, depth_mm: dict[Side, FloatArray], agree_px: float) -> dict[Side, FloatArray]:
    """Return (h, w) px of each eye: |difference| to the map of the other one; NaN where that says nothing.

    Where the other map has something in front, the point may be hidden from that eye, which is no contradiction,
    unless this eye's own map shows nothing there.
    """
    signed: dict[Side, FloatArray] = {}
    landed: dict[Side, FloatArray] = {}
    for side in SIDES:
        nearer, landed[side] = _other_map(task, depth_mm, side)
        signed[side] = _parallax(task, depth_mm[side], side) * nearer
    found: dict[Side, FloatArray] = {}
    for side in SIDES:
        column, row = np.moveaxis(landed[side].astype(np.float32), -1, 0)
        other = signed[_OTHER[side]].astype(np.float32)
        back_px = cv2.remap(
            other, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan")
        )
        hidden = np.where(back_px < -agree_px, -back_px, np.nan)
        found[side] = np.where(signed[side] > agree_px, hidden, np.abs(signed[side]))
    return found


def _other_map(task: Task, depth_mm: dict[Side, FloatArray], side: Side) -> tuple[FloatArray, FloatArray]:
    """Return by how much the other eye's map is nearer, relatively, where this eye's points land, and where.

    (h, w), NaN where that map shows nothing, and pixels (h, w, 2).
    """
    rig, other = task.scene.rig, _OTHER[side]
    camera = rig.camera(side)
    other_from_side = invert_rigid(rig.left_from(other)) @ rig.left_from(side)
    points_side = unproject(camera.matrix, pixel_grid(camera.width, camera.height), depth_mm[side])
    landed, z = project(rig.camera(other).matrix, transform(other_from_side, points_side))
    return np.asarray(z / sample_depth(depth_mm[other], landed) - 1), landed


def _bend(parallax_px: FloatArray) -> Map:
    """Return by how much a map (h, w) departs from a plane within two pixels, px; large at steps, 0 on planes."""
    kernel, known = np.ones((5, 5), np.uint8), np.isfinite(parallax_px)
    largest = cv2.dilate(np.where(known, parallax_px, -np.inf).astype(np.float32), kernel)
    smallest = cv2.erode(np.where(known, parallax_px, np.inf).astype(np.float32), kernel)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(largest + smallest - 2 * parallax_px)).astype(np.float32)


SOURCE = Source(
    prepare,
    ("stereo_path", "stereo_png_mm", "stereo_png_px"),
    map_files.check,
    map_files.files,
)
