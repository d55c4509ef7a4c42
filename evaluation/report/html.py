"""Small pieces of HTML that every section of the report page is made of; whatever comes from files is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from utils.page_pieces import data_uri as data_uri
from utils.page_pieces import picture as picture
from utils.page_pieces import text as text


@dataclass(frozen=True)
class Section:
    """One section of the page: its anchor, its title, one sentence under the title, and its HTML."""

    anchor: str
    title: str
    lead: str
    body: str


def percent(share: float, digits: int = 1) -> str:
    """Return a share as percent; the sign never goes to a line of its own."""
    return f"{100 * share:.{digits}f}\u00a0%"


def absent(reason: str) -> str:
    """Return the words that stand where something could not be shown."""
    return f'<p class="absent"><span aria-hidden="true">–</span> {text(reason)}</p>'


def listed(lines: Sequence[str]) -> str:
    """Return a list of plain lines."""
    return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int, caption: str = "") -> str:
    """Return a table of plain cells.

    Args:
        heads: names of the columns.
        rows: their cells.
        words: how many columns on the left hold words; the others hold numbers and stand to the right.
        caption: what the table shows.
    """
    kinds = ["" if index < words else ' class="number"' for index in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{text(name)}</th>' for kind, name in zip(kinds, heads, strict=True))
    body = ""
    for before, row in zip([None, *rows], rows, strict=False):
        first = before is not None and len(heads) > 2 and before[0] != row[0]
        cells = "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        body += f'<tr class="apart">{cells}</tr>' if first else f"<tr>{cells}</tr>"
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    slim = ' class="slim"' if len(heads) == 2 else ""
    inner = f"{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table{slim}>{inner}</table></div>'


def _cell(cell: str) -> str:
    """Return a cell; what follows ± stands under it, or tables of means and arms are wider than the page."""
    mean, sign, arm = cell.partition(" ± ")
    return text(mean) + (f"<small>± {text(arm)}</small>" if sign else "")


def figure(body: str, caption: str, kind: str = "") -> str:
    """Return a figure around ready HTML; the caption is plain words: what is seen, in which unit."""
    return f'<figure class="{kind}">{body}<figcaption>{text(caption)}</figcaption></figure>'


def folded(title: str, body: str) -> str:
    """Return ready HTML that a click unfolds."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"
