"""The protocols by name: each a function from a run to its scores, or a refusal (see docs/protocols.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.lpips_backbones import VGG
from evaluation.protocols import depth as depths
from evaluation.protocols import splits
from evaluation.protocols.colour import Rule, score_colour
from evaluation.protocols.depth import Depths, Frames
from evaluation.protocols.frame_list import FLAG, chosen_frames
from evaluation.protocols.geometry import geometric_error
from evaluation.protocols.scored_run import Crop, Refused, ScoredRun
from evaluation.protocols.splits import Split
from utils.types import ARBITRARY_UNITS

ROWS = Crop(rows=500)  # of the 512 of EndoNeRF's frames
COLUMNS = Crop(columns=40)  # on the left of Hamlyn's frames

_RENDERED = ("nerf", "filter")


@dataclass(frozen=True)
class Scores:
    """What a protocol says of a run.

    Args:
        numbers: by name; those of depth under `depth`, by method.
        n_frames: how many frames were scored.
        split: which, in words.
        left_out: what could not be computed -> why.
        doubts: why the numbers cannot stand beside published ones.
    """

    numbers: Mapping[str, Any]
    n_frames: int
    split: str
    left_out: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def adding(self, numbers: Mapping[str, Any]) -> Scores:
        """Return these scores with more numbers."""
        return replace(self, numbers={**self.numbers, **numbers})

    def leaving_out(self, why: Mapping[str, str]) -> Scores:
        """Return these scores with more reasons for what is not there."""
        return replace(self, left_out={**self.left_out, **why})


def default(run: ScoredRun) -> Scores:
    """Ours: tissue of held-out left frames, raw millimetres, nothing trimmed: the figures of metrics.json."""
    split = "test" if run.scene.test else "train"
    names = getattr(run.scene, split)
    colour = run.metrics.get("rgb", {}).get(split, {}).get("left", {}).get("tissue", {})
    alignment = "raw" if run.metric else "median_scaled"
    scored = {
        method: sides.get(split, {}).get("left", {}).get("tissue", {}).get(alignment, {})
        for method, sides in run.metrics.get("depth", {}).items()
    }
    numbers: dict[str, Any] = {key: colour[key] for key in ("psnr", "ssim", "lpips") if key in colour}
    if colour:
        numbers["psnr_of"] = "tissue, by frame"
    if any(scored.values()):
        numbers["depth"] = {
            method: {key: value for key, value in values.items() if key != "n_valid_px"}
            for method, values in scored.items()
            if values
        }
    if not numbers:
        raise Refused("there is neither a render nor true depth to score")
    left_out = {"lpips": str(run.metrics["lpips_note"])} if "lpips_note" in run.metrics and colour else {}
    if not run.metric:
        left_out["raw depth"] = f"lengths are in {ARBITRARY_UNITS}: depth is median-scaled"
    if run.scene.test:
        return Scores(numbers, len(names), "held out, the run's own test frames", left_out)
    return Scores(numbers, len(names), splits.SEEN, left_out, ("no frame was held out",))


def endonerf(run: ScoredRun) -> Scores:
    """EndoNeRF, eval_rgb.py: one PSNR from the pooled error of whole masked frames, LPIPS AlexNet on [0, 1]."""
    split = splits.require(run.scene, splits.all_but_first(run.scene.names))
    return _colour(run, split, Rule(pooled=True, rescaled=False))


def endosurf(run: ScoredRun) -> Scores:
    """EndoSurf, src/trainer/utils.py: PSNR of tissue alone, SSIM without padding, LPIPS VGG16, depth, geometry."""
    split = splits.require(run.scene, splits.every_eighth(run.scene.names))
    scores = _colour(run, split, Rule(pooled=True, tissue_only=True, ssim="unpadded", net=VGG))
    names = run.with_truth(run.scene.names)
    why = f"lengths are in {ARBITRARY_UNITS}" if not run.metric else "" if names else "there is no true depth"
    if why:
        return scores.leaving_out({"depth": why, "geometry_mm": why})
    near_mm, far_mm = depths.endosurf_range_mm(_frames(run, names))
    score = partial(depths.endosurf_rmse, near_mm=near_mm, far_mm=far_mm)
    scores = _with_depth(run, scores, split.scored, score, _RENDERED)
    distance_mm, why = geometric_error(run, split.scored, far_mm)
    return scores.leaving_out({"geometry_mm": why}) if why else scores.adding({"geometry_mm": distance_mm})


def endogaussian(run: ScoredRun) -> Scores:
    """EndoGaussian, metrics.py: a PSNR for every whole masked frame, LPIPS AlexNet, depth from 8-bit PNGs."""
    split = splits.require(run.scene, splits.every_eighth(run.scene.names))
    scores = _colour(run, split, Rule(tissue_too=True))
    if not run.metric:
        return scores.leaving_out({"depth": f"lengths are in {ARBITRARY_UNITS}, a level of its PNG is 1 mm"})
    try:
        return _with_depth(run, scores, split.scored, depths.endogaussian_rmse, _RENDERED)
    except ValueError as error:
        return scores.leaving_out({"depth": str(error)})


def endogs(run: ScoredRun) -> Scores:
    """EndoGS, eval_rgb.py: the first 500 rows, PSNR of tissue alone, LPIPS AlexNet on [0, 1]."""
    split = splits.require(run.scene, splits.all_but_first(run.scene.names))
    return _colour(run, split, Rule(crop=ROWS, pooled=True, tissue_only=True, rescaled=False))


def forplane(run: ScoredRun) -> Scores:
    """ForPlane, base_trainer.py: all frames and 500 rows (EndoNeRF), or odd frames without 40 columns (Hamlyn)."""
    on_all = set(run.scene.train) == set(run.scene.names)
    chosen = splits.all_frames(run.scene.names) if on_all else splits.odd_frames(run.scene.names)
    try:
        split = splits.require(run.scene, chosen)
    except Refused as refusal:
        raise Refused(f"{refusal}, and it did not train on all frames either") from refusal
    if run.scene.rig.left.width <= COLUMNS.columns and not on_all:
        raise Refused(f"images of {run.scene.rig.left.width} px lose all of their {COLUMNS.columns} columns")
    return _colour(run, split, Rule(crop=ROWS if on_all else COLUMNS, tissue_too=True, rescaled=False))


def afsfm(run: ScoredRun) -> Scores:
    """AF-SfMLearner, evaluate_depth.py: one median ratio an image, truth of 1e-3 to 150 mm, frames of a list."""
    if not run.options.afsfm_frames:
        raise Refused(f"it scores a published list of frames, and none was given ({FLAG} FILE)")
    names = chosen_frames(Path(run.options.afsfm_frames), run.scene.names, Path(run.options.datadir))
    split = splits.require_held_out(run.scene, splits.given_frames(run.scene.names, names))
    scores = _depth_alone(run, split, depths.afsfm, "no true depth of 1e-3 to 150 mm")
    without = len(split.scored) - scores.n_frames
    doubt = f"{without} of the {len(split.scored)} frames of the list have no true depth"
    return replace(scores, doubts=(doubt,)) if without else scores


def nerfingmvs(run: ScoredRun) -> Scores:
    """NerfingMVS, evaluation_utils.py: training frames, one median ratio for all, truth of 0.1 to 20 m."""
    split = Split(run.scene.train, run.scene.train, "depth of training frames, colour of held-out ones")
    scores = _depth_alone(run, split, depths.nerfingmvs, "no true depth of 0.1 to 20 m")
    return _test_colour(run, scores)


def upstream_legacy(run: ScoredRun) -> Scores:
    """The reference system: training frames, prediction and truth trimmed, both clamped by the prediction."""
    split = Split(run.scene.train, run.scene.train, "depth of training frames, colour of held-out ones")
    scores = _depth_alone(run, split, depths.upstream_legacy, "no true depth on tissue")
    scores = _test_colour(run, scores)
    doubt = "the truth is clamped by the prediction: a ramp that has not seen the scene beats a real prior"
    return replace(scores, doubts=(*scores.doubts, doubt))


def _colour(run: ScoredRun, split: Split, rule: Rule) -> Scores:
    numbers, left_out = score_colour(run, split.scored, rule)
    return Scores(numbers, len(split.scored), split.words, left_out)


def _test_colour(run: ScoredRun, scores: Scores) -> Scores:
    """Add the colour of held-out frames as NerfingMVS and its descendants score it: whole frames, no mask."""
    if not run.scene.test:
        return scores.leaving_out({"psnr": "no frame was held out"})
    try:
        numbers, left_out = score_colour(run, run.scene.test, Rule(masked=False, ssim="scikit-image"))
    except Refused as refusal:
        return scores.leaving_out({"psnr": str(refusal)})
    return scores.leaving_out(left_out).adding(numbers | {"n_colour_frames": len(run.scene.test)})


def _frames(run: ScoredRun, names: Sequence[str], method: str | None = None) -> Frames:
    """Return frames that have true depth; a frame without a map of the method is unknown everywhere."""

    def read(index: int) -> Depths:
        truth, tissue = run.truth(names[index]), run.tissue(names[index])
        depth_mm = run.depth(method, names[index]) if method else None
        unknown = np.full(tissue.shape, np.nan, np.float32)
        return Depths(unknown if depth_mm is None else depth_mm, unknown if truth is None else truth, tissue)

    return Frames(len(names), read)


def _depth_alone(
    run: ScoredRun, split: Split, score: Callable[[Frames], dict[str, float]], nothing: str
) -> Scores:
    """Score every method's depth; raise Refused where there is none to score."""
    if not run.methods():
        raise Refused("no stage made depth maps")
    names = run.with_truth(split.scored)
    if not names:
        raise Refused("no frame that it scores has true depth")
    scores = _with_depth(run, Scores({}, len(names), split.words), names, score)
    if "depth" not in scores.numbers:
        raise Refused(f"{nothing} meets a prediction in any of the frames it scores")
    return scores


def _with_depth(
    run: ScoredRun,
    scores: Scores,
    names: Sequence[str],
    score: Callable[[Frames], dict[str, float]],
    methods: Sequence[str] = (),
) -> Scores:
    """Return the scores with those of each method's depth; what has no truth or no map anywhere is left out."""
    names = run.with_truth(names)
    scored = {method: score(_frames(run, names, method)) for method in run.methods(*methods)}
    found = {method: values for method, values in scored.items() if values}
    if not found:
        return scores.leaving_out({"depth": "no true depth meets a prediction in the frames it scores"})
    return scores.adding({"depth": found})


PROTOCOLS: dict[str, Callable[[ScoredRun], Scores]] = {
    "default": default,
    "endonerf": endonerf,
    "endosurf": endosurf,
    "endogaussian": endogaussian,
    "endogs": endogs,
    "forplane": forplane,
    "afsfm": afsfm,
    "nerfingmvs": nerfingmvs,
    "upstream_legacy": upstream_legacy,
}
SPLITS: dict[str, Callable[[Sequence[str]], Split]] = {
    "default": splits.own_split,
    "endonerf": splits.all_but_first,
    "endosurf": splits.every_eighth,
    "endogaussian": splits.every_eighth,
    "endogs": splits.all_but_first,
    "forplane": splits.odd_frames,
}
