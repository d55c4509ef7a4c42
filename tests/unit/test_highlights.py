"""The highlight detector: small white blobs are found, broad light, texture and borders are not."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.synthetic import BALL_ON_WALL, parallel_rig, render
from utils.highlights import detect_highlights
from utils.images import list_images, read_mask, read_rgb
from utils.types import BoolArray, FloatArray

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ALL = np.ones((256, 320), bool)
RED = np.array([0.75, 0.38, 0.34])


def light(column: float, row: float, sigma_px: float, height: float = 1.2) -> FloatArray:
    """Return (256, 320) white light of one reflection, cut off by the sensor's full scale later."""
    columns, rows = np.meshgrid(np.arange(320), np.arange(256))
    squared = (columns - column) ** 2 + (rows - row) ** 2
    return height * np.exp(-squared / (2 * sigma_px**2))


def picture(base: FloatArray, added: FloatArray, seed: int = 0) -> NDArray[np.uint8]:
    """Return an image of `base` (256, 320, 3) with white light `added` (256, 320) and sensor noise."""
    noise = np.random.default_rng(seed).normal(0, 0.006, base.shape)
    return np.rint(255 * np.clip(base + added[..., None] + noise, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("sigma_px", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("shade", [0.35, 0.7, 1.0])
def test_a_reflection_and_its_halo_are_found(sigma_px: float, shade: float) -> None:
    added = light(150, 120, sigma_px)
    found = detect_highlights(picture(np.broadcast_to(shade * RED, (256, 320, 3)), added), ALL)
    assert found[added > 0.35].all()
    assert not found[added < 0.03].any()


def test_reflections_are_found_whatever_the_resolution() -> None:
    added = light(150, 120, 4)
    small = picture(np.broadcast_to(RED, (256, 320, 3)), added)
    large = cv2.resize(small, (1280, 1024), interpolation=cv2.INTER_CUBIC)
    found = detect_highlights(np.asarray(large, np.uint8), np.ones((1024, 1280), bool))
    again = cv2.resize(found.astype(np.uint8), (320, 256), interpolation=cv2.INTER_AREA) > 0
    first = detect_highlights(small, ALL)
    assert (again & first).sum() > 0.8 * (again | first).sum()


def test_reflections_in_a_grey_image_are_found() -> None:
    added = light(150, 120, 3)
    found = detect_highlights(picture(np.full((256, 320, 3), 0.45), added), ALL)
    assert found[added > 0.5].all()
    assert not found[added < 0.02].any()


def test_broad_light_and_white_areas_are_no_highlights() -> None:
    broad = picture(np.broadcast_to(RED, (256, 320, 3)), light(160, 128, 60, height=0.9))
    assert not detect_highlights(broad, ALL).any()
    half = np.broadcast_to(RED, (256, 320, 3)).copy()
    half[:, 160:] = 0.97  # a white wall fills one half
    assert not detect_highlights(picture(half, np.zeros((256, 320))), ALL).any()
    assert not detect_highlights(np.full((256, 320, 3), 255, np.uint8), ALL).any()
    assert not detect_highlights(np.zeros((256, 320, 3), np.uint8), ALL).any()


def test_shading_and_texture_are_no_highlights() -> None:
    columns = np.linspace(0.2, 1.3, 320)[None, :, None]
    shaded = np.clip(RED * columns * np.ones((256, 1, 1)), 0, 1)
    assert not detect_highlights(picture(shaded, np.zeros((256, 320))), ALL).any()
    rich = render(BALL_ON_WALL, parallel_rig(320, 256).left, np.eye(4)).rgb
    assert detect_highlights(rich, ALL).mean() < 0.002


def test_a_black_border_makes_no_highlights_and_hides_none() -> None:
    columns, rows = np.meshgrid(np.arange(320) - 159.5, np.arange(256) - 127.5)
    tissue = np.hypot(columns, rows) < 120
    added = light(55, 128, 3) * tissue  # near the edge of the picture
    image = picture(np.where(tissue[..., None], RED, 0.0), added)
    found = detect_highlights(image, tissue)
    assert found[(added > 0.4)].all()
    assert not found[~tissue].any()
    assert not found[added < 0.02].any()


def test_no_tissue_no_highlights() -> None:
    assert not detect_highlights(np.full((20, 30, 3), 200, np.uint8), np.zeros((20, 30), bool)).any()


def test_it_is_fast() -> None:
    image = picture(np.broadcast_to(RED, (256, 320, 3)), light(100, 100, 4))
    detect_highlights(image, ALL)
    seconds = []
    for _ in range(10):
        began = time.process_time()
        detect_highlights(image, ALL)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.03  # 7 ms on one slow core; the margin is for shared machines


def _real(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"no real images at {DATA / folder}")
    return DATA / folder


def test_real_endoscopy_has_few_and_the_saturated_ones_are_among_them() -> None:
    folder = _real("sinus")
    for path in list_images(folder / "l/images")[::6]:
        image, tissue = read_rgb(path), read_mask(folder / "mask_l" / f"{path.stem}.png")
        found = detect_highlights(image, tissue)
        assert 0.001 < found[tissue].mean() < 0.02
        assert found[_brightest_blob(image, tissue)].mean() > 0.9


def _brightest_blob(image: NDArray[np.uint8], tissue: BoolArray) -> BoolArray:
    """Return saturated pixels in the middle of the picture, where the reflection on the polyp is."""
    white = (image.min(axis=-1) > 235) & tissue
    white[:, : image.shape[1] // 4] = False
    white[:, image.shape[1] * 5 // 8 :] = False
    assert white.any()
    return white


def test_a_photograph_full_of_white_things_is_hardly_touched() -> None:
    image = read_rgb(_real("motorcycle") / "l/images/1.png")
    assert detect_highlights(image, np.ones(image.shape[:2], bool)).mean() < 0.03
