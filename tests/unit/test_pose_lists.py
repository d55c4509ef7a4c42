"""Poses that a user gives: every format gives the same matrices, and what is none says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from export.formats import read_cameras
from tests.synthetic import path
from utils.errors import InputError
from utils.pose_lists import parse_pose, read_named_poses, read_pose_list
from utils.types import FloatArray

POSES = path(4)


@pytest.mark.parametrize("key", ["world_from_camera", "world_from_left"])
def test_npz_files_are_read(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "poses.npz", **{key: POSES})  # type: ignore[arg-type]
    np.testing.assert_allclose(read_pose_list(tmp_path / "poses.npz"), POSES, atol=1e-12)
    np.savez(tmp_path / "one.npz", **{key: POSES[2]})  # type: ignore[arg-type]
    np.testing.assert_allclose(read_pose_list(tmp_path / "one.npz"), POSES[2:3], atol=1e-12)


def test_text_as_tum_writes_it_is_read(tmp_path: Path) -> None:
    lines = ["# time x y z qx qy qz qw"]
    for index, pose in enumerate(POSES):
        numbers = [index, *pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
        lines.append(" ".join(f"{number:.17g}" for number in numbers))
    (tmp_path / "poses.txt").write_text("\n".join([*lines, ""]))
    np.testing.assert_allclose(read_pose_list(tmp_path / "poses.txt"), POSES, atol=1e-12)


def test_names_and_text_are_read_as_conversions_read_them(tmp_path: Path) -> None:
    file = tmp_path / "poses.tum"
    lines = ["# ours", "1, 1 2 3 0 0 0 1  # the first", "", "3 4 5 6 0 0 0.7071 0.7071"]
    file.write_text("\n".join(lines))
    names, poses = read_named_poses(file)
    cameras = read_cameras(file)
    assert tuple(names) == cameras.names == ("1", "3")
    np.testing.assert_allclose(poses, cameras.world_from_camera, atol=1e-12)
    file.write_text("1 1 2 3 0 0 0 2")
    for read in (read_named_poses, read_cameras):
        with pytest.raises(InputError):
            read(file)
    np.savez(tmp_path / "poses.npz", names=np.array(["a", "b", "c", "d"]), world_from_left=POSES)
    assert read_named_poses(tmp_path / "poses.npz")[0] == ["a", "b", "c", "d"]
    np.savez(tmp_path / "poses.npz", world_from_left=POSES)
    assert read_named_poses(tmp_path / "poses.npz")[0] == ["1", "2", "3", "4"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["nan", "inf", "1e200"])
def test_numbers_that_are_none_are_refused_without_other_noise(number: str) -> None:
    words = ["1", "0", "0", "0", "0", "1", "0", "0", "0", "0", "1", "0", "0", "0", "0", "1"]
    with pytest.raises(InputError, match="no rigid motion"):
        parse_pose(" ".join([number, *words[1:]]))


def test_sixteen_numbers_are_a_pose_and_a_frame_is_none() -> None:
    text = ", ".join(f"{number:.17g}" for number in POSES[1].ravel())
    found = parse_pose(text)
    assert found is not None
    np.testing.assert_allclose(found[0], POSES[1], atol=1e-12)
    assert parse_pose("7") is None
    assert parse_pose("left_7") is None
    with pytest.raises(InputError, match="12 numbers"):
        parse_pose(" ".join(["1"] * 12))


def spoilt(index: tuple[int, ...], value: float) -> FloatArray:
    poses = POSES.copy()
    poses[index] = value
    return poses


@pytest.mark.parametrize(
    ("poses", "words"),
    [
        (spoilt((2, 0, 3), np.nan), "pose 3 of 4.*\n.*NaN"),
        (spoilt((1, 3, 0), 5.0), "pose 2 of 4.*\n.*last row"),
        (POSES @ np.diag([1.0, 1.0, -1.0, 1.0]), "pose 1 of 4.*\n.*mirrored"),
        (POSES * np.array([1.1, 1.1, 1.1, 1.0]), "orthonormal"),
        (POSES[:, :3], "no list of poses"),
    ],
)
def test_what_is_no_rigid_motion_is_refused(tmp_path: Path, poses: FloatArray, words: str) -> None:
    np.savez(tmp_path / "poses.npz", world_from_camera=poses)
    with pytest.raises(InputError, match=words):
        read_pose_list(tmp_path / "poses.npz")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"1 2 3\n"),
        ("a.txt", b"one two\n"),
        ("a.txt", b""),
        ("a.npz", b"junk"),
        ("a.txt", b"0 1 1 1 0 0 0 0"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_pose_list(tmp_path / name)
    np.savez(tmp_path / "b.npz", other=POSES)
    with pytest.raises(InputError, match="holds no poses"):
        read_pose_list(tmp_path / "b.npz")
    with pytest.raises(InputError, match="no such file"):
        read_pose_list(tmp_path / "missing.txt")
