"""OpenCV stereo files, `calib.yaml`: their matrices as they stand there, and writing one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.errors import InputError
from utils.types import FloatArray

KEYS = ("M1", "D1", "M2", "D2", "R", "T", "image_size")


def read_matrices(path: Path) -> dict[str, FloatArray]:
    """Return the matrices and lists of numbers of an OpenCV file by key. Raises InputError where it is none."""
    values: dict[str, FloatArray] = {}
    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
        for key in KEYS:
            node = storage.getNode(key)
            if node.empty():
                continue
            if node.isSeq():
                values[key] = np.array([node.at(i).real() for i in range(node.size())], float)
            elif (matrix := node.mat()) is not None:
                values[key] = np.asarray(matrix, float)
        storage.release()
    except (cv2.error, SystemError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read as an OpenCV calibration",
            found=reason.split("error: ", 1)[-1][:200],
            expected="a file written by cv2.FileStorage: it starts with `%YAML:1.0`, then `---`",
            do="write it with cv2.FileStorage(path, cv2.FILE_STORAGE_WRITE), matrices as !!opencv-matrix",
        ) from error
    return values


def write_matrices(
    path: Path,
    eyes: Sequence[tuple[FloatArray, Sequence[float]]],
    right_from_left: FloatArray | None,
    size: tuple[int, int],
) -> None:
    """Write the calibration of one or two eyes.

    Args:
        path: the file, written as a whole or not at all.
        eyes: left, right: matrix (3, 3), px, and OpenCV's distortion terms (none: five zeros).
        right_from_left: (4, 4), mm; None for one eye.
        size: (width, height) of the images, px.
    """
    partial = path.with_name(f"partial_{path.name}")  # OpenCV chooses the format by the ending
    storage = cv2.FileStorage(str(partial), cv2.FILE_STORAGE_WRITE)
    if not storage.isOpened():
        raise OSError(f"{partial} cannot be written")
    for number, (matrix, distortion) in enumerate(eyes, 1):
        storage.write(f"M{number}", np.asarray(matrix, float))
        storage.write(f"D{number}", np.array([list(distortion) or [0.0] * 5]))
    if right_from_left is not None:
        storage.write("R", np.asarray(right_from_left[:3, :3], float))
        storage.write("T", np.asarray(right_from_left[:3, 3:], float))
    storage.write("image_size", np.array([size], np.int32))
    storage.release()
    os.replace(partial, path)
