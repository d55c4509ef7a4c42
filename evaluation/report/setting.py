"""The report's last sections: time and memory of each stage, the options that made it, the versions in use."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

from evaluation.report.html import absent, folded, listed, percent, table, text
from evaluation.report.run import Run
from evaluation.right_eye import BLOCK as RIGHT_EYE
from utils.options import stamped

_PACKAGES = (
    *("specula", "torch", "pycolmap", "opencv-contrib-python-headless", "numpy", "scipy", "numba"),
    *("safetensors", "pillow", "transformers", "kornia"),
)


def time_body(run: Run) -> str:
    """Return a bar a stage: its seconds, and the memory that the process had reached by its end."""
    seconds = {str(name): float(value) for name, value in run.metrics.get("runtime_s", {}).items()}
    if not seconds:
        return absent("The stages keep no times.")
    longest, total = max(max(seconds.values()), 1e-9), sum(seconds.values())
    rows = ""
    for name, value in seconds.items():
        memory = run.stamps.get(name, {}).get("peak_memory_mb") or (
            run.metrics.get("peak_memory_mb") if name == "evaluation" else None
        )
        skipped = " skipped" if name in run.skipped else ""
        rows += (
            f'<tr class="{skipped.strip()}"><th scope="row">{text(name)}</th><td class="long">'
            f'<i class="time" style="width:{100 * value / longest:.2f}%"></i></td>'
            f'<td class="number">{"skipped" if skipped else f"{value:.1f} s"}</td>'
            f'<td class="number">{percent(value / total, 0) if total else ""}</td>'
            f'<td class="number">{f"{memory:.0f}" if memory else "–"}</td></tr>'
        )
    heads = '<th scope="col">Stage</th><th scope="col"></th>' + "".join(
        f'<th scope="col" class="number">{head}</th>' for head in ("Time", "Share", "Memory so far, MiB")
    )
    end = f"In all {total:.1f} s; at most {float(run.metrics.get('peak_memory_mb', 0)):.0f} MiB of memory."
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table class="times">{inner}</table></div><p>{text(end)}</p>'


def options_body(run: Run) -> str:
    """Return the options of every stage as its stamp keeps them, folded."""
    parts = []
    own = {"evaluation": {"options": stamped(run.options)}}
    for name, stamp in {**run.stamps, **own}.items():
        options = stamp.get("options", {})
        rows = [[key, _shown(value)] for key, value in options.items()]
        body = table(["option", "value"], rows, words=2) if rows else absent("no options that change its result")
        what = run.skipped[name] if name in run.skipped else str(stamp.get("summary", ""))
        parts.append(folded(f"{name} – {what}" if what else name, body))
    return "".join(parts) if parts else absent("The stages keep no options.")


def versions() -> Mapping[str, str]:
    """Return the versions of Python, the system and the packages here; packages that are not here are left out."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions_body() -> str:
    """Return the versions as a table."""
    rows = [[name, value] for name, value in versions().items()]
    return table(["package", "version"], rows, words=2)


def notes_body(run: Run) -> str:
    """Return warnings, what was skipped and why, and the notes of the scores."""
    warnings = [str(line) for line in run.pose_report.get("warnings", [])]
    warnings += [line for line in run.warnings() if not any(line.endswith(known) for known in warnings)]
    warnings += [f"scene: {line}" for line in run.frames.get("checks", []) if not str(line).startswith("[ok]")]
    notes = [str(note) for note in run.metrics.get("notes", []) if not str(note).startswith("stage ")]
    if RIGHT_EYE in run.metrics:
        notes.append(str(run.metrics[RIGHT_EYE]["statement"]))
    if "lpips_note" in run.metrics:
        notes.append(str(run.metrics["lpips_note"]))
    skipped = [f"{name}: {reason}" for name, reason in run.skipped.items()]
    parts = []
    for title, lines, none in (
        ("Warnings", list(dict.fromkeys(warnings)), "No stage had a warning."),
        ("Skipped stages", skipped, "No stage was skipped."),
        ("How to read the numbers", notes, "There is nothing to add."),
    ):
        parts.append(f"<h3>{title}</h3>" + (listed(lines) if lines else absent(none)))
    return "".join(parts)


def _shown(value: object) -> str:
    if value is None or value == "":
        return "–"
    return " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
