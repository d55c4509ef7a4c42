"""Depth of the protocols on arrays small enough to work out by hand, and the traps of each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.depth_metrics import depth_metrics, median_ratio
from evaluation.protocols import depth as protocols
from evaluation.protocols.depth import Depths, Frames
from evaluation.protocols.geometry import mean_to_vertices
from utils.geometry import pixel_grid, rigid, transform, unproject

UNKNOWN = math.nan


def frame(depth_mm: list[float], truth_mm: list[float], tissue: list[bool] | None = None) -> Depths:
    inside = np.ones((1, len(truth_mm)), bool) if tissue is None else np.array([tissue])
    return Depths(np.array([depth_mm], np.float32), np.array([truth_mm], np.float32), inside)


def frames(*some: Depths) -> Frames:
    return Frames(len(some), some.__getitem__)


def test_afsfm_scales_every_image_by_its_own_median_and_clips() -> None:
    # ratio 15 / 7.5 = 2 makes it right; 200 mm and the unknown do not count, tissue or not
    right = frame([5, 10, 7, 9], [10, 20, 200, UNKNOWN], [True, False, True, True])
    # ratio 120 / 1.5 = 80: 80 for 100, and 160 clipped to 150 for 140
    clipped = frame([1, 2], [100, 140])
    scores = protocols.afsfm(frames(right, clipped))
    assert scores["abs_rel"] == pytest.approx((0 + (20 / 100 + 10 / 140) / 2) / 2)
    assert scores["rmse"] == pytest.approx((0 + math.sqrt((400 + 100) / 2)) / 2)
    assert (scores["n_frames"], scores["coverage"]) == (2, 1.0)


def test_afsfm_forgives_a_drifting_scale_which_one_ratio_does_not() -> None:
    truth = [110.0, 120.0, 130.0]
    drifting = frames(*(frame([scale * value for value in truth], truth) for scale in (0.8, 1.0, 1.3)))
    assert protocols.afsfm(drifting)["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert protocols.nerfingmvs(drifting)["abs_rel"] > 0.1


def test_nerfingmvs_takes_one_ratio_and_leaves_out_what_is_nearer_than_100_mm() -> None:
    # truth 200, 400 | 300: median 300; predictions 100, 200 | 200: median 200; ratio 1.5
    pair = frames(frame([100, 200, 1], [200, 400, 99]), frame([200], [300]))
    scores = protocols.nerfingmvs(pair)
    assert scores["abs_rel"] == pytest.approx(((50 / 200 + 100 / 400) / 2 + 0) / 2)
    assert scores["n_frames"] == 2
    assert protocols.nerfingmvs(frames(frame([50], [50]))) == {}
    # ratio 3: the 60 of the prediction becomes 180, and 20 becomes 60, which is clamped to 100
    clamped = protocols.nerfingmvs(frames(frame([20, 50, 60], [150, 150, 150])))
    assert clamped["abs_rel"] == pytest.approx((50 + 0 + 30) / 150 / 3)


def test_predictions_that_are_missing_lower_the_coverage() -> None:
    scores = protocols.afsfm(frames(frame([10, UNKNOWN, 30, 0], [10, 20, 30, 40])))
    assert scores["abs_rel"] == pytest.approx(0)
    assert scores["coverage"] == 0.5
    assert protocols.afsfm(frames(frame([UNKNOWN], [50]))) == {}


def test_upstream_legacy_written_out() -> None:
    truth = np.arange(100.0, 201.0)  # 101 values: the 2 % quantile is 102, the 98 % quantile 198
    predicted = 2 * (150 + (truth - 150) / 10)  # its 5 and 95 % quantiles belong to 105 and 195
    scores = protocols.upstream_legacy(frames(frame(list(predicted), list(truth))))
    kept = [t for t in truth if 105 <= t <= 195]
    guessed = [150 + (t - 150) / 10 for t in kept]  # the ratio of the medians is a half
    low, high = 145.5 + 0.02 * 9, 154.5 - 0.02 * 9
    expected = [
        abs(min(max(p, low), high) - min(max(t, low), high)) / min(max(t, low), high)
        for p, t in zip(guessed, kept, strict=True)
    ]
    assert scores["abs_rel"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert scores["kept"] == pytest.approx(91 / 97)
    assert "coverage" not in scores


def scene() -> tuple[np.ndarray, np.ndarray]:
    """True relief, and a prior of it with 2 % noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:48, 0:64]
    truth = 80 + 12 * np.sin(columns / 9) + 8 * np.cos(rows / 7)
    return truth, truth * (1 + rng.normal(0, 0.02, truth.shape))


def test_a_ramp_that_has_not_seen_the_scene_beats_a_prior_under_upstream_legacy_alone() -> None:
    truth, prior = scene()
    ramp = np.broadcast_to(np.linspace(0.995, 1.005, truth.shape[1]), truth.shape)
    everywhere = np.ones(truth.shape, bool)
    legacy = [protocols.upstream_legacy(frames(Depths(guess, truth, everywhere))) for guess in (ramp, prior)]
    assert legacy[0]["abs_rel"] < 0.007 < 0.013 < legacy[1]["abs_rel"]
    ours = [depth_metrics(guess * median_ratio(guess, truth), truth, everywhere) for guess in (ramp, prior)]
    assert ours[0]["abs_rel"] > 0.08 > 0.02 > ours[1]["abs_rel"]


def test_eight_bits_cut_to_whole_millimetres() -> None:
    score = protocols.endogaussian_rmse
    truth = [100.0] * 10
    assert score(frames(frame([99.9] * 10, truth)))["rmse_mm"] == 1.0
    assert score(frames(frame([100.9] * 10, truth)))["rmse_mm"] == 0.0


def test_eight_bits_fold_squares() -> None:
    """15 mm count as 15, 16 mm (256 = 0 modulo 256) as none, 17 mm (289 - 256 = 33) as 5.7."""
    for off, counted in ((15, 15.0), (16, 0.0), (17, math.sqrt(33)), (-16, 0.0), (100, 4.0)):
        scores = protocols.endogaussian_rmse(frames(frame([100.0 + off] * 10, [100.0] * 10)))
        assert scores["rmse_mm"] == pytest.approx(counted)
        assert scores["folded"] == (1.0 if abs(off) >= 16 else 0.0)
    assert max(math.sqrt(n * n % 256) for n in range(256)) < 15.8


def test_eight_bit_rmse_divides_by_the_whole_frame() -> None:
    tissue = [True] * 4 + [False] * 12
    scores = protocols.endogaussian_rmse(frames(frame([110.0] * 16, [100.0] * 16, tissue)))
    assert scores["rmse_mm"] == pytest.approx(10 * math.sqrt(4 / 16))


def test_eight_bit_truth_is_clipped_and_unknown_truth_becomes_its_low_quantile() -> None:
    truth = [float(value) for value in range(50, 151)]  # 3 % quantile 53, 99.8 % quantile 149.8
    scores = protocols.endogaussian_rmse(
        frames(frame([53.0] * 3 + truth[3:-1] + [149.0] + [60.0], [*truth, UNKNOWN]))
    )
    assert scores["rmse_mm"] == pytest.approx(math.sqrt(7**2 / 102))  # the unknown became 53, 7 mm from 60


def test_what_the_field_does_not_know_is_nought_in_eight_bits() -> None:
    scores = protocols.endogaussian_rmse(frames(frame([UNKNOWN] * 10, [10.0] * 10)))
    assert scores["rmse_mm"] == 10.0
    few = frame([10.0] * 9 + [UNKNOWN], [10.0] * 9 + [UNKNOWN])
    assert protocols.endogaussian_rmse(frames(few))["n_frames"] == 1
    assert protocols.endogaussian_rmse(frames(frame([10.0] * 9, [10.0] * 9))) == {}, "fewer than ten pixels"
    assert protocols.endogaussian_rmse(frames(frame([10.0], [UNKNOWN]))) == {}


def test_eight_bits_do_not_hold_256_mm() -> None:
    assert protocols.endogaussian_rmse(frames(frame([255.9] * 10, [255.9] * 10)))["rmse_mm"] == 0
    with pytest.raises(ValueError, match="256 mm"):
        protocols.endogaussian_rmse(frames(frame([256.0] * 10, [100.0] * 10)))


def test_endosurf_leaves_out_the_tails_of_all_frames_and_pools_the_rest() -> None:
    truth = [float(value) for value in range(1, 202)]  # 201 values: 3 % quantile 7, 99.5 % quantile 200
    near, far = protocols.endosurf_range_mm(frames(frame(truth, truth)))
    assert near == pytest.approx(7)
    assert far == pytest.approx(200)
    wrong = [value + 50 if value <= 7 or value >= 200 else value + 2 for value in truth]
    scores = protocols.endosurf_rmse(frames(frame(wrong, truth)), near, far)
    assert scores == {"rmse_mm": pytest.approx(2), "coverage": 1.0, "n_frames": 1}
    # one frame 3 mm off on 1 pixel of tissue, one 1 mm off on 3: sqrt((9 + 3) / 4)
    pooled = frames(frame([53, 90], [50, 60], [True, False]), frame([51, 61, 71], [50, 60, 70]))
    assert protocols.endosurf_rmse(pooled, 0, 100)["rmse_mm"] == pytest.approx(math.sqrt(3))
    assert protocols.endosurf_rmse(frames(frame([UNKNOWN], [50])), 0, 100) == {}


def test_endosurf_counts_unknown_truth_as_nought_in_its_quantiles() -> None:
    half = [UNKNOWN] * 50 + [80.0] * 50
    assert protocols.endosurf_range_mm(frames(frame(half, half))) == (0.0, 80.0)


def test_long_sequences_are_pooled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = [float(value) for value in range(101, 201)]
    many = frames(*(frame([value / 3 for value in truth], truth) for _ in range(8)))
    monkeypatch.setattr(protocols, "_POOL_PX", 90)
    assert protocols.nerfingmvs(many)["abs_rel"] == pytest.approx(0, abs=1e-6)
    near, far = protocols.endosurf_range_mm(many)
    assert near == pytest.approx(104, abs=5)
    assert far == pytest.approx(199.5, abs=9)


def test_geometry_goes_one_way_from_truth_to_vertices() -> None:
    vertices = np.array([[0.0, 0, 0], [10, 0, 0], [500, 0, 0]])  # what was made up far away costs nothing
    near = [np.array([[1.0, 0, 0], [9, 0, 0]]), np.array([[5.0, 0, 0]]), np.zeros((0, 3))]
    # a point in the middle of an edge lies on the face, and is half the edge away from its vertices
    assert mean_to_vertices(near, vertices) == pytest.approx((1 + 5) / 2)
    assert math.isnan(mean_to_vertices([np.zeros((0, 3))], vertices))


def test_half_a_pixel_of_the_principal_point_is_a_shift_of_the_cloud() -> None:
    """EndoSurf says (w - 1) / 2, EndoGaussian w // 2: half a pixel, z / (2 f) beside each other."""
    width, height, focal, depth_mm = 8, 6, 50.0, 100.0
    flat = np.full((height, width), depth_mm)
    clouds = []
    for cx, cy in (((width - 1) / 2, (height - 1) / 2), (width // 2, height // 2)):
        matrix = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
        clouds.append(unproject(matrix, pixel_grid(width, height), flat).reshape(-1, 3))
    apart = np.linalg.norm(clouds[0] - clouds[1], axis=1)
    np.testing.assert_allclose(apart, math.sqrt(2) * depth_mm / (2 * focal))


def test_flipped_axes_are_harmless_while_the_camera_stands_still_and_fatal_when_it_moves() -> None:
    """EndoGaussian keeps the axes of LLFF, Deform3DGS and Endo-4DGS flip y and z."""
    flip = np.diag([1.0, -1, -1, 1])
    point_world = np.array([[3.0, 4, 100]])

    def spread_mm(second: np.ndarray) -> float:
        """How far apart two views put one point when their poses' axes are flipped."""
        poses = [np.eye(4), second]
        seen = [transform(np.linalg.inv(pose), point_world) for pose in poses]
        placed = [transform(pose @ flip, point) for pose, point in zip(poses, seen, strict=True)]
        return float(np.linalg.norm(placed[0] - placed[1]))

    assert spread_mm(np.eye(4)) == 0
    assert spread_mm(rigid(np.eye(3), np.array([0.0, 5, 0]))) == pytest.approx(10)
