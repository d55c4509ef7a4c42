"""Write `report.html`: one page that opens offline and shows a run; `python -m evaluation.report RUN` repeats."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evaluation.options import EvaluationOptions
from evaluation.protocols.page import blocks as protocol_blocks
from evaluation.report import setting
from evaluation.report.cameras import cameras_body, frustum_lines
from evaluation.report.confidence import confidence_body
from evaluation.report.frames import frames_body
from evaluation.report.html import Section, absent, figure, percent, table, text
from evaluation.report.pixels import Pixels, pool
from evaluation.report.plot import Line, sequence_chart
from evaluation.report.run import Run, read_run, stamped_options
from evaluation.report.surface import Surface, load_surface, surface_body
from evaluation.report.verdicts import mean_of, sentence, share_within, table_of, verdicts
from evaluation.tables import blocks, row_head
from utils.commands import answer
from utils.errors import InputError
from utils.stages import STAMP, read_stamp

log = logging.getLogger("specula")
_Drawn = TypeVar("_Drawn")

PAGE = "report.html"
_STYLE = Path(__file__).with_name("style.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
# of metrics.json, elsewhere on the page
_SHOWN_BLOCKS = ("depth", "depth_sources", "rgb", "runtime_s", "protocols", "protocols_refused")


def write_report(options: EvaluationOptions, *, out: Path, scene: Path, inputs: Mapping[str, Path]) -> Path:
    """Write the page from the scores in its folder and from the stages' folders; return its path.

    Args:
        options: of the stage `evaluation`.
        out: folder that holds the scores and gets the page.
        scene: folder of the stage `scene`.
        inputs: folders of the other stages by name.
    """
    page = compose(read_run(options, scene, out, inputs))
    partial = out / f"{PAGE}.partial"
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, out / PAGE)
    return out / PAGE


def compose(run: Run) -> str:
    """Return the page as HTML. A section that cannot be drawn says so and leaves the others alone."""
    (pixels, no_pixels), (surface, no_surface) = (
        _try(lambda: pool(run), "the pooled pixels"),
        _try(lambda: load_surface(run), "the surface"),
    )
    where = run.judged
    ratio = pixels.final_ratio if pixels is not None else 1.0
    wanted: list[tuple[str, str, str, Callable[[], str]]] = [
        ("summary", "Summary", "What is good and what is not.", lambda: _summary(run, pixels)),
        ("surface", "Surface", _surface_lead(run), lambda: _surface(run, surface, no_surface)),
        ("frames", "Frames", f"Depth, colour and confidence of {where}.", lambda: frames_body(run, ratio)),
        ("sequence", "Sequence", "One value a frame, on tissue.", lambda: _sequence(run)),
        (
            "confidence",
            "Confidence",
            "Is the stated error the real one?",
            lambda: confidence_body(pixels, no_pixels or _unchecked(run), where),
        ),
        ("cameras", "Cameras", "Where both eyes stood, and what they saw.", lambda: cameras_body(run, surface)),
        ("scores", "All scores", "Mean over frames, on tissue where nothing else is said.", lambda: _scores(run)),
        ("notes", "Notes", "Warnings, what was skipped, what numbers mean.", lambda: setting.notes_body(run)),
        ("time", "Time", "Seconds and memory, stage by stage.", lambda: setting.time_body(run)),
        ("options", "Options", "As each stage's stamp keeps them.", lambda: setting.options_body(run)),
        ("versions", "Versions", "Of what wrote this page.", setting.versions_body),
    ]
    sections = []
    for anchor, title, lead, draw in wanted:
        body, why_not = _try(draw, title)
        sections.append(Section(anchor, title, lead, absent(why_not) if body is None else body))
    return _page(run, sections)


def _try(draw: Callable[[], _Drawn], what: str) -> tuple[_Drawn | None, str]:
    """Return what is drawn, or None, and then why not, in words for the page."""
    try:
        return draw(), ""
    except Exception as error:
        log.warning("evaluation: %s of the report could not be drawn: %s: %s", what, type(error).__name__, error)
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, InputError):
            reason = f"{error.what} ({error.found})"
        return None, f"{what[:1].upper()}{what[1:]} could not be drawn: {reason}"


def _unchecked(run: Run) -> str:
    """Say why nothing can tell whether the stated errors are the real ones."""
    if run.method is None:
        return f"There is no depth whose error could be stated: {run.skipped.get('prior', 'no stage made maps')}."
    if run.lost_data:
        return f"Nothing can tell whether the stated errors are the real ones: {run.lost_data}."
    return "There is no truth for these frames: nothing can tell whether the stated errors are the real ones."


def _surface_lead(run: Run) -> str:
    return "As it was reconstructed; lengths are millimetres." if run.metric else f"Lengths are {run.unit}."


def _surface(run: Run, surface: Surface | None, why_none: str) -> str:
    if why_none:
        return absent(why_none)
    extent = np.ptp(surface.points_world, axis=0) if surface is not None else np.zeros(3)
    return surface_body(run, surface, frustum_lines(run, 0.045 * float(np.linalg.norm(extent))))


def _summary(run: Run, pixels: Pixels | None) -> str:
    found = verdicts(run, pixels)
    cards = "".join(
        f'<div class="card"><b>{text(value)}</b><span>{text(what)}</span></div>'
        for value, what in _cards(run, pixels)
    )
    said = [line for stage in run.changed if (line := run.outdated(stage))]
    said += [run.lost_data] if run.lost_data else []
    warned = "".join(absent(f"{line[:1].upper()}{line[1:]}.") for line in said)
    return (
        f'{warned}<p class="verdict">{text(sentence(found))}</p><div class="cards">{cards}</div>{table_of(found)}'
    )


def _cards(run: Run, pixels: Pixels | None) -> list[tuple[str, str]]:
    """Return the few figures that a reader asks for first."""
    kind, scaled = run.judged, "" if run.metric else ", after one median scale"
    cards = []
    error = mean_of(run, "depth", "abs_rel", run.method) if run.method else float("nan")
    if np.isfinite(error):
        cards.append((percent(error, 2), f"mean depth error, {kind}{scaled}"))
    if pixels is not None:
        cards.append((percent(share_within(pixels, 0.01)), "of their tissue within 1 % of the true depth"))
        millimetres = np.abs(pixels.final_mm - pixels.truth_mm)
        if np.isfinite(millimetres).any():
            cards.append((f"{np.nanmedian(millimetres):.2f} mm", f"median depth error{scaled}"))
    psnr = mean_of(run, "rgb", "psnr")
    if np.isfinite(psnr):
        cards.append((f"{psnr:.1f} dB", f"PSNR on tissue, {kind}"))
    report = run.pose_report
    if report:
        cards.append((f"{report['n_registered']} / {report['n_frames']}", "frames placed"))
    seconds = sum(run.metrics.get("runtime_s", {}).values())
    return [*cards, (f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s", "in all")]


def _sequence(run: Run) -> str:
    """Return the curves of depth error, PSNR and coverage over the frames."""
    if len(run.scene.names) < 2:
        return absent("One frame has no curve; its scores are in the tables.")
    charts = []
    wanted = [
        (run.method or "", "abs_rel", 100.0, "Depth error, % of depth", True),
        ("rgb", "psnr", 1.0, "PSNR, dB", False),
        (run.method or "", "coverage", 100.0, "Coverage, % of tissue", False),
    ]
    for method, key, factor, what, from_zero in wanted:
        lines = [Line(f"{side} eye", side, factor * run.series(method, key, side)) for side in run.scene.sides]
        if key == "abs_rel" and method != "prior":
            lines += [
                Line(f"{side} eye, prior", f"{side} faint", factor * run.series("prior", key, side))
                for side in run.scene.sides
            ]
        lines = [line for line in lines if np.isfinite(line.values).any()]
        flat = key == "coverage" and all(np.nanmin(line.values) >= 99.5 for line in lines)
        if lines and not flat:
            chart = sequence_chart(lines, run.scene.names, run.scene.test, what=what, from_zero=from_zero)
            charts.append(figure(chart, _sequence_caption(run, key)))
    if not charts:
        return absent("No frame has a score: there is neither truth nor a render.")
    return f'<div class="pair">{"".join(charts)}</div>'


def _sequence_caption(run: Run, key: str) -> str:
    if key == "abs_rel":
        scaled = "" if run.metric else ", after one median scale for the whole run"
        return f"Mean |depth / truth - 1| of the {run.method} on tissue{scaled}; lower is better."
    if key == "psnr":
        return "Likeness of render and camera image on tissue; higher is better. Held-out frames should keep up."
    return "Share of the tissue with known truth that has depth."


def _scores(run: Run) -> str:
    """Return every table, those of blocks that this page knows nothing about included."""
    protocols = run.metrics.get("protocols", {})
    tables = [*blocks(run.metrics), *protocol_blocks(protocols, "Other protocols (docs/protocols.md): ")]
    parts = [table(names, rows, words=sum(map(row_head, names)), caption=title) for title, names, rows in tables]
    refused = [[name, why] for name, why in run.metrics.get("protocols_refused", {}).items()]
    if refused:
        parts.append(table(["protocol", "why this run is not scored under it"], refused, words=2))
    for block, values in run.metrics.items():
        if isinstance(values, Mapping) and block not in _SHOWN_BLOCKS:
            rows = [[name, shown] for name, shown in _flat(values)]
            parts += (
                [table(["quantity", "value"], rows, words=1, caption=f"{block}: every number")] if rows else []
            )
    return "".join(parts) if parts else absent("Nothing was scored.")


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return (name, number) of everything in a nested record."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{key} ")
        elif isinstance(value, (bool, str)):
            found.append((f"{before}{key}", {"True": "yes", "False": "no"}.get(str(value), str(value))))
        elif isinstance(value, (int, float)):
            found.append((f"{before}{key}", f"{value:.5g}" if isinstance(value, float) else str(value)))
    return found


def _page(run: Run, sections: Sequence[Section]) -> str:
    links = "".join(f'<a href="#{one.anchor}">{text(one.title)}</a>' for one in sections)
    body = "".join(
        f'<section id="{one.anchor}"><h2><a href="#{one.anchor}">{text(one.title)}</a></h2>'
        f'<p class="lead">{text(one.lead)}</p>{one.body}</section>'
        for one in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(run.name)} – Specula</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body><header><p>Specula</p><h1>{text(run.name)}</h1><p>{text(_about(run))}</p></header>"
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main></body></html>\n'
    )


def _about(run: Run) -> str:
    scene, camera = run.scene, run.scene.rig.left
    eyes = "stereo" if "right" in scene.sides else "left-eye"
    rig = f", baseline {scene.rig.baseline_mm:.2f} mm" if "right" in scene.sides else ""
    plural = "s" if len(scene.names) > 1 else ""
    return (
        f"{len(scene.names)} {eyes} frame{plural} of {camera.width} × {camera.height} px: {len(scene.train)} for "
        f"training, {len(scene.test)} held out{rig}. Lengths are in {run.unit}."
    )


def main(arguments: Sequence[str]) -> int:
    """Write the page of a finished run again; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.report", description="Write a run's report.html again."
    )
    parser.add_argument("run", type=Path, help="folder of a finished run: logs/<expname>")
    root = parser.parse_args(arguments).run
    logging.basicConfig(format="%(message)s")

    def work() -> str:
        options = stamped_options(root / "evaluation")
        names = [name for name in read_stamp(root / "evaluation")["inputs"] if name != "scene"]
        inputs = {name: root / name for name in names if (root / name / STAMP).exists()}
        page = write_report(options, out=root / "evaluation", scene=root / "scene", inputs=inputs)
        return f"{page}: {page.stat().st_size / 1e6:.1f} MB"

    return answer(work)
