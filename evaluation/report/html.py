"""Small pieces of HTML that every section of the report page is made of; whatever comes from files is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_PHOTO_QUALITY = 86


@dataclass(frozen=True)
class Section:
    """One section of the page: its anchor, its title, one sentence under the title, and its HTML."""

    anchor: str
    title: str
    lead: str
    body: str


def text(value: object) -> str:
    """Return a value as text that HTML shows and never obeys."""
    return html.escape(str(value), quote=True)


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


def data_uri(image: NDArray[np.uint8], *, exact: bool) -> str:
    """Return an image as a WebP data URI.

    Args:
        image: (h, w, 3) RGB or (h, w, 4) RGB and opacity.
        exact: lossless, for maps whose colours are read against a colour bar; photos need not be.
    """
    order = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    quality = 101 if exact else _PHOTO_QUALITY  # OpenCV: above 100 is lossless
    done, encoded = cv2.imencode(".webp", cv2.cvtColor(image, order), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError("this OpenCV cannot write WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def picture(image: NDArray[np.uint8], alternative: str, *, exact: bool, kind: str = "") -> str:
    """Return an image, embedded; `alternative` is read to those who cannot see it."""
    height, width = image.shape[:2]
    return (
        f'<img class="{kind}" src="{data_uri(image, exact=exact)}" alt="{text(alternative)}" '
        f'width="{width}" height="{height}" decoding="async">'
    )
