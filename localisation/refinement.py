"""Refine a pose on the field: render what should be seen, align it with the images, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localisation.agreement import Agreement, agreement
from localisation.alignment import Expected, Observed, align
from localisation.contrast import even_contrast
from localisation.query import Query
from nerf.finished_field import FinishedField
from utils.geometry import invert_rigid, pixel_grid, rotation_angle_degrees, transform, unproject
from utils.highlights import detect_highlights
from utils.types import FloatArray

COARSE, FINE = (20, 40, 80), (160, 320)  # longer sides, px
JUDGED = 160
STEPS, RENDERS = 12, 2
POINTS = 20_000  # of an eye that an alignment uses at most
SETTLED = 0.1  # px of the picture at hand; a pose that moves less is not rendered again
Pair = tuple[Observed, Expected]


def expect(field: FinishedField, observed: Observed, world_from_left: FloatArray) -> Expected:
    """Render an eye of a rig at a pose (4, 4), mm.

    What no training view saw, and what shines, is not expected to look like anything.
    """
    camera, left_from_eye = observed.camera, invert_rigid(observed.eye_from_left)
    world_from_eye = world_from_left @ left_from_eye
    image = field.render(camera, world_from_eye, world_from_left=world_from_left)
    depth, seen = field.coverage(camera, world_from_eye, image)
    known = np.isfinite(depth) & (seen > 0)
    known &= ~detect_highlights(image.rgb, known)
    values, weight = even_contrast(image.rgb, known.astype(np.float32))
    points = unproject(camera.matrix, pixel_grid(camera.width, camera.height), np.where(known, depth, 1.0))
    return Expected(
        transform(left_from_eye, points[known]), values[known], weight[known], np.flatnonzero(known), known.shape
    )


def pairs_at(field: FinishedField, query: Query, world_from_left: FloatArray, size: int) -> list[Pair]:
    """Return each eye's image at a size (longer side, px) with what a pose lets expect of it."""
    return [(seen, expect(field, seen, world_from_left)) for seen in query.observed(size)]


@dataclass(frozen=True, eq=False)
class Refined:
    """A pose (4, 4), mm, and images with what is rendered there: within SETTLED px of it."""

    world_from_left: FloatArray
    pairs: list[Pair]


def refine(field: FinishedField, query: Query, world_from_left: FloatArray, sizes: Sequence[int]) -> Refined:
    """Align from size to size (longer side, px), rendered once more where the pose moved.

    The surface is rendered, moved by Gauss-Newton until it fits, and rendered anew where it has got to, because
    the lamp moves with the camera and other parts come into sight.
    """
    pose, settled = world_from_left, False
    # Images smaller than a size stay as they are: two such sizes are one.
    for size in {query.eyes[0].small(size): size for size in sizes}.values():
        for _ in range(RENDERS):
            pairs = pairs_at(field, query, pose, size)
            thin = [(seen, wanted.thinned(POINTS)) for seen, wanted in pairs]
            start_from_left = align(thin, STEPS).start_from_left
            pose = pose @ start_from_left
            settled = _moved_px(start_from_left, thin) < SETTLED
            if settled:
                break
    return Refined(pose, pairs if settled else pairs_at(field, query, pose, size))


def judged(field: FinishedField, query: Query, world_from_left: FloatArray) -> Agreement:
    """Return how much of the images the render at a pose explains."""
    return agreement(pairs_at(field, query, world_from_left, JUDGED))


def _moved_px(start_from_left: FloatArray, pairs: Sequence[Pair]) -> float:
    """Return about how many px a motion shifts the picture's middle, turned and moved at its median depth."""
    observed, expected = pairs[0]
    if not len(expected.points_left):
        return 0.0
    depth = float(np.median(expected.points_left[:, 2]))
    turned = np.radians(float(rotation_angle_degrees(start_from_left[:3, :3])))
    return observed.camera.fx * (turned + float(np.linalg.norm(start_from_left[:3, 3])) / depth)
