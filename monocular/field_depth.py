"""Dense depth from the field of an earlier run, at the eyes and half-way between them: `--ns_path`.

An order of its own: sparse points train a first field, its renders train this network, and the network's depth
makes the prior of a second field.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monocular.depth_source import MonocularOptions, Task
from utils.artifacts import has_maps, load_maps, read_json
from utils.errors import InputError
from utils.geometry import invert_rigid
from utils.multi_view import RaysInView, multi_view_error
from utils.scene import Scene, load_poses
from utils.sparse_depth import SparseDepth
from utils.stages import STAMP, read_stamp, skipped
from utils.types import BoolArray, Camera, FloatArray
from utils.views import View, Views
from utils.warping import sample_map

log = logging.getLogger("specula")

LARGEST_ERROR = 0.02  # relative multi-view error of depth that is learned from
_STAGES = ("scene", "poses", "render")
_CHECKED, _TOPK = 16, 4  # nearest training views that enter the error, and how many of the best count
_OPAQUE = 0.5
_POINTS = 4000  # of a view
_FEWEST_POINTS = 200


@dataclass(frozen=True, eq=False)
class DenseView:
    """An image (h, w, 3), taken or rendered, and points of dense depth in it."""

    image: NDArray[np.uint8]
    depth: SparseDepth


def check_field(options: MonocularOptions) -> None:
    """Raise InputError for a weight without a field, a field without a weight, and a run that is not finished."""
    weight, path = options.ns_loss_weight, options.ns_path
    if not (np.isfinite(weight) and weight >= 0):
        raise InputError(
            f"--ns_loss_weight {weight:g}",
            found=f"{weight:g}",
            expected="0 (off) or a number above",
            do="correct the flag",
        )
    if (weight > 0) != bool(path):
        raise InputError(
            "--ns_loss_weight and --ns_path need each other",
            found=f"ns_loss_weight {weight:g}, ns_path {path or 'not given'}",
            expected="the weight of the loss, and the folder of a finished run whose field it looks at",
            do="run once with --render_middle, then again with --ns_path logs/<that expname> --ns_loss_weight 1",
        )
    if weight > 0 and options.monocular not in ("auto", "small"):
        raise InputError(
            "--ns_loss_weight trains the small network",
            found=f"--monocular {options.monocular}",
            expected="--monocular small",
            do="choose small, or leave --ns_loss_weight and --ns_path out",
        )
    if path and Path(path).resolve() == (Path(options.basedir) / options.expname).resolve():
        raise _own_folder(Path(path))
    field_files(options)


def field_files(options: MonocularOptions) -> list[Path]:
    """Return the stamps of what is read of the earlier run.

    Raises:
        InputError: it is not finished, or its stages do not belong together any more.
    """
    if not options.ns_path:
        return []
    root = Path(options.ns_path)
    stamps = [root / stage / STAMP for stage in _STAGES]
    wrong = next((f"no {stamp}" for stamp in stamps if not stamp.exists()), "")
    wrong = wrong or next((f"stage {stage} was skipped" for stage in _STAGES if skipped(root / stage)), "")
    if wrong:
        raise InputError(
            f"--ns_path {root} is no finished run",
            found=wrong,
            expected=f"the finished stages {', '.join(_STAGES)}",
            do="give the logs/<expname> folder of a run that rendered its field",
        )
    scene, poses, render = (read_stamp(root / stage) for stage in _STAGES)
    made_from = (poses["inputs"]["scene"], render["inputs"]["scene"], render["inputs"]["poses"])
    if made_from != (scene["hash"], scene["hash"], poses["hash"]):
        raise InputError(
            f"--ns_path {root} is a run whose stages do not belong together",
            found="renders that were made from another scene or other poses than those that lie beside them",
            expected="a run that went on to `render` after its last change",
            do="run it again",
        )
    return stamps


def dense_views(task: Task) -> list[DenseView]:
    """Return the earlier run's training images and rendered middle views, with depth that its views agree on.

    Raises:
        InputError: the earlier run is this one, is of another dataset, or its field was trained with an image that
            is a test image here.
    """
    if not task.options.ns_path:
        return []
    root = Path(task.options.ns_path)
    _refuse_foreign(root, task)
    field = _Field.load(root)
    rng = np.random.default_rng(task.options.seed)
    eyes, middle = list(field.at_eyes(rng)), list(field.in_the_middle(rng))
    found = [*eyes, *middle]
    log.info(
        "monocular: the field of %s gives dense depth at %d images and %d views between the eyes",
        *(root, len(eyes), len(middle)),
    )
    if not middle and (root / "render" / "middle").is_dir():
        log.warning("monocular: no view of %s half-way between the eyes agrees with those of the eyes", root)
    elif not middle and field.views.scene.rig.stereo:
        log.warning(
            "monocular: %s has no views half-way between the eyes: the network learns from those at the eyes "
            "alone (run the first with --render_middle for more)",
            root,
        )
    if not found:
        raise InputError(
            f"--ns_path {root} gives no depth to learn from",
            found=f"no view with {_FEWEST_POINTS} px of tissue of a multi-view error below {LARGEST_ERROR}",
            expected="a field whose depth agrees from view to view",
            do="look at its render/pictures; train it longer, or leave --ns_path out",
        )
    return found


def _refuse_foreign(root: Path, task: Task) -> None:
    here, there = (read_json(folder / "frames.json") for folder in (task.views.scene.folder, root / "scene"))
    tested = sorted(set(there["train"]) & set(here["test"]))
    other = [key for key, value in there["hashes"].items() if here["hashes"].get(key, value) != value]
    strange = sorted(set(there["names"]) - set(here["names"]))
    if root.resolve() == task.work.resolve().parent:
        raise _own_folder(root)
    if other or strange:
        raise InputError(
            f"--ns_path {root} is a run of another dataset",
            found=f"other images ({', '.join([*strange, *other][:3])})",
            expected="the same images",
            do="give a run with the same --datadir, --image_dir and --factor",
        )
    if tested:
        raise InputError(
            f"--ns_path {root} has seen a test image",
            found=f"a field trained with frame {tested[0]}, a test frame here: its score would be no test",
            expected="the same test frames in both runs",
            do="run the first again with the train.txt and test.txt of this one",
        )


def _own_folder(root: Path) -> InputError:
    return InputError(
        f"--ns_path {root} does not fit this run",
        found="this run's own folder: each run would change what it learns from",
        expected="another run of the same dataset",
        do="give this run another --expname",
    )


@dataclass(frozen=True, eq=False)
class _Field:
    """The renders of an earlier run."""

    root: Path
    views: Views
    depth_mm: dict[View, FloatArray]

    @staticmethod
    def load(root: Path) -> _Field:
        scene = Scene.load(root / "scene")
        views = Views(scene, load_poses(root / "poses", root / "nerf"))
        shown = [view for view in views.training() if has_maps(root / "render", view.side, view.name)]
        depth = {view: _opaque(load_maps(root / "render", view.side, view.name)) for view in shown}
        return _Field(root, views, {view: found for view, found in depth.items() if np.isfinite(found).any()})

    def middle_file(self, name: str) -> Path:
        return self.root / "render" / "middle" / f"{name}.npz"

    def at_eyes(self, rng: np.random.Generator) -> Iterator[DenseView]:
        """Yield every training image with enough depth that other views agree on."""
        scene = self.views.scene
        for view, depth_mm in self.depth_mm.items():
            tissue, _ = scene.masks(view.side, view.name)
            agreed = self._agreed(scene.rig.camera(view.side), np.eye(4), view, depth_mm, self._around(view))
            yield from _drawn(scene.image(view.side, view.name), depth_mm, tissue & agreed, rng)

    def in_the_middle(self, rng: np.random.Generator) -> Iterator[DenseView]:
        """Yield every rendered middle view with enough such depth."""
        scene = self.views.scene
        for name in scene.train:
            if self.middle_file(name).exists() and View("left", name) in self.depth_mm:
                camera, left_from_middle = scene.rig.middle
                with np.load(self.middle_file(name)) as file:
                    rgb, depth_mm = file["rgb"], _opaque(file)
                left = View("left", name)
                agreed = self._agreed(camera, left_from_middle, left, depth_mm, [left, *self._around(left)])
                tissue = self._on_tissue(name, camera, left_from_middle, depth_mm)
                yield from _drawn(rgb, depth_mm, tissue & agreed, rng)

    def _around(self, view: View) -> list[View]:
        """Return the nearest rendered views of the eyes."""
        typical_mm = float(np.nanmedian(self.depth_mm[view]))
        return self.views.ordered(view, list(self.depth_mm), typical_mm)[:_CHECKED]

    def _agreed(
        self,
        camera: Camera,
        view_from_camera: FloatArray,
        view: View,
        depth_mm: FloatArray,
        around: Iterable[View],
    ) -> BoolArray:
        """Return where the depth of a camera, placed beside a view, agrees with the views around."""
        others = []
        for other in around:
            other_from_view = self.views.other_from_view(other, view)
            if other_from_view is not None:
                others.append((self.views.camera(other), other_from_view @ view_from_camera, self.depth_mm[other]))
        error = multi_view_error(camera, depth_mm, others, _TOPK)
        with np.errstate(invalid="ignore"):
            return np.asarray(error < LARGEST_ERROR)

    def _on_tissue(
        self, name: str, camera: Camera, left_from_middle: FloatArray, depth_mm: FloatArray
    ) -> BoolArray:
        """Return where a middle view shows what is tissue in an image of its frame."""
        scene = self.views.scene
        found = np.zeros(depth_mm.shape, bool)
        for side in scene.sides:
            side_from_middle = invert_rigid(scene.rig.left_from(side)) @ left_from_middle
            tissue, _ = scene.masks(side, name)
            _, columns, rows = RaysInView(camera, scene.rig.camera(side), side_from_middle).land(
                depth_mm.astype(np.float32)
            )
            found |= sample_map(tissue.astype(np.float32), columns, rows) > _OPAQUE
        return found


def _opaque(maps: Any) -> FloatArray:
    return np.where(maps["opacity"] >= _OPAQUE, maps["depth_mm"], np.nan).astype(np.float32)


def _drawn(
    image: NDArray[np.uint8], depth_mm: FloatArray, good: BoolArray, rng: np.random.Generator
) -> Iterator[DenseView]:
    """Yield the view with some of its good pixels, drawn at random, where there are enough."""
    rows, columns = np.nonzero(good)
    if len(rows) < _FEWEST_POINTS:
        return
    chosen = rng.permutation(len(rows))[:_POINTS]
    rows, columns = rows[chosen], columns[chosen]
    pixels = np.stack([columns, rows], axis=1).astype(float)
    yield DenseView(image, SparseDepth(pixels, depth_mm[rows, columns].astype(float), np.ones(len(rows), bool)))
