"""Turn labelme annotations beside a scene's images into its tissue masks, with overlays to look at.

`python -m utils.json2png SCENE --image_dir images|rectify --labels tissue --class_map labels.txt --overwrite`
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from utils.commands import answer
from utils.errors import InputError
from utils.images import IMAGE_ENDINGS, find_map, frame_name, list_images, read_rgb, write_rgb
from utils.label_coding import BACKGROUND, IGNORE, Coding, code_classes, code_tissue
from utils.labelme_shapes import Annotation, paint, read_annotation
from utils.types import BoolArray

EYES = ("l", "r")
OVERLAYS = "images_vis"
PARTIAL = "json2png.partial"


@dataclass(frozen=True)
class Annotated:
    """An annotated image of one eye (l or r), of whose left `cut_px` columns were cut off."""

    eye: str
    frame: str
    cut_px: int
    image: Path
    annotation: Annotation

    @property
    def mask(self) -> Path:
        """Where its mask belongs inside the scene."""
        return Path(f"mask_{self.eye}", f"{self.frame}.png")

    @property
    def overlay(self) -> Path:
        """Where its overlay belongs inside the scene."""
        return Path(self.eye, OVERLAYS, f"{self.frame}.jpg")


def convert(
    scene: Path,
    image_dir: str,
    labels: Sequence[str] = (),
    class_map: Path | None = None,
    *,
    overwrite: bool = False,
) -> str:
    """Write masks and overlays of all annotated images of a scene; return in words what was written.

    Args:
        scene: the dataset folder.
        image_dir: `images`, or `rectify`, whose files are called `<frame>_<cut>`.
        labels: the labels that are tissue; none: all but labelme's own two.
        class_map: labelme's labels.txt; the masks then hold class indices.
        overwrite: whether masks that exist are replaced.

    Raises:
        InputError: anything that does not fit together; nothing is changed then.
    """
    annotated = find_annotated(scene, image_dir)
    if not overwrite:
        _refuse_to_overwrite(scene, annotated)
    coding = choose_coding(annotated, labels, class_map)
    partial = scene / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for one in tqdm(annotated, desc="masks", unit="image", disable=None):
            _write(one, coding, partial)
        _publish(partial, scene)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _summary(scene, image_dir, annotated, coding)


def _summary(scene: Path, image_dir: str, annotated: Sequence[Annotated], coding: Coding) -> str:
    counts = []
    for eye in EYES:
        masks, images = sum(one.eye == eye for one in annotated), len(list_images(scene / eye / image_dir))
        rest = " (the others are all tissue)" if masks < images else ""
        counts.append(f"{masks} of {images} in mask_{eye}{rest}")
    return f"{scene}: masks for {', '.join(counts)}; tissue is {', '.join(sorted(coding.tissue))}"


def find_annotated(scene: Path, image_dir: str) -> list[Annotated]:
    """List the images of both eyes that have an annotation beside them: 1.json beside 1.jpg.

    Raises:
        InputError: no annotation, one without its image or that cannot be read, two images of one frame.
    """
    annotated = []
    for eye in EYES:
        folder = scene / eye / image_dir
        frames: dict[str, Path] = {}
        for image in list_images(folder):
            frame, cut_px = frame_name(image, image_dir)
            if frame in frames:
                raise InputError(
                    f"{folder}: frame {frame} has two images",
                    found=f"{frames[frame].name} and {image.name}",
                    expected="one image a frame",
                    do=f"take {image.name} out, or rename it",
                )
            frames[frame] = image
            if (path := image.with_suffix(".json")).exists():
                annotated.append(Annotated(eye, frame, cut_px, image, read_annotation(path)))
        _refuse_strays(folder, list(frames.values()))
    if not annotated:
        raise InputError(
            f"{scene} has no annotations",
            found=f"no json file in l/{image_dir} and r/{image_dir}",
            expected=f"the files of labelme beside the images: l/{image_dir}/1.json beside 1.jpg",
            do="save the annotations there, or correct the folder's name and --image_dir",
        )
    return annotated


def _refuse_strays(folder: Path, images: Sequence[Path]) -> None:
    """Refuse an annotation that belongs to no image: its frame would pass for all tissue."""
    names = {image.stem for image in images}
    strays = sorted(path.name for path in folder.glob("*.json") if path.stem not in names)
    if strays:
        raise InputError(
            f"{folder}: {strays[0]} belongs to no image",
            found=f"{len(strays)} json files without their image",
            expected="the name of an image, with .json in the place of its ending",
            do=f"rename {strays[0]}, or move it elsewhere",
        )


def _refuse_to_overwrite(scene: Path, annotated: Sequence[Annotated]) -> None:
    for one in annotated:
        mask = find_map(scene / one.mask.parent, one.frame, IMAGE_ENDINGS)
        if mask is not None:
            raise InputError(
                f"{mask} exists",
                found="a mask of an annotated image",
                expected="no mask yet",
                do="give --overwrite to replace it, or move it elsewhere",
            )


def choose_coding(annotated: Sequence[Annotated], labels: Sequence[str], class_map: Path | None) -> Coding:
    """Say which value each label gets. Raises InputError for labels that nobody drew or that have no class."""
    drawn = {shape.label: one.annotation.path for one in annotated for shape in one.annotation.shapes}
    for label in labels:
        if label not in drawn:
            raise InputError(
                f"--labels {label}: no shape is called so",
                found=f"the labels {', '.join(sorted(drawn)) or '(none)'}",
                expected="labels that were drawn",
                do="correct --labels",
            )
    tissue = frozenset(labels or drawn) - {IGNORE, BACKGROUND}
    return code_tissue(drawn, tissue) if class_map is None else code_classes(drawn, tissue, class_map)


def _write(one: Annotated, coding: Coding, folder: Path) -> None:
    """Write one mask and its overlay below `folder`. Raises InputError for a wrong size or no tissue."""
    image = read_rgb(one.image)
    size = (image.shape[1], image.shape[0])
    if one.annotation.size not in (None, size):
        raise _wrong_size(one, size)
    painted = paint(one.annotation, size, coding.values)
    tissue = coding.tissue_in(painted)
    if not tissue.any():
        raise InputError(
            f"{one.annotation.path} marks no tissue",
            found=f"the labels {', '.join(sorted({s.label for s in one.annotation.shapes})) or '(none)'}",
            expected=f"a pixel of {', '.join(sorted(coding.tissue)) or 'any tissue'} that no later shape covers",
            do="draw the tissue, remove the file (all is tissue), or take the frame out of the dataset",
        )
    (folder / one.mask).parent.mkdir(parents=True, exist_ok=True)
    coding.encode(painted).save(folder / one.mask)
    write_rgb(folder / one.overlay, draw_overlay(image, tissue, coding.colours[painted]))


def _wrong_size(one: Annotated, size: tuple[int, int]) -> InputError:
    assert one.annotation.size is not None
    width, height = one.annotation.size
    before_cut = one.cut_px > 0 and (width, height) == (size[0] + one.cut_px, size[1])
    return InputError(
        f"{one.annotation.path} was drawn on an image of another size than {one.image.name}",
        found=f"{width}x{height}" + (f", the size before {one.cut_px} px were cut off" if before_cut else ""),
        expected=f"{size[0]}x{size[1]}, the size of the stored image",
        do=f"draw it on {one.image.name} as it is stored",
    )


def draw_overlay(image: NDArray[np.uint8], tissue: BoolArray, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture for eyes: the image, tinted by `colours` (black: not), a white line around tissue."""
    tinted = colours.any(axis=-1)
    picture = image.copy()
    picture[tinted] = (0.6 * image[tinted] + 0.4 * colours[tinted]).astype(np.uint8)
    picture[cv2.morphologyEx(tissue.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = 255
    return picture


def _publish(partial: Path, scene: Path) -> None:
    """Move finished files to their places: all folders are made before the first file moves."""
    files = [path for path in sorted(partial.rglob("*")) if path.is_file()]
    for path in files:
        (scene / path.relative_to(partial)).parent.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.move(path, scene / path.relative_to(partial))


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Return the exit status: 0 done, 2 a mistake in the input or a disk in trouble."""
    parser = argparse.ArgumentParser(prog="python -m utils.json2png", description="Turn labelme JSON into masks.")
    parser.add_argument("scene", type=Path, help="dataset folder, with l/images/1.json beside l/images/1.jpg")
    parser.add_argument("--image_dir", choices=("images", "rectify"), default="images", help="default images")
    parser.add_argument("--labels", nargs="+", default=[], help=f"tissue; default all but {BACKGROUND}, {IGNORE}")
    parser.add_argument("--class_map", type=Path, help="labelme's labels.txt: write class indices")
    parser.add_argument("--overwrite", action="store_true", help="replace masks that exist")
    given = parser.parse_args(arguments)
    return answer(
        lambda: convert(given.scene, given.image_dir, given.labels, given.class_map, overwrite=given.overwrite)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
