"""Read scenes in LLFF's layout: photographs, and `poses_bounds.npy` with a pose and two depth bounds each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from utils.datasets import endonerf
from utils.datasets.check_matches import CLEARLY, EXPLAINED, explained, match
from utils.datasets.files import list_files, name_frames
from utils.datasets.options import ReaderOptions
from utils.datasets.samples import spread
from utils.datasets.source import Finding, Frame, Lens, Source
from utils.datasets.splits import read_lists
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import IMAGE_ENDINGS, read_rgb
from utils.llff_rows import POSES_BOUNDS, read_rows, row_camera, world_from_camera
from utils.map_header import image_size
from utils.types import Camera, FloatArray

KIND = "llff"
FOLDERS = ("images", "l/images", "images_2", "images_4", "images_8")
_SAME_SHAPE = 0.01  # relative difference of aspect ratios that rounding explains
_MOVES = 1e-6


def looks_like(folder: Path) -> bool:
    """Whether there are rows of poses and images, and it is not EndoNeRF's layout."""
    images = any((folder / name).is_dir() for name in FOLDERS if name != "l/images")
    return images and (folder / POSES_BOUNDS).is_file() and not endonerf.looks_like(folder)


def read(folder: Path, options: ReaderOptions) -> Source:
    """Return a scene. Raises InputError where files are missing or do not fit together."""
    place = next((name for name in FOLDERS if list_files(folder / name, IMAGE_ENDINGS)), None)
    if place is None or not (folder / POSES_BOUNDS).is_file():
        raise InputError(
            f"{folder} is no LLFF scene",
            found="no images" if place is None else f"no {POSES_BOUNDS}",
            expected=f"{POSES_BOUNDS} and images (or images_4, images_8)",
            do="give the folder that holds both",
        )
    images = name_frames(list_files(folder / place, IMAGE_ENDINGS))
    rows = read_rows(folder / POSES_BOUNDS)
    if len(rows) != len(images):
        raise InputError(
            f"{folder / POSES_BOUNDS} does not belong to these images",
            found=f"{len(rows)} rows, {len(images)} images in {place}",
            expected="one row an image",
            do="put the images back that the file was made for; --start, --stop and --every take some of them",
        )
    size = image_size(next(iter(images.values())))
    camera, findings = _camera(rows, size)
    lens = Lens(camera.matrix)
    order, said = _order(list(images.values()), rows, lens)
    poses = world_from_camera(rows)[order]
    chosen = list(options.chosen(len(images)))
    names = [list(images)[index] for index in chosen]
    train, test = read_lists(folder, names)
    extent = np.linalg.norm(np.ptp(poses[:, :3, 3], axis=0))
    return Source(
        kind=KIND,
        folder=folder,
        frames=tuple(Frame(name, {"left": images[name]}) for name in names),
        image_size=size,
        lenses={"left": lens},
        world_from_left=poses[chosen],
        metric=False,
        train=train,
        test=test,
        moving_camera=bool(extent > _MOVES * rows[:, 15:].mean()),
        findings=(*findings, *said, _bounds(rows)),
    )


def _camera(rows: FloatArray, size: tuple[int, int]) -> tuple[Camera, list[Finding]]:
    """Return the one camera in the size of the images, and what had to be assumed."""
    camera = row_camera(rows[0])
    findings = [Finding("ok", "principal point", "the file has none: the image's centre (w - 1)/2, (h - 1)/2")]
    spread = float(np.ptp(rows[:, 14]) / rows[0, 14])
    if spread > 1e-3:
        words = f"focal lengths differ by {100 * spread:.2g} % between images: the first one's is taken"
        findings.append(Finding("warn", "focal length", words, "undistort the images to one camera"))
    if (camera.width, camera.height) == size:
        return camera, findings
    said = f"the file was written for {camera.width}x{camera.height}, the images have {size[0]}x{size[1]}"
    if abs(size[0] / size[1] * camera.height / camera.width - 1) > _SAME_SHAPE:
        do = "use the images that it was made from, or a scaled copy of them"
        return camera.resized(*size), [Finding("refuse", "image size", f"{said}: another shape", do)]
    return camera.resized(*size), [*findings, Finding("ok", "image size", f"{said}: the focal length is scaled")]


def _order(files: list[Path], rows: FloatArray, lens: Lens) -> tuple[list[int], list[Finding]]:
    """Return which row belongs to which image (in natural order), and why.

    imgs2poses sorts names letter by letter (1, 10, 11, ..., 2); files that were numbered later may follow the
    numbers. The images tell: under the right order their matches lie where the poses put them.
    """
    natural = list(range(len(files)))
    letters = sorted(natural, key=lambda index: files[index].name)
    if letters == natural:
        return natural, []
    by_letter = [letters.index(index) for index in natural]
    poses = world_from_camera(rows)
    shares = [_explained(files, poses[order], lens, spread(len(files) - 1, 5)) for order in (natural, by_letter)]
    found = f"{shares[0]:.0%} of the matches fit if rows follow the numbers (1, 2, ..., 10), "
    found += f"{shares[1]:.0%} if they follow the letters (1, 10, ..., 2)"
    if max(shares) > EXPLAINED and abs(shares[0] - shares[1]) > CLEARLY:
        numbers = shares[0] > shares[1]
        words = f"{found}: by {'number' if numbers else 'letter'}"
        return natural if numbers else by_letter, [Finding("ok", "order of rows", words)]
    words = f"{found}: that does not tell; by letter, as imgs2poses writes them"
    do = "give the files names of equal length, such as 001.jpg, in the order of the rows"
    return by_letter, [Finding("warn", "order of rows", words, do)]


def _explained(files: list[Path], world_from_camera: FloatArray, lens: Lens, places: list[int]) -> float:
    """Return the mean share of matches that poses explain, of some images with the next one; 0 for too few."""
    shares = []
    for index in places:
        next_from_this = invert_rigid(world_from_camera[index + 1]) @ world_from_camera[index]
        matches = match(read_rgb(files[index]), read_rgb(files[index + 1]))
        shares.append(explained(matches, lens, lens, next_from_this))
    known = [share for share in shares if np.isfinite(share)]
    return float(np.mean(known)) if known else 0.0


def _bounds(rows: FloatArray) -> Finding:
    near, far = rows[:, 15].min(), rows[:, 16].max()
    if near <= 0 or far <= near:
        return Finding("warn", "depth bounds", f"{near:.4g} to {far:.4g}: not a range in front of the cameras")
    return Finding("ok", "depth bounds", f"{near:.4g} to {far:.4g} in the file's unit, which is unknown")
