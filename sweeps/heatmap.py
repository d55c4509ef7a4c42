"""A picture of a sweep: every figure over two swept flags, mean over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sweeps.results import FIGURES, Result
from sweeps.settings import SEED, Axis, Setting, in_words

SHOWN = {"abs_rel": "↓", "psnr": "↑", "lpips": "↓", "chamfer_mm": "↓"}  # and which way is better
MOST_ROWS = 12
_LEAST_DIGITS = 10  # last digits that the colours span at least: less is no difference to show
_DPI, _MOST_PIXELS = 130, 12_000


def heat_maps(axes: Sequence[Axis], results: Sequence[Result], path: Path) -> int:
    """Draw the runs of one scene; return how many rows of maps were left out for want of space.

    The two flags with the most values are the axes of each map, every combination of the others is a row of maps.
    Nothing is drawn, and a former picture goes, where no flag but the seed has two values, or nothing is scored.

    Args:
        axes: the swept flags.
        results: runs of one scene.
        path: the picture, PNG.
    """
    from matplotlib.figure import Figure as Picture

    plain = sorted((axis for axis in axes if axis.flag != SEED), key=lambda axis: -len(axis.values))
    keys = [key for key in SHOWN if any(key in result.figures for result in results)]
    if not plain or len(plain[0].values) < 2 or not keys:
        path.unlink(missing_ok=True)
        return 0
    across, down = plain[0], plain[1] if len(plain) > 1 else Axis("", ("",))
    facets = _facets(results, {across.flag, down.flag, SEED})
    left_out = max(0, len(facets) - MOST_ROWS)
    facets = dict(list(facets.items())[:MOST_ROWS])
    width, height = 1.6 + 0.8 * len(across.values), 1.5 + 0.5 * len(down.values)
    picture = Picture(figsize=(width * len(keys) + 0.5, height * len(facets)), layout="constrained")
    places = picture.subplots(len(facets), len(keys), squeeze=False)
    for row, (setting, mine) in enumerate(facets.items()):
        for column, key in enumerate(keys):
            values = _grid(across, down, mine, key)
            _draw(places[row][column], values, across, down, key)
            places[row][column].set_title(_title(key, setting), size=9)
    partial = path.with_name(path.name + ".partial")
    picture.savefig(partial, dpi=min(_DPI, _MOST_PIXELS / max(picture.get_size_inches())), format="png")
    partial.replace(path)
    return left_out


def _title(key: str, setting: Setting) -> str:
    return f"{FIGURES[key].title} {SHOWN[key]}" + (f"\n{in_words(setting)}" if setting else "")


def _facets(results: Sequence[Result], apart: set[str]) -> dict[Setting, list[Result]]:
    """Return the runs by the flags that are on no axis."""
    groups: dict[Setting, list[Result]] = {}
    for result in results:
        rest = tuple((flag, value) for flag, value in result.run.setting if flag not in apart)
        groups.setdefault(rest, []).append(result)
    return groups


def _grid(across: Axis, down: Axis, results: Sequence[Result], key: str) -> np.ndarray:
    """Return the mean figure (down, across) over the seeds; NaN where no run has it."""
    values = np.full((len(down.values), len(across.values)), np.nan)
    for row, vertical in enumerate(down.values):
        for column, horizontal in enumerate(across.values):
            wanted = {across.flag: horizontal} | ({down.flag: vertical} if down.flag else {})
            found = [one.figures[key] for one in results if key in one.figures and _fits(one.run.setting, wanted)]
            if found:
                values[row, column] = statistics.fmean(found)
    return values


def _fits(setting: Setting, wanted: Mapping[str, str]) -> bool:
    values = dict(setting)
    return all(values.get(flag) == value for flag, value in wanted.items())


def _draw(axes: object, values: np.ndarray, across: Axis, down: Axis, key: str) -> None:
    """Draw one map: bright is better, and what reads the same is of nearly the same colour."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    pattern, colours = FIGURES[key].pattern, "viridis" if SHOWN[key] == "↑" else "viridis_r"
    middle, reach = (
        float(np.nanmean(values)) if np.isfinite(values).any() else 0.0,
        10.0 ** -int(pattern[1:-1]) * _LEAST_DIGITS / 2,
    )
    span = max(reach, float(np.nanmax(np.abs(values - middle)))) if np.isfinite(values).any() else 1.0
    shown = axes.imshow(
        np.ma.masked_invalid(values), cmap=colours, aspect="auto", vmin=middle - span, vmax=middle + span
    )
    axes.set_xticks(range(len(across.values)), across.values, size=8)
    axes.set_yticks(range(len(down.values)) if down.flag else [], down.values if down.flag else [], size=8)
    axes.set_xlabel(across.flag, size=8)
    axes.set_ylabel(down.flag, size=8)
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        shade = float(np.asarray(shown.norm(value))) if np.isfinite(value) else 1.0
        shade = 1.0 - shade if colours.endswith("_r") and np.isfinite(value) else shade
        text = format(value, pattern) if np.isfinite(value) else "–"
        axes.text(column, row, text, ha="center", va="center", size=8, color="white" if shade < 0.6 else "black")
