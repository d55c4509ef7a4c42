"""PSNR and SSIM: hand-computed numbers, regions, and a slow window sum as reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import structural_similarity

from evaluation.image_metrics import mean_in_region, psnr, ssim_map, unit_range
from evaluation.scores import rgb_metrics

images = hnp.arrays(np.uint8, (13, 17, 3))


def test_psnr_of_a_2x2_image_by_hand() -> None:
    reference = np.zeros((2, 2, 3))
    image = np.zeros((2, 2, 3))
    image[0, 0] = 0.1
    image[1, 1, 0] = 0.5  # outside the region below
    region = np.array([[True, True], [True, False]])
    # mean of squares: 3 x 0.01 over 9 values
    assert psnr(image, reference, region) == pytest.approx(-10 * np.log10(0.03 / 9))


def test_psnr_of_a_constant_difference() -> None:
    one = np.full((3, 3, 3), 0.5)
    assert psnr(one + 0.1, one, np.ones((3, 3), dtype=bool)) == pytest.approx(20.0)


def test_psnr_of_equal_images_and_of_an_empty_region() -> None:
    one = np.full((2, 2, 3), 0.5)
    assert psnr(one, one, np.ones((2, 2), dtype=bool)) == np.inf
    assert np.isnan(psnr(one, one, np.zeros((2, 2), dtype=bool)))


def test_unit_range_maps_255_to_1() -> None:
    assert unit_range(np.array([0, 255], np.uint8)).tolist() == [0.0, 1.0]


def test_ssim_agrees_with_a_sum_over_one_window() -> None:
    rng = np.random.default_rng(0)
    image, reference = rng.random((21, 23, 3)), rng.random((21, 23, 3))
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    row, column = 10, 7  # far from the border of the image
    values = []
    for channel in range(3):
        a = image[row - 5 : row + 6, column - 5 : column + 6, channel]
        b = reference[row - 5 : row + 6, column - 5 : column + 6, channel]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
        numerator = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        values.append(numerator / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    assert ssim_map(image, reference)[row, column] == pytest.approx(np.mean(values), abs=1e-12)


def test_ssim_of_two_constant_images_by_hand() -> None:
    # no variance: (2 ab + C1) / (a^2 + b^2 + C1) = 0.2401 / 0.2501, with 0.3 and 0.4
    a, b = np.full((9, 9, 3), 0.3), np.full((9, 9, 3), 0.4)
    assert ssim_map(a, b) == pytest.approx(np.full((9, 9), 0.2401 / 0.2501))


@settings(max_examples=20, deadline=None)
@given(images, images)
def test_ssim_agrees_with_scikit_image(image: np.ndarray, reference: np.ndarray) -> None:
    a, b = unit_range(image), unit_range(reference)
    _, expected = structural_similarity(
        a, b, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False, data_range=1.0, full=True
    )
    np.testing.assert_allclose(ssim_map(a, b), expected.mean(axis=-1), atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(images, images)
def test_ssim_is_symmetric_bounded_and_1_for_equal_images(image: np.ndarray, reference: np.ndarray) -> None:
    a, b = unit_range(image), unit_range(reference)
    assert ssim_map(a, a) == pytest.approx(np.ones(a.shape[:2]))
    one, other = ssim_map(a, b), ssim_map(b, a)
    np.testing.assert_allclose(one, other, atol=1e-9)
    assert (np.abs(one) <= 1 + 1e-9).all()


def test_a_region_average_takes_the_regions_pixels_alone() -> None:
    values = np.array([[1.0, 3.0], [100.0, 5.0]])
    assert mean_in_region(values, np.array([[True, True], [False, True]])) == 3.0
    assert np.isnan(mean_in_region(values, np.zeros((2, 2), dtype=bool)))


def test_a_masked_part_does_not_count_as_a_match() -> None:
    """Multiplying both images by the mask first would give 1 outside and lift the mean."""
    rng = np.random.default_rng(1)
    image, reference = (rng.integers(0, 256, (40, 40, 3)).astype(np.uint8) for _ in range(2))
    region = np.zeros((40, 40), dtype=bool)
    region[15:25, 15:25] = True
    everything = np.ones_like(region)
    scored = rgb_metrics(image, reference, {"full": everything, "tissue": region}, None)
    masked = ssim_map(unit_range(image) * region[..., None], unit_range(reference) * region[..., None])
    assert scored["tissue"]["ssim"] < 0.2
    assert masked.mean() > 0.7
    assert "lpips" not in scored["full"]


@given(st.integers(0, 255))
def test_pixels_outside_the_region_do_not_move_psnr(value: int) -> None:
    image, reference = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    region = np.zeros((8, 8), dtype=bool)
    region[:, :4] = True
    image[:, 4:] = value
    scored = rgb_metrics(image, reference, {"tissue": region}, None)
    assert scored["tissue"]["psnr"] == pytest.approx(20 * np.log10(255 / 10))


def test_equal_images_have_no_finite_psnr_and_an_empty_region_no_score() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    nothing = np.zeros((8, 8), dtype=bool)
    scored = rgb_metrics(image, image, {"full": ~nothing, "tissue": nothing}, None)
    assert scored == {"full": {"ssim": pytest.approx(1.0)}, "tissue": {}}


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        rgb_metrics(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), {}, None)
