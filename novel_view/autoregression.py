"""A row of views imagined one after the other, each from real images and from those imagined before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from novel_view.denoising import Conditions, Known, sample
from novel_view.view_prior import ViewPrior
from novel_view.weights import Temperatures, best_conditions, fusion_weights, view_degrees, weights_by_pixel
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class PosedImage:
    """An image (3, h, w) in [-1, 1] at `world_from_camera` (4, 4) mm; `real`: a camera took it."""

    image: Tensor
    world_from_camera: FloatArray
    real: bool


@dataclass(frozen=True, eq=False)
class Wanted:
    """A view to imagine.

    Args:
        world_from_camera: (4, 4) mm.
        scores: (n,) shares of it that the input views see (co-visibility), in [0, 1].
        known: what of it is known already, the render where the field has seen the tissue.
    """

    world_from_camera: FloatArray
    scores: FloatArray
    known: Known | None = None


@dataclass(frozen=True)
class Source:
    """A view that an imagined one was made from: input view or earlier imagined one (`index`), and its weight."""

    real: bool
    index: int
    weight: float


@dataclass(frozen=True, eq=False)
class Imagined:
    """An imagined view and what it was made from, real views first. Weights are those of whole views."""

    view: PosedImage
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Course:
    """How a row of views is imagined.

    Args:
        distance_mm: of the scene from the cameras.
        most_real, most_imagined: condition views of a target at most: those that see most of it, those nearest.
        steps, eta: of the sampler.
        temperatures: of the weights.
    """

    distance_mm: float
    most_real: int = 3
    most_imagined: int = 4
    steps: int = 50
    eta: float = 1.0
    temperatures: Temperatures = field(default_factory=Temperatures)


# For the number of a target and its conditions: the prior to ask, and what of the target each has seen (k, h, w).
PriorFor = Callable[[int, Sequence[PosedImage]], tuple[ViewPrior, BoolArray | None]]


def imagine_in_turn(
    prior_for: PriorFor,
    inputs: Sequence[PosedImage],
    wanted: Sequence[Wanted],
    course: Course,
    generator: torch.Generator | None = None,
) -> list[Imagined]:
    """Imagine views in the order given; every one may become a condition of those after it.

    Real views always outweigh imagined ones (`fusion_weights`), which count within 125 degrees only. Where the
    prior says what each condition has seen, weights are shared pixel by pixel among those that see it.

    Args:
        prior_for: gives the prior of each target; one that knows all poses may be given back every time.
        inputs: real images of the run.
        wanted: the views, best those nearest to the inputs first.
        course: sampler, number of conditions, weights.
        generator: of the noise of all views.

    Raises:
        InputError: an input that is not real, scores of another number, a target that no input sees.
    """
    if any(not view.real for view in inputs) or any(len(each.scores) != len(inputs) for each in wanted):
        raise InputError(
            "views cannot be imagined from these",
            found=f"{sum(view.real for view in inputs)} real images of {len(inputs)}, "
            f"scores for {sorted({len(each.scores) for each in wanted})} views",
            expected="real images, and a score of every one for every target",
            do="give imagined views back as nothing but conditions of later ones",
        )
    made: list[Imagined] = []
    for number, target in enumerate(wanted):
        sources = _sources(target, inputs, made, course, (number + 1, len(wanted) + 1))
        views = [inputs[source.index] if source.real else made[source.index].view for source in sources]
        prior, seen = prior_for(number, views)
        weights = np.array([source.weight for source in sources])
        shared = weights if seen is None else weights_by_pixel(weights, seen)[:, None]
        images = torch.stack([view.image for view in views])
        poses, shares = (torch.from_numpy(each).to(images) for each in (_target_from(target, views), shared))
        conditions = Conditions(images, poses, shares)
        image = sample(prior, conditions, course.steps, course.eta, generator, target.known)
        view = PosedImage(image[0].clamp(-1, 1), target.world_from_camera, real=False)
        made.append(Imagined(view, tuple(sources)))
    return made


def _sources(
    target: Wanted,
    inputs: Sequence[PosedImage],
    made: Sequence[Imagined],
    course: Course,
    place: tuple[int, int],
) -> list[Source]:
    """Return the conditions of a target with their weights; those without weight are left out."""
    real_degrees = view_degrees(_target_from(target, inputs), course.distance_mm)
    real = best_conditions(target.scores, course.most_real, real_degrees)
    degrees = view_degrees(_target_from(target, [each.view for each in made]), course.distance_mm)
    near = [int(index) for index in np.argsort(degrees, kind="stable")[: course.most_imagined]]
    weights = fusion_weights(real_degrees[real], degrees[near], *place, course.temperatures)
    chosen = [(True, index) for index in real] + [(False, index) for index in near]
    return [
        Source(kind, index, float(weight))
        for (kind, index), weight in zip(chosen, weights, strict=True)
        if weight > 0
    ]


def _target_from(target: Wanted, views: Sequence[PosedImage]) -> FloatArray:
    poses = np.array([view.world_from_camera for view in views], float).reshape(-1, 4, 4)
    return invert_rigid(np.asarray(target.world_from_camera, float)) @ poses
