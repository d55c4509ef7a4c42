"""Which condition views a target is imagined from, and how much each of them counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.errors import InputError
from utils.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Temperatures:
    """How weights fall: the values of Yang et al., ViewFusion, CVPR 2024.

    `of_real` (their T_inf) with how many views were generated before, `of_generated` (their T_auto) with the
    angle; generated views further than `widest_degrees` from the target do not count at all.
    """

    of_real: float = 0.5
    of_generated: float = 1.0
    widest_degrees: float = 125.0


# A real view outweighs a generated one by this factor at least.
REAL_OVER_GENERATED = 1.05
ALIKE = 0.1  # share of a target: views whose shares differ by less see about as much of it


def fusion_weights(
    real_degrees: FloatArray,
    generated_degrees: FloatArray,
    rank: int,
    count: int,
    temperatures: Temperatures | None = None,
) -> FloatArray:
    """Return the weights (r + g,) of real views, then generated ones; at or above 0, summing to 1.

    As published, the real views together get exp(-(rank / count) / T_inf), shared among them by
    softmax(-angle / largest angle), and generated ones the rest, by softmax(-angle / largest angle / T_auto).
    The published share falls to 0.14 at the end of a sequence: less than one generated view may then have. Here it
    is never less than what keeps *every* real view above every generated one, by `REAL_OVER_GENERATED`, and all
    real ones together above all generated ones. Without a generated view within reach the real ones get it all.

    Args:
        real_degrees: (r,) angles between the target and the real views, r at least 1 (`view_degrees`).
        generated_degrees: (g,) the same for views generated before, g from 0.
        rank: of the target in its sequence, 1 for the first that is generated: their k + 1.
        count: views of the sequence, the first real one counted: their N.
        temperatures: how fast weights fall; None: as published.

    Raises:
        InputError: no real view, a rank outside 1 .. count, or angles that are none.
    """
    chosen = temperatures or Temperatures()
    angles = np.concatenate([real_degrees, generated_degrees])
    if len(real_degrees) == 0 or not 1 <= rank <= count or not np.all((angles >= 0) & (angles <= 180)):
        raise InputError(
            "condition views cannot be weighed",
            found=f"{len(real_degrees)} real views, view {rank} of {count}, angles {np.round(angles, 1).tolist()}",
            expected="at least one real view, a rank from 1 to the number of views, angles from 0 to 180 degrees",
            do="take an input view as a condition of every target",
        )
    real, generated = _nearer_more(real_degrees, 1.0), np.zeros(len(generated_degrees))
    reached = np.asarray(generated_degrees) <= chosen.widest_degrees
    if not reached.any():
        return np.concatenate([real, generated])
    generated[reached] = _nearer_more(np.asarray(generated_degrees)[reached], chosen.of_generated)
    strongest = REAL_OVER_GENERATED * generated.max()
    enough = max(strongest / (strongest + real.min()), REAL_OVER_GENERATED / (1.0 + REAL_OVER_GENERATED))
    share = max(float(np.exp(-rank / count / chosen.of_real)), enough)
    return np.concatenate([share * real, (1.0 - share) * generated])


def weights_by_pixel(weights: FloatArray, seen: BoolArray) -> FloatArray:
    """Return weights (k, h, w), summing to 1 at every pixel: those of the views that see it, in proportion.

    Where none that counts sees it every view keeps its weight: each may imagine what is there. What generated
    views alone have seen is theirs; wherever a real one sees too, it weighs more than they.

    Args:
        weights: (k,) of whole views.
        seen: (k, h, w), what of the target each view has seen.
    """
    seeing = np.where(seen, weights[:, None, None], 0.0)
    together = seeing.sum(axis=0)
    shared = seeing / np.where(together > 0, together, 1.0)
    return np.where(together > 0, shared, weights[:, None, None] / weights.sum())


def best_conditions(
    scores: FloatArray, at_most: int, degrees: FloatArray | None = None, at_least: float = 0.05
) -> list[int]:
    """Return the input views (indices) that see most of a target, the best first.

    By co-visibility: the view nearest by angle may look past what the target shows, or be hidden from it. Only
    among views that see about as much (steps of `ALIKE` below the best) the nearer one comes first: it shows the
    tissue in more alike light.

    Args:
        scores: (n,) shares of the target that the views see, in [0, 1]; NaN is none.
        at_most: how many to return.
        degrees: (n,) how far they are from the target (`view_degrees`); None: the shares alone decide.
        at_least: views that see less do not count; the best one counts as long as it sees anything.

    Raises:
        InputError: no view sees anything of the target: there is nothing to imagine it from.
    """
    found = np.nan_to_num(np.asarray(scores, float), nan=0.0)
    most = float(found.max(initial=0.0))
    if most <= 0:
        raise InputError(
            "no input view sees anything of the target view",
            found=f"{len(found)} views, none of which shares a surface with it",
            expected="a target that at least one image of the run sees in part",
            do="choose a pose nearer to the path of the camera",
        )
    worse = (most - found) if degrees is None else np.floor((most - found) / ALIKE)
    order = np.lexsort((np.zeros(len(found)) if degrees is None else degrees, worse))
    enough = [int(index) for index in order if found[index] >= min(at_least, most)]
    return enough[: max(at_most, 1)]


def view_degrees(target_from_views: FloatArray, distance_mm: float) -> FloatArray:
    """Return how far (n,) views are from a target, degrees from 0 to 180: as it sees the scene, or as they look.

    The larger of two angles: the one under which the two camera centres appear from the point `distance_mm` in
    front of the target, and the one between the two axes.

    Args:
        target_from_views: (n, 4, 4) mm, OpenCV axes.
        distance_mm: of the scene from the target.
    """
    point = np.array([0.0, 0.0, distance_mm])
    to_target, to_views, axis = -point, target_from_views[:, :3, 3] - point, target_from_views[:, :3, 2]
    return np.maximum(_angles(to_views, to_target), _angles(axis, point))


def _angles(vectors: FloatArray, other: FloatArray) -> FloatArray:
    sine = np.linalg.norm(np.cross(vectors, other), axis=-1)
    return np.degrees(np.arctan2(sine, vectors @ other))


def _nearer_more(degrees: FloatArray, temperature: float) -> FloatArray:
    """Return softmax(-angle / largest angle / temperature); all alike where every angle is 0."""
    largest = float(np.max(degrees))
    raw = np.exp(-np.asarray(degrees) / (largest if largest > 0 else 1.0) / temperature)
    return np.asarray(raw / raw.sum())
