"""Both eyes' images of a sequence: decoded from a video that stacks them, or files unpacked from it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.datasets.numbered_files import common_size
from utils.datasets.source import Picture
from utils.errors import InputError
from utils.types import Side


@dataclass(frozen=True)
class UnpackedPairs:
    """Image files of both eyes by their number."""

    files: Mapping[Side, Mapping[int, Path]]

    @property
    def numbers(self) -> list[int]:
        """The frames' numbers, ascending."""
        return list(self.files["left"])

    def size(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Return the (width, height) of all images of these frames. Raises InputError where they differ."""
        return common_size(files[number] for files in self.files.values() for number in numbers)

    def picture(self, number: int, side: Side) -> Picture:
        """Return one image's file."""
        return self.files[side][number]


class StackedVideo:
    """A video that is decoded forwards only: what lies before is reached by opening it again.

    Frames are counted by decoding, not by seeking, which some containers answer a few frames off. The last one is
    kept, so that both eyes of one moment cost one decoding.
    """

    def __init__(self, path: Path) -> None:
        """Open the video. Raises InputError where it cannot be decoded."""
        self.path = path
        self._lock = threading.Lock()
        self._capture = self._open()
        self._next = 0
        self._last: tuple[int, NDArray[np.uint8]] | None = None
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if self.count < 1 or not self.width * self.height:
            raise self._refusal(f"{self.count} frames of {self.width}x{self.height}")

    @property
    def numbers(self) -> list[int]:
        """The frames' numbers, from 0."""
        return list(range(self.count))

    def size(self, numbers: Sequence[int] = ()) -> tuple[int, int]:  # noqa: ARG002 - one size for all frames
        """Return (width, height) of one eye: half the frame along the axis that both eyes share."""
        if self.stacked_in_rows():
            return self.width, self.height // 2
        return self.width // 2, self.height

    def picture(self, number: int, side: Side) -> Picture:
        """Return what decodes one image when it is asked for."""
        return partial(self.eye, number, side)

    def stacked_in_rows(self) -> bool:
        """Whether the left eye is above the right one; otherwise it is left of it."""
        return self.height > self.width

    def eye(self, index: int, side: Side) -> NDArray[np.uint8]:
        """Return (h, w, 3) RGB of one eye at one frame, counted from 0. Raises InputError past the end."""
        with self._lock:
            frame = self._frame(index)
        width, height = self.size()
        if self.stacked_in_rows():
            half = frame[:height] if side == "left" else frame[height:]
        else:
            half = frame[:, :width] if side == "left" else frame[:, width:]
        return np.asarray(cv2.cvtColor(half, cv2.COLOR_BGR2RGB), np.uint8)

    def _frame(self, index: int) -> NDArray[np.uint8]:
        if self._last and self._last[0] == index:
            return self._last[1]
        if index < self._next:
            self._capture.release()
            self._capture, self._next = self._open(), 0
        while self._next < index:
            if not self._capture.grab():
                raise self._refusal(f"it ends after {self._next} frames, and frame {index} is asked for")
            self._next += 1
        decoded, frame = self._capture.read()
        if not decoded:
            raise self._refusal(f"it ends after {self._next} frames, and frame {index} is asked for")
        self._next += 1
        self._last = (index, np.asarray(frame, np.uint8))
        return self._last[1]

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise self._refusal("no video that OpenCV decodes")
        return capture

    def _refusal(self, found: str) -> InputError:
        return InputError(
            f"{self.path} cannot be decoded",
            found=found if self.path.exists() else "no such file",
            expected="a complete video with both eyes in each frame",
            do="get the file again (compare its size with the publisher's), or stop before that frame",
        )


StereoImages = StackedVideo | UnpackedPairs
