"""Turn the protocols' block of metrics.json into tables: Markdown, LaTeX, and aligned text for the console."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.depth_metrics import ERRORS
from evaluation.tables import (
    ABSENT,
    CONSOLE_WIDTH,
    DEPTH_COLUMNS,
    RGB_COLUMNS,
    Block,
    as_latex,
    as_markdown,
    row_head,
)

_Row = tuple[list[str], Mapping[str, Any]]  # its first cells, and the numbers of the others

HEADLINE = "One run under the evaluation protocols of the field"

_YES_NO = {True: "yes", False: "no"}
_FRAMES = {"n_frames": DEPTH_COLUMNS["n_frames"]}
_COLOUR = {
    "psnr": RGB_COLUMNS["psnr"],
    "psnr_tissue": ("PSNR tissue (dB)", "{:.2f}"),
    **{key: RGB_COLUMNS[key] for key in ("ssim", "lpips")},
    "tissue_share": ("tissue", "{:.1%}"),
}
_DEPTH = {
    **{key: DEPTH_COLUMNS[key] for key in ERRORS},
    "coverage": ("covered", "{:.1%}"),
    "kept": ("kept", "{:.1%}"),
    **_FRAMES,
}
_RMSE = {
    "rmse_mm": ("RMSE (mm)", "{:.3f}"),
    "folded": ("folded", "{:.1%}"),
    "coverage": ("covered", "{:.1%}"),
    **_FRAMES,
}
_NOT_ON_CONSOLE = ("tissue", "sq_rel (mm)", "a2", "a3")  # or lines are longer than CONSOLE_WIDTH
_SHORT = {"PSNR tissue (dB)": "on tissue"}


def blocks(protocols: Mapping[str, Mapping[str, Any]], before: str = "") -> list[Block]:
    """Return (title, heads, rows) of the tables that have rows; columns that nothing fills are left out.

    Args:
        protocols: the block of metrics.json.
        before: words in front of every title.
    """
    heads = ["protocol", "comparable"]
    colour: list[_Row] = []
    depth: list[_Row] = []
    rmse: list[_Row] = []
    geometry: list[_Row] = []
    for name, scores in protocols.items():
        row = [name, _YES_NO[scores["comparable"]]]
        if "psnr_of" in scores:
            count = scores.get("n_colour_frames", scores["n_frames"])
            colour.append(([*row, scores["psnr_of"], str(count)], scores))
        for method, values in scores.get("depth", {}).items():
            comparable = scores["comparable"] and values.get("comparable", True)
            (rmse if "rmse_mm" in values else depth).append(([name, _YES_NO[comparable], method], values))
        if "geometry_mm" in scores:
            geometry.append(([*row, f"{scores['geometry_mm']:.3f}"], {}))
    wanted: list[tuple[str, list[str], list[_Row], dict[str, tuple[str, str]]]] = [
        ("Colour of renders", [*heads, "PSNR of", "frames"], colour, _COLOUR),
        ("Depth", [*heads, "method"], depth, _DEPTH),
        ("Depth of held-out renders", [*heads, "method"], rmse, _RMSE),
        ("Geometry", [*heads, "truth to vertices (mm)"], geometry, {}),
    ]
    return [_block(before + title, names, rows, columns) for title, names, rows, columns in wanted if rows]


def _block(title: str, heads: list[str], rows: list[_Row], columns: Mapping[str, tuple[str, str]]) -> Block:
    used = {key: column for key, column in columns.items() if any(key in values for _, values in rows)}
    cells = [
        words + [pattern.format(values[key]) if key in values else ABSENT for key, (_, pattern) in used.items()]
        for words, values in rows
    ]
    return title, heads + [name for name, _ in used.values()], cells


def remarks(record: Mapping[str, Any]) -> list[str]:
    """Return the sentences under the tables: split and frames of each, what is missing, what was refused."""
    lines = ["The left eye alone; what each protocol does, and what raises or lowers it: docs/protocols.md."]
    missing: dict[tuple[str, str], list[str]] = {}
    for name, scores in record["protocols"].items():
        lines.append(f"{name}: {scores['split']}; frames: {scores['n_frames']}.")
        lines += [f"{name}: not comparable, since {doubt}." for doubt in scores.get("doubts", [])]
        poor = [method for method, values in scores.get("depth", {}).items() if "comparable" in values]
        if poor:
            lines.append(f"{name}: {', '.join(poor)} not comparable, since depth that it asks for is missing.")
        for key, why in scores.get("left_out", {}).items():
            missing.setdefault((key, why.removeprefix("no LPIPS, since ")), []).append(name)
    lines += [f"No {key} in {', '.join(names)}, since {why}." for (key, why), names in missing.items()]
    lines += [f"{name}: refused. {why[:1].upper()}{why[1:]}." for name, why in record["protocols_refused"].items()]
    return lines


def markdown(record: Mapping[str, Any]) -> str:
    """Return `protocols.md`."""
    return as_markdown(HEADLINE, blocks(record["protocols"]), remarks(record))


def latex(record: Mapping[str, Any]) -> str:
    """Return `protocols.tex`."""
    return as_latex(blocks(record["protocols"], f"{HEADLINE}: "), remarks(record))


def console(record: Mapping[str, Any]) -> str:
    """Return the tables without some columns, aligned, and the remarks; 100 columns wide."""
    lines: list[str] = []
    for title, heads, rows in blocks(record["protocols"]):
        lines += [title, *_aligned(heads, rows), ""]
    for line in remarks(record):
        lines += textwrap.wrap(line, CONSOLE_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    columns = [
        ([_SHORT.get(name, name), *cells], "<" if row_head(name) else ">")
        for name, *cells in zip(heads, *rows, strict=True)
        if name not in _NOT_ON_CONSOLE
    ]
    padded = [[f"{cell:{side}{max(map(len, cells))}}" for cell in cells] for cells, side in columns]
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def write_tables(out: Path, record: Mapping[str, Any]) -> None:
    """Write `protocols.md` and `protocols.tex`."""
    (out / "protocols.md").write_text(markdown(record), encoding="utf-8")
    (out / "protocols.tex").write_text(latex(record), encoding="utf-8")
