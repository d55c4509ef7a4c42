"""List a dataset folder: frames of each eye, masks, train and test names; refuse what does not fit together."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError
from utils.images import IMAGE_ENDINGS, find_map, frame_name, list_images, natural_key, read_rgb
from utils.types import Side

EYE_FOLDER: dict[Side, str] = {"left": "l", "right": "r"}
MASK_FOLDER: dict[Side, str] = {"left": "mask_l", "right": "mask_r"}
_HARMLESS = re.compile(r": [12] extraneous bytes before marker 0xd9")  # padding that some cameras write


@dataclass(frozen=True)
class EyeImages:
    """The images of one eye: frame name -> file, in natural order; `cut_px` columns are missing on the left."""

    folder: Path
    files: dict[str, Path]
    cut_px: int = 0


@dataclass(frozen=True)
class Dataset:
    """What lies in a dataset folder. `names` are frames in natural order, `train` and `test` some of them."""

    folder: Path
    eyes: dict[Side, EyeImages]
    names: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]

    def mask(self, side: Side, name: str) -> Path | None:
        """Return the mask file of one image, None where all is tissue."""
        return find_map(self.folder / MASK_FOLDER[side], name, IMAGE_ENDINGS)


def stray_masks(dataset: Dataset) -> list[str]:
    """Return the mask files that belong to no image, in words, one line an eye.

    Raises:
        InputError: a folder of masks none of which belongs to an image: all would pass for tissue.
    """
    lines = []
    for side, eye in dataset.eyes.items():
        masks = list_images(dataset.folder / MASK_FOLDER[side])
        strays = [path.name for path in masks if path.stem not in eye.files]
        if strays and len(strays) == len(masks):
            first = next(iter(eye.files))
            raise InputError(
                f"{dataset.folder / MASK_FOLDER[side]}: no mask belongs to an image",
                found=", ".join(strays[:3]) + (", ..." if len(strays) > 3 else ""),
                expected=f"the names of the images in {eye.folder}: {first}.png, ...",
                do="rename the masks, or remove the folder: then all is tissue",
            )
        if strays:
            lines.append(f"[warn] {len(strays)} masks in {MASK_FOLDER[side]} belong to no image: {strays[0]}, ...")
    return lines


def read_dataset(folder: Path, image_dir: str, *, use_right: bool, need_right: bool) -> Dataset:
    """List frames and splits.

    Args:
        folder: the dataset.
        image_dir: `images`, or `rectify`, whose files are called `<frame>_<cut>`.
        use_right: whether right images, where there are some, belong to the scene.
        need_right: whether right images must be there.

    Raises:
        InputError: no folder, no images, names without their right image, names in a list without an image.
    """
    if not folder.is_dir():
        raise InputError(
            f"--datadir {folder or '(not given)'}: no such folder",
            found="no folder of this name",
            expected="a folder with l/images, calib.yaml and, for two eyes, r/images",
            do="correct --datadir",
        )
    left = list_eye(folder, "left", image_dir)
    if not left.files:
        raise InputError(
            f"{left.folder} has no images",
            found="no folder" if not left.folder.is_dir() else "a folder without png, jpg or tif files",
            expected="the left images of all frames",
            do=f"put the left images into {left.folder}, or correct --datadir and --image_dir",
        )
    eyes: dict[Side, EyeImages] = {"left": left}
    right = list_eye(folder, "right", image_dir)
    if need_right or (use_right and right.files):
        _require_pairs(left, right, need_right=need_right)
        eyes["right"] = right
    names = tuple(left.files)
    train, test = read_splits(folder, left)
    return Dataset(folder, eyes, names, train, test)


def list_eye(folder: Path, side: Side, image_dir: str) -> EyeImages:
    """List one eye's images by frame name. Raises InputError for two files of one frame or unequal cuts."""
    images = folder / EYE_FOLDER[side] / image_dir
    files: dict[str, Path] = {}
    cuts: dict[str, int] = {}
    for path in list_images(images):
        name, cut = frame_name(path, image_dir)
        if name in files:
            raise InputError(
                f"{images}: frame {name} has two images",
                found=f"{files[name].name} and {path.name}",
                expected="one image a frame; the name without its ending is the frame's name",
                do=f"take {path.name} out, or rename it",
            )
        files[name], cuts[path.name] = path, cut
    first = next(iter(cuts), "")
    for file, cut in cuts.items():
        if cut != cuts[first]:
            raise InputError(
                f"{images}: images with different cuts",
                found=f"{cuts[first]} px cut off {first}, {cut} px off {file}",
                expected="the same cut for all frames of one eye, for they share one camera",
                do="rectify the images of one eye again with one cut",
            )
    ordered = dict(sorted(files.items(), key=lambda item: natural_key(item[0])))
    return EyeImages(images, ordered, cuts.get(first, 0))


def _require_pairs(left: EyeImages, right: EyeImages, *, need_right: bool) -> None:
    """Refuse unless both eyes have the same frames."""
    for eye, other, word in ((left, right, "right"), (right, left, "left")):
        missing = [path for name, path in eye.files.items() if name not in other.files]
        if not missing:
            continue
        here, there = _shown(eye.folder), _shown(other.folder)
        listed = ", ".join(path.name for path in missing[:5]) + (", ..." if len(missing) > 5 else "")
        have = "has" if len(missing) == 1 else "have"
        first = missing[0].name
        left_only = "; for the left eye alone leave --train_binocular out and rename the folder r"
        raise InputError(
            f"{here} has {len(eye.files)} frames, {there} has {len(other.files)}: {listed} {have} no {word} image",
            found=f"{len(missing)} of {len(eye.files)} frames without a {word} image in {other.folder}",
            expected="the same names in both eyes" + (" (--train_binocular needs both)" if need_right else ""),
            do=f"add {there}/{first} or take {first} out of {here}, train.txt and test.txt"
            + (left_only if word == "right" else ""),
        )


def _shown(folder: Path) -> str:
    return "/".join(folder.parts[-2:])


def read_splits(folder: Path, left: EyeImages) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return training and test frames, both in natural order.

    Both files: as they say; frames in neither take no part in training or testing. One file: the other
    list is the rest. No file: frames 0, 8, 16, ... are test; a single frame is a training frame.

    Raises:
        InputError: a listed name without an image, in both lists, or nothing left to train on.
    """
    listed = {kind: _read_list(folder / f"{kind}.txt", left) for kind in ("train", "test")}
    train, test, names = listed["train"], listed["test"], tuple(left.files)
    for name in [name for name in train or () if name in (test or ())]:
        raise InputError(
            f"{left.files[name].name} is in train.txt and in test.txt",
            found=f"the name in both files of {folder}",
            expected="a frame that is trained on or tested on, not both",
            do=f"take {left.files[name].name} out of one of them",
        )
    if train is None and test is None:
        test = names[::8] if len(names) > 1 else ()
    if train is None:
        train = tuple(name for name in names if name not in (test or ()))
    if test is None:
        test = tuple(name for name in names if name not in train)
    if not train:
        raise InputError(
            f"{folder}: no training frame",
            found="train.txt without a name" if listed["train"] is not None else "every frame listed in test.txt",
            expected="at least one frame to train on",
            do="name training frames in train.txt, or remove train.txt and test.txt",
        )
    return train, test


def _read_list(path: Path, left: EyeImages) -> tuple[str, ...] | None:
    """Return the frames that a list names, in natural order; None where there is no such file."""
    if not path.exists():
        return None
    frames = {file.name: name for name, file in left.files.items()}
    frames |= {file.stem: name for name, file in left.files.items()} | {name: name for name in left.files}
    chosen = set()
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").splitlines(), start=1):
        word = line.strip()
        if not word:
            continue
        frame = frames.get(word) or frames.get(_without_ending(word))
        if frame is None:
            raise InputError(
                f"{path}, line {number}: {word} has no image",
                found=f"no {word} among the {len(left.files)} images of {left.folder}",
                expected="names of images that exist, one a line, with or without their ending",
                do=f"add {left.folder / word} or take {word} out of {path.name}",
            )
        chosen.add(frame)
    return tuple(name for name in left.files if name in chosen)


def _without_ending(word: str) -> str:
    stem, dot, ending = word.rpartition(".")
    return stem if dot and f".{ending.lower()}" in IMAGE_ENDINGS else word


def read_checked(path: Path) -> NDArray[np.uint8]:
    """Read an image, and refuse a JPEG or TIFF whose data are damaged in the middle.

    The decoders fill the damaged part with something and only complain on the error stream, so that is
    listened to. Not for use in threads: the stream belongs to the whole process.
    """
    with _error_stream() as heard:
        image = read_rgb(path)
    complaints = [line for line in heard if "Corrupt JPEG" in line or "TIFF_Error" in line]
    complaints = [line for line in complaints if not _HARMLESS.search(line)]
    if complaints:
        raise InputError(
            f"{path} cannot be read as an image",
            found=f"a damaged file: {complaints[0]}",
            expected="a complete png, jpg or tif image",
            do=f"write {path.name} again, or take it out of the dataset (both eyes, train.txt and test.txt)",
        )
    return image


@contextlib.contextmanager
def _error_stream() -> Iterator[list[str]]:
    """Collect what C libraries write to the error stream while the block runs."""
    heard: list[str] = []
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            heard.extend(file.read().decode(errors="replace").splitlines())
