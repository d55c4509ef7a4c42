"""Compare maps from another program with the matches: their scale, their precision, and mistaken conventions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stereo_prior.map_files import GivenMap, Reader
from stereo_prior.source import Task
from utils.errors import InputError
from utils.geometry import directions, transform, triangulate
from utils.map_header import Kind
from utils.stored_maps import SIDES, StoredMap, load_lenses, rectified_pair, stored_depth
from utils.types import FloatArray, Side

log = logging.getLogger("specula")

FEWEST = 30
_WARN, _REFUSE = 0.05, 0.15  # median relative difference of depth
_MENDED = 0.4  # a conversion explains the matches when it leaves less of the difference than this
_LIKELY = 0.02  # smaller differences need no explanation
_INLIER, _FEWEST_INLIERS = 0.10, 0.5  # of COLMAP's depth after scaling
_SMALLEST_SHARE = 0.4  # of the difference from the matches must be the maps' own
_FLOOR_PX, _UNJUDGED_PX = 0.05, 1.0


@dataclass(frozen=True, eq=False)
class _Samples:
    """What the maps of one eye say at the matches (n,) of the training frames.

    Attributes:
        stored: one of the maps.
        values, depth_mm: as given, and the depth that they mean; NaN behind the camera.
        matched_mm: z-depth of the triangulated matches.
        parallax_px, row_px: their rectified disparity less that of infinity, and difference of rows.
        ray: length of the pixel's ray of unit z.
    """

    stored: StoredMap
    values: FloatArray
    depth_mm: FloatArray
    matched_mm: FloatArray
    parallax_px: FloatArray
    row_px: FloatArray
    ray: FloatArray


def colmap_scale(task: Task, read: Reader) -> float:
    """Return mm per unit of a COLMAP model: the median ratio of the matches' depth to that of its maps.

    Raises:
        InputError: too few matches, or too few that agree with one scale.
    """
    found = list(_collect(task, read).values())
    ratios = np.concatenate([np.zeros(0), *[one.matched_mm / one.depth_mm for one in found]])
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if len(ratios) < FEWEST:
        raise InputError(
            f"{task.options.stereo_path}: the scale of COLMAP's depth cannot be found",
            found=f"{len(ratios)} matches of training frames on its maps",
            expected=f"{FEWEST} and more",
            do="give maps of more frames, or depth in mm in l/depth",
        )
    scale = float(np.median(ratios))
    inliers = np.abs(ratios / scale - 1) < _INLIER
    if inliers.mean() < _FEWEST_INLIERS:
        raise InputError(
            f"{task.options.stereo_path}: COLMAP's depth fits the matches at no scale",
            found=f"{inliers.sum()} of {len(ratios)} matches within {100 * _INLIER:.0f} % of the best one",
            expected=f"{100 * _FEWEST_INLIERS:.0f} % and more",
            do="check that the workspace belongs to these images and that its names are those of their frames",
        )
    scale = float(np.median(ratios[inliers]))
    log.info(
        "stereo: COLMAP's depth times %.5g is mm: %d of %d matches within %.0f %%",
        scale,
        inliers.sum(),
        len(ratios),
        100 * _INLIER,
    )
    return scale


def precision(task: Task, read: Reader) -> dict[Side, float]:
    """Return the standard deviation of each eye's maps, px, by their difference from the matches.

    The matches' own noise is taken off, as the difference of their rows shows it. Only training frames are
    asked: what a test image says must not reach other frames. An eye without maps has that of the other.

    Raises:
        InputError: maps that contradict the matches, with the conversion that would mend them where one does.
    """
    sigma_px: dict[Side, float] = {}
    for (side, kind), samples in _collect(task, read).items():
        count = len(samples.values)
        if count < FEWEST:
            log.warning("stereo: %d matches on the %s %s maps: too few to judge them", count, side, kind)
            continue
        misfit = _judge(task, samples)
        off_px = samples.parallax_px * (samples.matched_mm / samples.depth_mm - 1)
        off_px = np.abs(off_px[np.isfinite(off_px)])
        noise_px = np.abs(samples.row_px - np.median(samples.row_px))
        found_px = _deviation(1.4826 * float(np.median(off_px)), 1.4826 * float(np.median(noise_px)))
        sigma_px[side] = max(found_px, sigma_px.get(side, 0.0))
        log.log(
            logging.WARNING if misfit > _WARN else logging.INFO,
            "stereo: %s %s maps differ from %d matches by %.2f px, %.2f %% of the depth, in the median",
            side,
            kind,
            len(off_px),
            np.median(off_px),
            100 * misfit,
        )
    return {side: sigma_px.get(side, max(sigma_px.values(), default=_UNJUDGED_PX)) for side in SIDES}


def _deviation(both_px: float, matches_px: float) -> float:
    """Return what remains of a deviation without that of the matches; neither is known to better than a tenth."""
    without_px = np.sqrt(max(both_px**2 - matches_px**2, 0.0))
    return float(max(without_px, _SMALLEST_SHARE * both_px, _FLOOR_PX))


def _collect(task: Task, read: Reader) -> dict[tuple[Side, Kind], _Samples]:
    """Look up all matches of training frames in the maps, by eye and kind of map."""
    found: dict[tuple[Side, Kind], list[_Samples]] = {}
    for name in task.scene.train:
        for side in SIDES:
            given = read(side, name)
            if given is not None:
                found.setdefault((side, given.stored.kind), []).extend(_at_matches(task, given, name))
    return {key: _pooled(parts) for key, parts in found.items() if parts}


def _at_matches(task: Task, given: GivenMap, name: str) -> Iterator[_Samples]:
    """Look up one frame's matches in one map; nothing where there are none."""
    path, rig = task.matches / f"{name}.npz", task.scene.rig
    if not path.exists() or rig.right is None or rig.right_from_left is None:
        return
    with np.load(path) as file:
        pixels: dict[Side, FloatArray] = {"left": file["pixels_left"], "right": file["pixels_right"]}
    left, right = (task.rectification.rectify_pixels(pixels[side], side) for side in SIDES)
    disparity_px, row_px = (left - right).T
    parallax_px = np.abs(disparity_px - task.rectification.disparity_offset_px)
    points_left = triangulate(
        rig.left.matrix, rig.right.matrix, rig.right_from_left, pixels["left"], pixels["right"]
    )
    side = given.stored.side
    points = points_left if side == "left" else transform(rig.right_from_left, points_left)
    camera = rig.camera(side)
    column, row = np.rint(pixels[side]).astype(int).T
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    usable = inside & (points[:, 2] > 0) & (points_left[:, 2] > 0) & np.isfinite(parallax_px)
    column, row = column[usable], row[usable]
    rays = directions(camera.matrix, pixels[side][usable])
    yield _Samples(
        given.stored,
        given.values[row, column],
        given.depth_mm[row, column],
        points[usable, 2],
        parallax_px[usable],
        row_px[usable],
        np.linalg.norm(rays, axis=-1),
    )


def _pooled(parts: list[_Samples]) -> _Samples:
    names = ("values", "depth_mm", "matched_mm", "parallax_px", "row_px", "ray")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    known = np.isfinite(arrays["values"])
    return _Samples(parts[0].stored, **{name: values[known] for name, values in arrays.items()})


def _judge(task: Task, samples: _Samples) -> float:
    """Return the median relative difference from the matches. Raises InputError where it needs a conversion."""
    misfit = _misfit(samples.depth_mm, samples.matched_mm)
    best, mend = min(_conversions(task, samples, misfit), default=(1.0, ""))
    explained = best < _MENDED * misfit and misfit > _LIKELY
    if misfit <= _REFUSE and not explained:
        return misfit
    stored = samples.stored
    lies_behind = 100 * np.isnan(samples.depth_mm).mean()
    unit = "mm" if stored.kind == "depth" else "px"
    raise InputError(
        f"{stored.path.parent}: the {stored.kind} contradicts the matches between the eyes",
        found=f"values around {np.median(samples.values):.4g} {unit} at {len(samples.values)} matches, which lie "
        f"{np.median(samples.matched_mm):.4g} mm deep in the median; {100 * misfit:.0f} % off in the median, "
        f"{lies_behind:.0f} % behind the camera",
        expected="z-depth in mm" if stored.kind == "depth" else "x_left - x_right in px of the stored images",
        do=mend
        if explained
        else "check that the maps belong to these images and to this calibration, eye by eye and frame by frame",
    )


def _misfit(depth_mm: FloatArray, matched_mm: FloatArray) -> float:
    """Return the median relative difference of depth; what has none counts as 1."""
    off = np.abs(depth_mm / matched_mm - 1)
    return float(np.median(np.minimum(np.where(np.isfinite(off), off, 1.0), 1.0)))


def _conversions(task: Task, samples: _Samples, misfit: float) -> Iterator[tuple[float, str]]:
    """Try what programs do differently; yield the difference that remains, and what to do in words."""
    stored, values, rig = samples.stored, samples.values, task.scene.rig
    lenses = load_lenses(task.scene.folder)

    def remaining(changed: FloatArray, kind: Kind = stored.kind) -> float:
        return _misfit(stored_depth(changed, replace(stored, kind=kind), rig, lenses), samples.matched_mm)

    if stored.kind == "disparity":
        left, right = rectified_pair(rig, lenses, stored.path)
        offset_px = left.cx - right.cx
        expected = left.fx * rig.baseline_mm / samples.matched_mm + offset_px
        negate = "negate the maps: they hold x_right - x_left, the wrong sign"
        yield remaining(-values), negate
        add = f"add cx_left - cx_right = {offset_px:.3f} px"
        yield remaining(values + offset_px), f"{add} to the maps: they hold fx * baseline / depth"
        yield remaining(-values + offset_px), f"{negate}; then {add}"
        folder = stored.path.parent.parent / "depth"
        yield remaining(values, "depth"), f"move the maps to {folder}: they hold depth in mm"
    else:
        expected = samples.matched_mm
        yield remaining(-values), "negate the maps: they hold -z, as OpenGL has it, the wrong sign"
        yield remaining(values / samples.ray), "divide by sqrt(1 + x^2 + y^2): they hold ray lengths, not z-depth"
        if task.rectification.identity and not any(lens.distorted for lens in lenses.values()):
            folder = stored.path.parent.parent / "disparity"
            yield remaining(values, "disparity"), f"move the maps to {folder}: they hold disparity in px"
    if misfit > _REFUSE:
        yield from _scaled(task, samples, expected, remaining(values * float(np.median(expected / values))))
        inverse = float(np.median(expected * values))
        if stored.kind == "depth" and remaining(inverse / values) < _WARN:
            yield remaining(inverse / values), f"give {inverse:.4g} / value: the maps hold inverse depth"


def _scaled(task: Task, samples: _Samples, expected: FloatArray, remains: float) -> Iterator[tuple[float, str]]:
    """Yield the factor that brings the values to the matches, where one does."""
    factor, stored = float(np.median(expected / samples.values)), samples.stored
    if factor <= 0 or remains > _WARN:
        return
    if stored.path.suffix.lower() == ".png":
        depth = stored.kind == "depth"
        worth = task.options.stereo_png_mm if depth else task.options.stereo_png_px
        yield remains, f"give {'--stereo_png_mm' if depth else '--stereo_png_px'} {worth * factor:.4g}"
        return
    words = ": they hold metres" if stored.kind == "depth" and 900 < factor < 1100 else ""
    yield remains, f"multiply the maps by {factor:.4g}{words}"
