"""The views of a scene: one eye at one frame, its camera, its place, who may see whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from utils.geometry import invert_rigid
from utils.scene import Scene
from utils.types import Camera, FloatArray, Poses, Side
from utils.warping import nearest_views


@dataclass(frozen=True)
class View:
    """One eye at one frame."""

    side: Side
    name: str


@dataclass(frozen=True, eq=False)
class Views:
    """All views of a scene. `poses` is None where nothing but the rig is known (a single pair)."""

    scene: Scene
    poses: Poses | None

    def all(self) -> list[View]:
        """Return every view that has an image, frame by frame."""
        return [View(side, name) for name in self.scene.names for side in self.scene.sides]

    def training(self) -> list[View]:
        """Return the views of training frames."""
        return [view for view in self.all() if view.name in self.scene.train]

    def camera(self, view: View) -> Camera:
        """Return the camera of a view."""
        return self.scene.rig.camera(view.side)

    def placed(self, view: View) -> bool:
        """Whether the place of a view is known relative to other frames."""
        return self.poses is not None and view.name in self.poses.names and self.poses.placed(view.name)

    def world_from(self, view: View) -> FloatArray:
        """Return the (4, 4) pose of a placed view, mm."""
        assert self.poses is not None
        return self.poses.world_from(view.side, view.name)

    def other_from_view(self, other: View, view: View) -> FloatArray | None:
        """Return the (4, 4) transform between two views, mm; None where it is not known.

        Two eyes of one frame are related by their poses where there are any, else by the rig.
        """
        if self.placed(view) and self.placed(other):
            return invert_rigid(self.world_from(other)) @ self.world_from(view)
        if view.name == other.name:
            rig = self.scene.rig
            return invert_rigid(rig.left_from(other.side)) @ rig.left_from(view.side)
        return None

    def reachable(self, view: View, among: Iterable[View]) -> list[View]:
        """Return the other views whose place relative to this one is known."""
        return [other for other in among if other != view and self.other_from_view(other, view) is not None]

    def ordered(self, view: View, among: Iterable[View], depth_mm: float) -> list[View]:
        """Return the other views whose place is known, most alike first."""
        others = self.reachable(view, among)
        if not others:
            return []
        view_from_others = np.stack([invert_rigid(self._relation(other, view)) for other in others])
        order = nearest_views(np.eye(4), view_from_others, depth_mm, len(others))
        return [others[index] for index in order]

    def _relation(self, other: View, view: View) -> FloatArray:
        found = self.other_from_view(other, view)
        assert found is not None
        return found

    def helpers(self, view: View, depth_mm: float, count: int) -> list[View]:
        """Return the views that may help to fuse this one: the other eye, and `count` training views.

        Those are spread over the nearest three times as many: views farther apart have independent errors,
        views too far apart see another place. A test frame helps no other frame.
        """
        own_frame = [View(side, view.name) for side in self.scene.sides if side != view.side]
        others = self.ordered(view, [one for one in self.training() if one.name != view.name], depth_mm)
        nearest = others[: 3 * count]
        if len(nearest) > count:
            nearest = [
                nearest[index] for index in np.unique(np.linspace(0, len(nearest) - 1, count).round().astype(int))
            ]
        return self.reachable(view, own_frame) + nearest
