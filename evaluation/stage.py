"""The stage `evaluation`: score priors, renders, filtered depth and the mesh; write the tables."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation import mesh_truth, truth
from evaluation.bootstrap import interval_note
from evaluation.lpips import Lpips, find_weights, load_lpips
from evaluation.lpips_backbones import ALEX
from evaluation.mesh_scores import score_mesh
from evaluation.options import EvaluationOptions as EvaluationOptions
from evaluation.protocols import page, scoring
from evaluation.protocols.scored_run import ScoredRun
from evaluation.report.page import write_report
from evaluation.right_eye import BLOCK as RIGHT_EYE
from evaluation.right_eye import right_eye_block
from evaluation.scores import (
    DEPTH_FOLDERS,
    DEPTH_KEYS,
    RGB_KEYS,
    ReadTruth,
    Row,
    View,
    aggregate,
    score_depth,
    score_rgb,
    views_of,
)
from evaluation.tables import depth_rows, latex_table, markdown_table, rgb_rows
from utils.artifacts import read_json, write_json
from utils.errors import NotApplicable
from utils.scene import POSES, Scene, load_poses
from utils.scene_motion import read_motion
from utils.stages import Stage, peak_memory_mb, read_stamp
from utils.types import ARBITRARY_UNITS

log = logging.getLogger("specula")

PROTOCOL = "default"

_POSE_KEYS = ("n_registered", "n_frames", "reprojection_px", "metric")
_MOTION_KEYS = ("camera", "tissue", "eyes")
_TEST_POSES = "poses of test frames may have been estimated with the test images"
_REFINED_POSES = (
    "poses were corrected while the field was trained: those of training frames by their images, those of test "
    "frames by what their neighbours' corrections tell"
)


def check(options: EvaluationOptions) -> None:
    """Raise InputError for truth that cannot be scored against and for wrong LPIPS paths."""
    truth.check(options)
    if not options.demo:
        mesh_truth.check(options)
        scoring.check(options)


def files(options: EvaluationOptions) -> list[Path]:
    """Return the files outside the run that the scores depend on: truth maps and mesh, weights of LPIPS."""
    if options.demo:
        return []
    weights, _ = find_weights(options.lpips_heads, options.lpips_backbone)
    true_files = truth.files(options) + mesh_truth.files(options)
    of_lpips = [weights.heads, weights.backbone] if weights else []
    return list(dict.fromkeys([*true_files, *of_lpips, *scoring.files(options)]))


def run(options: EvaluationOptions, *, out: Path, scene: Path, **inputs: Path) -> str:
    """Write metrics.json, per_frame.csv, tables (also of protocols) and, where it can be drawn, report.html.

    Args:
        options: where the truth lies and in which unit.
        out: folder to write into.
        scene: folder of the stage `scene`.
        inputs: folders of the other stages by name; `prior`, `render`, `filter` and the mesh of `export` are
            scored where they were made, `poses` is reported, and the stamps of all tell runtime and memory.

    Raises:
        NotApplicable: with `--demo`.
        InputError: truth that cannot be read or is of another size.
    """
    if options.demo:
        raise NotApplicable("--demo: a demonstration is not scored")
    began = time.monotonic()
    loaded = Scene.load(scene)
    folders, notes = _finished(inputs)
    report = read_json(folders["poses"] / "report.json") if "poses" in folders else {}
    metrics: dict[str, Any] = {"metric": _is_metric(report, loaded), "protocol": PROTOCOL}
    if not metrics["metric"]:
        notes.insert(0, f"lengths are in {ARBITRARY_UNITS}: raw depth is not scored, median_scaled is")
    motion = read_motion(inputs["poses"]) if "poses" in inputs else {}
    if motion:
        metrics["motion"] = {key: motion[key] for key in _MOTION_KEYS}
        if "poses" in folders and motion["warning"]:
            notes.insert(0, f"warning: {motion['warning']}")
        elif motion["camera"] == "unknown" or "poses" not in folders:
            notes.insert(0, f"motion: {motion['seen']}")
    read_truth = truth.truth_reader(options, loaded)
    rows = _depth(options, loaded, folders, read_truth, notes, metric=metrics["metric"])
    of_colour, lpips_note = _rgb(options, loaded, folders, notes)
    rows += of_colour
    metrics |= aggregate(rows)
    _set_sources_apart(metrics)
    if "export" in folders:
        poses = load_poses(folders["poses"], folders.get("nerf")) if "poses" in folders else None
        mesh = score_mesh(options, loaded, poses, folders["export"], read_truth, notes)
        metrics |= {"mesh": mesh} if mesh else {}
    if report:
        metrics["poses"] = {key: report[key] for key in _POSE_KEYS if _is_plain(report.get(key))}
        notes.append(str(report.get("test_poses") or _TEST_POSES))
    if "nerf" in folders and (folders["nerf"] / POSES).exists():
        notes.append(_REFINED_POSES)
    scored = metrics | ({"lpips_note": lpips_note} if lpips_note else {})
    of_left = ScoredRun(options, loaded, folders, read_truth, scored)
    protocols = scoring.score_protocols(of_left, scoring.chosen(options))
    stamps = {name: read_stamp(folder) for name, folder in ({"scene": scene} | folders).items()}
    held_out = right_eye_block(loaded, folders, stamps, rows, notes)
    metrics |= {RIGHT_EYE: held_out} if held_out else {}
    notes += interval_note([values for _, values in (*depth_rows(metrics), *rgb_rows(metrics))])
    metrics["runtime_s"] = {name: stamp["seconds"] for name, stamp in stamps.items() if "seconds" in stamp}
    metrics["runtime_s"]["evaluation"] = round(time.monotonic() - began, 2)
    memory = [stamp["peak_memory_mb"] for stamp in stamps.values() if "peak_memory_mb" in stamp]
    metrics["peak_memory_mb"] = round(max([*memory, peak_memory_mb()]), 1)
    if lpips_note:
        metrics["lpips_note"] = lpips_note
    metrics["notes"] = notes
    metrics |= protocols
    write_json(out / "metrics.json", metrics)
    write_per_frame(out / "per_frame.csv", rows)
    (out / "table.md").write_text(markdown_table(metrics), encoding="utf-8")
    (out / "table.tex").write_text(latex_table(metrics), encoding="utf-8")
    if protocols:
        page.write_tables(out, protocols)
    _report(options, out, scene, inputs)
    return summary(metrics)


def _report(options: EvaluationOptions, out: Path, scene: Path, inputs: Mapping[str, Path]) -> None:
    """Draw the page; whatever goes wrong with it, the tables stay."""
    try:
        write_report(options, out=out, scene=scene, inputs=inputs)
    except Exception as error:
        log.warning(
            "evaluation: no report.html (%s: %s); `python -m evaluation.report %s` tries again",
            type(error).__name__,
            error,
            scene.parent,
        )


def _finished(inputs: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of stages that did their work, and a note for each that was skipped."""
    folders: dict[str, Path] = {}
    notes: list[str] = []
    for name, folder in inputs.items():
        reason = read_stamp(folder).get("skipped")
        if reason:
            notes.append(f"stage {name} was skipped: {reason}")
        else:
            folders[name] = folder
    return folders, notes


def _is_metric(report: Mapping[str, Any], scene: Scene) -> bool:
    """Whether lengths are millimetres: what the poses say; without poses, whether a pair is calibrated."""
    return bool(report["metric"]) if "metric" in report else "right" in scene.sides


def _is_plain(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _depth(
    options: EvaluationOptions,
    scene: Scene,
    folders: Mapping[str, Path],
    read_truth: ReadTruth,
    notes: list[str],
    *,
    metric: bool,
) -> list[Row]:
    """Score depth where there is truth; say in `notes` what was not scored and the ratio of each method."""
    datadir = Path(options.datadir)
    stray = truth.stray_truth(datadir, scene.names)
    if stray:
        notes.append(f"{stray} truth files have the name of no frame and were not used")
    views = [view for view in views_of(scene) if truth.find_truth(datadir, view.side, view.name)]
    if not views:
        notes.append("no truth depth or disparity of a frame in train or test: depth is not scored")
        return []
    methods = stereo_sources(folders)
    methods |= {method: folders[stage] for method, stage in DEPTH_FOLDERS.items() if stage in folders}
    scores = score_depth(views, scene, methods, read_truth, metric=metric)
    notes += scores.notes
    notes += _empty_views(scores.rows)
    if scores.ratios:
        listed = ", ".join(f"{method} {ratio:.6g}" for method, ratio in scores.ratios.items())
        notes.append(f"median_scaled multiplies depth by one ratio for the whole run: {listed}")
    return scores.rows


def _set_sources_apart(metrics: dict[str, Any]) -> None:
    """Move what is no stage's own method from `depth` to `depth_sources`, in place."""
    sources = {name: scores for name, scores in metrics.get("depth", {}).items() if name not in DEPTH_FOLDERS}
    if sources:
        metrics["depth"] = {name: scores for name, scores in metrics["depth"].items() if name in DEPTH_FOLDERS}
        metrics["depth_sources"] = sources


def stereo_sources(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of every stereo source that ran, by its name: each is a row beside the fused prior."""
    if "stereo" not in folders:
        return {}
    return {folder.name: folder for folder in sorted(folders["stereo"].iterdir()) if folder.is_dir()}


def _empty_views(rows: Sequence[Row]) -> list[str]:
    """Say how many views count with coverage 0 alone: they lower the coverage, and enter no error."""
    empty: dict[str, set[View]] = {}
    for row in rows:
        if row.region == "tissue" and row.values["coverage"] == 0:
            empty.setdefault(row.method, set()).add(row.view)
    return [
        f"{method}: no valid pixel on the tissue of {len(views)} views; they count in coverage, not in the errors"
        for method, views in empty.items()
    ]


def _rgb(
    options: EvaluationOptions, scene: Scene, folders: Mapping[str, Path], notes: list[str]
) -> tuple[list[Row], str]:
    """Score colour where there are renders; also return why there is no LPIPS, or an empty string."""
    if "render" not in folders:
        notes.append("no renders: colour is not scored")
        return [], "no LPIPS, since nothing was rendered"
    lpips, why = _lpips(options, scene)
    return score_rgb(views_of(scene), scene, folders["render"], lpips, notes), why


def _lpips(options: EvaluationOptions, scene: Scene) -> tuple[Lpips | None, str]:
    smallest = min(min(scene.rig.camera(side).width, scene.rig.camera(side).height) for side in scene.sides)
    if smallest < ALEX.smallest_px:
        return None, f"no LPIPS, since it needs images of {ALEX.smallest_px} px or more each way, found {smallest}"
    weights, why = find_weights(options.lpips_heads, options.lpips_backbone)
    return (load_lpips(weights), "") if weights else (None, why)


def write_per_frame(path: Path, rows: Sequence[Row]) -> None:
    """Write one line a view, method, region and alignment; cells of what was not computed are empty."""
    keys = (*DEPTH_KEYS, *RGB_KEYS)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("frame", "split", "side", "method", "region", "alignment", *keys))
        for row in rows:
            numbers = [f"{row.values[key]:.9g}" if key in row.values else "" for key in keys]
            view = row.view
            writer.writerow((view.name, view.split, view.side, row.method, row.region, row.alignment, *numbers))


def summary(metrics: Mapping[str, Any]) -> str:
    """Return one line with the figures that a reader asks for first: the last method, held-out where possible."""
    parts: list[str] = []
    for split in ("test", "train"):
        for method in reversed(DEPTH_FOLDERS):
            alignments = metrics.get("depth", {}).get(method, {}).get(split, {}).get("left", {}).get("tissue", {})
            for alignment, values in alignments.items():
                if "abs_rel" in values and not parts:
                    parts.append(
                        f"{method} abs_rel {values['abs_rel']:.4f} ({alignment}, {split}, left tissue, "
                        f"{values['coverage']:.1%} covered)"
                    )
    for split in ("test", "train"):
        colour = metrics.get("rgb", {}).get(split, {}).get("left", {}).get("tissue", {})
        if "psnr" in colour:
            parts.append(f"PSNR {colour['psnr']:.2f} dB ({split}, left tissue)")
            break
    mesh = metrics.get("mesh", {}).get("raw", {})
    if "chamfer_mm" in mesh:
        parts.append(f"mesh Chamfer {mesh['chamfer_mm']:.3f} mm, F-score {mesh['f_score_1mm']:.4f} at 1 mm")
    if not metrics["metric"]:
        parts.append(ARBITRARY_UNITS)
    return ", ".join(parts) or "nothing to score: neither truth nor renders"


SCORED = ("scene", "matches", "poses", "stereo", "monocular", "prior", "nerf", "render", "filter", "export")
STAGE = Stage("evaluation", run, EvaluationOptions, SCORED, version=5, files=files, check=check)
