"""Poses of images on a surface that is known exactly: slopes, convergence, covariance, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

from localisation.agreement import Agreement, agreement, correlated_pixels
from localisation.alignment import align, exponential, residuals
from localisation.contrast import even_contrast
from localisation.landmarks import Landmarks, pose_from_landmarks
from localisation.picture import exposure
from localisation.query import Eye, Query
from localisation.refinement import COARSE, FINE, judged, pairs_at, refine
from localisation.uncertainty import Uncertainty, field_error, twist_between, uncertainty_of
from localisation.verdict import Limits, doubtful, same_place, unlike
from nerf.finished_field import FinishedField
from nerf.images import RenderedImage
from tests.synthetic import BALL_ON_WALL, parallel_rig, render, turn, world_from
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid, rotation_angle_degrees
from utils.types import Camera, FloatArray, Rig, Side

RIG = parallel_rig(112, 96)
POSE = rigid(turn((2.0, -3.0, 5.0)), np.array([1.0, -2.0, 3.0]))
WAVELENGTH = 10.0


@dataclass(frozen=True)
class ExactField:
    """What a field that has learnt everything shows; `gain` times as bright, `noise` of full scale."""

    gain: float = 1.0
    wavelength: float = WAVELENGTH

    def render(self, camera: Camera, world_from_camera: FloatArray, **_: Any) -> RenderedImage:
        view = render(BALL_ON_WALL, camera, world_from_camera, wavelength_mm=self.wavelength)
        known = np.isfinite(view.depth_mm).astype(np.float32)
        rgb = (view.rgb * self.gain).clip(0, 255).astype(np.uint8)
        return RenderedImage(rgb, view.depth_mm, view.depth_mm, 0 * known, known)

    def coverage(self, camera: Camera, world_from_camera: FloatArray, image: RenderedImage) -> Any:
        del camera, world_from_camera
        return image.depth_mm, np.ones(image.depth_mm.shape, np.uint16)


def exact(**values: float) -> FinishedField:
    return cast(FinishedField, ExactField(**values))


def query(
    pose: FloatArray,
    sides: tuple[Side, ...] = ("left",),
    *,
    rig: Rig = RIG,
    noise: float = 0.0,
    gain: float = 1.0,
    seed: int = 0,
    wavelength: float = WAVELENGTH,
) -> Query:
    """Return what a rig at a pose takes."""
    rng, eyes = np.random.default_rng(seed), []
    for side in sides:
        camera = rig.camera(side)
        rgb = render(BALL_ON_WALL, camera, world_from(rig, side, pose), wavelength_mm=wavelength).rgb
        image = (rgb * gain + rng.normal(0, 255 * noise, rgb.shape)).clip(0, 255).astype(np.uint8)
        tissue = np.ones(rgb.shape[:2], bool)
        eyes.append(Eye.of(side, camera, invert_rigid(rig.left_from(side)), image, tissue))
    return Query("one", tuple(eyes))


def error(found: FloatArray, truth: FloatArray) -> tuple[float, float]:
    off = invert_rigid(truth) @ found
    return float(rotation_angle_degrees(off[:3, :3])), float(np.linalg.norm(off[:3, 3]))


def off_by(pose: FloatArray, degrees: float, mm: float, seed: int) -> FloatArray:
    axis, way = (v / np.linalg.norm(v) for v in np.random.default_rng(seed).normal(size=(2, 3)))
    return pose @ rigid(turn(degrees * axis), mm * way)


@pytest.mark.parametrize("side", ["left", "right"])
def test_slopes_are_those_of_the_residuals(side: Side) -> None:
    (pair,) = pairs_at(exact(), query(POSE, (side,)), off_by(POSE, 0.3, 0.3, 1), 160)
    _, weight, slopes, _ = residuals(*pair, np.eye(4))
    for k, step in enumerate([1e-4] * 3 + [1e-2] * 3):
        twist = np.zeros(6)
        twist[k] = step
        ahead, behind = (residuals(*pair, exponential(sign * twist))[0] for sign in (-1, 1))
        used = weight > 0.5
        numeric = (ahead - behind)[used] / (2 * step)
        assert np.corrcoef(numeric, slopes[used, k])[0, 1] > 0.98
        assert np.median(np.abs(numeric)) == pytest.approx(np.median(np.abs(slopes[used, k])), rel=0.1)


@pytest.mark.parametrize("sides", [("left",), ("right",), ("left", "right")])
def test_a_pose_five_degrees_off_is_found(sides: tuple[Side, ...]) -> None:
    start = off_by(POSE, 5.0, 4.0, 5)
    found = refine(exact(), query(POSE, sides, noise=0.01), start, (*COARSE, *FINE[:1])).world_from_left
    degrees, mm = error(found, POSE)
    assert degrees < 0.1
    assert mm < 0.15


@pytest.mark.parametrize("gain", [0.7, 1.25])
def test_exposure_plays_no_part(gain: float) -> None:
    start = off_by(POSE, 3.0, 3.0, 2)
    plain, bright = (
        refine(exact(), query(POSE, gain=factor), start, (*COARSE, *FINE[:1])).world_from_left
        for factor in (1.0, gain)
    )
    assert error(bright, POSE)[1] < 0.2
    assert error(bright, plain)[1] < 0.2


def test_what_is_covered_is_outvoted() -> None:
    plain = query(POSE)
    image = plain.eyes[0].image.copy()
    image[30:60, 20:66] = 120  # 13 % of it
    covered = Query("covered", (Eye.of("left", RIG.left, np.eye(4), image, np.ones(image.shape[:2], bool)),))
    found = refine(exact(), covered, off_by(POSE, 5.0, 4.0, 3), (*COARSE, *FINE[:1])).world_from_left
    assert error(found, POSE)[1] < 0.5
    seen = judged(exact(), covered, found)
    assert 0.6 < seen.explained < 0.97


def test_the_covariance_is_what_noise_does() -> None:
    """Errors over many draws of the noise agree with the standard deviations that one draw gives."""
    squared, claimed = [], []
    for seed in range(8):
        asked = query(POSE, noise=0.03, seed=seed)
        found = refine(exact(), asked, POSE, FINE[:1])
        covariance = uncertainty_of(found.pairs, 1.0).covariance
        twist = twist_between(found.world_from_left, POSE)
        squared.append(twist @ np.linalg.solve(covariance, twist))
        claimed.append(Uncertainty(covariance).std_mm)
    assert 6 * 0.3 < np.mean(squared) < 6 * 3.0
    alone, both = (
        pairs_at(exact(), query(POSE, sides, noise=0.03), POSE, 160) for sides in (("left",), RIG.sides)
    )
    assert uncertainty_of(both, 1.0).std_mm < 0.85 * np.median(claimed)
    tripled = uncertainty_of(alone, 9.0).std_degrees
    assert tripled == pytest.approx(3 * uncertainty_of(alone, 1.0).std_degrees, rel=1e-6)


def test_an_error_of_the_field_widens_the_covariance() -> None:
    """Views whose known poses are off by more than noise explains are what a wrong field looks like."""
    asked = query(POSE, noise=0.01)
    right, wrong = (field_error(exact(), [(asked, pose)]) for pose in (POSE, off_by(POSE, 0.0, 0.3, 4)))
    assert right < 5.0
    assert wrong > 5 * right


def test_neighbouring_differences_that_go_together_count_once() -> None:
    (observed, expected) = pairs_at(exact(), query(POSE), POSE, 160)[0]
    rng = np.random.default_rng(0)

    def with_noise(values: FloatArray) -> float:
        changed = expected.__class__(
            expected.points_left, (expected.values + values.ravel()[expected.pixels]).astype(np.float32),
            expected.weight, expected.pixels, expected.shape,
        )  # fmt: skip
        return correlated_pixels([(observed, changed)])

    white = 5 * rng.normal(size=expected.shape)
    blocks = np.kron(5 * rng.normal(size=(24, 28)), np.ones((4, 4)))
    assert with_noise(white) == pytest.approx(1.0, abs=0.4)
    assert with_noise(blocks) == pytest.approx(16.0, rel=0.3)


def test_another_surface_is_not_explained() -> None:
    same = agreement(pairs_at(exact(), query(POSE), POSE, 160))
    assert same.explained > 0.99
    assert same.overlap > 0.95
    other = query(off_by(POSE, 30.0, 40.0, 1), wavelength=7.0)
    found = refine(exact(), other, POSE, (*COARSE, *FINE[:1])).world_from_left
    assert judged(exact(), other, found).explained < 0.5


def test_eyes_of_two_moments_contradict_each_other() -> None:
    one, other = query(POSE, RIG.sides), query(off_by(POSE, 8.0, 12.0, 3), RIG.sides)
    mixed = Query("mixed", (one.eyes[0], other.eyes[1]))
    found = refine(exact(), mixed, POSE, FINE[:1])
    assert "eyes contradict" in str(unlike(agreement(found.pairs), Limits()))
    same = refine(exact(), one, POSE, FINE[:1])
    assert unlike(agreement(same.pairs), Limits()) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_nothing_is_refused_and_breaks_nothing(level: int) -> None:
    flat = np.full((96, 112, 3), level, np.uint8)
    empty = Query("flat", (Eye.of("left", RIG.left, np.eye(4), flat, np.ones((96, 112), bool)),))
    found = refine(exact(), empty, POSE, (*COARSE, *FINE[:1]))
    assert "explains 0 %" in str(unlike(agreement(found.pairs), Limits()))
    assert not np.isfinite(field_error(exact(), [(empty, POSE)]))


def test_a_view_without_features_has_no_landmarks() -> None:
    flat = np.full((96, 112, 3), 90, np.uint8)
    for depth in (80.0, np.nan):
        landmarks = Landmarks.of(flat, RIG.left, POSE, np.full((96, 112), depth))
        assert landmarks.points_world.shape == (0, 3)
        assert pose_from_landmarks(query(POSE).eyes[0], [landmarks]) is None


def test_features_give_the_pose() -> None:
    world_from_left = off_by(POSE, 12.0, 8.0, 1)
    view = render(BALL_ON_WALL, RIG.left, world_from_left, wavelength_mm=WAVELENGTH)
    landmarks = Landmarks.of(view.rgb, RIG.left, world_from_left, view.depth_mm)
    for side in RIG.sides:
        found = pose_from_landmarks(query(POSE, (side,)).eyes[0], [landmarks])
        assert found is not None
        assert found.inliers > 50
        assert error(found.world_from_left, POSE)[1] < 0.6
    nothing = Landmarks(landmarks.points_world[:5], landmarks.descriptors[:5])
    assert pose_from_landmarks(query(POSE).eyes[0], [nothing]) is None
    one_place = Landmarks(
        np.repeat(landmarks.points_world[:1], len(landmarks.points_world), 0), landmarks.descriptors
    )
    assert pose_from_landmarks(query(POSE).eyes[0], [one_place]) is None


def test_contrast_forgets_gain_offset_and_what_is_not_usable() -> None:
    image = render(BALL_ON_WALL, RIG.left, POSE).rgb.astype(np.float32)
    usable = np.ones(image.shape[:2], np.float32)
    usable[40:55, 40:70] = 0
    plain, weight = even_contrast(image, usable)
    changed = np.where(usable[..., None] > 0, 0.8 * image + 20, 255).astype(np.float32)
    other, _ = even_contrast(changed, usable)
    assert (weight[40:55, 40:70] == 0).all()
    assert np.abs(plain - other)[usable > 0].max() < 0.25
    assert 0.6 < plain[usable > 0].std() < 1.2


def test_too_little_to_see_moves_nothing() -> None:
    (pair,) = pairs_at(exact(), query(POSE), POSE, 160)
    found = align([(pair[0], pair[1].thinned(10))], 5)
    assert np.allclose(found.start_from_left, np.eye(4))


def test_a_twist_is_what_leads_from_one_pose_to_the_other() -> None:
    twist = np.array([0.01, -0.02, 0.03, 1.0, -2.0, 0.5])
    assert twist_between(POSE, POSE @ exponential(twist)) == pytest.approx(twist)


def test_the_exposure_of_a_render_is_fitted() -> None:
    values = np.random.default_rng(0).uniform(20, 200, (500, 3))
    assert exposure(values, 1.2 * values - 5) == pytest.approx((1.2, -5.0))
    assert exposure(values, 200 - values) == (1.0, 0.0)


SURE = Uncertainty(np.diag([1e-6] * 3 + [1e-3] * 3))
GOOD = Agreement(0.95, 0.9, 0.9, 0.95)


@pytest.mark.parametrize(
    ("agreement_", "uncertainty", "rival", "word"),
    [
        (GOOD, SURE, None, None),
        (GOOD, SURE, Agreement(0.5, 0.9, 0.4, 0.5), None),
        (Agreement(0.3, 0.9, 0.2, 0.3), SURE, None, "explains 30 %"),
        (Agreement(0.9, 0.2, 0.9, 0.9), SURE, None, "shows 20 %"),
        (GOOD, Uncertainty(np.diag([1e-6] * 3 + [4.0] * 3)), None, "uncertain by"),
        (GOOD, Uncertainty(np.full((6, 6), np.inf)), None, "uncertain by"),
        (GOOD, SURE, Agreement(0.9, 0.9, 0.9, 0.9), "two places"),
        (Agreement(0.8, 0.9, 0.9, 0.6), SURE, None, "the eyes contradict"),
    ],
)
def test_a_verdict_says_why(
    agreement_: Agreement, uncertainty: Uncertainty, rival: Agreement | None, word: str | None
) -> None:
    reason = doubtful(agreement_, uncertainty, rival, Limits())
    assert (reason is None) if word is None else (reason is not None and word in reason)
    assert unlike(GOOD, Limits()) is None


def test_limits_that_mean_nothing_are_refused() -> None:
    Limits().check()
    for limits in (Limits(explained=1.2), Limits(std_mm=0.0), Limits(overlap=-0.1)):
        with pytest.raises(InputError, match="limits"):
            limits.check()
    assert same_place(POSE, off_by(POSE, 1.0, 1.0, 0), Limits())
    assert not same_place(POSE, off_by(POSE, 5.0, 0.0, 0), Limits())
