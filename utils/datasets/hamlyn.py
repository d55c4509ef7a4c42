"""Read a sequence of rectified Hamlyn (Recasens et al. 2021): both eyes, and depth made by matching them.

The layout is that of the authors' release: rectifiedNN/imageNN, depthNN, with calibration/NN beside the sequences.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.hamlyn_baseline import check_baseline
from utils.datasets.numbered_files import common_size, need_the_same, number_of, numbered, picture_size
from utils.datasets.options import ReaderOptions
from utils.datasets.source import DepthMap, Finding, Frame, Lens, Source
from utils.errors import InputError
from utils.geometry import rigid
from utils.images import read_map, read_rgb
from utils.types import BoolArray, FloatArray, Side

_IMAGES: dict[Side, tuple[str, ...]] = {"left": ("image01", "color"), "right": ("image02",)}
_DEPTH: dict[Side, tuple[str, ...]] = {"left": ("depth01", "depth"), "right": ("depth02",)}
_CALIBRATION = ("intrinsics.txt", "extrinsics.txt")
_BLACK = 8  # grey levels up to which a pixel of the border counts as black: JPEG is not exact


def looks_like(folder: Path) -> bool:
    """Whether the folder is a sequence of rectified Hamlyn."""
    home = _home(folder)
    return (home / "image01").is_dir() or ((home / "color").is_dir() and (home / "intrinsics.txt").exists())


def read(folder: Path, options: ReaderOptions) -> Source:
    """Read one sequence.

    Raises:
        InputError: a part is missing, damaged, or does not fit the others.
    """
    home = _home(folder)
    images = {side: _files(home, names, (".jpg", ".png")) for side, names in _IMAGES.items()}
    depth = {side: _files(home, names, (".png",)) for side, names in _DEPTH.items()}
    if not images["left"]:
        raise InputError(
            f"{folder} is no sequence of rectified Hamlyn",
            found="no images in image01 or color",
            expected="image01/0000000000.jpg …, image02, depth01, depth02",
            do="give the folder rectifiedNN of the release",
        )
    sides: tuple[Side, ...] = ("left", "right") if images["right"] else ("left",)
    if images["right"]:
        need_the_same(images["left"], images["right"], "image of the other eye")
    numbers = list(images["left"])
    chosen = [numbers[position] for position in options.chosen(len(numbers))]
    size = common_size(images[side][number] for side in sides for number in chosen)
    matrix = _intrinsics(home)
    findings = [
        *_matrix_findings(matrix, size),
        *_depth_findings(home, images["left"], depth["left"], chosen, size),
    ]
    black = _black_border(read_rgb(images["left"][chosen[0]]))
    scale = options.depth_scale or 1.0
    frames = tuple(_frame(number, images, depth, sides, scale, black.mean() > 0.02) for number in chosen)
    if black.mean() > 0.02:
        words = f"{100 * black.mean():.0f} % of the first image; not tissue: depth means nothing there"
        findings.append(Finding("ok", "black border", words))
    baseline_mm = None
    if "right" in sides:
        baseline_mm, about = _baseline(home, options)
        findings += [*about, *check_baseline(frames, matrix, baseline_mm)]
    apart = None if baseline_mm is None else rigid(np.eye(3), np.array([-baseline_mm, 0.0, 0.0]))
    return Source(
        kind="hamlyn",
        folder=folder,
        frames=frames,
        image_size=size,
        lenses={side: Lens(matrix) for side in sides},
        right_from_left=apart,
        metric=baseline_mm is not None,
        reads=tuple(path for name in _CALIBRATION if (path := _calibration_file(home, name))),
        findings=tuple(findings),
    )


def _home(folder: Path) -> Path:
    """Return the folder with the images: the release repeats the sequence's name, rectified01/rectified01."""
    inner = folder / folder.resolve().name
    return inner if inner.is_dir() else folder


def _files(home: Path, names: tuple[str, ...], endings: tuple[str, ...]) -> dict[int, Path]:
    for name in names:
        found = numbered(path for ending in endings for path in (home / name).glob(f"*{ending}"))
        if found:
            return found
    return {}


def _frame(
    number: int,
    images: dict[Side, dict[int, Path]],
    depth: dict[Side, dict[int, Path]],
    sides: tuple[Side, ...],
    scale: float,
    bordered: bool,
) -> Frame:
    maps: dict[Side, DepthMap] = {
        side: partial(_depth_of, depth[side][number], images[side][number], scale)
        for side in sides
        if number in depth[side]
    }
    return Frame(
        images["left"][number].stem,
        {side: images[side][number] for side in sides},
        tissue={side: partial(_tissue_of, images[side][number]) for side in sides} if bordered else {},
        depth_mm=maps,
    )


def _depth_of(path: Path, image: Path, scale: float) -> NDArray[np.float32]:
    """Return (h, w) z-depth, mm, of a 16-bit PNG in whole mm; NaN where it is 0."""
    stored = read_map(path)
    if stored.dtype != np.uint16 or stored.shape[::-1] != picture_size(image):
        raise InputError(
            f"{path} is no depth map of its image",
            found=f"{stored.dtype} of {stored.shape[1]}x{stored.shape[0]}",
            expected=f"16-bit grey, the size of {image.name}",
            do="get the file again",
        )
    return np.where(stored > 0, np.float32(scale) * stored, np.nan).astype(np.float32)


def _black_border(image: NDArray[np.uint8]) -> BoolArray:
    """Return (h, w): black and connected to the image's border by black."""
    black = (image.max(axis=-1) <= _BLACK).astype(np.uint8)
    _, labels = cv2.connectedComponents(black, connectivity=4)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.unique(edge[edge > 0])
    return np.isin(labels, touching)


def _tissue_of(path: Path) -> BoolArray:
    return ~_black_border(read_rgb(path))


def _numbers(path: Path, shapes: tuple[tuple[int, int], ...]) -> FloatArray:
    """Read a matrix of one of the shapes from a text file. Raises InputError."""
    try:
        values = np.array([float(word) for word in path.read_text().replace(",", " ").split()])
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise _no_matrix(path, f"{type(error).__name__}: {error}", shapes) from error
    for rows, columns in shapes:
        if values.size == rows * columns and np.isfinite(values).all():
            return values.reshape(rows, columns)
    raise _no_matrix(path, f"{values.size} numbers", shapes)


def _no_matrix(path: Path, found: str, shapes: tuple[tuple[int, int], ...]) -> InputError:
    return InputError(
        f"{path} cannot be read",
        found=found,
        expected="a matrix of " + " or ".join(f"{rows}x{columns}" for rows, columns in shapes) + " numbers",
        do="put the release's calibration there: calibration/NN/intrinsics.txt, extrinsics.txt",
    )


def _calibration_file(home: Path, name: str) -> Path | None:
    """Return a calibration file of the sequence: beside its images, or in the release's folder calibration/NN."""
    number = number_of(home.resolve().name)
    places = [home, home.parent]
    if number is not None:
        places += [up / "calibration" / f"{number:02d}" for up in (home, home.parent, home.parent.parent)]
    return next((place / name for place in places if (place / name).exists()), None)


def _intrinsics(home: Path) -> FloatArray:
    path = _calibration_file(home, "intrinsics.txt")
    if path is None:
        raise _no_matrix(home / "intrinsics.txt", "no such file, and none in calibration/NN", ((3, 3), (3, 4)))
    matrix = _numbers(path, ((3, 3), (3, 4)))[:, :3]
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or abs(matrix[2, 2] - 1) > 1e-6:
        raise _no_matrix(path, f"fx {matrix[0, 0]:g}, fy {matrix[1, 1]:g}", ((3, 3), (3, 4)))
    return matrix


def _baseline(home: Path, options: ReaderOptions) -> tuple[float | None, list[Finding]]:
    if options.baseline_mm is not None:
        return options.baseline_mm, [Finding("ok", "baseline", f"{options.baseline_mm:g} mm, as given")]
    path = _calibration_file(home, "extrinsics.txt")
    if path is None:
        return None, []
    length = float(np.linalg.norm(_numbers(path, ((3, 4), (4, 4)))[:3, 3]))
    words = f"{length:.3f} mm: the length of the translation in extrinsics.txt, which rectifying keeps"
    return length, [Finding("ok", "baseline", words)]


def _matrix_findings(matrix: FloatArray, size: tuple[int, int]) -> list[Finding]:
    off = max(abs(matrix[axis, 2] - size[axis] / 2) / size[axis] for axis in (0, 1))
    if off <= 0.2:
        return []
    centre = f"({matrix[0, 2]:.0f}, {matrix[1, 2]:.0f})"
    words = f"the optical centre {centre} is far from the middle of {size[0]}x{size[1]}"
    return [Finding("warn", "intrinsics", words, "are they of images of another size, or of the cropped release?")]


def _depth_findings(
    home: Path, images: dict[int, Path], depth: dict[int, Path], chosen: list[int], size: tuple[int, int]
) -> list[Finding]:
    if not depth:
        return [Finding("warn", "depth", "no depth01: nothing to compare with")]
    need_the_same({number: images[number] for number in chosen}, _only(depth, chosen), "depth map")
    if common_size([depth[chosen[0]]]) != size:
        raise InputError(
            f"{depth[chosen[0]]} has another size than the images",
            found="{}x{}".format(*common_size([depth[chosen[0]]])),
            expected=f"{size[0]}x{size[1]}",
            do="put the files of one release together",
        )
    network = (home / "color").is_dir() and not (home / "image01").is_dir()
    made = "a network (the release for tracking)" if network else "stereo matching (libelas) of these very pairs"
    words = f"made by {made}, in whole mm: no independent truth, and it shares the errors of any matcher"
    return [Finding("warn", "depth", words, "report differences to it as agreement, not as error")]


def _only(files: dict[int, Path], chosen: list[int]) -> dict[int, Path]:
    return {number: files[number] for number in chosen if number in files}
