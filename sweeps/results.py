"""Read what the runs of a sweep have reached, and write it down: one line a run."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.plan import Run
from utils.artifacts import read_json
from utils.errors import InputError
from utils.stages import finished, skipped

SCORES = ("depth", "depth_sources", "rgb", "mesh", "poses", "protocols", "right_eye_held_out")


@dataclass(frozen=True)
class Figure:
    """A score that tables show: where in metrics.json it lies ({} stand for split and alignment)."""

    title: str
    path: tuple[str, ...]
    pattern: str


_TISSUE = ("{split}", "left", "tissue")
FIGURES = {
    "prior_abs_rel": Figure("prior abs_rel", ("depth", "prior", *_TISSUE, "{alignment}", "abs_rel"), ".4f"),
    "nerf_abs_rel": Figure("field abs_rel", ("depth", "nerf", *_TISSUE, "{alignment}", "abs_rel"), ".4f"),
    "abs_rel": Figure("filter abs_rel", ("depth", "filter", *_TISSUE, "{alignment}", "abs_rel"), ".4f"),
    "rmse": Figure("filter rmse (mm)", ("depth", "filter", *_TISSUE, "{alignment}", "rmse"), ".3f"),
    "psnr": Figure("PSNR (dB)", ("rgb", *_TISSUE, "psnr"), ".2f"),
    "ssim": Figure("SSIM", ("rgb", *_TISSUE, "ssim"), ".4f"),
    "lpips": Figure("LPIPS", ("rgb", *_TISSUE, "lpips"), ".4f"),
    "chamfer_mm": Figure("Chamfer (mm)", ("mesh", "raw", "chamfer_mm"), ".3f"),
}


@dataclass(frozen=True)
class Result:
    """What has become of a run.

    Args:
        run: the run.
        state: done, failed, waiting, or a stage that is being made.
        reason: why it failed, or has no scores.
        figures: key of `FIGURES` -> value, as far as there are any.
        metrics: its metrics.json; empty without one.
    """

    run: Run
    state: str
    reason: str
    figures: Mapping[str, float]
    metrics: Mapping[str, Any]

    @property
    def seconds(self) -> float | None:
        """How long all its stages took, shared ones included; None where it is not known."""
        runtime = self.metrics.get("runtime_s")
        return float(sum(runtime.values())) if runtime else None


def read_result(run: Run, state: str, reason: str) -> Result:
    """Read a run's scores where its evaluation is the one that was asked for."""
    folder = run.folder / "evaluation"
    if "evaluation" not in run.chosen or not finished(folder, run.hashes["evaluation"]):
        return Result(run, state, reason, {}, {})
    why = skipped(folder)
    try:
        metrics = {} if why else dict(read_json(folder / "metrics.json"))
    except (InputError, FileNotFoundError) as error:
        return Result(run, state, reason or " ".join(str(error).split()), {}, {})
    return Result(run, state, reason or why or "", figures(metrics), metrics)


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures that a run has, of held-out frames where there are any."""
    words = {"split": split_of(metrics), "alignment": "raw" if metrics.get("metric") else "median_scaled"}
    found: dict[str, float] = {}
    for key, figure in FIGURES.items():
        inner: Any = metrics
        for word in figure.path:
            inner = inner.get(word.format(**words)) if isinstance(inner, Mapping) else None
        if isinstance(inner, int | float):
            found[key] = float(inner)
    return found


def split_of(metrics: Mapping[str, Any]) -> str:
    """Return `test` where anything of held-out frames was scored, `train` otherwise."""
    methods = [*metrics.get("depth", {}).values(), metrics.get("rgb", {})]
    return "test" if any("test" in method for method in methods) else "train"


def write_csv(path: Path, results: Sequence[Result], flags: Sequence[str]) -> None:
    """Write one line a run: setting, state, cost, figures, and every score of metrics.json by its dotted name."""
    leaves = [dict(_leaves(result.metrics)) for result in results]
    names = sorted({name for one in leaves for name in one})
    used = [key for key in FIGURES if any(key in result.figures for result in results)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", *flags, "state", "reason", "seconds", "peak_memory_mb", "folder", *used, *names])
    for result, scores in zip(results, leaves, strict=True):
        setting = dict(result.run.setting)
        seconds = "" if result.seconds is None else f"{result.seconds:.2f}"
        memory = str(result.metrics.get("peak_memory_mb", ""))
        row = [result.run.scene, *(setting.get(flag, "") for flag in flags), result.state, result.reason]
        row += [seconds, memory, str(result.run.folder)]
        row += [f"{result.figures[key]:.9g}" if key in result.figures else "" for key in used]
        writer.writerow(row + [f"{scores[name]:.9g}" if name in scores else "" for name in names])
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _leaves(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for block in SCORES:
        if block in metrics:
            yield from _numbers(block, metrics[block])


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
