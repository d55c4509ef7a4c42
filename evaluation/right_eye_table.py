"""Rows of the tables for a right eye that no training saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evaluation.right_eye import ALL, BLOCK, TITLE

Rows = list[tuple[list[str], Mapping[str, Any]]]

_SPLITS = ("train", "test", ALL)
_METHODS = ("nerf", "filter")


def depth_rows(metrics: Mapping[str, Any], alignments: Mapping[str, str]) -> Rows:
    """Return (method, split, alignment) and scores on tissue; `alignments` are their names and words."""
    found = metrics.get(BLOCK, {}).get("depth", {})
    return [
        ([method, split, words], scores[alignment])
        for method in _METHODS
        for split in _SPLITS
        for scores in [found.get(method, {}).get(split, {}).get("tissue", {})]
        for alignment, words in alignments.items()
        if alignment in scores
    ]


def rgb_rows(metrics: Mapping[str, Any], regions: Mapping[str, str]) -> Rows:
    """Return (split, region) and the scores of colour; `regions` are their names and words."""
    found = metrics.get(BLOCK, {}).get("rgb", {})
    return [
        ([split, words], found[split][region])
        for split in _SPLITS
        for region, words in regions.items()
        if region in found.get(split, {})
    ]


def console_lines(
    metrics: Mapping[str, Any], number: Callable[[Mapping[str, Any], str, str], str]
) -> Iterator[str]:
    """Yield a few lines for the console, 100 columns wide at most; `number` formats one score or its absence."""
    held_out = metrics[BLOCK]
    alignment = "raw" if metrics["metric"] else "median_scaled"
    scaled = "" if metrics["metric"] else ", one median scale"
    depth, rgb = held_out.get("depth", {}), held_out.get("rgb", {})
    yield f"{TITLE:27}|{f'nerf{scaled}':^18}|{f'filter{scaled}':^18}|{'PSNR, dB':^16}| tissue"
    heads = f"{'abs_rel':>8}{'rmse':>9} "
    yield f"{'':2}{'split':7}{'frames':>9}{'':9}|{heads}|{heads}|{'full':>7}{'tissue':>8} |{'SSIM':>8}"
    for split in _SPLITS:
        scores = [depth.get(method, {}).get(split, {}).get("tissue", {}).get(alignment, {}) for method in _METHODS]
        regions = rgb.get(split, {})
        full, tissue = regions.get("full", {}), regions.get("tissue", {})
        if not tissue and not any(scores):
            continue
        frames = str(max(one.get("n_frames", 0) for one in (tissue, *scores)))
        cells = "|".join(f"{number(one, 'abs_rel', '.4f'):>8}{number(one, 'rmse', '.3f'):>9} " for one in scores)
        yield (
            f"{'':2}{split:7}{frames:>9}{'':9}|{cells}|{number(full, 'psnr', '.2f'):>7}"
            f"{number(tissue, 'psnr', '.2f'):>8} |{number(tissue, 'ssim', '.4f'):>8}"
        )
