"""Score the maps of a run frame by frame, and take the mean over frames afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.depth_metrics import ERRORS, depth_metrics, known, median_ratio
from evaluation.image_metrics import mean_in_region, psnr, ssim_map, unit_range
from evaluation.lpips import Lpips
from utils.artifacts import has_maps, load_maps
from utils.scene import Scene
from utils.types import BoolArray, FloatArray, Side

DEPTH_FOLDERS = {"prior": "prior", "nerf": "render", "filter": "filter"}  # method -> stage that wrote its maps
DEPTH_KEYS = (*ERRORS, "coverage", "n_valid_px")
RGB_KEYS = ("psnr", "ssim", "lpips")
COUNTS = ("n_valid_px",)  # summed over frames; everything else is a mean over frames

_MIN_OPACITY = 0.5  # a ray that is less opaque has met no surface: its depth is unknown
_POOL_PX = 20_000_000  # pixels of the pooled median, as many as fit; evenly spaced ones of longer sequences

ReadTruth = Callable[[Side, str], NDArray[np.float32] | None]


@dataclass(frozen=True)
class View:
    """One eye at one frame, and the split that the frame belongs to."""

    split: str
    side: Side
    name: str


@dataclass(frozen=True)
class Row:
    """The scores of one view; `alignment` is empty for colour. One line of `per_frame.csv`."""

    view: View
    method: str
    region: str
    alignment: str
    values: Mapping[str, float]


@dataclass
class DepthScores:
    """Scores of depth, the one ratio of each method, and what a reader has to know about them."""

    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def views_of(scene: Scene) -> list[View]:
    """Return every eye with images of every frame in train or test; frames in neither are not scored."""
    return [
        View(scene.split(name), side, name) for name in scene.names if scene.split(name) for side in scene.sides
    ]


def read_depth(method: str, folder: Path, side: Side, name: str) -> FloatArray:
    """Return the depth map (h, w) of one method; NaN where it is unknown, faint rays of the field included."""
    maps = load_maps(folder, side, name)
    depth_mm = maps["depth_mm"]
    if method == "nerf":
        depth_mm = np.where(maps["opacity"] < _MIN_OPACITY, np.nan, depth_mm)
    return np.asarray(depth_mm)


def score_depth(
    views: Sequence[View], scene: Scene, folders: Mapping[str, Path], read_truth: ReadTruth, *, metric: bool
) -> DepthScores:
    """Score the depth of every method in every view that has truth.

    Args:
        views: what to score.
        scene: for the tissue masks.
        folders: method -> folder of its maps; methods without one are left out.
        read_truth: (side, name) -> true depth (h, w) mm in the scene's camera, or None.
        metric: whether raw lengths mean millimetres; without it only `median_scaled` is scored.

    A view whose map is missing although others of its method, split and eye are there counts with coverage 0.
    """
    scores = DepthScores()
    known_views = [view for view in views if read_truth(view.side, view.name) is not None]
    for method, folder in folders.items():
        mine = _scored_views(method, folder, known_views, scores.notes)
        ratio = _pooled_ratio(method, folder, mine, scene, read_truth)
        alignments = {"raw": 1.0} if metric else {}
        if np.isfinite(ratio):
            alignments["median_scaled"] = scores.ratios[method] = ratio
        bar = tqdm(mine, desc=f"evaluation: depth of {method}", unit="view", leave=False)
        for view in bar:
            rows = _depth_rows(method, folder, view, scene, read_truth, alignments)
            scores.rows += rows
            shown = f"{rows[0].values.get('abs_rel', float('nan')):.4f}" if rows else "unknown"
            bar.set_postfix({"abs_rel": shown}, refresh=False)
    return scores


def _scored_views(method: str, folder: Path, views: Sequence[View], notes: list[str]) -> list[View]:
    """Return the views of those splits and eyes where the method has any map; note every gap."""
    groups: dict[tuple[str, Side], list[View]] = defaultdict(list)
    for view in views:
        groups[view.split, view.side].append(view)
    chosen: list[View] = []
    for (split, side), group in groups.items():
        missing = [view.name for view in group if not has_maps(folder, view.side, view.name)]
        if len(missing) == len(group):
            notes.append(f"{method}: no depth maps of the {side} eye of {split} frames; not scored")
            continue
        if missing:
            notes.append(
                f"{method}: no depth map of the {side} eye of {split} frames {listed(missing)}; "
                "counted with coverage 0"
            )
        chosen += group
    return chosen


def _pooled_ratio(method: str, folder: Path, views: Sequence[View], scene: Scene, read_truth: ReadTruth) -> float:
    """Return median(truth) / median(prediction) over the valid tissue pixels of all views."""
    camera = scene.rig.left
    stride = max(1, -(-len(views) * camera.width * camera.height // _POOL_PX))
    predicted, true = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for view in views:
        truth_depth_mm = read_truth(view.side, view.name)
        if truth_depth_mm is None or not has_maps(folder, view.side, view.name):
            continue
        depth_mm = read_depth(method, folder, view.side, view.name)
        tissue, _ = scene.masks(view.side, view.name)
        valid = tissue & known(depth_mm) & known(truth_depth_mm)
        predicted.append(depth_mm[valid][::stride])
        true.append(truth_depth_mm[valid][::stride])
    return median_ratio(np.concatenate(predicted), np.concatenate(true))


def _depth_rows(
    method: str,
    folder: Path,
    view: View,
    scene: Scene,
    read_truth: ReadTruth,
    alignments: Mapping[str, float],
) -> list[Row]:
    truth_depth_mm = read_truth(view.side, view.name)
    if truth_depth_mm is None:
        return []
    if has_maps(folder, view.side, view.name):
        depth_mm = read_depth(method, folder, view.side, view.name)
    else:
        depth_mm = np.full(truth_depth_mm.shape, np.nan)
    tissue, _ = scene.masks(view.side, view.name)
    regions = {"tissue": tissue, "full": np.ones_like(tissue)}
    rows = [
        Row(view, method, region, alignment, depth_metrics(depth_mm * ratio, truth_depth_mm, inside))
        for alignment, ratio in alignments.items()
        for region, inside in regions.items()
    ]
    return [row for row in rows if row.values]


def score_rgb(
    views: Sequence[View], scene: Scene, folder: Path, lpips: Lpips | None, notes: list[str]
) -> list[Row]:
    """Score the rendered colour of every view that has a recorded image, in three regions; note every gap."""
    rows: list[Row] = []
    missing: dict[tuple[str, Side], list[str]] = defaultdict(list)
    bar = tqdm(views, desc="evaluation: colour", unit="view", leave=False)
    for view in bar:
        if f"{view.side}_{view.name}" not in scene.images:
            continue
        if not has_maps(folder, view.side, view.name):
            missing[view.split, view.side].append(view.name)
            continue
        rendered = load_maps(folder, view.side, view.name)["rgb"]
        tissue, highlight = scene.masks(view.side, view.name)
        regions = {
            "full": np.ones_like(tissue),
            "tissue": tissue,
            "tissue_no_highlight": tissue & ~highlight,
        }
        scored = rgb_metrics(rendered, scene.image(view.side, view.name), regions, lpips)
        rows += [Row(view, "rgb", region, "", values) for region, values in scored.items() if values]
        bar.set_postfix({"PSNR": f"{scored['full'].get('psnr', float('nan')):.2f} dB"}, refresh=False)
    for (split, side), names in missing.items():
        notes.append(f"rgb: {side} eye of {split} frames {listed(names)} was not rendered; not scored")
    return rows


def rgb_metrics(
    rendered: NDArray[np.uint8],
    recorded: NDArray[np.uint8],
    regions: Mapping[str, BoolArray],
    lpips: Lpips | None,
) -> dict[str, dict[str, float]]:
    """Return region -> psnr (dB), ssim, lpips of one view; what is not finite is left out.

    Args:
        rendered: (h, w, 3) RGB.
        recorded: (h, w, 3) RGB.
        regions: name -> (h, w) pixels that count.
        lpips: the network, or None to leave LPIPS out.

    Raises:
        ValueError: the images differ in size.
    """
    if rendered.shape != recorded.shape:
        raise ValueError(f"images differ in size: rendered {rendered.shape}, recorded {recorded.shape}")
    image, reference = unit_range(rendered), unit_range(recorded)
    maps = {"ssim": ssim_map(image, reference)}
    if lpips is not None:
        maps["lpips"] = lpips.distance_map(image, reference)
    scored: dict[str, dict[str, float]] = {}
    for name, region in regions.items():
        values = {"psnr": psnr(image, reference, region)}
        values |= {key: mean_in_region(value, region) for key, value in maps.items()}
        scored[name] = {key: value for key, value in values.items() if np.isfinite(value)}
    return scored


def aggregate(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the blocks `depth` and `rgb` of metrics.json from per-frame rows.

    Errors and coverage are means over the frames that have them, `n_valid_px` is a sum, `n_frames` counts the
    frames with truth (depth) or a render (rgb) in the region. A frame without any valid pixel has no error but
    coverage 0: hiding pixels or whole frames lowers the coverage.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, float]]] = defaultdict(list)
    for row in rows:
        path = (row.view.split, row.view.side, row.region)
        key: tuple[str, ...] = (
            ("rgb", *path) if row.method == "rgb" else ("depth", row.method, *path, row.alignment)
        )
        groups[key].append(row.values)
    blocks: dict[str, Any] = {}
    for key, values in groups.items():
        inner = blocks
        for word in key:
            inner = inner.setdefault(word, {})
        inner |= _mean_over_frames(values)
    return blocks


def _mean_over_frames(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means: dict[str, float] = {}
    for key in (*DEPTH_KEYS, *RGB_KEYS):
        present = [value[key] for value in values if key in value]
        if present:
            means[key] = int(sum(present)) if key in COUNTS else float(np.mean(present))
    return means | {"n_frames": len(values)}


def listed(names: Sequence[str]) -> str:
    """Return the first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
