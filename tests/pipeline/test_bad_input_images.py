"""Bad images and masks: each is refused with what and where, found, expected, and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from stereo_prior import scene as stage
from stereo_prior.scene import SceneOptions
from tests.refusals import refused, refused_early
from tests.synthetic import parallel_rig, write_calibration
from utils.artifacts import read_json
from utils.images import read_rgb, write_rgb


def test_a_mask_of_another_size(bad: Path) -> None:
    write_rgb(bad / "mask_r/2.png", np.full((64, 80), 255, np.uint8))
    error = refused(bad)
    assert str(bad / "mask_r/2.png") in error.what
    assert error.found == "80x64"
    assert "160x128" in error.expected
    assert "remove 2.png" in error.do


def test_an_empty_mask(bad: Path) -> None:
    write_rgb(bad / "mask_l/3.png", np.zeros((128, 160), np.uint8))
    error = refused(bad)
    assert f"{bad / 'mask_l/3.png'} is an empty mask" in error.what
    assert error.found == "no pixel above 0"
    assert "nonzero" in error.expected


def test_a_mask_that_is_no_image(bad: Path) -> None:
    (bad / "mask_l/3.png").write_bytes(b"mask")
    assert str(bad / "mask_l/3.png") in refused(bad).what


def _cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros_in_the_middle(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(1500) + data[len(data) // 2 + 1500 :]


def _noise_in_the_middle(data: bytes) -> bytes:
    noise = np.random.default_rng(0).bytes(1500)
    return data[: len(data) // 2] + noise + data[len(data) // 2 + 1500 :]


@pytest.mark.parametrize("harm", [_cut_in_half, _zeros_in_the_middle, _noise_in_the_middle, lambda _: b""])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_a_corrupt_image(bad: Path, harm: Callable[[bytes], bytes], ending: str) -> None:
    path = (bad / "l/images/2.jpg").with_suffix(ending)
    image = read_rgb(bad / "l/images/2.jpg")
    (bad / "l/images/2.jpg").unlink()
    write_rgb(path, image)
    path.write_bytes(harm(path.read_bytes()))
    error = refused(bad)
    assert f"{path} cannot be read as an image" in error.what
    assert "corrupt" in error.found or "damaged" in error.found
    assert "complete" in error.expected
    assert f"write {path.name} again" in error.do


def test_black_images(bad: Path) -> None:
    shutil.rmtree(bad / "mask_l")
    for name in ("1", "2", "3"):
        write_rgb(bad / f"l/images/{name}.jpg", np.zeros((128, 160, 3), np.uint8))
    assert "the images are black" in refused(bad).what


def test_distortion_that_leaves_nothing_of_a_mask(bad: Path) -> None:
    mask = np.zeros((128, 160), np.uint8)
    mask[0, 0] = 255
    cv2.imwrite(str(bad / "mask_l/1.png"), mask)
    changes = {"D1": np.array([[-0.3, 0, 0, 0, 0]])}
    write_calibration(bad / "calib.yaml", parallel_rig(), changes=changes)
    assert "no tissue is left of the left image of frame 1" in refused(bad).what


def test_masks_with_other_names_than_the_images(bad: Path) -> None:
    for name in ("1", "2", "3"):
        (bad / f"mask_l/{name}.png").rename(bad / f"mask_l/frame_{name}.png")
    error = refused_early(bad)
    assert str(bad / "mask_l") in error.what
    assert "frame_1.png" in error.found
    assert "1.png" in error.expected


def test_one_stray_mask_is_said(bad: Path, tmp_path: Path) -> None:
    shutil.copy(bad / "mask_l/1.png", bad / "mask_l/4.png")
    stage.run(SceneOptions(datadir=str(bad)), out=tmp_path / "out")
    checks = read_json(tmp_path / "out/frames.json")["checks"]
    assert "[warn] 1 masks in mask_l belong to no image: 4.png, ..." in checks
