"""Views imagined in turn: conditions, weights and provenance of every one, and what known priors make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from novel_view.autoregression import Course, Imagined, PosedImage, Source, Wanted, imagine_in_turn
from novel_view.gaussian_prior import GaussianPrior
from novel_view.view_prior import Schedule, ViewPrior
from novel_view.warped_prior import ColouredView, carry, warped_prior
from tests.synthetic import BALL_ON_WALL, parallel_rig, render
from utils.errors import InputError
from utils.geometry import invert_rigid, rigid
from utils.types import BoolArray, FloatArray
from utils.visibility import DepthView

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE, DISTANCE = 8, 80.0
COURSE = Course(DISTANCE, steps=20)


def around(degrees: float) -> FloatArray:
    """Return world_from_camera of a camera on a circle about a point 80 mm in front of the first one."""
    point = rigid(np.eye(3), np.array([0, 0, DISTANCE]))
    turn = rigid(np.asarray(cv2.Rodrigues(np.radians([0.0, degrees, 0]))[0], float), np.zeros(3))
    return point @ turn @ invert_rigid(point)


def real(degrees: float, value: float = 0.0) -> PosedImage:
    return PosedImage(torch.full((3, SIZE, SIZE), value), around(degrees), real=True)


def wanted(*degrees: float, scores: Sequence[float] = (1.0,)) -> list[Wanted]:
    return [Wanted(around(each), np.array(scores)) for each in degrees]


def as_conditions(_: int, views: Sequence[PosedImage]) -> tuple[ViewPrior, None]:
    """A prior that expects the target to look like each of its conditions, within 0.05."""
    images = torch.stack([view.image for view in views])
    return GaussianPrior(images, torch.full((len(views), 1, SIZE, SIZE), 0.05)), None


def run(inputs: Sequence[PosedImage], targets: Sequence[Wanted], course: Course = COURSE) -> list[Imagined]:
    return imagine_in_turn(as_conditions, inputs, targets, course, torch.Generator().manual_seed(0))


def test_imagined_views_become_conditions_of_later_ones() -> None:
    first, second, third = run([real(0)], wanted(10, 20, 30))
    assert [(each.real, each.index) for each in first.sources] == [(True, 0)]
    assert [(each.real, each.index) for each in second.sources] == [(True, 0), (False, 0)]
    assert [(each.real, each.index) for each in third.sources] == [(True, 0), (False, 1), (False, 0)]
    assert not any(each.view.real for each in (first, second, third))
    np.testing.assert_array_equal(third.view.world_from_camera, around(30))


def test_weights_are_those_of_the_sequence() -> None:
    """Third of 4 views: exp(-(3 / 4) / 0.5) = 0.223 would be published; the input keeps more than either other."""
    *_, third = run([real(0)], wanted(10, 20, 30))
    weights = {(each.real, each.index): each.weight for each in third.sources}
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[True, 0] > 0.5
    assert weights[False, 1] > weights[False, 0], "the nearer one counts more"


def test_views_are_chosen_by_what_they_see_not_by_angle() -> None:
    course = Course(DISTANCE, most_real=1, steps=2)
    [found] = run([real(5), real(60)], wanted(0, scores=(0.3, 0.8)), course)
    assert found.sources == (Source(real=True, index=1, weight=1.0),)


def test_imagined_views_out_of_reach_are_left_out() -> None:
    *_, last = run([real(0)], wanted(10, -130))
    assert [(each.real, each.index) for each in last.sources] == [(True, 0)], "140 degrees from the first"


def test_a_course_keeps_to_its_numbers() -> None:
    course = Course(DISTANCE, most_real=2, most_imagined=1, steps=2)
    *_, last = run([real(0), real(2), real(4)], wanted(10, 11, 12, scores=(0.5, 0.9, 0.7)), course)
    assert [(each.real, each.index) for each in last.sources] == [(True, 1), (True, 2), (False, 1)]


def test_values_stay_between_those_of_the_inputs() -> None:
    """Two real images, 0.4 apart: each view is near their weighted mean, and does not drift along the row."""
    inputs = [real(-20, -0.2), real(20, 0.2)]
    found = run(inputs, wanted(-10, 0, 10, 15, scores=(0.5, 0.5)))
    values = [float(each.view.image.mean()) for each in found]
    assert values[0] < values[3]
    assert max(abs(value) for value in values) < 0.2
    assert max(float(each.view.image.std()) for each in found) < 0.08


def test_weights_follow_what_each_condition_has_seen() -> None:
    """The left half is seen by the first view, the right half by the second."""
    inputs = [real(-20, -0.5), real(20, 0.5)]
    seen: BoolArray = np.zeros((2, SIZE, SIZE), bool)
    seen[0, :, :4], seen[1, :, 4:] = True, True
    [found] = imagine_in_turn(
        lambda i, views: (as_conditions(i, views)[0], seen),
        inputs,
        wanted(0, scores=(0.5, 0.5)),
        COURSE,
        torch.Generator().manual_seed(0),
    )
    image = found.view.image
    assert float(image[..., :4].mean()) == pytest.approx(-0.5, abs=0.03)
    assert float(image[..., 4:].mean()) == pytest.approx(0.5, abs=0.03)


@dataclass(eq=False)
class Listening:
    prior: GaussianPrior
    heard: list[torch.Tensor]
    schedule = Schedule.linear()
    image_size = (SIZE, SIZE)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes

    def predict_noise(
        self, images: torch.Tensor, poses: torch.Tensor, codes: torch.Tensor, step: int
    ) -> torch.Tensor:
        self.heard.append(poses)
        return self.prior.predict_noise(images, poses, codes, step)


def test_poses_reach_the_prior() -> None:
    heard: list[torch.Tensor] = []

    def prior_for(_: int, views: Sequence[PosedImage]) -> tuple[ViewPrior, None]:
        prior = GaussianPrior(torch.zeros(len(views), 3, SIZE, SIZE), torch.ones(len(views), 1, SIZE, SIZE))
        return Listening(prior, heard), None

    imagine_in_turn(prior_for, [real(30)], wanted(50), COURSE)
    expected = invert_rigid(around(50)) @ around(30)
    torch.testing.assert_close(heard[0][0], torch.from_numpy(expected).float())


def test_what_was_imagined_once_is_there_again_in_the_next_view() -> None:
    """Without weights, images carried by depth: the strip that no image shows is alike in two imagined views."""
    camera = parallel_rig(64, 56).left

    def shown(x_mm: float) -> ColouredView:
        pose = rigid(np.eye(3), np.array([x_mm, 0, 0]))
        view = render(BALL_ON_WALL, camera, pose)
        return ColouredView(DepthView(camera, pose, view.depth_mm), view.rgb)

    start, row = shown(0.0), [shown(25.0), shown(27.0)]
    image = torch.from_numpy(start.rgb / 127.5 - 1.0).float().permute(2, 0, 1)
    targets = [Wanted(each.view.world_from_camera, np.ones(1)) for each in row]
    course, places = Course(85.0, steps=50), [each.view for each in (start, *row)]

    def prior_for(number: int, views: Sequence[PosedImage]) -> tuple[ViewPrior, BoolArray]:
        sources = []
        for view in views:
            place = next(each for each in places if each.world_from_camera is view.world_from_camera)
            sources.append(ColouredView(place, as_rgb(view.image)))
        return warped_prior(row[number].view, sources, std=0.02)

    def alike(most_imagined: int) -> float:
        first, second = imagine_in_turn(
            prior_for,
            [PosedImage(image, start.view.world_from_camera, real=True)],
            targets,
            replace(course, most_imagined=most_imagined),
            torch.Generator().manual_seed(0),
        )
        again, seen = carry(row[1].view, ColouredView(row[0].view, as_rgb(first.view.image)))
        unseen = seen & ~carry(row[1].view, start)[1]
        assert unseen.mean() > 0.15
        strips = again[unseen], second.view.image.permute(1, 2, 0).numpy()[unseen]
        before, after = ((each - each.mean(0)).ravel() for each in strips)
        return float(np.corrcoef(before, after)[0, 1])

    assert alike(4) > 0.9
    assert abs(alike(0)) < 0.15, "each view for itself imagines another strip"


def as_rgb(image: torch.Tensor) -> NDArray[np.uint8]:
    return ((image.permute(1, 2, 0).numpy() + 1) * 127.5).clip(0, 255).round().astype(np.uint8)


def test_mistakes_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be imagined from these"):
        run([PosedImage(torch.zeros(3, SIZE, SIZE), np.eye(4), real=False)], wanted(1))
    with pytest.raises(InputError, match="cannot be imagined from these"):
        run([real(0)], wanted(1, scores=(0.5, 0.5)))
    with pytest.raises(InputError, match="no input view sees anything"):
        run([real(0)], wanted(1, scores=(0.0,)))
