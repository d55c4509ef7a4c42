"""Read and write trajectories of one camera: TUM (`timestamp tx ty tz qx qy qz qw`) and KITTI (3x4 a line).

Both are world-from-camera with OpenCV axes. TUM's timestamp is the name of the frame where all names are whole
numbers that grow, else its place among all frames, from 0; KITTI has nothing but the order. Files of others are in
metres as a rule and do not say so.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from export.camera_set import UNKNOWN_UNIT, CameraSet, eye_and_frame
from export.formats.outgoing import Outgoing
from export.formats.sidecar import restore, sidecar_path, write_sidecar
from utils.broken_files import broken
from utils.pose_lists import NOT_A_UNIT, text_words
from utils.types import FloatArray

_TUM, _KITTI = 8, 12
_EXPECTED = {
    _TUM: "8 numbers a line: timestamp tx ty tz qx qy qz qw",
    _KITTI: "12 numbers a line: the rows of a 3x4 camera-to-world matrix",
}
_ENDINGS = (".txt", ".tum", ".kitti")
_COLMAP_FILES = ("cameras.txt", "images.txt", "points3D.txt")


def is_tum(path: Path) -> bool:
    """Whether a text file's first line has 8 numbers."""
    return _columns(path) == _TUM


def is_kitti(path: Path) -> bool:
    """Whether a text file's first line has 12 numbers."""
    return _columns(path) == _KITTI


def read_tum(path: Path) -> CameraSet:
    """Read a TUM trajectory; without our record names are the timestamps as they are written."""
    table, stamps = _table(path, _TUM)
    lengths = np.linalg.norm(table[:, 4:], axis=1)
    if (np.abs(lengths - 1) > NOT_A_UNIT).any():
        wrong = int(np.argmax(np.abs(lengths - 1)))
        raise broken(path, f"a quaternion of length {lengths[wrong]:.3g} at {stamps[wrong]}", _EXPECTED[_TUM])
    world_from_camera = np.tile(np.eye(4), (len(table), 1, 1))
    world_from_camera[:, :3, :3] = Rotation.from_quat(table[:, 4:]).as_matrix()
    world_from_camera[:, :3, 3] = table[:, 1:4]
    said = f"{path.name} names no images: its timestamps are the names, {stamps[0]} stands for image {stamps[0]}"
    return _set(path, world_from_camera, tuple(stamps), said)


def read_kitti(path: Path) -> CameraSet:
    """Read KITTI poses; names are line numbers from 000000."""
    table, _ = _table(path, _KITTI)
    said = f"{path.name} names no images: they are counted in its order, from 000000"
    world_from_camera = np.tile(np.eye(4), (len(table), 1, 1))
    world_from_camera[:, :3] = table.reshape(-1, 3, 4)
    return _set(path, world_from_camera, tuple(f"{index:06d}" for index in range(len(table))), said)


def losses(cameras: CameraSet) -> list[str]:
    """Return what the path of one camera cannot hold."""
    eyes = {eye_and_frame(name)[0] for name in cameras.names}
    return ["a trajectory has one camera: the right eye is left out (--sides right writes it alone)"] * (
        len(eyes) - 1
    )


def write_tum(out: Outgoing, path: Path) -> None:
    """Write a line a frame; numbers read back exactly."""
    poses = out.cameras.world_from_camera
    rows = np.concatenate([poses[:, :3, 3], Rotation.from_matrix(poses[:, :3, :3]).as_quat()], axis=1)
    stamps, what = _stamps(out)
    header = f"# {_EXPECTED[_TUM].partition(': ')[2]}; world from camera, {_lengths(out)}; timestamps are {what}\n"
    lines = [f"{stamp} {_text(row)}" for stamp, row in zip(stamps, rows, strict=True)]
    path.write_text(header + "\n".join(lines) + "\n")
    write_sidecar(sidecar_path(path), out.record)


def write_kitti(out: Outgoing, path: Path) -> None:
    """Write a line a frame; numbers read back exactly."""
    rows = out.cameras.world_from_camera[:, :3].reshape(-1, _KITTI)
    path.write_text("\n".join(_text(row) for row in rows) + "\n")
    write_sidecar(sidecar_path(path), out.record)


def _stamps(out: Outgoing) -> tuple[list[str], str]:
    """Return the timestamps and what they are: a name that is a number must never stand for another frame."""
    names = [eye_and_frame(name)[1] for name in out.cameras.names]
    if all(name.isascii() and name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
        if all(before < after for before, after in pairwise(numbers)):
            return names, "names of frames"
    return [str(number) for number in out.record["frame_numbers"]], "places of frames, counted from 0"


def _text(row: FloatArray) -> str:
    return " ".join(repr(float(value)) for value in row)


def _lengths(out: Outgoing) -> str:
    return f"lengths are {out.record['unit']} times {out.record['scale']:g}"


def _set(path: Path, world_from_camera: FloatArray, names: tuple[str, ...], said: str) -> CameraSet:
    """Return cameras as the record beside the file restores them; without one, `said` is noted of their names."""
    cameras = CameraSet(names, world_from_camera, (None,) * len(names), UNKNOWN_UNIT)
    place = sidecar_path(path)
    return restore(cameras, place) if place.exists() else replace(cameras, notes=(said,))


def _columns(path: Path) -> int:
    """Return how many numbers the first line of a text file has; 0 where it is not one of numbers."""
    if not path.is_file() or path.suffix not in _ENDINGS or path.name in _COLMAP_FILES:
        return 0
    with open(path, errors="replace") as file:
        words = next(text_words(file), [])
    try:
        return len([float(word) for word in words])
    except ValueError:
        return 0


def _table(path: Path, columns: int) -> tuple[FloatArray, list[str]]:
    """Return the numbers of all lines (n, columns), and the first word of each."""
    try:
        lines = list(text_words(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise broken(path, error, _EXPECTED[columns]) from error
    if not lines:
        raise broken(path, "no line of numbers", _EXPECTED[columns])
    rows = []
    for number, words in enumerate(lines, 1):
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise broken(path, f"pose {number}: {error}", _EXPECTED[columns]) from error
        if len(row) != columns or not np.isfinite(row).all():
            raise broken(path, f"pose {number}: {' '.join(words)[:60]}", _EXPECTED[columns])
        rows.append(row)
    return np.array(rows), [words[0] for words in lines]
