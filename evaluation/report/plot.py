"""Draw curves of the report page as SVG: scores over a sequence, and what was announced against what happened."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.report.html import percent, text
from utils.types import FloatArray

WIDTH, HEIGHT = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 16, 42
_MOST_LABELS = 12
_MOST_MARKERS = 120


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: its name, its style (a class of the style sheet), and its values; NaN breaks it."""

    title: str
    style: str
    values: FloatArray


@dataclass(frozen=True)
class _Axis:
    """A range of values laid along a stretch of the picture."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, here = self.low, self.high, value
        if self.logarithmic:
            low, high, here = np.log(low), np.log(high), np.log(max(value, 1e-12))
        return float(self.start + (here - low) / max(high - low, 1e-12) * (self.end - self.start))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round values within a range, about `count` of them."""
    rough = max(high - low, 1e-12) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [float(index * step) for index in range(first, last + 1)]


def sequence_chart(
    lines: Sequence[Line], names: Sequence[str], held_out: Collection[str], *, what: str, from_zero: bool
) -> str:
    """Draw curves over the frames of a sequence.

    Args:
        lines: the curves, each with one value a frame.
        names: the frames, in order.
        held_out: the frames that the field never saw: bands behind the curves, and larger marks on them.
        what: the quantity and its unit, written over the vertical axis.
        from_zero: whether the vertical axis begins at 0.
    """
    known = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    low, high = (0.0, float(known.max())) if from_zero else (float(known.min()), float(known.max()))
    margin = 0.08 * max(high - low, 1e-9 * max(abs(high), 1.0), 1e-12)
    rows = _Axis(low if from_zero else low - margin, high + margin, HEIGHT - _BOTTOM, _TOP)
    columns = _Axis(-0.5, len(names) - 0.5, _LEFT, WIDTH - _RIGHT)
    parts = [_bands(columns, rows, names, held_out), _rules(rows), _frame_labels(columns, names)]
    parts += [_curve(line, columns, rows, names, held_out, what) for line in lines]
    parts.append(f'<text class="axis" x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 4}">frame</text>')
    alternative = f"{what} over {len(names)} frames: " + "; ".join(
        f"{line.title} from {np.nanmin(line.values):.4g} to {np.nanmax(line.values):.4g}"
        for line in lines
        if np.isfinite(line.values).any()
    )
    keys = [(line.style, line.title) for line in lines]
    return _drawing(parts, alternative, what) + _legend(keys, "held-out frame" if held_out else "")


def reliability_chart(lines: Sequence[tuple[Line, FloatArray]], *, across: str, what: str) -> str:
    """Draw what happened over what was announced, both logarithmic, with the diagonal where both are equal.

    Args:
        lines: curves and their horizontal positions; all positive.
        across: the announced quantity and its unit.
        what: the observed quantity and its unit.
    """
    values = np.concatenate([np.concatenate([line.values, places]) for line, places in lines])
    known = values[np.isfinite(values) & (values > 0)]
    low, high = float(known.min()) / 1.3, float(known.max()) * 1.3
    columns = _Axis(low, high, _LEFT, WIDTH - _RIGHT, logarithmic=True)
    rows = _Axis(low, high, HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    marks = _decades(low, high)
    parts = [_honest(columns, rows)]
    for value in marks:
        parts.append(_rule(rows.at(value), f"{value:g}"))
        parts.append(_under(columns.at(value), f"{value:g}"))
    for line, places in lines:
        spots = [(columns.at(a), rows.at(b)) for a, b in zip(places, line.values, strict=True) if a > 0 and b > 0]
        path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(spots))
        parts.append(f'<path class="line {line.style}" d="{path}"/>')
        parts += [f'<circle class="mark {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
    parts.append(f'<text class="axis" x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 4}">{text(across)}</text>')
    keys = [(line.style, line.title) for line, _ in lines]
    return _drawing(parts, f"{what} over {across}", what) + _legend([*keys, ("honest", "equal: honest")], "")


def bin_chart(lines: Sequence[Line], shares: FloatArray, edges: FloatArray, *, across: str, what: str) -> str:
    """Draw values over bins, with bars that say how many pixels each bin holds.

    Args:
        lines: curves of one value a bin; NaN where a bin holds too few.
        shares: (n,) share of all pixels in each bin.
        edges: (n + 1,) of the bins.
        across: the quantity that the bins divide.
        what: the quantity of the curves, and its unit.
    """
    known = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    rows = _Axis(0.0, 1.1 * float(known.max()), HEIGHT - _BOTTOM, _TOP)
    columns = _Axis(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    parts = []
    for share, low, high in zip(shares, edges[:-1], edges[1:], strict=True):
        height = share / max(float(shares.max()), 1e-12) * (rows.start - rows.end) * 0.92
        parts.append(
            f'<rect class="share" x="{columns.at(low) + 1:.1f}" y="{rows.start - height:.1f}" '
            f'width="{columns.at(high) - columns.at(low) - 2:.1f}" height="{height:.1f}">'
            f"<title>{low:.1f} to {high:.1f}: {percent(share)} of the pixels</title></rect>"
        )
    parts.append(_rules(rows))
    parts += [_under(columns.at(edge), f"{edge:.1f}") for edge in edges[::2]]
    middles = (edges[:-1] + edges[1:]) / 2
    for line in lines:
        spots = [(columns.at(a), rows.at(b)) for a, b in zip(middles, line.values, strict=True) if np.isfinite(b)]
        path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(spots))
        parts.append(f'<path class="line {line.style}" d="{path}"/>')
        parts += [f'<circle class="mark {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
    parts.append(f'<text class="axis" x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 4}">{text(across)}</text>')
    keys = [(line.style, line.title) for line in lines]
    return _drawing(parts, f"{what} over {across}", what) + _legend([*keys, ("share", "share of pixels")], "")


def _drawing(parts: Sequence[str], alternative: str, title: str) -> str:
    return (
        f'<h4>{text(title)}</h4><svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(alternative)}">{"".join(parts)}</svg>'
    )


def _legend(keys: Sequence[tuple[str, str]], band: str) -> str:
    entries = "".join(f'<span><i class="key {style}"></i>{text(title)}</span>' for style, title in keys)
    entries += f'<span><i class="key band"></i>{text(band)}</span>' if band else ""
    return f'<div class="legend">{entries}</div>'


def _curve(
    line: Line, columns: _Axis, rows: _Axis, names: Sequence[str], held_out: Collection[str], what: str
) -> str:
    path, open_before, marks = "", False, ""
    for index, value in enumerate(line.values):
        if not np.isfinite(value):
            open_before = False
            continue
        x, y = columns.at(index), rows.at(value)
        path += f"{'L' if open_before else 'M'}{x:.1f} {y:.1f} "
        open_before = True
        tested = names[index] in held_out
        if "faint" not in line.style and (tested or len(names) <= _MOST_MARKERS):
            title = f"{line.title}, frame {names[index]}{', held out' if tested else ''}: {value:.4g} ({what})"
            marks += (
                f'<circle class="mark {line.style}" cx="{x:.1f}" cy="{y:.1f}" r="{4.2 if tested else 2.2}">'
                f"<title>{text(title)}</title></circle>"
            )
    return f'<path class="line {line.style}" d="{path.strip()}"/>{marks}'


def _bands(columns: _Axis, rows: _Axis, names: Sequence[str], held_out: Collection[str]) -> str:
    wide = columns.at(1) - columns.at(0)
    return "".join(
        f'<rect class="band" x="{columns.at(index) - wide / 2:.1f}" y="{rows.end:.1f}" width="{wide:.1f}" '
        f'height="{rows.start - rows.end:.1f}"/>'
        for index, name in enumerate(names)
        if name in held_out
    )


def _rules(rows: _Axis) -> str:
    return "".join(_rule(rows.at(value), f"{value:.4g}") for value in ticks(rows.low, rows.high))


def _rule(y: float, label: str) -> str:
    return (
        f'<path class="rule" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="row" x="{_LEFT - 7}" y="{y + 3.5:.1f}">{text(label)}</text>'
    )


def _under(x: float, label: str) -> str:
    return f'<text class="column" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}">{text(label)}</text>'


def _frame_labels(columns: _Axis, names: Sequence[str]) -> str:
    longest = max((len(name) for name in names), default=1)
    most = max(2, min(_MOST_LABELS, int((WIDTH - _LEFT) / (8 * longest + 8))))
    step = max(1, -(-len(names) // most))
    return "".join(_under(columns.at(index), names[index]) for index in range(0, len(names), step))


def _honest(columns: _Axis, rows: _Axis) -> str:
    """Draw the diagonal, and the strip within a factor of two around it."""
    low, high = columns.low, columns.high
    corners = [(low, low / 2), (high, high / 2), (high, high * 2), (low, low * 2)]
    kept = [(columns.at(a), min(max(rows.at(b), rows.end), rows.start)) for a, b in corners]
    spots = " ".join(f"{x:.1f},{y:.1f}" for x, y in kept)
    diagonal = f"M{columns.at(low):.1f} {rows.at(low):.1f}L{columns.at(high):.1f} {rows.at(high):.1f}"
    return f'<polygon class="near" points="{spots}"/><path class="line honest" d="{diagonal}"/>'


def _decades(low: float, high: float) -> list[float]:
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if np.log10(high / low) < 2.2 else (1,)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
