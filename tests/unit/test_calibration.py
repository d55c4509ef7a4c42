"""Reading a calibration: files, flags, conventions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo_prior.calibration import Calibration, CalibrationFlags, Intrinsics, read_calibration
from tests.synthetic import parallel_rig, reference_flags, verged_rig, write_calibration
from utils.errors import InputError
from utils.geometry import nearest_rotation

SIZE = (160, 128)
NO_FLAGS = CalibrationFlags()
EYE = Intrinsics(np.diag([900.0, 900.0, 1.0]))


def test_a_stereo_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rig = verged_rig()
    terms = (0.1, -0.02, 0.001, 0.002, 0.0)
    write_calibration(tmp_path / "calib.yaml", rig, distortion={"left": terms})
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)
    left, right = read.lens("left", SIZE), read.lens("right", SIZE)
    assert read.image_size == SIZE
    assert left.camera == rig.left
    assert right.camera == rig.right
    assert left.distortion == terms
    assert left.distorted
    assert not right.distorted
    back = read.rig({"left": left.camera, "right": right.camera})
    assert back.right_from_left is not None
    assert rig.right_from_left is not None
    np.testing.assert_allclose(back.right_from_left, rig.right_from_left, atol=1e-12)


def test_a_file_of_one_eye_gives_a_rig_of_one_eye(tmp_path: Path) -> None:
    write_calibration(tmp_path / "calib.yaml", parallel_rig().left_only())
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)
    assert read.right is None
    assert not read.rig({"left": read.lens("left", SIZE).camera}).stereo


@pytest.mark.parametrize("shape", [(3, 1), (1, 3)])
def test_the_shape_of_t_does_not_matter(tmp_path: Path, shape: tuple[int, int]) -> None:
    rig = parallel_rig(baseline_mm=4.0)
    write_calibration(tmp_path / "calib.yaml", rig, changes={"T": np.array([-4.0, 0, 0]).reshape(shape)})
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)
    assert read.translation_mm is not None
    assert read.translation_mm.tolist() == [-4.0, 0.0, 0.0]


def test_lists_of_numbers_are_read_like_matrices(tmp_path: Path) -> None:
    text = "%YAML:1.0\n---\nM1: [100., 0., 79., 0., 101., 63., 0., 0., 1.]\nD1: [0.1, 0., 0., 0.]\n"
    (tmp_path / "calib.yaml").write_text(text + "image_size: [160, 128]\n")
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)
    assert read.image_size == SIZE
    assert read.left.matrix.tolist() == [[100, 0, 79], [0, 101, 63], [0, 0, 1]]
    assert read.left.distortion == (0.1, 0.0, 0.0, 0.0)


def test_three_numbers_for_r_are_a_rotation_vector(tmp_path: Path) -> None:
    rig = verged_rig()
    assert rig.right_from_left is not None
    vector = cv2.Rodrigues(np.asarray(rig.right_from_left[:3, :3]))[0]
    write_calibration(tmp_path / "calib.yaml", rig, changes={"R": vector})
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)
    assert read.rotation is not None
    np.testing.assert_allclose(read.rotation, rig.right_from_left[:3, :3], atol=1e-12)


def test_flags_win_over_the_file_and_square_pixels_need_three_numbers(tmp_path: Path) -> None:
    write_calibration(tmp_path / "calib.yaml", parallel_rig())
    three = read_calibration(tmp_path, CalibrationFlags(cam_l=(90.0, 80.0, 60.0)), SIZE)
    four = read_calibration(tmp_path, CalibrationFlags(cam_l=(90.0, 91.0, 80.0, 60.0)), SIZE)
    assert three.left.matrix.tolist() == [[90, 0, 80], [0, 90, 60], [0, 0, 1]]
    assert four.left.matrix[1, 1] == 91
    assert three.right is None
    assert three.image_size is None


def test_matlab_writes_the_transpose_and_counts_from_one(tmp_path: Path) -> None:
    flags = reference_flags()
    plain = read_calibration(tmp_path, CalibrationFlags(**flags), SIZE)
    matlab = read_calibration(
        tmp_path, CalibrationFlags(**flags, rotation_convention="matlab", pixel_origin=1), SIZE
    )
    assert plain.rotation is not None
    assert matlab.rotation is not None
    np.testing.assert_array_equal(matlab.rotation, plain.rotation.T)
    np.testing.assert_array_equal(matlab.translation_mm, plain.translation_mm)
    assert matlab.left.matrix[0, 2] == pytest.approx(180.44)  # 181.44 - 1
    assert matlab.left.matrix[1, 2] == pytest.approx(155.68)
    assert matlab.left.matrix[0, 0] == 942.05


def test_the_convention_holds_for_the_file_as_well(tmp_path: Path) -> None:
    rig = verged_rig()
    assert rig.right_from_left is not None
    rotation = np.ascontiguousarray(rig.right_from_left[:3, :3].T)
    write_calibration(tmp_path / "calib.yaml", rig, changes={"R": rotation})
    read = read_calibration(tmp_path, CalibrationFlags(rotation_convention="matlab"), SIZE)
    assert read.rotation is not None
    np.testing.assert_allclose(read.rotation, rig.right_from_left[:3, :3], atol=1e-12)


def test_a_rounded_rotation_becomes_orthonormal() -> None:
    rotation = np.array([[0.76, 0, -0.65], [0, 1, 0], [0.65, 0, 0.76]])
    read = Calibration("here", EYE, EYE, rotation, np.array([-406.05, 1.26, 152.08]), None)
    right_from_left = read.right_from_left()
    assert right_from_left is not None
    np.testing.assert_allclose(right_from_left[:3, :3] @ right_from_left[:3, :3].T, np.eye(3), atol=1e-14)
    # 0.76^2 + 0.65^2 = 1.0001, so the two rotated axes are 5e-5 too long
    assert np.linalg.norm(rotation - nearest_rotation(rotation)) == pytest.approx(7.07e-5, rel=1e-2)


def test_a_cut_on_the_left_moves_the_principal_point(tmp_path: Path) -> None:
    write_calibration(tmp_path / "calib.yaml", parallel_rig())
    camera = read_calibration(tmp_path, NO_FLAGS, SIZE).lens("left", (150, 128), cut_px=10).camera
    assert camera.cx == pytest.approx(parallel_rig().left.cx - 10)
    assert camera.width == 150


def test_an_llff_file_gives_the_focal_length_of_smaller_images(tmp_path: Path) -> None:
    row = np.zeros((2, 17))
    row[:, :15] = np.concatenate([np.eye(3, 4), [[512.0], [640.0], [600.0]]], axis=1).ravel()
    np.save(tmp_path / "poses_bounds.npy", row)
    read = read_calibration(tmp_path, NO_FLAGS, SIZE)  # 640 -> 160: a quarter
    assert read.left.matrix.tolist() == [[150, 0, 79.5], [0, 150, 63.5], [0, 0, 1]]
    with pytest.raises(InputError, match="another shape"):
        read_calibration(tmp_path, NO_FLAGS, (160, 160))


def test_no_calibration_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--cam_l fx,cx,cy"):
        read_calibration(tmp_path, NO_FLAGS, SIZE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"R": None}, "has no R"),
        ({"M2": None}, "has no M2"),
        ({"M1": None}, "has no M1"),
        ({"T": np.zeros((2, 1))}, "3 finite numbers"),
        ({"T": np.array([[np.nan], [0], [0]])}, "3 finite numbers"),
        ({"D1": np.zeros((1, 3))}, "4, 5, 8, 12 or 14"),
        ({"M1": np.array([[144.0, 0, 0], [0, 144, 0], [76, 64, 1]])}, "MATLAB's transposed form"),
        ({"M1": np.array([[144.0, 5, 76], [0, 144, 64], [0, 0, 1]])}, "without skew"),
    ],
)
def test_incomplete_files_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    write_calibration(tmp_path / "calib.yaml", parallel_rig(), changes=changes)
    with pytest.raises(InputError, match=words):
        read_calibration(tmp_path, NO_FLAGS, SIZE)


@pytest.mark.parametrize("text", ["M1: 3\n", "", "%YAML:1.0\n---\nM1: [1, 2\n", "hello"])
def test_a_file_that_is_no_opencv_yaml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "calib.yaml").write_text(text)
    with pytest.raises(InputError, match=r"calib\.yaml"):
        read_calibration(tmp_path, NO_FLAGS, SIZE)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (CalibrationFlags(cam_l=(90, 80, 60), cam_r=(90, 80, 60)), "--R_matrix, --t_vec"),
        (CalibrationFlags(t_vec=(-4, 0, 0)), "--cam_l, --cam_r, --R_matrix"),
        (CalibrationFlags(cam_l=(90, 80)), "fx,cx,cy or fx,fy,cx,cy"),
        (CalibrationFlags(cam_l=(90, 80, 60), pixel_origin=2), "0 .OpenCV. or 1 .MATLAB."),
        (CalibrationFlags((90, 80, 60), (90, 80, 60), (1, 0, 0), (-4, 0, 0)), "9 finite numbers"),
    ],
)
def test_incomplete_flags_are_refused(tmp_path: Path, flags: CalibrationFlags, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_calibration(tmp_path, flags, SIZE)
