"""Lists of camera poses that a user gives to a command: npz files, TUM text, sixteen numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from utils.artifacts import NO_ARRAYS
from utils.errors import InputError
from utils.geometry import nearest_rotation
from utils.types import FloatArray

KEYS = ("world_from_camera", "world_from_left")
NOT_A_UNIT = 0.01  # how far from 1 printed digits bring a quaternion's length
_ORTHONORMAL = 0.02  # largest deviation that printed digits explain
FORMATS = "an npz with world_from_camera or world_from_left (n, 4, 4), or text lines `t x y z qx qy qz qw`"


def read_pose_list(path: Path) -> FloatArray:
    """Return the poses (n, 4, 4) of a file, without their names; see `read_named_poses`."""
    return read_named_poses(path)[1]


def read_named_poses(path: Path) -> tuple[list[str], FloatArray]:
    """Return names and poses (n, 4, 4) of a file: camera-to-world, OpenCV axes, in the run's unit and world.

    Names are those of an npz, the timestamps of text as they are written, or else the numbers from 1.

    Args:
        path: an npz with `world_from_camera` or `world_from_left`, (n, 4, 4) or (4, 4), and maybe `names` (n,); or
            text as TUM writes trajectories, a line `time x y z qx qy qz qw` a pose, `#` before comments, positions
            in the run's unit.

    Raises:
        InputError: no such file, none of these formats, or a matrix that is no rigid motion.
    """
    names, poses = read_matrices(path)
    return names, require_rigid(poses, str(path))


def read_matrices(path: Path) -> tuple[list[str], FloatArray]:
    """Return what `read_named_poses` does, (n, 4, 4) as the file has them: not checked for rigid motions."""
    if not path.is_file():
        raise InputError(f"{path} cannot be read", found="no such file", expected=FORMATS, do="correct the path")
    return _read_npz(path) if path.suffix.lower() == ".npz" else _read_tum(path)


def text_words(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of every line that has some before a `#`; commas part words too."""
    for line in lines:
        words = line.split("#")[0].replace(",", " ").split()
        if words:
            yield words


def parse_pose(text: str) -> FloatArray | None:
    """Return the (1, 4, 4) pose written as sixteen numbers, row by row; None where the text is something else.

    Raises:
        InputError: numbers, but not sixteen, or no rigid motion.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        return None
    if len(numbers) < 2:
        return None  # a frame may be called 7
    if len(numbers) != 16:
        raise InputError(
            "a pose in numbers has another length",
            found=f"{len(numbers)} numbers",
            expected="16: the rows of a 4 x 4 camera-to-world matrix",
            do="write all four rows, the last one 0 0 0 1",
        )
    return require_rigid(np.array(numbers).reshape(1, 4, 4), "the pose in numbers")


def require_rigid(poses: FloatArray, what: str) -> FloatArray:
    """Return poses (n, 4, 4) with exact rotations. Raises InputError for what is no rigid motion; says which."""
    rotations = poses[:, :3, :3]
    known = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
    with np.errstate(all="ignore"):
        skew = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
        mirrored = known & (np.linalg.det(np.where(known[:, None, None], rotations, np.eye(3))) < 0)
    checks = [
        (~known, "NaN or infinity"),
        (np.abs(poses[:, 3] - [0.0, 0.0, 0.0, 1.0]).max(axis=1) > 1e-6, "a last row other than 0 0 0 1"),
        (mirrored, "a rotation with determinant -1 (a mirrored world)"),
        (~(skew <= _ORTHONORMAL), "axes that are not orthonormal"),
    ]
    for wrong, found in checks:
        if wrong.any():
            raise InputError(
                f"{what}: pose {int(np.argmax(wrong)) + 1} of {len(poses)} is no rigid motion",
                found=found,
                expected="camera-to-world matrices: a rotation with determinant +1, a position, last row 0 0 0 1",
                do="correct it; the camera's axes are x right, y down, z forward",
            )
    exact = poses.astype(float)
    exact[:, :3, :3] = np.stack([nearest_rotation(rotation) for rotation in rotations])
    return exact


def _read_npz(path: Path) -> tuple[list[str], FloatArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = [key for key in KEYS if key in file.files]
            found = ", ".join(file.files) or "no array"
            poses = np.asarray(file[keys[0]], float) if keys else None
            names = [str(name) for name in np.ravel(file["names"])] if "names" in file.files else []
    except NO_ARRAYS as error:
        raise InputError(
            f"{path} cannot be read", found=str(error), expected=FORMATS, do="write it again"
        ) from error
    if poses is None:
        raise InputError(f"{path} holds no poses", found=found, expected=FORMATS, do="name the array so")
    poses = poses[None] if poses.ndim == 2 else poses
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
        raise InputError(
            f"{path}: {keys[0]} is no list of poses",
            found=f"an array of shape {poses.shape}",
            expected="(n, 4, 4)",
            do="write one 4 x 4 camera-to-world matrix a view",
        )
    return names if len(names) == len(poses) else [str(number) for number in range(1, len(poses) + 1)], poses


def _read_tum(path: Path) -> tuple[list[str], FloatArray]:
    try:
        lines = list(text_words(path.read_text().splitlines()))
        rows = [[float(word) for word in words] for words in lines]
    except ValueError as error:
        raise InputError(f"{path} holds no poses", found=str(error), expected=FORMATS, do="write it so") from error
    wrong = [number for number, row in enumerate(rows, 1) if len(row) != 8 or not _is_unit(row[4:])]
    if wrong or not rows:
        found = f"line {wrong[0]} of {len(rows)} does not fit" if wrong else "no line"
        raise InputError(f"{path} holds no poses", found=found, expected=FORMATS, do="write it so")
    table = np.array(rows)
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(table[:, 4:]).as_matrix()
    poses[:, :3, 3] = table[:, 1:4]
    return [words[0] for words in lines], poses


def _is_unit(quaternion: list[float]) -> bool:
    return bool(abs(np.linalg.norm(quaternion) - 1) <= NOT_A_UNIT)


def join_numbers(arguments: Sequence[str], flag: str) -> list[str]:
    """Join the words behind a flag that are numbers into one word: some begin with a minus."""
    words = list(arguments)
    start = words.index(flag) + 1 if flag in words else len(words)
    end = start
    while end < len(words) and _is_number(words[end]):
        end += 1
    return [*words[:start], " ".join(words[start:end]), *words[end:]] if end > start else words


def _is_number(word: str) -> bool:
    try:
        float(word.rstrip(","))
    except ValueError:
        return False
    return True
