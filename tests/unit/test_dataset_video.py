"""A stacked video is decoded when it is asked for, once, and forwards; archives are read as far as needed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.clinical_world import write_video
from utils.datasets.archives import FrameFiles
from utils.datasets.doctor import examine
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Frame, Lens, Source
from utils.datasets.stacked_video import StackedVideo
from utils.errors import InputError
from utils.types import BoolArray, Side

OPEN = cv2.VideoCapture


class Counting:
    """A cv2.VideoCapture that counts what it decodes."""

    opened = read_frames = grabbed = 0

    def __init__(self, path: str) -> None:
        self._inner = OPEN(path)
        Counting.opened += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self) -> Any:
        Counting.read_frames += 1
        return self._inner.read()

    def grab(self) -> bool:
        Counting.grabbed += 1
        return bool(self._inner.grab())


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackedVideo:
    """Ten frames; the left eye of frame i is all 10 i, the right one 10 i + 5."""
    path = tmp_path / "video.mp4"
    write_video(path, [(grey(10 * index), grey(10 * index + 5)) for index in range(10)])
    Counting.opened = Counting.read_frames = Counting.grabbed = 0
    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    return StackedVideo(path)


def grey(value: int) -> Any:
    return np.full((32, 48, 3), value, np.uint8)


def test_opening_decodes_nothing_and_going_on_decodes_each_frame_once(video: StackedVideo) -> None:
    assert (video.count, video.size()) == (10, (48, 32))
    assert Counting.read_frames == Counting.grabbed == 0
    for index in range(10):
        assert (video.eye(index, "left") == 10 * index).all()
        assert (video.eye(index, "right") == 10 * index + 5).all()
    assert (Counting.opened, Counting.read_frames, Counting.grabbed) == (1, 10, 0)


def test_frames_between_are_passed_over_without_being_converted(video: StackedVideo) -> None:
    for index in (2, 5, 9):
        assert (video.eye(index, "left") == 10 * index).all()
    assert (Counting.opened, Counting.read_frames, Counting.grabbed) == (1, 3, 7)


def test_going_back_opens_the_video_again(video: StackedVideo) -> None:
    assert (video.eye(7, "left") == 70).all()
    assert (video.eye(1, "right") == 15).all()
    assert Counting.opened == 2


def test_a_frame_past_the_end_is_refused(video: StackedVideo) -> None:
    with pytest.raises(InputError, match="ends after 10 frames, and frame 12"):
        video.eye(12, "left")


def test_the_doctor_decodes_a_video_once(video: StackedVideo) -> None:
    sides: tuple[Side, Side] = ("left", "right")
    frames = tuple(
        Frame(f"{number}", {side: video.picture(number, side) for side in sides}, {"left": all_tissue})
        for number in video.numbers
    )
    lens = Lens(np.array([[40.0, 0, 23.5], [0, 40.0, 15.5], [0, 0, 1]]))
    poses = np.tile(np.eye(4), (len(frames), 1, 1))
    poses[:, 0, 3] = np.arange(len(frames))
    apart = np.eye(4)
    apart[0, 3] = -4.0
    source = Source(
        "stereomis", video.path.parent, frames, (48, 32), dict.fromkeys(sides, lens), apart, poses, True
    )
    said = {finding.subject for finding in examine(source, ReaderOptions())}
    assert {"matches between the eyes", "matches between frames", "mask polarity"} <= said
    assert Counting.opened == 1
    assert Counting.read_frames + Counting.grabbed <= 10


def all_tissue() -> BoolArray:
    return np.ones((32, 48), bool)


def test_both_eyes_of_a_frame_cost_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "points.tar.gz"
    order = (2, 0, 1)  # archives are in the order of the disk that they came from
    with tarfile.open(path, "w:gz") as tar:
        for index in order:
            member = tarfile.TarInfo(f"points{index}.bin")
            member.size = 1000
            tar.addfile(member, io.BytesIO(bytes([index]) * 1000))
    read: list[str] = []
    extract = tarfile.TarFile.extractfile

    def extracting(self: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
        read.append(member.name)
        return extract(self, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", extracting)
    files = FrameFiles(tmp_path / "points", path, ".bin")
    assert files.read(2) == files.read(2) == bytes([2]) * 1000
    assert files.read(1) == bytes([1]) * 1000
    assert read == ["points2.bin", "points1.bin"]
    assert list(files.read_all()) == [0, 1, 2]
    assert read[2:] == [
        "points2.bin",
        "points0.bin",
        "points1.bin",
    ]  # as they lie, so that nothing is unpacked twice


def test_an_archive_is_read_forwards_and_only_as_far_as_needed(tmp_path: Path) -> None:
    path = tmp_path / "points.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for index in range(8):
            data = np.random.default_rng(index).bytes(20_000)
            member = tarfile.TarInfo(f"data/._points{index}.bin" if index == 0 else f"data/points{index}.bin")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    files = FrameFiles(tmp_path / "points", path, ".bin")
    assert files.read(2) == np.random.default_rng(2).bytes(20_000)
    assert files.read(1) == np.random.default_rng(1).bytes(20_000)  # backwards
    with pytest.raises(InputError, match="cannot be read"):
        files.read(7)  # behind the damage
    path.write_bytes(whole)
    with pytest.raises(InputError, match="no file with the number 0"):
        FrameFiles(tmp_path / "points", path, ".bin").read(0)  # ._ is what macOS leaves in archives
