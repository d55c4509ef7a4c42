"""A picture of a comparison: the difference of every frame, its mean, and the mean's interval."""

from __future__ import annotations

import html

import numpy as np

from evaluation.bootstrap import longer_arm
from evaluation.comparison import Compared, Comparison
from evaluation.paired import RISING, Difference

_DRAWN = ("abs_rel", "psnr")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 150, 92, 30, 22
_BETTER, _WORSE, _INK, _SOFT, _BAND = "#0068a8", "#c25a00", "#1d2428", "#5c676d", "#e9e4d6"


def strips(comparison: Comparison) -> str:
    """Return an SVG: a strip for abs_rel and PSNR of what changed; a dot is blue where the second is better."""
    drawn = [
        (pair, one) for pair in comparison.compared for one in pair.shown if one.metric in _DRAWN and one.changed
    ]
    body = "".join(_strip(pair, one, index * _HEIGHT) for index, (pair, one) in enumerate(drawn))
    size = f'width="{_WIDTH}" height="{max(len(drawn), 1) * _HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{body}</svg>\n'
    )


def _strip(pair: Compared, one: Difference, top: float) -> str:
    differences = one.second - one.first
    reach = 1.1 * max(float(np.abs(differences).max()), longer_arm(0.0, one.interval or (0.0, 0.0)))
    low, high = top + _HEIGHT - _BOTTOM, top + _TOP

    def row(value: float) -> float:
        return low - (value / reach + 1.0) / 2.0 * (low - high)

    step = (_WIDTH - _LEFT - 24) / max(len(one.frames) - 1, 1)
    sign = 1.0 if one.metric in RISING else -1.0
    better = "more" if sign > 0 else "less"
    title = f"{one.place[0]} {one.metric}: {pair.second} − {pair.first}, {better} is better"
    parts = [_text(_LEFT, top + 18, title, _INK)]
    if one.interval is not None:
        ends = row(one.interval[1]), row(one.interval[0])
        parts.append(_box(ends[0], max(ends[1] - ends[0], 1.0)))
    parts += [_line(row(0.0), _SOFT, 'stroke-dasharray="3 3"'), _line(row(one.difference), _INK, "")]
    for value in (reach / 1.1, 0.0, -reach / 1.1):
        parts.append(_text(_LEFT - 8, row(value) + 4, f"{value:+.3g}" if value else "0", _SOFT, "end"))
    every = -(-len(one.frames) // 24)
    for index, (name, value) in enumerate(zip(one.frames, differences, strict=True)):
        column = _LEFT + 12 + index * step
        colour = _BETTER if sign * value > 0 else _WORSE if sign * value < 0 else _SOFT
        parts.append(f'<circle cx="{column:.1f}" cy="{row(value):.1f}" r="3.2" fill="{colour}"/>')
        if index % every == 0:
            parts.append(_text(column, low + 16, name, _SOFT, "middle"))
    return "".join(parts)


def _text(column: float, row: float, words: str, colour: str, anchor: str = "start") -> str:
    place = f'x="{column:.1f}" y="{row:.1f}" fill="{colour}" text-anchor="{anchor}"'
    return f"<text {place}>{html.escape(words)}</text>"


def _line(row: float, colour: str, more: str) -> str:
    return f'<path d="M{_LEFT} {row:.1f}H{_WIDTH - 12}" stroke="{colour}" {more}/>'


def _box(top: float, height: float) -> str:
    place = f'x="{_LEFT}" y="{top:.1f}" width="{_WIDTH - 12 - _LEFT}" height="{height:.1f}"'
    return f'<rect {place} fill="{_BAND}"/>'
