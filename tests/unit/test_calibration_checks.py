"""The report on a calibration, against the numbers of the reference rig and rigs that are wrong on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stereo_prior.calibration import Calibration, CalibrationFlags, Intrinsics, read_calibration
from stereo_prior.calibration_checks import Finding, check_calibration, raise_refusals
from tests.synthetic import parallel_rig, reference_flags, turn, verged_rig
from utils.axes import axes_meeting
from utils.errors import InputError
from utils.geometry import nearest_rotation, rigid
from utils.types import FloatArray, Rig, Side

SIZES: dict[Side, tuple[int, int]] = {"left": (160, 128), "right": (160, 128)}
REFERENCE_SIZES: dict[Side, tuple[int, int]] = {"left": (384, 320), "right": (410, 320)}
NO_CUTS: dict[Side, int] = {"left": 0, "right": 0}


def calibration_of(rig: Rig) -> Calibration:
    assert rig.right is not None
    assert rig.right_from_left is not None
    return Calibration(
        "calib.yaml",
        Intrinsics(rig.left.matrix),
        Intrinsics(rig.right.matrix),
        rig.right_from_left[:3, :3],
        rig.right_from_left[:3, 3],
        (rig.left.width, rig.left.height),
    )


def findings_of(calibration: Calibration, *, rectified: bool = False) -> list[Finding]:
    return check_calibration(calibration, SIZES, NO_CUTS, rectified=rectified)


def refusal(calibration: Calibration, *, rectified: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        raise_refusals(findings_of(calibration, rectified=rectified))
    return caught.value


def reference_transform(*, transposed: bool) -> FloatArray:
    rotation = nearest_rotation(np.array(reference_flags()["R_matrix"]).reshape(3, 3))
    return rigid(rotation.T if transposed else rotation, np.array(reference_flags()["t_vec"]))


def test_axes_of_the_reference_rig_meet_in_front_with_the_transpose() -> None:
    meeting = axes_meeting(reference_transform(transposed=True))
    assert meeting.gap_mm == pytest.approx(1.26, abs=0.005)
    assert meeting.along_left_mm == pytest.approx(624.8, abs=0.1)
    assert meeting.vergence_degrees == pytest.approx(40.5, abs=0.05)
    assert meeting.in_front


def test_axes_of_the_reference_rig_meet_behind_without_it() -> None:
    meeting = axes_meeting(reference_transform(transposed=False))
    assert meeting.along_left_mm == pytest.approx(-625, abs=0.5)
    assert meeting.along_right_mm == pytest.approx(-323, abs=0.5)
    assert not meeting.in_front


def test_the_reference_flags_are_refused_with_the_flag_that_mends_them(tmp_path: Path) -> None:
    plain = read_calibration(tmp_path, CalibrationFlags(**reference_flags()), (384, 320))
    findings = check_calibration(plain, REFERENCE_SIZES, NO_CUTS, rectified=False)
    with pytest.raises(InputError) as caught:
        raise_refusals(findings)
    assert "--rotation_convention matlab" in caught.value.do
    assert "624.7 mm behind the left" in caught.value.found
    assert "322.7 mm behind the right" in caught.value.found


def test_the_reference_flags_pass_as_matlab_and_the_rounding_is_reported(tmp_path: Path) -> None:
    flags = CalibrationFlags(**reference_flags(), rotation_convention="matlab", pixel_origin=1)
    read = read_calibration(tmp_path, flags, (384, 320))
    findings = check_calibration(read, REFERENCE_SIZES, NO_CUTS, rectified=False)
    lines = raise_refusals(findings)
    assert any("7.1e-05 away from orthonormal" in line for line in lines)
    assert [finding.level for finding in findings].count("warn") == 1


def test_a_right_rotation_called_matlab_names_opencv() -> None:
    rig = calibration_of(verged_rig())
    assert rig.rotation is not None
    error = refusal(replace(rig, rotation=rig.rotation.T, rotation_convention="matlab"))
    assert "--rotation_convention opencv" in error.do


@given(
    vergence=st.floats(4, 60),
    distance=st.floats(50, 900),
    roll=st.floats(-3, 3),
)
def test_the_meeting_point_of_a_verged_rig_is_where_it_was_built(
    vergence: float, distance: float, roll: float
) -> None:
    rig = verged_rig(vergence_degrees=vergence, distance_mm=distance)
    assert rig.right_from_left is not None
    rolled = rigid(turn((0, 0, roll)), np.zeros(3))
    meeting = axes_meeting(rolled @ rig.right_from_left)  # rolling the right eye leaves its axis where it is
    assert meeting.along_left_mm == pytest.approx(distance, rel=1e-6)
    assert meeting.along_right_mm == pytest.approx(distance, rel=1e-6)
    assert meeting.gap_mm == pytest.approx(0, abs=1e-6 * distance)
    assert meeting.vergence_degrees == pytest.approx(vergence, abs=1e-6)


def test_parallel_axes_meet_nowhere() -> None:
    rig = parallel_rig(baseline_mm=5)
    assert rig.right_from_left is not None
    meeting = axes_meeting(rig.right_from_left)
    assert meeting.along_left_mm == np.inf
    assert meeting.gap_mm == pytest.approx(5)


@pytest.mark.parametrize("degrees", [-2.9, -1, 0, 1, 2.9])
def test_nearly_parallel_rigs_may_diverge(degrees: float) -> None:
    rotation = turn((0, degrees, 0))
    rig = replace(calibration_of(parallel_rig()), rotation=rotation)
    assert all(finding.level == "ok" for finding in findings_of(rig))


def test_no_flag_is_named_where_none_mends_it() -> None:
    # one eye looks down: the axes pass each other at the eyes, with R and with its transpose
    error = refusal(replace(calibration_of(parallel_rig()), rotation=turn((10, 0, 0))))
    assert "meet behind" in error.what
    assert "check R and T" in error.do
    assert "rotation_convention" not in error.do


def test_a_mirror_is_refused() -> None:
    error = refusal(replace(calibration_of(parallel_rig()), rotation=np.diag([1.0, 1.0, -1.0])))
    assert "det R = -1" in error.found
    assert "+1" in error.expected


def test_a_matrix_far_from_orthonormal_is_refused_with_its_distance() -> None:
    error = refusal(replace(calibration_of(parallel_rig()), rotation=np.diag([1.0, 1.0, 1.1])))
    assert "0.1 away" in error.found  # only the last axis is 0.1 too long
    assert "0.05" in error.expected


def test_zero_baseline_and_metres_are_refused() -> None:
    rig = calibration_of(parallel_rig(baseline_mm=4.5))
    assert rig.translation_mm is not None
    assert "baseline is zero" in refusal(replace(rig, translation_mm=np.zeros(3))).what
    metres = refusal(replace(rig, translation_mm=rig.translation_mm / 1000))
    assert "multiply T by 1000" in metres.do
    assert "4.5 mm" in metres.do
    assert "0.0045" in metres.found


def test_images_of_another_size_are_refused() -> None:
    rig = calibration_of(parallel_rig())
    error = refusal(replace(rig, image_size=(1920, 1080)))
    assert "160x128" in error.found
    assert "1920x1080" in error.expected
    assert "calib.yaml" in error.what


@pytest.mark.parametrize(("scale", "level"), [(1.0, "ok"), (2.0, "refuse"), (5.0, "refuse")])
def test_without_a_size_the_principal_point_tells(scale: float, level: str) -> None:
    rig = parallel_rig()
    left = Intrinsics(np.diag([scale, scale, 1.0]) @ rig.left.matrix)
    read = Calibration("--cam_l", left, None, None, None, None)
    findings = check_calibration(read, {"left": (160, 128)}, {"left": 0}, rectified=False)
    assert [finding.level for finding in findings] == [level]


def test_a_focal_length_in_mm_is_refused() -> None:
    left = Intrinsics(np.array([[4.5, 0, 80], [0, 4.5, 64], [0, 0, 1.0]]))
    assert "px" in refusal(replace(calibration_of(parallel_rig()), left=left)).expected


def test_rectified_images_need_a_rectified_calibration() -> None:
    assert "does not belong to rectified images" in refusal(calibration_of(verged_rig()), rectified=True).what
    assert all(finding.level == "ok" for finding in findings_of(calibration_of(parallel_rig()), rectified=True))


def test_a_right_eye_on_the_left_is_warned_about() -> None:
    rig = calibration_of(parallel_rig())
    assert rig.translation_mm is not None
    findings = findings_of(replace(rig, translation_mm=-rig.translation_mm))
    assert [finding.what for finding in findings if finding.level == "warn"] == ["order of the eyes"]
