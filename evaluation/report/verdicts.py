"""What is good in a run and what is not, in words: figures, each with the limits that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evaluation.report.confidence import honesty
from evaluation.report.html import percent, text
from evaluation.report.pixels import Pixels, tissue_covered
from evaluation.report.run import Run, read_table
from evaluation.scores import DEPTH_FOLDERS
from utils.artifacts import read_json
from utils.scene_motion import read_motion

State = Literal["good", "fair", "poor", "open"]
_MARKS = {"good": "●", "fair": "▲", "poor": "■", "open": "–"}
_WORDS = {"good": "good", "fair": "look", "poor": "poor", "open": "not known"}


@dataclass(frozen=True)
class Verdict:
    """One thing that is judged: what was found, and the rule behind the state."""

    state: State
    what: str
    found: str
    rule: str


def judge(value: float, good: float, fair: float) -> State:
    """Return the state of a value; the better end is where `good` lies, seen from `fair`."""
    if not np.isfinite(value):
        return "open"
    sign = 1.0 if good >= fair else -1.0
    return "good" if sign * (value - good) >= 0 else "fair" if sign * (value - fair) >= 0 else "poor"


def verdicts(run: Run, pixels: Pixels | None) -> list[Verdict]:
    """Return everything that can be judged of a run, and what cannot, with its reason."""
    found = [_scale(run), *_motion(run), *_placed(run), _calibration(run), _sources(run), *_depth(run, pixels)]
    found += [*_mesh(run), _colour(run)]
    judged = honesty(pixels)
    if judged is not None:
        state = judge(abs(float(np.log(max(judged.factor, 1e-9)))), float(np.log(2)), float(np.log(3)))
        worse = [state, judge(judged.beyond_3, 0.05, 0.2)]
        state = next(one for one in ("poor", "fair", "good") if one in worse)
        rule = "good: within a factor of 2 and 5 % beyond three sigma; look: within 3 and 20 %"
        words = f"{judged.words}; {percent(judged.beyond_3)} beyond three sigma"
        found.append(Verdict(state, "Confidence", words, rule))
    return found


def mean_of(run: Run, block: str, key: str, *path: str) -> float:
    """Return a score of the judged split, mean over the eyes; NaN where there is none."""
    values = []
    for side in run.scene.sides:
        inner: Any = run.metrics.get(block, {})
        for word in (*path, run.split, side, "tissue"):
            inner = inner.get(word, {})
        inner = inner.get(run.alignment, {}) if block == "depth" else inner
        values.append(inner.get(key, float("nan")))
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def table_of(found: Sequence[Verdict]) -> str:
    """Return the verdicts as an HTML table: a mark of its own shape and colour, and words, for each."""
    rows = "".join(
        f'<tr><td class="state {one.state}"><span aria-hidden="true">{_MARKS[one.state]}</span> '
        f'{_WORDS[one.state]}</td><th scope="row">{text(one.what)}</th><td>{text(one.found)}</td>'
        f'<td class="rule">{text(one.rule)}</td></tr>'
        for one in found
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("State", "What", "Found", "Judged by"))
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="verdicts">{inner}</table></div>'


def sentence(found: Sequence[Verdict]) -> str:
    """Return the verdicts in one sentence."""
    names = {state: [one.what.lower() for one in found if one.state == state] for state in _MARKS}
    parts = []
    if names["poor"]:
        parts.append(f"Poor: {_and(names['poor'])}.")
    if names["fair"]:
        parts.append(f"To be looked at: {_and(names['fair'])}.")
    if names["good"]:
        parts.append(f"Good: {_and(names['good'])}.")
    if names["open"]:
        parts.append(f"Not known: {_and(names['open'])}.")
    return " ".join(parts)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _scale(run: Run) -> Verdict:
    how = str(
        run.pose_report.get("scale", "from the calibrated pair" if run.metric else "nothing tells the scale")
    )
    if run.metric:
        return Verdict("good", "Scale", f"lengths are millimetres ({how})", "good: metric")
    return Verdict("fair", "Scale", f"lengths are {run.unit} ({how})", "look: no length may be read as mm")


def _motion(run: Run) -> list[Verdict]:
    """Judge whether a static field was the right thing to make of the sequence."""
    rule = "good: the camera moves, the tissue does not; look: the camera stands, or no field was made"
    motion = read_motion(run.root / "poses")
    if not motion:
        return []
    bad: State = "poor" if motion["tissue"] == "moves" and "nerf" in run.folders else "fair"
    state: State = "open" if motion["camera"] == "unknown" else bad if motion["warning"] else "good"
    return [Verdict(state, "Static field", motion["warning"] or motion["seen"], rule)]


def _placed(run: Run) -> list[Verdict]:
    report = run.pose_report
    rule = "good: all; look: 90 % or more"
    if not report:
        return [Verdict("open", "Registration", run.skipped.get("poses", "no report of the poses"), rule)]
    placed, frames = int(report["n_registered"]), int(report["n_frames"])
    missing = [str(name) for name in report.get("not_placed", [])]
    words = f"{placed} of {frames} frames placed" + (f"; not placed: {_few(missing)}" if missing else "")
    found = [Verdict(judge(placed / max(frames, 1), 1.0, 0.9), "Registration", words, rule)]
    pixels = report.get("reprojection_px")
    rule = "good: 1 px or less; look: 2 px or less"
    if isinstance(pixels, (int, float)) and np.isfinite(pixels):
        found.append(Verdict(judge(pixels, 1.0, 2.0), "Reprojection", f"{pixels:.2f} px (mean)", rule))
    return found


def _calibration(run: Run) -> Verdict:
    """Judge the checks of calibration files, and what the matches say about them."""
    lines = [str(line) for line in run.frames.get("checks", [])]
    bad = [line for line in lines if not line.startswith("[ok]")]
    path = run.folders["matches"] / "checks.json" if "matches" in run.folders else None
    matched = read_json(path) if path is not None and path.exists() else []
    bad += [
        f"{check['check']}: {check['found']}" for check in matched if check["verdict"] not in ("good", "unknown")
    ]
    count, rule = len(lines) + len(matched), "good: every check passes"
    if not count:
        return Verdict("open", "Calibration", "no checks were kept", rule)
    if bad:
        return Verdict("fair", "Calibration", f"{len(bad)} of {count} checks do not pass: {'; '.join(bad)}", rule)
    rows = next((check["found"] for check in matched if check["check"].startswith("rows")), "")
    return Verdict("good", "Calibration", f"{count} of {count} checks pass" + (f"; {rows}" if rows else ""), rule)


def _sources(run: Run) -> Verdict:
    """Judge whether each source of depth has the scale of the poses."""
    rule = "good: within 2 %; look: within 5 %"
    path = run.folders["prior"] / "alignment.csv" if "prior" in run.folders else None
    rows = read_table(path) if path is not None and path.exists() else []
    scales = {
        row["source"]: float(row["scale"]) for row in rows if row["source"] != "monocular" and row.get("scale")
    }
    if not scales:
        reason = run.skipped.get("prior") or run.skipped.get("poses") or "no source was compared with the poses"
        return Verdict("open", "Depth against poses", reason, rule)
    worst = max(abs(scale - 1.0) for scale in scales.values())
    words = ", ".join(f"{name} depth × {scale:.4f}" for name, scale in scales.items())
    return Verdict(judge(worst, 0.02, 0.05), "Depth against poses", f"{words} would fit the poses' points", rule)


def _depth(run: Run, pixels: Pixels | None) -> list[Verdict]:
    rule = "good: 1 % or less; look: 3 % or less"
    outdated = run.outdated(DEPTH_FOLDERS[run.method]) if run.method else None
    if outdated:
        return [Verdict("open", "Depth", outdated, rule), *_covered(run)]
    if not run.metrics.get("depth") or run.method is None:
        reason = next((note for note in run.metrics.get("notes", []) if note.startswith("no truth")), None)
        reason = reason or run.skipped.get("prior", "no depth was scored")
        return [Verdict("open", "Depth", reason, rule), *_covered(run)]
    error, covered = (mean_of(run, "depth", key, run.method) for key in ("abs_rel", "coverage"))
    if not np.isfinite(covered):
        return [Verdict("open", "Depth", f"{run.judged} have no truth", rule), *_covered(run)]
    scaled = "" if run.metric else " after one median scale"
    words = f"mean error {percent(error, 2)} of the depth{scaled}" if np.isfinite(error) else "no valid pixel"
    if pixels is not None:
        words += f"; within 1 % on {percent(share_within(pixels, 0.01))} of the tissue, within 2 % on "
        words += percent(share_within(pixels, 0.02))
    return [
        Verdict(judge(error, 0.01, 0.03), "Depth", words, rule),
        _coverage(covered, f"{percent(covered)} of the tissue with known truth has depth"),
    ]


def _covered(run: Run) -> list[Verdict]:
    """Judge how much of the tissue has depth at all, where there is no truth to compare with."""
    covered = tissue_covered(run)
    return [] if covered is None else [_coverage(covered, f"{percent(covered)} of the tissue has depth")]


def _coverage(covered: float, words: str) -> Verdict:
    return Verdict(judge(covered, 0.98, 0.9), "Coverage", words, "good: 98 % or more; look: 90 % or more")


def _mesh(run: Run) -> list[Verdict]:
    """Judge the mesh where it was compared with a true surface."""
    rule = "good: F-score 0.95 or more; look: 0.8 or more"
    outdated = run.outdated("export")
    if outdated:
        return [Verdict("open", "Mesh", outdated, rule)]
    scores = run.metrics.get("mesh", {}).get("raw", {})
    if "chamfer_mm" not in scores or "f_score_1mm" not in scores:
        return []
    value = scores["f_score_1mm"]
    words = f"Chamfer distance {scores['chamfer_mm']:.2f} mm, F-score {value:.3f} at 1 mm"
    return [Verdict(judge(value, 0.95, 0.8), "Mesh", words, rule)]


def share_within(pixels: Pixels, limit: float) -> float:
    """Return the share of pooled pixels within a relative limit of the truth; unknown ones are not."""
    return float(np.mean(np.nan_to_num(pixels.relative_error(pixels.final_mm), nan=np.inf) <= limit))


def _colour(run: Run) -> Verdict:
    rule = "good: 30 dB or more; look: 25 dB or more"
    value = mean_of(run, "rgb", "psnr")
    if not np.isfinite(value):
        reason = run.outdated("render") or run.skipped.get("render", "nothing was rendered")
        return Verdict("open", "Colour", reason, rule)
    training = _training_psnr(run.metrics, run.scene.sides)
    gap = f"; training frames {training:.1f} dB" if run.scene.test and np.isfinite(training) else ""
    words = f"PSNR {value:.1f} dB on tissue of {run.judged}{gap}"
    return Verdict(judge(value, 30.0, 25.0), "Colour", words, rule)


def _training_psnr(metrics: Mapping[str, Any], sides: Sequence[str]) -> float:
    train = metrics.get("rgb", {}).get("train", {})
    values = [train[side]["tissue"]["psnr"] for side in sides if "psnr" in train.get(side, {}).get("tissue", {})]
    return float(np.mean(values)) if values else float("nan")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
