"""What a protocol may read of a run's left eye: images beside renders, depth beside truth, poses, LPIPS."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from evaluation.lpips import Lpips, find_weights, load_lpips
from evaluation.lpips_backbones import ALEX, VGG, Backbone
from evaluation.options import EvaluationOptions
from evaluation.scores import DEPTH_FOLDERS, ReadTruth, listed, read_depth
from evaluation.truth import find_truth
from utils.artifacts import has_maps, load_maps, read_json
from utils.scene import Scene, load_poses
from utils.types import BoolArray, FloatArray, Poses

_CACHE_BYTES = 256_000_000
_T = TypeVar("_T")


class Refused(Exception):
    """A run does not satisfy what a protocol asks for; the message says what, in words."""


@dataclass(frozen=True)
class Crop:
    """What is kept of an image: its first `rows`, without its first `columns`."""

    rows: int | None = None
    columns: int = 0


WHOLE = Crop()


@dataclass(frozen=True)
class Pair:
    """A render beside the recorded image, (h, w, 3) RGB float32 in [0, 1], and where there is tissue (h, w)."""

    rendered: FloatArray
    recorded: FloatArray
    tissue: BoolArray

    def masked(self) -> Pair:
        """Return both images black outside the tissue: what most of the field compares."""
        inside = self.tissue[..., None].astype(np.float32)
        return Pair(self.rendered * inside, self.recorded * inside, self.tissue)


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A run as the protocols see it: the left eye alone, for no other code scores the right one.

    Args:
        options: where the truth and the weights of LPIPS lie.
        scene: frames, splits, images, masks, camera.
        folders: folders of the stages that did their work, by name.
        read_truth: (side, name) -> true depth (h, w) mm, or None.
        metrics: the scores of the default protocol, as `metrics.json` holds them.
    """

    options: EvaluationOptions
    scene: Scene
    folders: Mapping[str, Path]
    read_truth: ReadTruth
    metrics: Mapping[str, Any]
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def metric(self) -> bool:
        """Whether lengths are millimetres."""
        return bool(self.metrics["metric"])

    @cached_property
    def factor(self) -> int:
        """By how much the sides of the images were divided before the run."""
        return int(read_json(self.scene.folder / "frames.json").get("factor", 1))

    @cached_property
    def poses(self) -> Poses | None:
        """Where the cameras stood, corrected where a training did so; None without the stage `poses`."""
        if "poses" not in self.folders:
            return None
        return load_poses(self.folders["poses"], self.folders.get("nerf"))

    def once(self, key: Hashable, work: Callable[[], _T]) -> _T:
        """Return what `work` gives, computed for the first protocol that asks and kept for the others."""
        if key not in self._known:
            self._known[key] = work()
        return cast(_T, self._known[key])

    def require_renders(self, names: Sequence[str]) -> None:
        """Raise Refused where a frame has no render: scoring the others alone would choose them."""
        if "render" not in self.folders:
            raise Refused("nothing was rendered")
        missing = [name for name in names if not has_maps(self.folders["render"], "left", name)]
        if missing:
            raise Refused(f"no render of {len(missing)} of the {len(names)} frames it scores: {listed(missing)}")

    def pair(self, name: str, crop: Crop = WHOLE) -> Pair:
        """Return the render of a frame beside its image. Both are of 8 bits, as files are."""
        rendered, recorded, tissue = self._pair(name)
        kept = np.s_[: crop.rows, crop.columns :]
        scale = np.float32(255)
        return Pair(rendered[kept] / scale, recorded[kept] / scale, tissue[kept])

    @cached_property
    def _pair(self) -> Callable[[str], tuple[NDArray[np.uint8], NDArray[np.uint8], BoolArray]]:
        camera = self.scene.rig.left

        @lru_cache(maxsize=max(1, _CACHE_BYTES // (7 * camera.width * camera.height)))
        def read(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], BoolArray]:
            rendered = np.asarray(load_maps(self.folders["render"], "left", name)["rgb"], np.uint8)
            return rendered, self.scene.image("left", name), self.tissue(name)

        return read

    def tissue(self, name: str) -> BoolArray:
        """Return where a frame shows tissue (h, w)."""
        return self.scene.masks("left", name)[0]

    def truth(self, name: str) -> NDArray[np.float32] | None:
        """Return a frame's true z-depth (h, w) mm, NaN where unknown, or None."""
        return self.read_truth("left", name)

    def with_truth(self, names: Sequence[str]) -> list[str]:
        """Return the frames that have a file of true depth or disparity."""
        return [name for name in names if find_truth(Path(self.options.datadir), "left", name)]

    def methods(self, *wanted: str) -> dict[str, Path]:
        """Return the folder of each method's depth maps; all of prior, nerf and filter where none is named."""
        return {
            method: self.folders[stage]
            for method, stage in DEPTH_FOLDERS.items()
            if stage in self.folders and (not wanted or method in wanted)
        }

    def depth(self, method: str, name: str) -> FloatArray | None:
        """Return a method's z-depth (h, w) mm, NaN where it says nothing, or None without a map of the frame."""
        folder = self.folders[DEPTH_FOLDERS[method]]
        return read_depth(method, folder, "left", name) if has_maps(folder, "left", name) else None

    def lpips(self, net: Backbone) -> tuple[Lpips | None, str]:
        """Return LPIPS with one of its backbones, or None and why there is none."""

        def load() -> tuple[Lpips | None, str]:
            weights, why = find_weights(*lpips_paths(self.options)[net], net)
            return (load_lpips(weights), "") if weights else (None, why)

        return self.once(("lpips", net.name), load)


def lpips_paths(options: EvaluationOptions) -> dict[Backbone, tuple[str | None, str | None]]:
    """Return the paths of heads and backbone that were given, by network."""
    return {
        ALEX: (options.lpips_heads, options.lpips_backbone),
        VGG: (options.lpips_vgg_heads, options.lpips_vgg_backbone),
    }
