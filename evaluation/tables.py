"""Turn metrics.json into tables: Markdown, LaTeX (booktabs), and a compact one for the console."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation import right_eye_table
from evaluation.bootstrap import longer_arm
from evaluation.latex import booktabs
from evaluation.right_eye import BLOCK as RIGHT_EYE
from evaluation.right_eye import TITLE as RIGHT_EYE_TITLE
from utils.types import ARBITRARY_UNITS

CONSOLE_WIDTH = 100
_ARM = 8  # columns of the arm of an interval

METHODS = ("prior", "nerf", "filter")
SPLITS = ("train", "test")
SIDES = ("left", "right")
ALIGNMENTS = {"raw": "raw", "median_scaled": "median-scaled"}
REGIONS = {"full": "full", "tissue": "tissue", "tissue_no_highlight": "tissue, no highlight"}
ABSENT = "–"

Block = tuple[str, list[str], list[list[str]]]  # title, heads, rows

_ROW_HEADS = ("method", "split", "eye", "alignment", "region", "protocol", "comparable", "PSNR of")

DEPTH_COLUMNS = {
    "abs_rel": ("abs_rel", "{:.4f}"),
    "sq_rel": ("sq_rel (mm)", "{:.4g}"),
    "rmse": ("rmse (mm)", "{:.3f}"),
    "rmse_log": ("rmse_log", "{:.4f}"),
    "a1": ("a1", "{:.4f}"),
    "a2": ("a2", "{:.4f}"),
    "a3": ("a3", "{:.4f}"),
    "coverage": ("coverage", "{:.2%}"),
    "n_frames": ("frames", "{:d}"),
}
RGB_COLUMNS = {
    "psnr": ("PSNR (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "lpips": ("LPIPS", "{:.4f}"),
    "n_frames": ("frames", "{:d}"),
}
_MESH_COLUMNS = {
    **{
        f"{name}_{kind}_mm": (f"{name} {words} (mm)", "{:.3f}")
        for name in ("accuracy", "completeness")
        for kind, words in (("mean", "mean"), ("median", "median"), ("p95", "95 %"))
    },
    "chamfer_mm": ("Chamfer (mm)", "{:.3f}"),
    **{f"f_score_{limit}mm": (f"F at {limit} mm", "{:.4f}") for limit in ("0.25", "0.5", "1", "2")},
    "normal_consistency": ("normals", "{:.4f}"),
    "icp_rotation_degrees": ("turned (degrees)", "{:.3f}"),
    "icp_shift_mm": ("shifted (mm)", "{:.3f}"),
}


def depth_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """Yield (method, split, eye, alignment) and the scores on tissue: sources, what is made of them, the rest."""
    for block, method in _places(metrics):
        for split in SPLITS:
            for side in SIDES:
                tissue = _at(metrics, block, method, split, side, "tissue")
                for alignment, words in ALIGNMENTS.items():
                    if alignment in tissue:
                        yield [method, split, side, words], tissue[alignment]


def _places(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where in metrics.json the depth of each method lies, in the order of the tables."""
    sources = [("depth_sources", name) for name in metrics.get("depth_sources", {})]
    return [*sources, *(("depth", name) for name in METHODS)]


def rgb_rows(metrics: Mapping[str, Any]) -> Iterator[tuple[list[str], Mapping[str, Any]]]:
    """Yield (split, eye, region) and the scores of colour, in the order of the table."""
    for split in SPLITS:
        for side in SIDES:
            for region, words in REGIONS.items():
                values = _at(metrics, "rgb", split, side, region)
                if values:
                    yield [split, side, words], values


def _at(metrics: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = metrics
    for word in path:
        inner = inner.get(word, {})
    return inner


def _cells(values: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> list[str]:
    ends = values.get("ci95", {})
    return [
        _with_arm(pattern, values[key], ends.get(key)) if key in values else ABSENT
        for key, (_, pattern) in columns.items()
    ]


def _with_arm(pattern: str, mean: float, ends: Sequence[float] | None) -> str:
    """Return a mean, and after ± the longer arm of its interval, where there is one and its digits show it."""
    arm = pattern.replace(".4g", ".2g").format(longer_arm(mean, ends)) if ends else "0"
    return pattern.format(mean) + (f" ± {arm}" if arm.strip("0.%") else "")


def blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """Return (title, heads, rows) of the tables that have rows; absent columns are left out."""
    depth = [(words, values) for words, values in depth_rows(metrics)]
    rgb = [(words, values) for words, values in rgb_rows(metrics)]
    mesh = [([name], values) for name, values in metrics.get("mesh", {}).items()]
    blocks = []
    for title, heads, rows, columns in (
        ("Depth on tissue", ["method", "split", "eye", "alignment"], depth, DEPTH_COLUMNS),
        ("Mesh against the true surface", ["alignment"], mesh, _MESH_COLUMNS),
        ("Colour of renders", ["split", "eye", "region"], rgb, RGB_COLUMNS),
        (
            f"{RIGHT_EYE_TITLE}: depth on tissue",
            ["method", "split", "alignment"],
            right_eye_table.depth_rows(metrics, ALIGNMENTS),
            DEPTH_COLUMNS,
        ),
        (
            f"{RIGHT_EYE_TITLE}: colour of renders",
            ["split", "region"],
            right_eye_table.rgb_rows(metrics, REGIONS),
            RGB_COLUMNS,
        ),
    ):
        used = {key: column for key, column in columns.items() if any(key in values for _, values in rows)}
        if rows:
            names = heads + [name for name, _ in used.values()]
            blocks.append((title, names, [words + _cells(values, used) for words, values in rows]))
    return blocks


def remarks(metrics: Mapping[str, Any]) -> list[str]:
    """Return the sentences under every table: unit, poses, time and memory, and the notes."""
    lines = ["Lengths are in mm." if metrics["metric"] else f"Lengths are in {ARBITRARY_UNITS}."]
    if "depth" in metrics:
        lines.append(
            "Depth is z-depth; valid = truth known, inside the region, finite positive prediction; coverage = "
            "valid / (truth known, inside the region). Per frame first, then the mean over frames; "
            "median-scaled: one ratio a method for the whole run."
        )
        if not metrics["metric"]:
            lines.append("Median-scaled errors are in the unit of the truth, mm.")
    poses = metrics.get("poses", {})
    if "n_registered" in poses and "n_frames" in poses:
        error = f", reprojection {poses['reprojection_px']:.2f} px" if "reprojection_px" in poses else ""
        lines.append(f"Poses: {poses['n_registered']} of {poses['n_frames']} frames placed{error}.")
    runtime = metrics.get("runtime_s", {})
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in runtime.items())
    lines.append(
        f"Time: {sum(runtime.values()):.1f} s ({listed}); peak memory {metrics['peak_memory_mb']:.0f} MB."
    )
    lines += [metrics[RIGHT_EYE]["statement"]] if RIGHT_EYE in metrics else []
    lines += [_sentence(note) for note in metrics.get("notes", [])]
    if "lpips_note" in metrics:
        lines.append(_sentence(metrics["lpips_note"]))
    if "protocols" in metrics:
        scored, refused = list(metrics["protocols"]), list(metrics["protocols_refused"])
        beside = f"; refused, with the reason, under {', '.join(refused)}" if refused else ""
        lines.append(f"Protocols (protocols.md): scored under {', '.join(scored) or 'none'}{beside}.")
    return lines


def _sentence(note: str) -> str:
    return note if note.endswith(".") else f"{note}."


def markdown_table(metrics: Mapping[str, Any]) -> str:
    """Return the tables and remarks as Markdown."""
    return as_markdown("Evaluation", blocks(metrics), remarks(metrics))


def as_markdown(headline: str, tables: Sequence[Block], below: Sequence[str]) -> str:
    """Return tables, and sentences below them, as Markdown."""
    lines = [f"# {headline}", ""]
    for title, heads, rows in tables:
        words = sum(not row_head(name) for name in heads)
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |"]
        lines += ["|" + "---|" * (len(heads) - words) + "---:|" * words]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += [""]
    return "\n".join([*lines, *(f"- {line}" for line in below)]) + "\n"


def row_head(name: str) -> bool:
    """Whether a column names a row instead of scoring it."""
    return name in _ROW_HEADS


def latex_table(metrics: Mapping[str, Any]) -> str:
    r"""Return the tables for LaTeX (`\usepackage{booktabs}`); the remarks are comments above them."""
    unit = "" if metrics["metric"] else f" ({ARBITRARY_UNITS})"
    return as_latex([(title + unit, heads, rows) for title, heads, rows in blocks(metrics)], remarks(metrics))


def as_latex(tables: Sequence[Block], above: Sequence[str]) -> str:
    r"""Return tables for LaTeX (`\usepackage{booktabs}`), under sentences that are comments."""
    lines = [r"% \usepackage{booktabs}", *(f"% {line}" for line in above)]
    for title, heads, rows in tables:
        places = "".join("l" if row_head(name) else "r" for name in heads)
        lines += booktabs(title, heads, rows, places)
    return "\n".join(lines) + "\n"


def format_console_table(metrics: Mapping[str, Any]) -> str:
    """Return a compact table for the console, 100 columns wide at most."""
    lines: list[str] = []
    if "depth" in metrics:
        lines += [*_console_depth(metrics), ""]
    if "mesh" in metrics:
        lines += [*_console_mesh(metrics["mesh"]), ""]
    if "rgb" in metrics:
        lines += [*_console_rgb(metrics), ""]
    if RIGHT_EYE in metrics:
        lines += [*right_eye_table.console_lines(metrics, _number), ""]
    for line in remarks(metrics):
        lines += textwrap.wrap(line, CONSOLE_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in lines)


def _console_depth(metrics: Mapping[str, Any]) -> Iterator[str]:
    raw = "raw, mm" if metrics["metric"] else f"raw: {ARBITRARY_UNITS}"
    wide = _ARM if any("ci95" in values for _, values in depth_rows(metrics)) else 0
    first, second = (wide, 0) if metrics["metric"] else (0, wide)
    yield f"{'Depth on tissue':25}|{raw:^{39 + first}}|{'one median scale, mm':^{22 + second}}"
    yield (
        f"{'method':9}{'split':7}{'eye':7}  |{'abs_rel':>9}{'±':>{first}.{first}}{'rmse':>9}{'a1':>9}"
        f"{'covered':>10}  |{'abs_rel':>9}{'±':>{second}.{second}}{'rmse':>9}"
    )
    for block, method in _places(metrics):
        for split in SPLITS:
            for side in SIDES:
                tissue = _at(metrics, block, method, split, side, "tissue")
                plain, scaled = tissue.get("raw", {}), tissue.get("median_scaled", {})
                if not tissue:
                    continue
                covered = plain.get("coverage", scaled.get("coverage", 0.0))
                yield (
                    f"{method:9}{split:7}{side:7}  |{_number(plain, 'abs_rel', '.4f'):>9}"
                    f"{_arm_cell(plain, 'abs_rel', '.4f', first)}{_number(plain, 'rmse', '.3f'):>9}"
                    f"{_number(plain, 'a1', '.4f'):>9}{covered:>10.1%}  |{_number(scaled, 'abs_rel', '.4f'):>9}"
                    f"{_arm_cell(scaled, 'abs_rel', '.4f', second)}{_number(scaled, 'rmse', '.3f'):>9}"
                )


def _console_mesh(mesh: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"{'Mesh':6}|{'accuracy, mm':^22}|{'completeness, mm':^22}|{'':9}|{'F-score at':^24}|"
    distances = f"{'mean':>7}{'median':>8}{'95 %':>6} "
    yield f"{'':6}|{distances}|{distances}| Chamfer |{'0.5 mm':>7}{'1 mm':>8}{'2 mm':>8} | normals"
    for name, values in mesh.items():
        cells = [
            f"{_number(values, f'{kind}_mean_mm', '.3f'):>7}{_number(values, f'{kind}_median_mm', '.3f'):>8}"
            f"{_number(values, f'{kind}_p95_mm', '.2f'):>6} "
            for kind in ("accuracy", "completeness")
        ]
        f_scores = "".join(f"{_number(values, f'f_score_{limit}mm', '.4f'):>8}" for limit in ("0.5", "1", "2"))
        yield (
            f"{name:6}|{cells[0]}|{cells[1]}|{_number(values, 'chamfer_mm', '.3f'):>8} |{f_scores[1:]} "
            f"|{_number(values, 'normal_consistency', '.4f'):>8}"
        )


def _console_rgb(metrics: Mapping[str, Any]) -> Iterator[str]:
    wide = _ARM if any("ci95" in values for _, values in rgb_rows(metrics)) else 0
    yield f"{'Colour':25}|{'PSNR, dB':^{32 + wide}}|{'tissue':^18}"
    yield (
        f"{'':9}{'split':7}{'eye':7}  |{'full':>8}{'tissue':>9}{'±':>{wide}.{wide}}{'no highlight':>14} "
        f"|{'SSIM':>9}{'LPIPS':>8}"
    )
    for split in SPLITS:
        for side in SIDES:
            regions = _at(metrics, "rgb", split, side)
            if not regions:
                continue
            tissue = regions.get("tissue", {})
            outside = regions.get("tissue_no_highlight", {})
            yield (
                f"{'':9}{split:7}{side:7}  |{_number(regions.get('full', {}), 'psnr', '.2f'):>8}"
                f"{_number(tissue, 'psnr', '.2f'):>9}{_arm_cell(tissue, 'psnr', '.2f', wide)}"
                f"{_number(outside, 'psnr', '.2f'):>14} "
                f"|{_number(tissue, 'ssim', '.4f'):>9}{_number(tissue, 'lpips', '.4f'):>8}"
            )


def _number(values: Mapping[str, Any], key: str, pattern: str) -> str:
    return format(values[key], pattern) if key in values else ABSENT


def _arm_cell(values: Mapping[str, Any], key: str, pattern: str, width: int) -> str:
    ends = values.get("ci95", {}).get(key) if width else None
    return f"{format(longer_arm(values[key], ends), pattern) if ends else '':>{width}}"
