r"""Floating tables for LaTeX, as `\usepackage{booktabs}` sets them."""

from __future__ import annotations

from collections.abc import Sequence

from utils.latex import escape


def booktabs(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], places: str) -> list[str]:
    """Return the lines of one table with its caption, a rule wherever the first column changes.

    Args:
        caption: plain words.
        heads: names of the columns.
        rows: their cells, plain words.
        places: a letter a column, l or r.
    """
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{places}}}", r"\toprule", _row(heads), r"\midrule"]
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and before[0] != row[0]:
            lines.append(r"\midrule")
        lines.append(_row(row))
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(_cell(cell) for cell in cells) + r" \\"


def _cell(cell: str) -> str:
    """Return a cell; what follows ± is set small, or a table of means and arms is wider than a page."""
    mean, sign, arm = cell.partition(" ± ")
    return escape(mean) + (rf"{{\scriptsize\,$\pm$\,{escape(arm)}}}" if sign else "")
