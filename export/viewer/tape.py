"""The viewer's measuring tape: two picked points of a reconstruction and what is between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from export.measured_run import MeasuredRun, View
from export.viewer.measuring import Length, Witness, length_between, pick, point_covariance
from utils.geometry import invert_rigid, project, transform
from utils.types import FloatArray

ASKED = 9  # views whose maps are read for a point


@dataclass(frozen=True, eq=False)
class Pin:
    """A picked point: its place (3,), and its covariance (3, 3), None where no view has measured it."""

    place_world: FloatArray
    covariance: FloatArray | None


@dataclass
class Tape:
    """Two pins at most; a third one starts anew."""

    run: MeasuredRun
    pins: list[Pin] = field(default_factory=list)

    def click(self, points_world: FloatArray, origin: FloatArray, direction: FloatArray) -> bool:
        """Pin the point (n, 3) that a ray hits. Return whether it hit one."""
        found = pick(points_world, origin, direction)
        if found is None:
            return False
        if len(self.pins) == 2:
            self.pins.clear()
        place = np.asarray(points_world[found], float)
        self.pins.append(Pin(place, self.covariance(place)))
        return True

    def covariance(self, place_world: FloatArray) -> FloatArray | None:
        """Return the covariance (3, 3) of a point (3,) by the views that see it; None where none does."""
        return point_covariance(place_world, self._witnesses(place_world))

    @property
    def length(self) -> Length | None:
        """The distance with its sigma; None before there are two measured pins."""
        if len(self.pins) < 2:
            return None
        one, other = self.pins
        if one.covariance is None or other.covariance is None:
            return None
        return length_between((one.place_world, other.place_world), (one.covariance, other.covariance))

    @property
    def label(self) -> str:
        """The distance between two pins in words, without an error bar where there is none."""
        length = self.length
        if length is not None:
            return f"{length.distance_mm:.2f} ± {length.sigma_mm:.2f} {self.run.unit}"
        one, other = self.pins
        return f"{np.linalg.norm(other.place_world - one.place_world):.2f} {self.run.unit}"

    @property
    def words(self) -> str:
        """What to say about it, as Markdown."""
        if not self.pins:
            return "Click two points of the surface."
        if len(self.pins) == 1:
            return "First point set. Click the second one."
        if self.length is None:
            return f"**{self.label}**, without an error bar: no view has measured both points."
        return f"**{self.label}** (one standard deviation)"

    def _witnesses(self, place_world: FloatArray) -> list[Witness]:
        """Read the maps of the views in whose images the point is, the nearest cameras first, some of them."""
        inside: list[tuple[float, View]] = []
        for view in self.run.views:
            camera = self.run.scene.rig.camera(view[0])
            pixel, z = project(camera.matrix, transform(invert_rigid(self.run.world_from(view)), place_world))
            if z > 0 and (pixel > -0.5).all() and (pixel < [camera.width - 0.5, camera.height - 0.5]).all():
                inside.append((float(z), view))
        inside.sort(key=lambda pair: pair[0])
        # Neighbours err alike: those that are asked are spread over all that may have seen it.
        chosen = np.unique(np.linspace(0, len(inside) - 1, min(ASKED, len(inside))).round().astype(int))
        witnesses = []
        for _, view in (inside[index] for index in chosen):
            maps = self.run.measured(view)
            camera = self.run.scene.rig.camera(view[0])
            witnesses.append(Witness(camera, self.run.world_from(view), maps.depth_mm, maps.sigma_mm))
        return witnesses
