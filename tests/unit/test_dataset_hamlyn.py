"""Rectified Hamlyn's layout, made of a plane: depth in whole mm, a baseline from elsewhere, black borders."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.clinical_world import PATH, Seen, assert_refused, look, misses
from utils.datasets import hamlyn
from utils.datasets.conversion import Order, convert
from utils.datasets.options import ReaderOptions
from utils.datasets.source import Source
from utils.geometry import directions, invert_rigid, pixel_grid, rigid
from utils.images import write_rgb
from utils.types import Side

SIZE = (240, 160)
MATRIX = np.array([[260.0, 0, 131.0], [0, 255.0, 77.5], [0, 0, 1]])
BASELINE_MM = 5.4
RIGHT_FROM_LEFT = rigid(np.eye(3), np.array([-BASELINE_MM, 0, 0]))
BORDER = 30
# The cameras before rectification: turned and shifted in all directions, as the release's file has it.
EXTRINSICS = np.array([[0.9999, 0.002, -0.01, -5.39], [-0.002, 0.9999, 0.003, 0.2], [0.01, -0.003, 0.9999, 0.26]])


def seen(index: int) -> tuple[Seen, Seen]:
    rays = directions(MATRIX, pixel_grid(*SIZE))
    return look(rays, PATH[index]), look(rays, PATH[index] @ invert_rigid(RIGHT_FROM_LEFT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """rectified04/rectified04 and calibration/04, as unzipped from the release."""
    home = tmp_path / "rectified04" / "rectified04"
    for index in range(3):
        for number, view in enumerate(seen(index), 1):
            image = view.image.copy()
            image[:, :BORDER] = 0
            name = f"{index + 7:010d}"
            (home / f"image0{number}").mkdir(parents=True, exist_ok=True)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(home / f"image0{number}" / f"{name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 98])
            depth = np.rint(view.depth_mm).astype(np.uint16)
            depth[:4] = 0
            (home / f"depth0{number}").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(home / f"depth0{number}" / f"{name}.png"), depth)
    calibration = tmp_path / "calibration" / "04"
    calibration.mkdir(parents=True)
    np.savetxt(calibration / "intrinsics.txt", np.hstack([MATRIX, np.zeros((3, 1))]))
    np.savetxt(calibration / "extrinsics.txt", EXTRINSICS)
    return tmp_path / "rectified04"


def said(source: Source, verdict: str) -> str:
    return "\n".join(f"{one.subject}: {one.words} {one.do}" for one in source.findings if one.verdict == verdict)


def test_the_folder_is_recognised_with_and_without_its_repeated_name(folder: Path) -> None:
    assert hamlyn.looks_like(folder)
    assert hamlyn.looks_like(folder / folder.name)
    assert not hamlyn.looks_like(folder.parent)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("side", ["left", "right"])
def test_depth_and_baseline_put_both_eyes_pixels_where_they_are(folder: Path, index: int, side: Side) -> None:
    source = hamlyn.read(folder, ReaderOptions(baseline_mm=BASELINE_MM))
    assert not said(source, "refuse")
    inner = source.frames[index].tissue[side]()[8:, BORDER + 8 :]
    assert inner.all()
    assert not source.frames[index].tissue[side]()[:, : BORDER - 8].any()
    found = misses(source, index, side, world_from_left=PATH[index])
    assert found.plane_mm < 0.6  # whole mm along z, and the plane is oblique
    assert found.known == pytest.approx(156 / 160)
    assert found.colour < 4  # JPEG, and whole mm


def test_images_and_names_are_the_releases_own(folder: Path) -> None:
    source = hamlyn.read(folder, ReaderOptions(start=1))
    assert [frame.name for frame in source.frames] == ["0000000008", "0000000009"]
    assert source.frames[0].images["right"] == folder / folder.name / "image02" / "0000000008.jpg"
    assert source.world_from_left is None
    assert source.image_size == SIZE
    assert source.moving_camera is None


def test_the_baseline_comes_from_the_length_of_the_translation(folder: Path) -> None:
    source = hamlyn.read(folder, ReaderOptions())
    assert source.right_from_left is not None
    expected = np.linalg.norm([5.39, 0.2, 0.26])
    np.testing.assert_allclose(source.right_from_left, rigid(np.eye(3), np.array([-expected, 0, 0])), atol=1e-9)
    assert source.metric
    assert re.search(r"baseline: images and depth fit 5.[345] mm best", said(source, "ok"))


def test_without_a_baseline_the_pair_is_refused_and_one_is_proposed(folder: Path) -> None:
    (folder.parent / "calibration" / "04" / "extrinsics.txt").unlink()
    source = hamlyn.read(folder, ReaderOptions())
    assert source.right_from_left is None
    assert not source.metric
    assert re.search(r"fit 5.[345] mm best .*--baseline_mm 5.[345]$", said(source, "refuse"))


def test_a_changed_calibration_beside_the_sequence_is_noticed(folder: Path, tmp_path: Path) -> None:
    order = Order(folder, tmp_path / "out", "auto", ReaderOptions())
    assert convert(order).fresh
    assert not convert(order).fresh
    np.savetxt(folder.parent / "calibration" / "04" / "extrinsics.txt", EXTRINSICS * 1.01)
    assert convert(order).fresh


def test_a_wrong_baseline_is_noticed(folder: Path) -> None:
    words = said(hamlyn.read(folder, ReaderOptions(baseline_mm=4.0)), "warn")
    assert re.search(r"fit 5.[345] mm best, not 4 mm", words)


def test_depth_is_named_as_what_it_is(folder: Path) -> None:
    words = said(hamlyn.read(folder, ReaderOptions()), "warn")
    assert "no independent truth" in words
    assert "stereo matching" in words


def test_the_release_for_tracking_has_one_eye_and_depth_of_a_network(tmp_path: Path) -> None:
    left, _ = seen(0)
    write_rgb(tmp_path / "test1" / "color" / "0.png", left.image)
    (tmp_path / "test1" / "depth").mkdir()
    cv2.imwrite(str(tmp_path / "test1" / "depth" / "0.png"), np.rint(left.depth_mm).astype(np.uint16))
    np.savetxt(tmp_path / "test1" / "intrinsics.txt", MATRIX)
    assert hamlyn.looks_like(tmp_path / "test1")
    source = hamlyn.read(tmp_path / "test1", ReaderOptions())
    assert list(source.lenses) == ["left"]
    assert "a network" in said(source, "warn")
    assert misses(source, 0, "left", PATH[0]).plane_mm < 0.6


def test_intrinsics_of_another_size_are_noticed(folder: Path) -> None:
    half = MATRIX * [[0.5], [0.5], [1]]
    np.savetxt(folder.parent / "calibration" / "04" / "intrinsics.txt", half)
    assert "images of another size" in said(hamlyn.read(folder, ReaderOptions()), "warn")


def calibration(folder: Path, text: str) -> None:
    (folder.parent / "calibration" / "04" / "intrinsics.txt").write_text(text)


SPOILED = {
    "no images": (lambda f: [p.unlink() for p in (f / f.name / "image01").iterdir()], "no sequence"),
    "right image missing": (
        lambda f: (f / f.name / "image02" / "0000000008.jpg").unlink(),
        "image of the other eye",
    ),
    "depth missing": (lambda f: (f / f.name / "depth01" / "0000000008.png").unlink(), "has no depth map"),
    "another size": (
        lambda f: cv2.imwrite(str(f / f.name / "image02" / "0000000008.jpg"), np.zeros((64, 64, 3), np.uint8)),
        "another size than 0000000007.jpg",
    ),
    "depth of another size": (
        lambda f: cv2.imwrite(str(f / f.name / "depth01" / "0000000007.png"), np.ones((64, 64), np.uint16)),
        "another size than the images",
    ),
    "8-bit depth": (
        lambda f: cv2.imwrite(str(f / f.name / "depth01" / "0000000007.png"), np.ones((160, 240), np.uint8)),
        "16-bit grey",
    ),
    "image cut": (
        lambda f: (f / f.name / "image01" / "0000000009.jpg").write_bytes(b"\xff\xd8"),
        "cannot be read",
    ),
    "no intrinsics": (lambda f: (f.parent / "calibration" / "04" / "intrinsics.txt").unlink(), "no such file"),
    "words for numbers": (lambda f: calibration(f, "fx 260"), "cannot be read"),
    "five numbers": (lambda f: calibration(f, "1 2 3 4 5"), "5 numbers"),
    "no focal length": (lambda f: calibration(f, "0 0 1 0 0 1 0 0 1"), "fx 0"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_missing_or_damaged_is_refused(folder: Path, name: str) -> None:
    spoil, words = SPOILED[name]
    spoil(folder)
    assert_refused(lambda: hamlyn.read(folder, ReaderOptions()), words)
