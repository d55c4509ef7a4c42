"""Read a registered sequence of C3VD (or C3VDv2): one eye, rendered depth and poses, brought to a pinhole camera.

The layout is that of the release, 0000_color.png beside 0000_depth.tiff, or rgb/, depth/ of its second version.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.c3vd_calibration import find_calibration, read_calibration
from utils.datasets.carried_depth import check_carried
from utils.datasets.files import nonzero_is_tool
from utils.datasets.fisheye import Omnidirectional, PinholeView
from utils.datasets.numbered_files import common_size, need_the_same, numbered
from utils.datasets.options import ReaderOptions
from utils.datasets.source import DepthMap, Finding, Frame, Lens, Mask, Picture, Source
from utils.errors import InputError
from utils.geometry import nearest_rotation, pixel_grid, rigid, unproject
from utils.images import read_mask, read_rgb
from utils.types import BoolArray, FloatArray, Side

POSES = "pose.txt"
_FULL_SCALE_MM = 100.0  # of 65535, which itself stands for "this far or farther"
_MESHES = ("coverage_mesh.obj", "outputMesh.obj")


def looks_like(folder: Path) -> bool:
    """Whether the folder is a sequence of C3VD."""
    return (folder / POSES).exists() and any(_depth_files(folder))


def read(folder: Path, options: ReaderOptions) -> Source:
    """Read one sequence.

    Images, depth and mask of the fisheye lens are brought to a pinhole camera when they are asked for.

    Raises:
        InputError: a part is missing (the calibration above all), damaged, or does not fit the others.
    """
    colour, depth = _colour_files(folder), numbered(_depth_files(folder))
    if not colour:
        raise InputError(
            f"{folder} is no sequence of C3VD",
            found="no images",
            expected="0000_color.png … (or color/, or rgb/0000.png …)",
            do="give the folder of one registered sequence",
        )
    numbers = list(colour)
    chosen = [numbers[position] for position in options.chosen(len(numbers))]
    if depth:
        need_the_same(_only(colour, chosen), _only(depth, chosen), "depth map")
    mask = folder / "mask.png" if (folder / "mask.png").exists() else None
    files = [*_only(colour, chosen).values(), *_only(depth, chosen).values(), *([mask] if mask else [])]
    size = common_size(files)
    calibration_file = find_calibration(folder)
    model = read_calibration(calibration_file)
    view = PinholeView(model) if isinstance(model, Omnidirectional) else None
    if isinstance(model, Omnidirectional):
        _need_calibrated_size(model, size, calibration_file)
    lens = Lens(view.matrix) if view else model
    assert isinstance(lens, Lens)
    poses, findings = _poses(folder / POSES, chosen)
    unit_mm = options.depth_scale or _FULL_SCALE_MM / 65535
    tissue: dict[Side, Mask] = {}
    if mask:
        tissue["left"] = partial(_tissue, mask, view, nonzero_is_tool(options, "tissue"))
    frames = tuple(_frame(number, colour, depth, tissue, view, unit_mm) for number in chosen)
    findings = [*_about_lens(model, size, calibration_file), *_about_depth(bool(depth)), *findings]
    if depth:
        points = partial(_points, frames=dict(zip(chosen, frames, strict=True)), lens=lens)
        findings += check_carried(chosen, poses, lens, points, unpacked=True)
    mesh = next((folder / name for name in _MESHES if (folder / name).exists()), None)
    if mesh:
        findings.append(Finding("ok", "mesh", f"{mesh.name}: the true surface, in the poses' world, mm"))
    return Source(
        kind="c3vd",
        folder=folder,
        frames=frames,
        image_size=size,
        lenses={"left": lens},
        world_from_left=poses,
        metric=True,
        moving_camera=True,
        findings=tuple(findings),
        reads=(calibration_file,),
        truth_mesh=mesh,
    )


def _colour_files(folder: Path) -> dict[int, Path]:
    for place, pattern in ((folder, "*_color.png"), (folder / "color", "*.png"), (folder / "rgb", "*.png")):
        found = numbered(place.glob(pattern))
        if found:
            return found
    return {}


def _depth_files(folder: Path) -> list[Path]:
    return [*folder.glob("*_depth.tiff"), *(folder / "depth").glob("*_depth.tiff")]


def _only(files: dict[int, Path], chosen: list[int]) -> dict[int, Path]:
    return {number: files[number] for number in chosen if number in files}


def _need_calibrated_size(model: Omnidirectional, size: tuple[int, int], path: Path) -> None:
    if size != (model.width, model.height):
        raise InputError(
            f"{path} is not of these images",
            found=f"images of {size[0]}x{size[1]}",
            expected=f"{model.width}x{model.height}, as the calibration says",
            do="use the release's images; for images undistorted by another tool give its pinhole: fx, fy, cx, cy",
        )


def _frame(
    number: int,
    colour: dict[int, Path],
    depth: dict[int, Path],
    tissue: dict[Side, Mask],
    view: PinholeView | None,
    unit_mm: float,
) -> Frame:
    picture: Picture = partial(_colour, colour[number], view) if view else colour[number]
    maps: dict[Side, DepthMap] = {"left": partial(_depth, depth[number], view, unit_mm)} if number in depth else {}
    return Frame(f"{number:04d}", {"left": picture}, tissue=tissue, depth_mm=maps)


def _colour(path: Path, view: PinholeView) -> NDArray[np.uint8]:
    return view.colour(read_rgb(path))


def _tissue(path: Path, view: PinholeView | None, nonzero_is_not: bool) -> BoolArray:
    mask = read_mask(path) ^ nonzero_is_not
    return view.mask(mask) if view else mask


def _depth(path: Path, view: PinholeView | None, unit_mm: float) -> NDArray[np.float32]:
    """Return (h, w) z-depth, mm; NaN where the file says 0 (masked) or 65535 (100 mm or more)."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16:
        raise InputError(
            f"{path} is no depth map of C3VD",
            found="a missing, truncated or corrupt file" if stored is None else str(stored.dtype),
            expected="16-bit grey: 0 to 65535 for 0 to 100 mm along the optical axis",
            do="get the file again",
        )
    grey = stored if stored.ndim == 2 else stored[..., 0]
    known = (grey > 0) & (grey < 65535)
    depth_mm = np.where(known, np.float32(unit_mm) * grey.astype(np.float32), np.nan).astype(np.float32)
    return view.depth(depth_mm) if view else depth_mm


def _points(number: int, frames: dict[int, Frame], lens: Lens) -> NDArray[np.float32]:
    depth_mm = frames[number].depth_mm["left"]()
    height, width = depth_mm.shape
    flat = cv2.undistortPoints(
        pixel_grid(width, height).reshape(-1, 1, 2), lens.matrix, np.array(lens.distortion or (0.0,) * 5)
    ).reshape(height, width, 2)
    return unproject(np.eye(3), np.asarray(flat, float), depth_mm).astype(np.float32)


def _poses(path: Path, numbers: list[int]) -> tuple[FloatArray, list[Finding]]:
    """Return (n, 4, 4) camera-to-world, mm; the file holds them column by column, others have them row by row."""
    rows = _rows(path)
    if max(numbers) >= len(rows):
        raise _no_poses(path, f"{len(rows)} lines, and a frame with the number {max(numbers)}")
    stored = rows.reshape(-1, 4, 4)
    last = np.array([0.0, 0.0, 0.0, 1.0])
    column_by_column = bool(np.allclose(stored[:, :, 3], last, atol=1e-6))
    row_by_row = bool(np.allclose(stored[:, 3], last, atol=1e-6))
    if not column_by_column and not row_by_row:
        raise _no_poses(path, "matrices whose last row and last column both differ from 0 0 0 1")
    poses = (stored.transpose(0, 2, 1) if column_by_column else stored)[numbers]
    turned = np.stack([nearest_rotation(pose[:3, :3]) for pose in poses])
    off = float(np.abs(turned - poses[:, :3, :3]).max())
    if off > 0.01 or (np.linalg.det(turned) < 0).any():
        raise _no_poses(path, f"matrices that are no rigid motion: a rotation is off by {off:.2g}")
    order = "column by column, as released" if column_by_column else "row by row, unlike the release's files"
    findings = [
        Finding("ok" if column_by_column else "warn", "camera poses", f"camera to world, mm, written {order}")
    ]
    return np.stack([rigid(turn, pose[:3, 3]) for turn, pose in zip(turned, poses, strict=True)]), findings


def _rows(path: Path) -> FloatArray:
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text().splitlines() if line.strip()]
        lengths = {len(line) for line in lines}
        if lengths != {16}:
            robot = " (a log of the robot: time and pose)" if 17 in lengths else ""
            raise _no_poses(path, f"lines of {', '.join(map(str, sorted(lengths))) or 'no'} numbers{robot}")
        rows = np.array(lines, float)
    except (OSError, ValueError) as error:
        raise _no_poses(path, f"{type(error).__name__}: {error}") from error
    if not np.isfinite(rows).all():
        raise _no_poses(path, "numbers that are not finite")
    return rows


def _no_poses(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=found,
        expected="a line a frame, counted from 0: 16 numbers, a 4x4 camera-to-world matrix",
        do="put the sequence's pose.txt there",
    )


def _about_lens(model: Omnidirectional | Lens, size: tuple[int, int], path: Path) -> list[Finding]:
    if isinstance(model, Lens):
        words = f"pinhole of {path.name}: it stands for the dataset's fisheye lens, and fits its depth only so far"
        return [Finding("warn" if model.distortion else "ok", "lens", words)]
    half = size[0] / 2
    kept = float(np.degrees(np.arctan2(half, model.a0)))
    words = (
        f"fisheye of {path.name}, undistorted to a pinhole of f = {model.a0:.0f} px: of the lens's "
        f"{model.half_angle_degrees(half):.0f} degrees to each side, {kept:.0f} are kept"
    )
    findings = [Finding("ok", "lens", words)]
    twist = abs(model.d - model.e) * np.hypot(*size) / 2
    if twist > 0.5:
        words = (
            f"d and e are used as the dataset's renderer does; its Python example has them the other way round, "
            f"which moves the corners by {twist:.1f} px"
        )
        findings.append(Finding("ok", "stretch", words))
    return findings


def _about_depth(there: bool) -> list[Finding]:
    if not there:
        return [Finding("warn", "depth", "none: nothing to compare with")]
    words = "rendered from the phantom's mesh with the registered pose: z-depth, 0 to 100 mm; at 100 mm unknown"
    return [Finding("ok", "depth", words)]
