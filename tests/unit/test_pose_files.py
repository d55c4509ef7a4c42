"""Pose files: conventions checked by hand, and every wrong file refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monocular.pose_files import read_poses
from tests.synthetic import parallel_rig, path, turn
from utils.errors import InputError
from utils.geometry import FloatArray, invert_rigid, rigid
from utils.types import Rig

STEREO = parallel_rig(160, 128)
MONO = STEREO.left_only()
NAMES = ("1", "2", "3")
FERN = Path(__file__).resolve().parents[3] / "shared" / "data" / "fern"


def llff_rows(world_from_left: FloatArray, *, focal: float = 144.0) -> FloatArray:
    """Write LLFF rows in the slow, obvious way: columns down, right, back, place, (height, width, focal)."""
    rows = []
    for pose in world_from_left:
        right, down, forward, place = pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3]
        table = np.stack([down, right, -forward, place, np.array([128.0, 160.0, focal])], axis=1)
        rows.append([*table.ravel(), 50.0, 110.0])
    return np.array(rows)


def poses() -> FloatArray:
    return np.stack([rigid(turn((3.0 * k, -2, 5)), np.array([k, 2.0, -1.0])) for k in range(3)])


def refused(file: Path, rig: Rig, tmp_path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_poses(file, NAMES, rig, tmp_path / "work")
    assert all((caught.value.what, caught.value.found, caught.value.expected, caught.value.do))
    return caught.value


def test_llff_comes_back_in_opencv_axes(tmp_path: Path) -> None:
    np.save(tmp_path / "poses_bounds.npy", llff_rows(poses()))
    found = read_poses(tmp_path / "poses_bounds.npy", NAMES, MONO, tmp_path)
    np.testing.assert_allclose(found.sfm_from_left, poses(), atol=1e-12)
    assert not found.metric
    assert not found.warnings


def test_llff_focal_length_is_compared_at_our_size(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", llff_rows(poses(), focal=200.0))
    found = read_poses(tmp_path / "p.npy", NAMES, MONO, tmp_path)
    assert "200.0 px" in found.warnings[0]
    assert "144.0 px" in found.warnings[0]


def test_real_llff_file_looks_at_the_scene() -> None:
    if not FERN.exists():
        pytest.skip("the fern images are not here (../shared/data/fern)")
    rig = Rig(MONO.left.resized(504, 378))
    names = [str(number) for number in range(20)]
    found = read_poses(FERN / "poses_bounds.npy", names, rig, FERN)
    np.testing.assert_allclose(np.linalg.det(found.sfm_from_left[:, :3, :3]), 1, atol=1e-9)
    forward = found.sfm_from_left[:, :3, 2]
    assert (forward @ forward.mean(axis=0) > 0.9).all()  # all cameras face the fern


def test_wrong_count_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", llff_rows(poses())[:2])
    error = refused(tmp_path / "p.npy", MONO, tmp_path)
    assert "(2, 17)" in error.found
    assert "(3, 17)" in error.expected


def test_nan_is_refused_by_name(tmp_path: Path) -> None:
    broken = poses()
    broken[1, 0, 3] = np.nan
    np.savez(tmp_path / "p.npz", names=np.array(NAMES), world_from_left=broken)
    error = refused(tmp_path / "p.npz", MONO, tmp_path)
    assert "(2)" in error.what
    assert "NaN" in error.found


def test_mirrored_world_is_refused(tmp_path: Path) -> None:
    """A mirrored world passes every photometric check; only the determinant sees it."""
    np.savez(tmp_path / "p.npz", names=np.array(NAMES), world_from_left=poses() * [-1.0, 1, 1, 1])
    assert "determinant -1" in refused(tmp_path / "p.npz", MONO, tmp_path).found


@pytest.mark.parametrize("change", ["scaled", "transposed", "shape", "no names", "other names"])
def test_impossible_npz_is_refused(change: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {"names": np.array(NAMES), "world_from_left": poses()}
    if change == "scaled":
        values["world_from_left"] = poses() * np.array([1.5, 1.5, 1.5, 1.0])
    if change == "transposed":
        values["world_from_left"] = np.swapaxes(poses(), 1, 2)
    if change == "shape":
        values["world_from_left"] = poses()[:2]
    if change == "no names":
        del values["names"]
    if change == "other names":
        values["names"] = np.array(["a", "b", "c"])
    np.savez(tmp_path / "p.npz", **values)
    refused(tmp_path / "p.npz", MONO, tmp_path)


def test_missing_and_broken_files_are_refused(tmp_path: Path) -> None:
    assert "--poses_path" in refused(tmp_path / "none.npy", MONO, tmp_path).do
    (tmp_path / "text.npy").write_text("not numbers")
    refused(tmp_path / "text.npy", MONO, tmp_path)
    (tmp_path / "empty").mkdir()
    assert "COLMAP" in refused(tmp_path / "empty", MONO, tmp_path).what


def test_npz_is_matched_by_name_and_says_itself_whether_it_is_metric(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", names=np.array(["3.png", "1.png"]), world_from_left=poses()[[2, 0]])
    found = read_poses(tmp_path / "p.npz", NAMES, STEREO, tmp_path)
    np.testing.assert_allclose(found.sfm_from_left[[0, 2]], poses()[[0, 2]], atol=1e-12)
    assert np.isnan(found.sfm_from_left[1]).all()
    assert found.perhaps_mm
    assert not found.metric
    np.savez(tmp_path / "m.npz", names=np.array(NAMES), world_from_left=poses(), metric=True)
    assert read_poses(tmp_path / "m.npz", NAMES, MONO, tmp_path).metric
    np.savez(tmp_path / "q.npz", names=np.array(NAMES), world_from_left=poses(), metric=False)
    assert not read_poses(tmp_path / "q.npz", NAMES, STEREO, tmp_path).metric


def test_a_dot_in_a_name_of_an_npz_is_no_ending(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", names=np.array(["0.5", "1.5.png"]), world_from_left=poses()[:2])
    found = read_poses(tmp_path / "p.npz", ("0.5", "1.5"), STEREO, tmp_path)
    np.testing.assert_allclose(found.sfm_from_left, poses()[:2], atol=1e-12)


def quaternion(rotation: FloatArray) -> FloatArray:
    """Return (w, x, y, z) of a rotation below 180 degrees."""
    w = np.sqrt(1 + np.trace(rotation)) / 2
    skew = rotation - rotation.T
    return np.array([w, skew[2, 1] / 4 / w, skew[0, 2] / 4 / w, skew[1, 0] / 4 / w])


def write_colmap_text(folder: Path, images: dict[str, FloatArray]) -> None:
    """Write a COLMAP text model by its documented format: world-to-camera quaternion and translation."""
    folder.mkdir()
    (folder / "cameras.txt").write_text("1 PINHOLE 160 128 144 144 77.8 65.5\n")
    (folder / "points3D.txt").write_text("")
    lines = []
    for number, (name, world_from_camera) in enumerate(images.items(), start=1):
        camera_from_world = invert_rigid(world_from_camera)
        values = [*quaternion(camera_from_world[:3, :3]), *camera_from_world[:3, 3]]
        lines.append(f"{number} {' '.join(f'{value:.17g}' for value in values)} 1 {name}\n\n")
    (folder / "images.txt").write_text("".join(lines))


def test_colmap_text_model(tmp_path: Path) -> None:
    write_colmap_text(tmp_path / "model", {f"{k + 1}.jpg": pose for k, pose in enumerate(poses()[:2])})
    found = read_poses(tmp_path / "model", NAMES, MONO, tmp_path / "work")
    np.testing.assert_allclose(found.sfm_from_left[:2], poses()[:2], atol=1e-9)
    assert np.isnan(found.sfm_from_left[2]).all()
    assert found.scale_mm is None


def test_both_eyes_in_a_colmap_model_give_the_scale(tmp_path: Path) -> None:
    """The model is a quarter of the size, so that the eyes stand 1.25 units instead of 5 mm apart: 4 mm/unit."""
    images = {}
    for name, pose in zip(NAMES, path(3), strict=True):
        for side in STEREO.sides:
            world_from_eye = pose @ STEREO.left_from(side)
            world_from_eye[:3, 3] /= 4
            images[f"{side}/{name}.png"] = world_from_eye
    write_colmap_text(tmp_path / "model", images)
    found = read_poses(tmp_path / "model", NAMES, STEREO, tmp_path / "work")
    assert found.scale_mm == pytest.approx(4.0)


def test_a_colmap_model_of_other_images_is_refused(tmp_path: Path) -> None:
    write_colmap_text(tmp_path / "model", {"left/a.png": poses()[0]})
    assert "left/a.png" in refused(tmp_path / "model", MONO, tmp_path).found
