"""Images carried into a target by depth: colours of a known scene, what is hidden, and how sure each is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from novel_view.denoising import Conditions, sample
from novel_view.warped_prior import LEAST_STD, LONE_STD, ColouredView, carry, warped_prior
from novel_view.weights import weights_by_pixel
from tests.synthetic import BALL_ON_WALL, Nearest, Plane, Sphere, Surface, parallel_rig, render, turn
from utils.errors import InputError
from utils.geometry import rigid
from utils.types import FloatArray
from utils.visibility import DepthView

pytestmark = pytest.mark.usefixtures("one_thread")
CAMERA = parallel_rig(96, 80).left


def taken(world_from_camera: FloatArray, surface: Surface = BALL_ON_WALL) -> ColouredView:
    view = render(surface, CAMERA, world_from_camera)
    return ColouredView(DepthView(CAMERA, world_from_camera, view.depth_mm), view.rgb)


def step(x_mm: float, y_mm: float = 0.0, yaw: float = 0.0) -> FloatArray:
    return rigid(turn((0.0, yaw, 0.0)), np.array([x_mm, y_mm, 0.0]))


TARGET = taken(step(0.0))
TRUTH = TARGET.rgb / 127.5 - 1.0


def test_colours_land_where_they_belong() -> None:
    colours, seen = carry(TARGET.view, taken(step(6.0, -2.0)))
    assert 0.7 < seen.mean() < 1.0, "some of it is outside, or hidden by the ball"
    error = np.abs(colours - TRUTH)[seen]
    assert np.median(error) < 0.03
    assert np.median(np.abs(carry(TARGET.view, taken(step(0.0)))[0] - TRUTH)) < 1e-5


def test_what_is_hidden_is_not_seen() -> None:
    """A ball 25 mm in front of the wall hides a sickle of it: 86.4 * 12 * (1 / 59 - 1 / 85) = 5.4 px."""
    apart = Nearest((Plane((0.0, 0.0, 1.0), 85.0), Sphere((0.0, 0.0, 60.0), 10.0)))
    target = taken(step(0.0), apart)
    colours, seen = carry(target.view, taken(step(12.0), apart))
    row = 40  # through the middle of the ball
    edge = int(np.flatnonzero(target.view.depth_mm[row] < 84.0)[0])
    assert not seen[row, edge - 6 : edge].any()
    assert seen[row, edge - 10 : edge - 6].all()
    error = np.abs(colours - (target.rgb / 127.5 - 1.0)).mean(-1)
    assert np.quantile(error[seen], 0.9) < 0.04
    assert error[row, edge - 6 : edge].min() > 0.1, "the ball's colours are there, not the wall's"


def test_seen_pixels_are_narrow_and_others_have_the_colours_of_the_scene() -> None:
    sources = [taken(step(12.0)), taken(step(-12.0))]
    prior, seen = warped_prior(TARGET.view, sources)
    where = torch.from_numpy(seen)[:, None].expand_as(prior.means)
    narrow, wide = prior.stds[where], prior.stds[~where]
    assert float(narrow.max()) < 0.06 < 0.1 < float(wide.min())
    assert len(wide.unique()) == 3, "one a channel"
    inside = prior.means.permute(0, 2, 3, 1)[torch.from_numpy(seen)].mean(0)
    torch.testing.assert_close(prior.means[0, :, ~torch.from_numpy(seen[0])][:, 0], inside, rtol=1e-4, atol=1e-4)


def test_the_spread_is_what_the_views_differ_by() -> None:
    """A second view of the same pose, off by normal noise of 20 levels: 20 / 127.5 between them, over root two."""
    noisy = TARGET.rgb + np.random.default_rng(0).normal(0, 20, TARGET.rgb.shape)
    other = ColouredView(TARGET.view, noisy.clip(0, 255).round().astype(np.uint8))
    prior, seen = warped_prior(TARGET.view, [TARGET, other])
    assert seen.all()
    assert float(prior.stds.max()) == pytest.approx(20 / 127.5 / 2**0.5, rel=0.05)
    assert float(warped_prior(TARGET.view, [TARGET, TARGET]).prior.stds.max()) == pytest.approx(LEAST_STD)
    assert float(warped_prior(TARGET.view, [TARGET]).prior.stds.max()) == pytest.approx(LONE_STD)
    assert float(warped_prior(TARGET.view, [TARGET, other], std=0.3).prior.stds.max()) == pytest.approx(0.3)


def test_sampling_joins_the_views_and_leaves_the_unseen_as_noise() -> None:
    sources = [taken(step(18.0)), taken(step(0.0, 18.0))]
    prior, seen = warped_prior(TARGET.view, sources)
    weights = torch.from_numpy(weights_by_pixel(np.array([0.6, 0.4]), seen)[:, None]).float()
    conditions = Conditions(prior.means, torch.eye(4).expand(2, 4, 4), weights)
    image = sample(prior, conditions, 50, 1.0, torch.Generator().manual_seed(0))[0].permute(1, 2, 0).numpy()
    anywhere = seen.any(axis=0)
    assert 0.5 < anywhere.mean() < 1.0
    assert np.median(np.abs(image - TRUTH)[anywhere]) < 0.06
    nowhere = image[~anywhere]
    assert np.std(nowhere) > 0.08, "noise, not a smooth guess"
    np.testing.assert_allclose(nowhere.mean(0), prior.means[0, :, ~torch.from_numpy(anywhere)].mean(1), atol=0.03)


def test_a_target_that_none_has_seen_has_the_colours_of_the_images() -> None:
    away = DepthView(CAMERA, step(0.0, yaw=170.0), np.full((80, 96), 50.0, np.float32))
    prior, seen = warped_prior(away, [TARGET])
    assert not seen.any()
    torch.testing.assert_close(
        prior.means[0, :, 0, 0], torch.from_numpy(TRUTH.mean((0, 1))).float(), rtol=1e-4, atol=1e-4
    )


def test_no_source_is_refused() -> None:
    with pytest.raises(InputError, match="no image to carry"):
        warped_prior(TARGET.view, [])
