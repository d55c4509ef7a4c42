"""Locate images in a finished run: starts, refinement on the field, and a verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from localisation.agreement import Agreement, agreement
from localisation.flow import PoseFlow
from localisation.landmarks import FeaturePose, LandmarkMap, Landmarks, pose_from_landmarks
from localisation.query import Eye, Query
from localisation.refinement import COARSE, FINE, judged, refine
from localisation.retrieval import Thumbnails
from localisation.uncertainty import Uncertainty, field_error, uncertainty_of
from localisation.verdict import Limits, doubtful, same_place, unlike
from nerf.finished_field import FinishedField
from utils.geometry import invert_rigid
from utils.types import FloatArray

VIEWS_MATCHED, VIEWS_TRIED = 8, 3
PLAINLY = 50  # inliers of features that leave no doubt about the place
CALIBRATION_VIEWS = 6


@dataclass(frozen=True, eq=False)
class Start:
    """Where to begin: `world_from_left` (4, 4) mm, and where it comes from, in words."""

    world_from_left: FloatArray
    origin: str
    plain: bool = False


@dataclass(frozen=True, eq=False)
class Located:
    """The best pose (4, 4), mm, of one query; `reason` says why it is not believed, None where it is.

    `uncertainty` is None where the images do not look like the render.
    """

    name: str
    world_from_left: FloatArray
    uncertainty: Uncertainty | None
    agreement: Agreement
    start: Start
    seconds: float
    reason: str | None


class Locator:
    """A finished field with what helps to find places in it; its parts are made when they are first needed.

    `flow` is one that was trained on the field, None: there is none.
    """

    def __init__(self, field: FinishedField, limits: Limits, flow: PoseFlow | None = None) -> None:
        self.field, self.limits, self.flow = field, limits, flow
        self.landmarks = LandmarkMap(field)
        self._thumbnails: Thumbnails | None = None
        self.error_scales: dict[int, float] = {}

    def locate(self, query: Query, start: FloatArray | None = None) -> Located:
        """Return the pose of a query, or why it is refused.

        Args:
            start: (4, 4) mm, about where the left camera was; None: anywhere in the run.
        """
        began = time.perf_counter()
        starts = self.starts(query) if start is None else self.starts_near(query, start)
        candidates = []
        for one in starts:
            sizes = COARSE[-1:] if one.plain else COARSE
            coarse = refine(self.field, query, one.world_from_left, sizes).world_from_left
            score = judged(self.field, query, coarse).score if len(starts) > 1 else 1.0
            candidates.append((score, coarse, one))
        candidates.sort(key=lambda candidate: -candidate[0])
        _, coarse, one = candidates[0]
        found = refine(self.field, query, coarse, FINE[:1])
        seen = agreement(found.pairs)
        reason = unlike(seen, self.limits)
        if reason is not None:
            return Located(query.name, found.world_from_left, None, seen, one, time.perf_counter() - began, reason)
        rival = self._rival(query, found.world_from_left, candidates[1:], seen)
        found = refine(self.field, query, found.world_from_left, FINE[1:])
        seen = agreement(found.pairs)
        uncertainty = uncertainty_of(found.pairs, self.error_scale(len(query.eyes)))
        reason = doubtful(seen, uncertainty, rival, self.limits)
        pose = found.world_from_left
        return Located(query.name, pose, uncertainty, seen, one, time.perf_counter() - began, reason)

    def _rival(
        self,
        query: Query,
        found: FloatArray,
        others: list[tuple[float, FloatArray, Start]],
        final: Agreement,
    ) -> Agreement | None:
        """Return what the best hypothesis at another place explains, where it comes near; None elsewhere."""
        for score, pose, _ in others:
            if score < self.limits.tie * final.score:
                return None
            if same_place(found, pose, self.limits):
                continue
            refined = refine(self.field, query, pose, FINE[:1])
            if not same_place(found, refined.world_from_left, self.limits):
                return agreement(refined.pairs)
        return None

    def starts(self, query: Query) -> list[Start]:
        """Return starts for an image from anywhere: features, a learned guess if there is one, similar views."""
        eye = query.eyes[0]
        if self._thumbnails is None:
            self._thumbnails = Thumbnails.of(self.field)
        alike = self._thumbnails.most_alike(eye, VIEWS_MATCHED)
        found = self.from_features(eye, [index for index, _ in alike])
        starts = []
        if found is not None:
            starts.append(Start(found.world_from_left, f"{found.inliers} features", found.inliers >= PLAINLY))
        if starts and starts[0].plain:
            return starts
        if self.flow is not None:
            world_from_eye = self.flow.invert([eye.image], camera=eye.camera).world_from_camera[0]
            starts.append(Start(world_from_eye @ eye.eye_from_left, "flow"))
        for index, _ in alike[:VIEWS_TRIED]:
            side, name = self.field.views[index]
            pose = self.field.placed.world_from(side, name) @ eye.eye_from_left
            starts.append(Start(pose, f"view {side}_{name}"))
        return starts

    def from_features(self, eye: Eye, views: list[int]) -> FeaturePose | None:
        """Return the pose of an eye from features that it shares with some training views; None with too few."""
        return pose_from_landmarks(eye, [self.landmarks.of_view(index) for index in views])

    def starts_near(self, query: Query, world_from_left: FloatArray) -> list[Start]:
        """Return the given start, and the pose from features of what is rendered there."""
        eye = query.eyes[0]
        world_from_eye = world_from_left @ invert_rigid(eye.eye_from_left)
        image = self.field.render(eye.camera, world_from_eye, world_from_left=world_from_left)
        depth, seen = self.field.coverage(eye.camera, world_from_eye, image)
        known = np.where(seen > 0, depth, np.nan)
        found = pose_from_landmarks(eye, [Landmarks.of(image.rgb, eye.camera, world_from_eye, known)])
        given = Start(world_from_left, "given")
        if found is None:
            return [given]
        start = Start(found.world_from_left, f"given, {found.inliers} features", found.inliers >= PLAINLY)
        return [start] if start.plain else [start, given]

    def error_scale(self, eyes: int) -> float:
        """Return `field_error` of queries with one or two eyes, measured once on training frames."""
        if eyes not in self.error_scales:
            self.error_scales[eyes] = field_error(self.field, self._known_queries(eyes))
        return self.error_scales[eyes]

    def _known_queries(self, eyes: int) -> list[tuple[Query, FloatArray]]:
        dataset, placed = self.field.dataset, self.field.placed
        names = [name for side, name in self.field.views if side == "left"]
        chosen = [
            names[k] for k in np.unique(np.linspace(0, len(names) - 1, CALIBRATION_VIEWS).round().astype(int))
        ]
        queries = []
        for name in chosen:
            seen = []
            for side in dataset.sides[:eyes]:  # a run may have calibrated an eye that it has no images of
                tissue, _ = dataset.masks(side, name)
                eye_from_left = invert_rigid(dataset.rig.left_from(side))
                image = dataset.image(side, name)
                seen.append(Eye.of(side, dataset.rig.camera(side), eye_from_left, image, tissue))
            queries.append((Query(name, tuple(seen)), placed.world_from("left", name)))
        return queries
