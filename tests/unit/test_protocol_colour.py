"""Colour of the protocols: arithmetic of whole frame and tissue, pooled and by frame, three SSIMs written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.protocols.colour import Rule, Squares, psnr, ssim
from evaluation.protocols.scored_run import Crop, Pair


def squares(level: float, pixels: int, tissue: int) -> Squares:
    """A frame that is `level` grey levels of 255 off on its tissue, and black in both images elsewhere."""
    return Squares(3 * tissue * (level / 255) ** 2, pixels, tissue)


@pytest.mark.parametrize(("share", "gain_db"), [(0.9, 0.46), (0.8, 0.97), (0.7, 1.55)])
def test_the_whole_frame_gains_what_is_black_in_both(share: float, gain_db: float) -> None:
    frames = [squares(10, 1000, round(1000 * share))]
    whole, tissue = (psnr(frames, pooled=True, tissue_only=only) for only in (False, True))
    assert tissue == pytest.approx(10 * math.log10(255**2 / 100))
    assert whole - tissue == pytest.approx(-10 * math.log10(share))
    assert whole - tissue == pytest.approx(gain_db, abs=0.005)


def test_pooled_is_never_above_the_mean_of_frames() -> None:
    frames = [squares(5, 100, 100), squares(20, 100, 100)]
    pooled, by_frame = (psnr(frames, pooled=flag, tissue_only=False) for flag in (True, False))
    assert pooled == pytest.approx(10 * math.log10(255**2 / ((25 + 400) / 2)))
    assert by_frame == pytest.approx(10 * math.log10(255**2 / (5 * 20)))  # the geometric mean of 25 and 400
    assert by_frame > pooled


def test_frames_that_agree_or_show_no_tissue_have_no_number() -> None:
    assert math.isinf(psnr([squares(0, 10, 10)], pooled=True, tissue_only=False))
    assert math.isinf(psnr([squares(3, 10, 0)], pooled=True, tissue_only=True))


def test_what_psnr_is_of_is_said() -> None:
    assert Rule(pooled=True).psnr_of == "masked frame, pooled"
    assert Rule(tissue_only=True, masked=False).psnr_of == "tissue, by frame"


def images(height: int = 21, width: int = 24) -> Pair:
    rng = np.random.default_rng(2)
    recorded = rng.random((height, width, 3)).astype(np.float32)
    rendered = np.clip(recorded + rng.normal(0, 0.1, recorded.shape), 0, 1).astype(np.float32)
    tissue = np.zeros((height, width), bool)
    tissue[3:17, 2:15] = True
    return Pair(rendered, recorded, tissue)


def window_ssim(a: np.ndarray, b: np.ndarray, weights: np.ndarray, value_range: float, sample: float = 1) -> float:
    """SSIM of one window and channel, as the paper writes it."""
    weights = weights / weights.sum()
    mean_a, mean_b = (a * weights).sum(), (b * weights).sum()
    variance_a, variance_b = (sample * (weights * (x - m) ** 2).sum() for x, m in ((a, mean_a), (b, mean_b)))
    covariance = sample * (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(top / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)))


def slow_ssim(a: np.ndarray, b: np.ndarray, weights: np.ndarray, value_range: float, sample: float = 1) -> float:
    """The mean over all windows that lie inside the images."""
    size = len(weights)
    values = [
        window_ssim(
            a[row : row + size, column : column + size, channel].astype(float),
            b[row : row + size, column : column + size, channel].astype(float),
            weights,
            value_range,
            sample,
        )
        for row in range(a.shape[0] - size + 1)
        for column in range(a.shape[1] - size + 1)
        for channel in range(3)
    ]
    return float(np.mean(values))


def gaussian() -> np.ndarray:
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    return np.outer(line, line)


def test_the_three_ssims_written_out() -> None:
    pair = images()
    border = ((5, 5), (5, 5), (0, 0))
    padded_a, padded_b = np.pad(pair.rendered, border), np.pad(pair.recorded, border)
    assert ssim("unpadded", pair) == pytest.approx(
        slow_ssim(pair.rendered, pair.recorded, gaussian(), 1), abs=2e-5
    )
    assert ssim("zero_padded", pair) == pytest.approx(slow_ssim(padded_a, padded_b, gaussian(), 1), abs=2e-5)
    flat = np.ones((7, 7))
    skimage = slow_ssim(pair.rendered, pair.recorded, flat, 2, sample=49 / 48)
    assert ssim("scikit-image", pair) == pytest.approx(skimage, abs=2e-5)
    assert ssim("scikit-image", pair) > slow_ssim(pair.rendered, pair.recorded, flat, 1, sample=49 / 48)


def test_masking_makes_what_is_outside_a_perfect_match() -> None:
    pair = images()
    masked = pair.masked()
    assert (masked.rendered[~pair.tissue] == 0).all()
    assert (masked.rendered[pair.tissue] == pair.rendered[pair.tissue]).all()
    assert ssim("zero_padded", masked) > ssim("zero_padded", pair)
    assert ssim("zero_padded", Pair(masked.recorded, masked.recorded, pair.tissue)) == pytest.approx(1, abs=1e-6)


def test_a_crop_keeps_first_rows_and_last_columns() -> None:
    assert Crop(rows=500) != Crop(columns=40)
    grid = np.arange(6 * 8).reshape(6, 8)
    crop = Crop(rows=4, columns=3)
    assert grid[: crop.rows, crop.columns :].shape == (4, 5)
    assert grid[: crop.rows, crop.columns :][0, 0] == 3
