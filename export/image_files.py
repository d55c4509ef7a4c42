"""Put the images of cameras beside a camera file: named where they are, copied, linked, or cut out as RGBA."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.camera_set import CameraSet
from export.formats.run_folder import depth_of, tissue_of
from utils.errors import InputError
from utils.images import read_rgb, resize_mask, without_ending, write_rgb
from utils.types import BoolArray

POLICIES = ("reference", "copy", "link", "rgba", "none")
ALPHAS = ("tissue", "depth")


@dataclass(frozen=True)
class ImageOrder:
    """How images reach a format.

    `policy` is one of POLICIES; `layout` places an image by its number and name; `run` is where masks and depth
    come from for RGBA, whose background is what `alpha` says: outside the tissue, or of unknown depth.
    """

    policy: str
    layout: Callable[[int, str], str]
    run: Path | None = None
    alpha: str = "tissue"

    def names(self, cameras: CameraSet, final: Path) -> list[str]:
        """Return the images as a file in the folder `final` names them."""
        if self.policy == "reference":
            return [_relative(image, final) for image in self._known(cameras)]
        names = [self.layout(index, name) for index, name in enumerate(cameras.names)]
        if self.policy == "rgba":
            names = [f"{without_ending(name)}.png" for name in names]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(
                "two images would get the same name",
                found=twice,
                expected="names that differ without their folders above and their ending",
                do="choose a format that refers to images, or rename them",
            )
        return names

    def place(self, cameras: CameraSet, folder: Path, final: Path) -> None:
        """Write the images into `folder`, which will be moved to `final`.

        Raises:
            InputError: an image is missing or broken, cannot be linked, or has no mask or depth.
        """
        if self.policy in ("reference", "none"):
            return
        places = zip(cameras.names, self._known(cameras), self.names(cameras, final), strict=True)
        for name, image, place in tqdm(list(places), desc="images", unit="image", disable=None):
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.policy == "rgba":
                write_rgba(target, read_rgb(image), self._inside(name))
            elif self.policy == "link":
                _link(image, target, final / place)
            elif target.suffix.lower() == image.suffix.lower():
                shutil.copyfile(image, target)
            else:
                write_rgb(target, read_rgb(image))

    def _known(self, cameras: CameraSet) -> list[Path]:
        found = [image for image in cameras.images if image is not None]
        if len(found) == len(cameras.names):
            return found
        missing = [name for name, image in zip(cameras.names, cameras.images, strict=False) if image is None]
        raise InputError(
            f"--images {self.policy}: the images were not found",
            found=f"{len(found)} images of {len(cameras.names)} cameras; not {', '.join(missing[:3]) or 'one'}",
            expected="an image of every camera, where the source names it",
            do="use --images none, or put the images where the source names them",
        )

    def _inside(self, name: str) -> BoolArray:
        """Return what is not background (h, w), in the size of the mask or of the depth map."""
        if self.run is None:
            raise InputError(
                "--images rgba: nothing says what is background",
                found="a camera file",
                expected="a run of Specula, which has masks and depth",
                do="convert the run, or use --images copy",
            )
        if self.alpha == "tissue":
            return tissue_of(self.run, name)
        depth = depth_of(self.run, name)
        if depth is None:
            raise InputError(
                f"--alpha depth: {self.run} has no depth of {name}",
                found="no map in filter, render or prior",
                expected="a run that has come as far as its prior",
                do="finish the run, or use --alpha tissue",
            )
        return np.asarray(np.isfinite(depth))


def write_rgba(path: Path, image: NDArray[np.uint8], inside: BoolArray) -> None:
    """Write an image (h, w, 3) as PNG with alpha 255 inside; outside all four channels are 0.

    `inside` (any size) grows to the image by nearest neighbour: interpolated, unknown depth would become known.
    """
    height, width = image.shape[:2]
    if inside.shape != (height, width):
        inside = resize_mask(inside, width, height)
    alpha = np.where(inside, 255, 0).astype(np.uint8)[..., None]
    write_rgb(path, np.concatenate([np.where(inside[..., None], image, 0).astype(np.uint8), alpha], axis=2))


def _link(image: Path, target: Path, final: Path) -> None:
    """Make a relative link that is right once the target's folder has been moved to its final place."""
    if image.suffix.lower() != final.suffix.lower():
        raise InputError(
            f"--images link: {image.name} cannot become {final.name} by a link",
            found=f"an image of kind {image.suffix}",
            expected=f"{final.suffix}, which this format asks for",
            do="use --images copy, which converts it",
        )
    target.symlink_to(_relative(image, final.parent))


def _relative(image: Path, folder: Path) -> str:
    """Return the way from a folder to an image; `..` leaves the folder that a link leads to, not the link's."""
    return os.path.relpath(image.parent.resolve() / image.name, folder.resolve())
