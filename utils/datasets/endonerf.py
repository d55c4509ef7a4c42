"""Read clips in EndoNeRF's layout: one standing da Vinci eye, moving tissue, tool masks, depth from matching.

The layout, as med-air/EndoNeRF and the programs after it read it: `images`, `masks` (or `gt_masks`, nonzero =
tool), `depth` (PNG, whole mm), paired by sorted order, and `poses_bounds.npy` with 17 numbers an image, whose
poses are identities. Some copies have `images_right` of a rectified pair.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.datasets.files import (
    DEPTH_ENDINGS,
    beside,
    depth_map,
    list_files,
    name_frames,
    nonzero_is_tool,
    tissue_mask,
)
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Finding, Frame, Lens, Picture, Source
from utils.errors import InputError
from utils.geometry import rigid
from utils.images import IMAGE_ENDINGS
from utils.llff_rows import POSES_BOUNDS, pose_columns, read_rows, row_camera
from utils.map_header import image_size
from utils.types import FloatArray, Side

KIND = "endonerf"
BASELINE_MM = 4.324  # the authors' word, med-air/EndoNeRF issue 10
MASKS = ("masks", "gt_masks")
RIGHT = "images_right"
_README_SPELLING = "pose_bounds.npy"
_SAME_POSE = 1e-6


def looks_like(folder: Path) -> bool:
    """Whether there are images, rows of poses, and masks or depth beside them."""
    others = ("depth", *MASKS)
    return (folder / "images").is_dir() and _rows_file(folder) is not None and _any(folder, others)


def _any(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_dir() for name in names)


def _rows_file(folder: Path) -> Path | None:
    found = (folder / name for name in (POSES_BOUNDS, _README_SPELLING))
    return next((path for path in found if path.is_file()), None)


def read(folder: Path, options: ReaderOptions) -> Source:
    """Return a clip. Raises InputError where files are missing or do not fit together."""
    images = name_frames(list_files(folder / "images", IMAGE_ENDINGS))
    file = _rows_file(folder)
    if not images or file is None:
        raise InputError(
            f"{folder} is no clip in EndoNeRF's layout",
            found="no images" if not images else f"no {POSES_BOUNDS}",
            expected="images, poses_bounds.npy, and masks, depth where there are some",
            do="give the folder of one clip, such as pulling_soft_tissues",
        )
    rows = read_rows(file)
    if len(rows) != len(images):
        raise InputError(
            f"{file} does not belong to these images",
            found=f"{len(rows)} rows, {len(images)} images",
            expected="one row an image",
            do="give the whole clip; --start, --stop and --every take some of its frames",
        )
    size = image_size(next(iter(images.values())))
    camera, findings = row_camera(rows[0]), [_centre()]
    if (camera.width, camera.height) != size:
        findings.append(Finding("warn", "image size", _resized(camera.width, camera.height, size)))
        camera = camera.resized(*size)
    lens = Lens(camera.matrix)
    right = beside(images, list_files(folder / RIGHT, IMAGE_ENDINGS), "right images")
    baseline_mm = options.baseline_mm or BASELINE_MM
    if right:
        findings.append(_right_eye(baseline_mm, given=options.baseline_mm is not None))
    poses, moving, said = _poses(rows)
    chosen = list(options.chosen(len(images)))
    return Source(
        kind=KIND,
        folder=folder,
        frames=_frames(folder, images, right, options, findings, chosen),
        image_size=size,
        lenses={"left": lens, "right": lens} if right else {"left": lens},
        right_from_left=rigid(np.eye(3), np.array([-baseline_mm, 0.0, 0.0])) if right else None,
        world_from_left=None if poses is None else poses[chosen],
        metric=True,
        moving_camera=moving,
        findings=(*findings, said),
    )


def _frames(
    folder: Path,
    images: dict[str, Path],
    right: dict[str, Path],
    options: ReaderOptions,
    findings: list[Finding],
    chosen: list[int],
) -> tuple[Frame, ...]:
    masks_folder = next((name for name in MASKS if list_files(folder / name, IMAGE_ENDINGS)), None)
    masks = beside(images, list_files(folder / (masks_folder or MASKS[0]), IMAGE_ENDINGS), "masks")
    depth = beside(images, list_files(folder / "depth", DEPTH_ENDINGS), "depth maps")
    tool, scale_mm = nonzero_is_tool(options, "tool"), options.depth_scale or 1.0
    if masks_folder is not None:
        means = "tool" if tool else "tissue"
        findings.append(Finding("ok", "masks", f"{len(masks)} in {masks_folder}, nonzero taken for {means}"))
    if depth:
        words = (
            f"{len(depth)} maps, {scale_mm:g} mm a unit, made by stereo matching (STTR-light): no independent "
            "truth; scores against them say how well two matchers agree"
        )
        findings.append(Finding("warn", "depth", words))
    names = list(images)
    return tuple(
        Frame(
            name=name,
            images=_pictures(images[name], right.get(name)),
            tissue={"left": tissue_mask(masks[name], nonzero_is_tool=tool)} if name in masks else {},
            depth_mm={"left": depth_map(depth[name], scale_mm)} if name in depth else {},
        )
        for name in (names[index] for index in chosen)
    )


def _pictures(left: Path, right: Path | None) -> dict[Side, Picture]:
    return {"left": left} if right is None else {"left": left, "right": right}


def _centre() -> Finding:
    words = (
        "the file has none: the image's centre (w - 1)/2, (h - 1)/2 is taken, as EndoSurf does; EndoGaussian "
        "takes w // 2, h // 2, half a pixel away"
    )
    return Finding("ok", "principal point", words)


def _resized(width: int, height: int, size: tuple[int, int]) -> str:
    return f"the file says {width}x{height}, the images have {size[0]}x{size[1]}: the focal length is scaled"


def _right_eye(baseline_mm: float, *, given: bool) -> Finding:
    source = "as given" if given else "the authors' word"
    words = f"{RIGHT} taken for a rectified pair with the left eye's lens, baseline {baseline_mm:g} mm ({source})"
    return Finding("warn", "right eye", words, "say another distance with --baseline_mm")


def _poses(rows: FloatArray) -> tuple[FloatArray | None, bool | None, Finding]:
    """Return poses (n, 4, 4) where all are one, None where they differ; whether the camera moves; words."""
    columns = pose_columns(rows)
    if np.abs(columns - columns[0]).max() < _SAME_POSE:
        words = "all poses are the same: the camera stands still while the tissue moves"
        return np.tile(np.eye(4), (len(rows), 1, 1)), False, Finding("ok", "poses", words)
    words = (
        "they differ, and programs that read this layout disagree about their axes (EndoGaussian takes the "
        "columns as OpenCV's, Deform3DGS turns y and z): they are left out, and estimated from the images"
    )
    return None, None, Finding("warn", "poses", words, "read the folder with --kind llff if its axes are LLFF's")
