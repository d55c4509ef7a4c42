"""The input views of a finished run: image, place, and what the run knows of their depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.sights import trust
from utils.artifacts import has_maps, load_maps
from utils.errors import InputError
from utils.finished_run import has_result, require_fitting, require_stages
from utils.scene import Scene, load_poses
from utils.types import ARBITRARY_UNITS, FloatArray, Poses, Side
from utils.visibility import DepthView

View = tuple[Side, str]
OPAQUE = 0.5


@dataclass(frozen=True)
class Measured:
    """Maps of one view, (h, w): z-depth, its standard deviation, confidence in [0, 1]; NaN where unknown.

    Lengths are in the run's unit. Outside the tissue nothing is known.
    """

    depth_mm: FloatArray
    sigma_mm: FloatArray
    confidence: FloatArray


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A run with depth. `views` are those that have an image, a place and depth, left eyes first.

    `poses` is None for a single stereo pair, whose world is the left camera; `source` is the stage that the depth
    comes from: `filter`, `render` or `prior`, the first that is finished.
    """

    folder: Path
    scene: Scene
    poses: Poses | None
    source: str
    views: list[View]

    @staticmethod
    def load(run: Path) -> MeasuredRun:
        """Read what a run has.

        Raises:
            InputError: a folder that is no run, has no depth yet, or whose stages do not fit each other.
        """
        require_stages(run, "scene")
        require_fitting(run)
        source = next((name for name in ("filter", "render", "prior") if has_result(run, name)), None)
        if source is None:
            require_stages(run, "scene", "prior")  # says what is missing
        assert source is not None
        require_stages(run, *(("render",) if source == "filter" else ()), source)
        scene = Scene.load(run / "scene")
        poses = load_poses(run / "poses", run / "nerf") if has_result(run, "poses") else None
        if poses is None and len(scene.names) > 1:
            require_stages(run, "poses")
        right = poses is None or poses.world_from_right is not None
        views: list[View] = [
            (side, name)
            for side in scene.sides
            for name in scene.names
            if has_maps(run / source, side, name)
            and (poses is None or poses.placed(name))
            and (side == "left" or right)
        ]
        if not views:
            raise InputError(
                f"{run} has no view with depth and a place",
                found=f"{len(scene.names)} frames, none of them with a pose and maps in `{source}`",
                expected="one or more",
                do="look at poses/report.json",
            )
        return MeasuredRun(run, scene, poses, source, views)

    @property
    def unit(self) -> str:
        """What lengths mean: `mm`, or a warning in words."""
        if self.poses is not None:
            return self.poses.unit
        return "mm" if "right" in self.scene.sides else ARBITRARY_UNITS

    def working_distance(self) -> float:
        """Return the median over the views of their median depth. Raises InputError where none has known depth."""
        depths = (self.measured(view).depth_mm for view in self.views)
        medians = [float(np.nanmedian(depth)) for depth in depths if np.isfinite(depth).any()]
        if not medians:
            raise InputError(
                f"{self.folder} has nothing to show",
                found=f"{len(self.views)} views, none with known depth in `{self.source}`",
                expected="at least one",
                do="look at the stage's maps and the masks of `scene`: depth counts on tissue alone",
            )
        return float(np.median(medians))

    def world_from(self, view: View) -> FloatArray:
        """Return the (4, 4) pose of a view."""
        side, name = view
        return self.poses.world_from(side, name) if self.poses else self.scene.rig.left_from(side)

    def measured(self, view: View) -> Measured:
        """Read the maps of a view.

        Sigma is the prior's where there is one, for that of filtered depth too: the field's own spread says how
        thick its surface is, which is less than its error (`benchmarks/results/views.md` judges error bars by it).
        """
        depth = np.asarray(load_maps(self.folder / self.source, *view)["depth_mm"], np.float32)
        tissue, _ = self.scene.masks(*view)
        known = tissue & np.isfinite(depth)
        maps = load_maps(self.folder / "prior", *view) if has_maps(self.folder / "prior", *view) else {}
        if self.source != "prior":
            rendered = load_maps(self.folder / "render", *view)
            known &= rendered["opacity"] >= OPAQUE
            maps = {"sigma_mm": rendered["depth_std_mm"]} | maps | {"confidence": trust(rendered)}
        parts = (depth, maps["sigma_mm"], maps["confidence"])
        return Measured(*(np.where(known, part, np.nan).astype(np.float32) for part in parts))

    def depth_view(self, view: View) -> DepthView:
        """Return what a view sees of the tissue."""
        return DepthView(self.scene.rig.camera(view[0]), self.world_from(view), self.measured(view).depth_mm)
