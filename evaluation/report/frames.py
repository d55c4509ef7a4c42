"""The report's section of pictures: image, render, depth, truth, errors and confidence of a few chosen views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.report.colours import Scale, fit, limits, round_up
from evaluation.report.html import absent, picture, text
from evaluation.report.run import Run
from evaluation.scores import View
from utils.types import FloatArray

_WIDEST_PX = 400
_METHODS = {"prior": "fused prior", "nerf": "field", "filter": "filtered field"}


@dataclass(frozen=True)
class Chosen:
    """A view to show, and why this one."""

    view: View
    reason: str


@dataclass(frozen=True, eq=False)
class _Maps:
    """What is known of one view; lengths in the truth's unit where there is truth. NaN is unknown."""

    chosen: Chosen
    image: NDArray[np.uint8]
    render: NDArray[np.uint8] | None
    depths: Mapping[str, FloatArray]
    truth_mm: FloatArray | None
    confidence: FloatArray | None
    opacity: FloatArray | None
    spread: FloatArray | None
    sigma: FloatArray | None

    def error(self, depth_mm: FloatArray) -> FloatArray:
        """Return depth / truth - 1 in %, NaN where either is unknown."""
        assert self.truth_mm is not None
        return 100.0 * (depth_mm / self.truth_mm - 1.0)


def choose_views(run: Run) -> list[Chosen]:
    """Return the best, the median and the worst of the judged views, by depth, else by colour, else the first.

    Depth is judged by abs_rel of the last method on tissue, colour by PSNR on tissue.
    """
    views = run.views()
    for method, key, better, words in (
        (run.method or "", "abs_rel", 1.0, "abs_rel {:.4f}"),
        ("rgb", "psnr", -1.0, "PSNR {:.1f} dB"),
    ):
        found = {side: run.series(method, key, side) for side in run.scene.sides}
        scored = [(found[view.side][run.scene.names.index(view.name)], view) for view in views]
        scored = [(value, view) for value, view in scored if np.isfinite(value)]
        if scored:
            ranked = sorted(scored, key=lambda pair: better * pair[0])
            places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
            if len(ranked) < 3:
                places = dict(zip(("best", "worst"), range(len(ranked)), strict=False))
            kind = "held-out view" if run.scene.test else "view"
            return [
                Chosen(ranked[place][1], f"{name} {kind} of {len(ranked)}, {words.format(ranked[place][0])}")
                if len(ranked) > 1
                else Chosen(ranked[place][1], words.format(ranked[place][0]))
                for name, place in places.items()
            ]
    return [Chosen(view, "first view; there is nothing to rank by") for view in views[:1]]


def frames_body(run: Run, final_ratio: float) -> str:
    """Return the section.

    Args:
        run: the run.
        final_ratio: what depth is multiplied by to compare with the truth: 1 in a metric run.
    """
    known = [_read(run, chosen, final_ratio) for chosen in choose_views(run)]
    if not known:
        return absent("There is no view to show.")
    scales = _scales(run, known)
    bars = '<div class="bars">' + "".join(scale.bar() for scale in scales.values()) + "</div>"
    note = "Hatched: unknown, or outside what is compared. All views share the same colours; % is of the depth."
    hatched = f'<p class="note">{text(note)}</p>'
    return bars + hatched + "".join(_panel(run, maps, scales) for maps in known) + _left_out(run, known)


def _read(run: Run, chosen: Chosen, final_ratio: float) -> _Maps:
    view = chosen.view
    render, prior, truth_mm = run.maps("render", view), run.maps("prior", view), run.truth(view)
    depths = {
        method: np.asarray(depth, float) * (1.0 if truth_mm is None else final_ratio)
        for method in _METHODS
        if (depth := run.depth(method, view)) is not None
    }
    return _Maps(
        chosen,
        run.scene.image(view.side, view.name),
        render.get("rgb"),
        depths,
        truth_mm,
        prior.get("confidence"),
        render.get("opacity"),
        _percent(render.get("depth_std_mm"), render.get("depth_mm")),
        _percent(prior.get("sigma_mm"), prior.get("depth_mm")),
    )


def _percent(part: FloatArray | None, depth: FloatArray | None) -> FloatArray | None:
    if part is None or depth is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100.0 * np.asarray(part, float) / np.asarray(depth, float)


def _scales(run: Run, known: Sequence[_Maps]) -> dict[str, Scale]:
    """Return the colour map of each quantity that any view has, with limits that all views share."""
    scales: dict[str, Scale] = {}
    depths = [maps.truth_mm for maps in known if maps.truth_mm is not None]
    depths = depths or [depth for maps in known for depth in maps.depths.values()]
    if depths:
        unit = "mm" if run.metric or known[0].truth_mm is not None else run.unit
        scales["depth"] = Scale("depth", *limits(depths, 1, 99), f"Depth, {unit}", ("near", "far"))
    errors = [np.abs(maps.error(d)) for maps in known if maps.truth_mm is not None for d in maps.depths.values()]
    if errors:
        most = round_up(limits(errors, 0, 96)[1])
        scales["error"] = Scale("error", -most, most, "Depth error, %", ("too near", "too far"))
    if any(maps.render is not None for maps in known):
        scales["colour"] = Scale("amount", 0, 32, "Colour difference, of 255")
    if any(maps.confidence is not None or maps.opacity is not None for maps in known):
        scales["confidence"] = Scale(
            "confidence", 0, 1, "Confidence and opacity", ("unsure, clear", "sure, opaque")
        )
    for key, title in (("sigma", "Stated error of the prior, %"), ("spread", "Spread of the field's depth, %")):
        found = [values for maps in known if (values := getattr(maps, key)) is not None]
        if found:
            scales[key] = Scale("amount", 0, round_up(limits(found, 0, 96)[1]), title)
    return scales


def _panel(run: Run, maps: _Maps, scales: dict[str, Scale]) -> str:
    """Return all pictures of one view under its heading."""
    view = maps.chosen.view
    name = f"frame {view.name}, {view.side} eye"
    tiles = [_tile(maps.image, "Camera image", name, exact=False)]
    if maps.render is not None:
        tiles.append(_tile(maps.render, "Field's render", name, exact=False))
        difference = np.abs(maps.render.astype(float) - maps.image.astype(float)).mean(axis=-1)
        tiles.append(_tile(scales["colour"].paint(difference), "Colour difference", name))
    if maps.truth_mm is not None:
        tiles.append(_tile(scales["depth"].paint(maps.truth_mm), "True depth", name))
    for method in _order(run, maps):
        depth = maps.depths[method]
        tiles.append(_tile(scales["depth"].paint(depth), f"Depth: {_METHODS[method]}", name))
        if maps.truth_mm is not None:
            tiles.append(_tile(scales["error"].paint(maps.error(depth)), f"Error: {_METHODS[method]}", name))
    for values, title, key in (
        (maps.confidence, "Confidence of the prior", "confidence"),
        (maps.sigma, "Stated error of the prior", "sigma"),
        (maps.opacity, "Opacity of the field", "confidence"),
        (maps.spread, "Spread of the field", "spread"),
    ):
        if values is not None:
            tiles.append(_tile(scales[key].paint(np.asarray(values, float)), title, name))
    return (
        f"<h3>Frame {text(view.name)}, {text(view.side)} eye <small>{text(maps.chosen.reason)}</small></h3>"
        f'<div class="tiles" style="--columns:{_columns(len(tiles))}">{"".join(tiles)}</div>'
    )


def _columns(count: int) -> int:
    """Return how many pictures stand in a row, so that the last row is full or nearly so."""
    return max((4, 5, 3), key=lambda columns: -(-count % columns))


def _order(run: Run, maps: _Maps) -> list[str]:
    """Return the methods to show: the prior, and the last one (the filter changes the field's depth little)."""
    wanted = dict.fromkeys(("prior", run.method or "prior"))
    return [method for method in wanted if method in maps.depths]


def _tile(image: NDArray[np.uint8], title: str, name: str, *, exact: bool = True) -> str:
    shown = picture(fit(image, _WIDEST_PX, exact=exact), f"{title}, {name}", exact=exact)
    return f'<figure class="tile"><div class="{"map" if exact else "photo"}">{shown}</div>' + (
        f"<figcaption>{text(title)}</figcaption></figure>"
    )


def _left_out(run: Run, known: Sequence[_Maps]) -> str:
    """Say what the pictures cannot show, and why."""
    reasons = []
    if all(maps.render is None for maps in known):
        reasons.append(f"No renders: {run.skipped.get('render', 'these views were not rendered')}.")
    if all(maps.truth_mm is None for maps in known):
        reasons.append(f"No error maps: {run.lost_data or 'these views have no truth'}.")
    return "".join(absent(reason) for reason in reasons)
