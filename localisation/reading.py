"""Read the images to be located, and bring them to the cameras of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from localisation.query import Eye, Query
from utils.artifacts import damaged, read_json
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.images import find_map, read_mask, read_rgb
from utils.scene import Scene
from utils.types import BoolArray, Camera, Side
from utils.undistortion import Lens, bring_to_camera


@dataclass(frozen=True)
class Files:
    """The files of one query; `masks` are tissue = nonzero, None: the tissue of the run's own images."""

    name: str
    left: Path
    right: Path | None
    masks: dict[Side, Path | None]


def list_queries(left: Sequence[Path], right: Sequence[Path], masks: Path | None) -> list[Files]:
    """Pair the files of left and right images, in the order in which they are given.

    Args:
        masks: a folder with `<image>.png`, or `mask_l` and `mask_r` in it; None: no masks.

    Raises:
        InputError: another number of right images, two images of one name, a folder without a mask.
    """
    if right and len(right) != len(left):
        raise InputError(
            "left and right images do not pair up",
            found=f"{len(left)} left, {len(right)} right",
            expected="a right image for every left one, in the same order",
            do="give as many of each, or leave --right out",
        )
    names = [path.stem for path in left]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            "two images have one name",
            found=", ".join(twice[:5]),
            expected="names that tell the images apart: results are kept under them",
            do="rename them, or locate them in two calls with another --out",
        )
    return [
        Files(
            path.stem,
            path,
            right[k] if right else None,
            {"left": _mask(masks, "l", path), "right": _mask(masks, "r", right[k]) if right else None},
        )
        for k, path in enumerate(left)
    ]


def _mask(folder: Path | None, side: str, image: Path) -> Path | None:
    if folder is None:
        return None
    inside = folder / f"mask_{side}"
    found = find_map(inside if inside.is_dir() else folder, image.stem, (".png", ".tif", ".tiff"))
    if found is None:
        raise InputError(
            f"{image.name} has no mask",
            found=f"no {image.stem}.png in {inside if inside.is_dir() else folder}",
            expected="a mask for every image, tissue = nonzero",
            do="add it, or leave --masks out",
        )
    return found


@dataclass(frozen=True, eq=False)
class Reader:
    """The cameras of a run as its stage `scene` recorded them, and the tissue that its images have in common."""

    dataset: Scene
    lenses: dict[Side, Lens]
    tissue: dict[Side, BoolArray]

    @staticmethod
    def of(dataset: Scene) -> Reader:
        """Read the lenses of the stored images, and where any training mask has tissue: nothing else is used."""
        path = dataset.folder / "frames.json"
        try:
            lenses: dict[Side, Lens] = {
                side: Lens(Camera(**lens["camera"]), tuple(lens["distortion"]))
                for side, lens in read_json(path)["lenses"].items()
            }
        except (KeyError, TypeError) as error:
            raise damaged(path, error) from error
        return Reader(dataset, lenses, {side: dataset.ever_tissue(side) for side in dataset.sides})

    def check(self, files: Files) -> None:
        """Raise InputError where an image is none, or of another size than the run's."""
        for side, path in self._sides(files):
            self.check_image(side, path)

    def check_image(self, side: Side, path: Path) -> None:
        """Raise InputError where a file is no image, or one of another size than the run's."""
        size, camera = _size(path), self.dataset.rig.camera(side)
        stored = self.lens(side).camera
        if size not in ((stored.width, stored.height), (camera.width, camera.height)):
            raise InputError(
                f"{path} is no image of this run's {side} camera",
                found=f"{size[0]}x{size[1]}",
                expected=f"{stored.width}x{stored.height}, the size of the images that the run was made from",
                do="take images of the same camera at the same resolution",
            )

    def lens(self, side: Side) -> Lens:
        """Return the lens of an eye's stored images: without one, that of the scene's camera."""
        return self.lenses.get(side, Lens(self.dataset.rig.camera(side)))

    def brought(self, side: Side, values: NDArray[np.uint8], *, nearest: bool = False) -> NDArray[np.uint8]:
        """Return an image, or with `nearest` a mask, undistorted and resized as the run's own were.

        One of the size that the run works in, where that is not the size of its stored images, is taken as
        undistorted and resized already.
        """
        lens, camera = self.lens(side), self.dataset.rig.camera(side)
        if values.shape[:2] != (lens.camera.height, lens.camera.width):
            return values
        return np.asarray(bring_to_camera(values, lens, camera, nearest=nearest), np.uint8)

    def read(self, files: Files) -> Query:
        """Return a query with the images as the run's cameras see them, and what of them is usable."""
        eyes = []
        for side, path in self._sides(files):
            camera, image = self.dataset.rig.camera(side), read_rgb(path)
            usual = self.tissue[side] if side in self.tissue else np.ones((camera.height, camera.width), bool)
            mask_path = files.masks[side]
            tissue = usual if mask_path is None else usual & self._mask(side, mask_path, image, path)
            eye_from_left = invert_rigid(self.dataset.rig.left_from(side))
            eyes.append(Eye.of(side, camera, eye_from_left, self.brought(side, image), tissue))
        return Query(files.name, tuple(eyes))

    def _mask(self, side: Side, path: Path, image: NDArray[np.uint8], image_path: Path) -> BoolArray:
        mask = read_mask(path)
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"{path} does not fit its image",
                found=f"{mask.shape[1]}x{mask.shape[0]}",
                expected=f"{image.shape[1]}x{image.shape[0]} like {image_path.name}",
                do="write the mask again",
            )
        return self.brought(side, mask.astype(np.uint8), nearest=True) > 0

    def _sides(self, files: Files) -> list[tuple[Side, Path]]:
        sides: list[tuple[Side, Path]] = [("left", files.left)]
        if files.right is None:
            return sides
        if not self.dataset.rig.stereo:
            raise InputError(
                "--right means nothing here",
                found="a run whose right eye is not calibrated",
                expected="a stereo rig",
                do="leave --right out",
            )
        return [*sides, ("right", files.right)]


def _size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image without decoding it."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"{path} cannot be read as an image",
            found="no such file" if not path.exists() else " ".join(str(error).split())[:120],
            expected="a png, jpg or tif image",
            do="correct the path, or write it again",
        ) from error
