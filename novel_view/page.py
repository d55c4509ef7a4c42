"""The side-by-side page of novel views: render, sample, after SDS, nearest real view, difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from novel_view.completion import GENERATED, NOTHING, REAL
from utils.page_pieces import picture, text

Picture = NDArray[np.uint8]
TINTS = {REAL: (40, 220, 90), GENERATED: (255, 0, 255)}
FULL_SCALE = 64  # levels of 255 that the difference shows in white
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:120rem;padding:0 1rem;color:#222;"
    "background:#fff}h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .3rem}p{margin:.3rem 0}"
    ".row{display:flex;gap:.5rem;overflow-x:auto}figure{margin:0;flex:1 1 0;min-width:10rem}"
    "img{width:100%;height:auto;display:block;image-rendering:auto}figcaption{font-size:.85rem;color:#444}"
    ".real{color:#0a7d33}.made{color:#a0008f}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}figcaption{color:#bbb}"
    ".real{color:#5fd98a}.made{color:#ff7af0}}"
)


@dataclass(frozen=True, eq=False)
class Shown:
    """One view on the page: what is known of it, and its pictures by caption, in their order."""

    name: str
    words: str
    pictures: dict[str, Picture]


def overlay(rgb: Picture, provenance: Picture) -> Picture:
    """Return a picture (h, w, 3) with what is generated magenta, carried real pixels green, nothing black."""
    shown = rgb.astype(np.float32)
    for kind, tint in TINTS.items():
        shown[provenance == kind] = 0.6 * shown[provenance == kind] + 0.4 * np.array(tint, np.float32)
    shown[provenance == NOTHING] = 0
    return np.rint(shown).astype(np.uint8)


def difference(one: Picture, other: Picture) -> Picture:
    """Return the largest difference over the colours as a picture: black none, white 64 levels of 255 and more."""
    levels = np.abs(one.astype(int) - other).max(-1)
    scaled = np.clip(255 * levels // FULL_SCALE, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def compose(record: dict[str, Any], views: list[Shown]) -> str:
    """Return the page."""
    rows = "".join(_row(view) for view in views)
    title = f"Views beyond what was seen: {record['run']}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{text(title)}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{text(title)}</h1>{_lead(record)}{rows}</body></html>\n"
    )


def _lead(record: dict[str, Any]) -> str:
    sds = record["sds"]
    after = (
        f"After SDS: the field itself after {sds['steps']} steps; its colour loss on real pixels went from "
        f"{sds['real_pixels_before']:.5f} to {sds['real_pixels_after']:.5f}."
        if sds
        else "No SDS was asked for (--sds)."
    )
    return (
        f"<p>Prior: {text(record['prior'])}. Seen tissue is rendered from the field; "
        '<span class="made">what no training image shows is generated</span> (magenta in the last picture'
        f"{', <span class=real>carried real pixels green</span>' if record['keep'] == 'real' else ''}). "
        "Generated pixels are no measurement: their depth is unknown in the maps, and nothing of them enters the "
        f"run's depth, confidence, mesh or scores.</p><p>{text(after)}</p>"
    )


def _row(view: Shown) -> str:
    figures = "".join(
        f"<figure>{picture(image, f'{view.name}: {caption}', exact=False)}<figcaption>{text(caption)}</figcaption>"
        "</figure>"
        for caption, image in view.pictures.items()
    )
    return f'<h2>{text(view.name)}</h2><p>{text(view.words)}</p><div class="row">{figures}</div>'
