"""Bad datasets and calibrations: each is refused with what and where, found, expected, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stereo_prior import scene as stage
from stereo_prior.scene import SceneOptions
from tests.refusals import refused, refused_early
from tests.synthetic import parallel_rig, verged_rig, write_calibration
from utils.errors import InputError
from utils.images import write_rgb
from utils.types import Rig


def test_the_good_dataset_passes(bad: Path, tmp_path: Path) -> None:
    options = SceneOptions(datadir=str(bad), train_binocular=True)
    stage.check(options)
    assert stage.run(options, out=tmp_path / "out").startswith("3 stereo frames 160x128, 2 train 1 test")


def test_no_dataset(tmp_path: Path) -> None:
    error = refused_early(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in error.what
    assert "correct --datadir" in error.do
    with pytest.raises(InputError, match="--datadir is not given"):
        stage.check(SceneOptions())


def test_no_left_images(bad: Path) -> None:
    shutil.rmtree(bad / "l/images")
    error = refused_early(bad)
    assert str(bad / "l/images") in error.what
    assert error.found == "no folder"


def test_one_right_image_is_missing(bad: Path) -> None:
    (bad / "r/images/2.jpg").unlink()
    error = refused_early(bad)
    assert error.what == "l/images has 3 frames, r/images has 2: 2.jpg has no right image"
    assert "1 of 3 frames" in error.found
    assert "the same names in both eyes" in error.expected
    assert error.do.startswith("add r/images/2.jpg or take 2.jpg out of l/images, train.txt and test.txt")


def test_one_left_image_is_missing(bad: Path) -> None:
    (bad / "l/images/3.jpg").unlink()
    error = refused_early(bad)
    assert error.what == "r/images has 3 frames, l/images has 2: 3.jpg has no left image"
    assert error.do.startswith("add l/images/3.jpg or take 3.jpg out of r/images")


def test_no_right_images_at_all_for_binocular_training(bad: Path) -> None:
    shutil.rmtree(bad / "r")
    error = refused_early(bad, train_binocular=True)
    assert "1.jpg, 2.jpg, 3.jpg have no right image" in error.what
    assert "--train_binocular" in error.expected
    assert "leave --train_binocular out" in error.do


def test_no_right_calibration_for_binocular_training(bad: Path) -> None:
    write_calibration(bad / "calib.yaml", parallel_rig().left_only())
    error = refused_early(bad, train_binocular=True)
    assert "--train_binocular needs a calibrated right eye" in error.what
    assert "calib.yaml" in error.found
    assert "M2 D2 R T" in error.expected


@pytest.mark.parametrize("file", ["train.txt", "test.txt"])
def test_a_listed_name_without_image(bad: Path, file: str) -> None:
    (bad / file).write_text("1.jpg\n\n7.jpg\n")
    error = refused_early(bad)
    assert f"{bad / file}, line 3: 7.jpg has no image" in error.what
    assert "no 7.jpg among the 3 images" in error.found
    assert "names of images that exist" in error.expected
    assert f"take 7.jpg out of {file}" in error.do


def test_a_name_in_both_lists(bad: Path) -> None:
    (bad / "train.txt").write_text("1.jpg\n2.jpg\n")
    (bad / "test.txt").write_text("2\n3\n")
    error = refused_early(bad)
    assert error.what == "2.jpg is in train.txt and in test.txt"
    assert "not both" in error.expected
    assert "take 2.jpg out of one" in error.do


@pytest.mark.parametrize(("file", "text"), [("train.txt", "\n"), ("test.txt", "1\n2\n3\n")])
def test_nothing_to_train_on(bad: Path, file: str, text: str) -> None:
    (bad / file).write_text(text)
    error = refused_early(bad)
    assert "no training frame" in error.what
    assert file in error.found


def test_two_images_of_one_frame(bad: Path) -> None:
    shutil.copy(bad / "l/images/1.jpg", bad / "l/images/1.tif")
    error = refused_early(bad)
    assert "1.jpg and 1.tif" in error.found
    assert "one image a frame" in error.expected


def test_images_of_different_sizes(bad: Path) -> None:
    write_rgb(bad / "r/images/3.jpg", np.zeros((120, 160, 3), np.uint8))
    error = refused(bad)
    assert str(bad / "r/images") in error.what
    assert error.found == "3.jpg is 160x120"
    assert error.expected == "160x128 like 1.jpg"
    assert "3.jpg" in error.do


def test_calibration_of_another_size(bad: Path) -> None:
    write_calibration(bad / "calib.yaml", parallel_rig(320, 256))
    error = refused_early(bad)
    assert "calib.yaml was made for images of another size" in error.what
    assert error.found == "160x128"
    assert error.expected.startswith("320x256")
    assert "image_size in calib.yaml" in error.do


def test_calibration_of_another_size_that_does_not_say_its_size(bad: Path) -> None:
    write_calibration(bad / "calib.yaml", parallel_rig(640, 512), changes={"image_size": None})
    error = refused_early(bad)
    assert "principal point of the left eye" in error.what
    assert "images of 160x128" in error.found
    assert "35%" in error.expected


def _rotation(rotation: np.ndarray[Any, Any]) -> Callable[[], tuple[Rig, Mapping[str, Any]]]:
    return lambda: (parallel_rig(), {"R": rotation})


def _meets_behind() -> tuple[Rig, Mapping[str, Any]]:
    rig = verged_rig()
    assert rig.right_from_left is not None
    return rig, {"R": np.ascontiguousarray(rig.right_from_left[:3, :3].T)}


BAD_RIGS: dict[str, tuple[Callable[[], tuple[Rig, Mapping[str, Any]]], dict[str, str]]] = {
    "det -1": (
        _rotation(np.diag([-1.0, 1.0, 1.0])),
        {
            "what": "R of the calibration mirrors",
            "found": "det R = -1",
            "expected": "det R = +1",
            "do": "sign",
        },
    ),
    "not orthonormal": (
        _rotation(np.array([[1.0, 0.2, 0], [0, 1, 0], [0, 0, 1]])),
        {"what": "not orthonormal", "found": "away", "expected": "within 0.05", "do": "write R"},
    ),
    "axes meet behind": (
        _meets_behind,
        {
            "what": "optical axes meet behind the eyes",
            "found": "behind the left",
            "expected": "in front of both eyes",
            "do": "--rotation_convention matlab",
        },
    ),
    "zero baseline": (
        lambda: (parallel_rig(), {"T": np.zeros((3, 1))}),
        {"what": "baseline is zero", "found": "T = (0, 0, 0)", "expected": "0.5 to 2000 mm", "do": "write T"},
    ),
    "metres": (
        lambda: (parallel_rig(), {"T": np.array([[-0.005], [0], [0]])}),
        {
            "what": "not in millimetres",
            "found": "0.005",
            "expected": "0.5 to 2000 mm",
            "do": "multiply T by 1000",
        },
    ),
}


@pytest.mark.parametrize("case", BAD_RIGS)
def test_calibrations_that_cannot_be(bad: Path, case: str) -> None:
    make, words = BAD_RIGS[case]
    rig, changes = make()
    write_calibration(bad / "calib.yaml", rig, changes=changes)
    error = refused_early(bad)
    for part, word in words.items():
        assert word in getattr(error, part)


def test_the_flag_that_is_named_mends_it(bad: Path) -> None:
    rig, changes = _meets_behind()
    write_calibration(bad / "calib.yaml", rig, changes=changes)
    stage.check(SceneOptions(datadir=str(bad), rotation_convention="matlab"))


def test_rectified_names_without_a_cut(bad: Path) -> None:
    for side in "lr":
        (bad / side / "images").rename(bad / side / "rectify")
    error = refused_early(bad, image_dir="rectify")
    assert str(bad / "l/rectify/1.jpg") in error.what
    assert "1_96.jpg" in error.expected


def test_rectified_images_with_different_cuts(bad: Path) -> None:
    (bad / "l/images").rename(bad / "l/rectify")
    for name, cut in (("1", 8), ("2", 8), ("3", 9)):
        (bad / f"l/rectify/{name}.jpg").rename(bad / f"l/rectify/{name}_{cut}.jpg")
    error = refused_early(bad, image_dir="rectify")
    assert error.found == "8 px cut off 1_8.jpg, 9 px off 3_9.jpg"


@pytest.mark.parametrize("factor", [0, -1, 9])
def test_an_impossible_factor(bad: Path, factor: int) -> None:
    error = refused_early(bad, factor=factor)
    assert f"--factor {factor}" in error.what
    assert "1 to 8" in error.expected  # 128 px / 16 px
