"""Text for LaTeX: special characters written so that they print, and rows of tables."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "±": r"$\pm$",
    "−": r"$-$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}


def escape(text: str) -> str:
    """Return text whose special characters LaTeX prints as they are."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def table_row(cells: Sequence[str]) -> str:
    r"""Return cells as a row of a table: `a & b \\`."""
    return " & ".join(escape(cell) for cell in cells) + r" \\"
