"""Check what a source lists: frames, eyes, names, sizes, counts, splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.datasets.samples import Sample
from utils.datasets.source import Finding, Source
from utils.images import natural_key
from utils.types import Side

SIDES: tuple[Side, ...] = ("left", "right")


def check_frames(source: Source) -> list[Finding]:
    """Check names, and that every frame has the eyes that it needs."""
    names = [frame.name for frame in source.frames]
    findings = [_counts(source)]
    if not names:
        return [Finding("refuse", "frames", "there is none")]
    strange = [name for name in names if Path(name).name != name or name.startswith(".")]
    if strange:
        findings.append(Finding("refuse", "names", f"no file names: {', '.join(strange[:3])}"))
    if len(set(names)) < len(names):
        findings.append(Finding("refuse", "names", "several frames have one name"))
    elif names != sorted(names, key=natural_key):
        do = "give names whose numbers grow with time: frames are put into natural order everywhere"
        findings.append(Finding("refuse", "names", "their natural order is not that of the frames", do))
    without = {side: [frame.name for frame in source.frames if side not in frame.images] for side in source.lenses}
    for side, missing in without.items():
        if missing:
            words = f"{len(missing)} of {len(names)} frames have none: {', '.join(missing[:5])}"
            findings.append(Finding("refuse", f"{side} images", words, "take these frames out, or the whole eye"))
    extra = {side for frame in source.frames for side in frame.images} - set(source.lenses)
    findings += [Finding("warn", f"{side} images", "no calibration: they are left out") for side in sorted(extra)]
    return [*findings, *_unmasked(source), *_splits(source, names)]


def _unmasked(source: Source) -> list[Finding]:
    """Warn of an eye that has masks for some of its frames alone."""
    findings = []
    for side in source.lenses:
        without = [frame.name for frame in source.frames if side not in frame.tissue]
        if 0 < len(without) < len(source.frames):
            words = f"{len(without)} of {len(source.frames)} frames have none: {', '.join(without[:5])}"
            do = "instruments count as tissue there: draw masks, or choose other frames"
            findings.append(Finding("warn", f"{side} masks", words, do))
    return findings


def _counts(source: Source) -> Finding:
    words = [f"{len(source.frames)} frames of {source.image_size[0]}x{source.image_size[1]}"]
    for side in SIDES:
        counts = {
            "images": sum(side in frame.images for frame in source.frames),
            "masks": sum(side in frame.tissue for frame in source.frames),
            "depth maps": sum(side in frame.depth_mm for frame in source.frames),
        }
        listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        words.append(f"{side}: {listed or 'nothing'}")
    if source.world_from_left is not None:
        words.append(f"{int(np.isfinite(source.world_from_left).all(axis=(1, 2)).sum())} poses")
    return Finding("ok", "counts", "; ".join(words))


def _splits(source: Source, names: Sequence[str]) -> list[Finding]:
    train, test = source.train, source.test
    if train is None and test is None:
        return [Finding("ok", "splits", "the dataset has none: every eighth frame will be held out")]
    both = set(train or ()) & set(test or ())
    if both:
        return [Finding("refuse", "splits", f"{len(both)} frames are in train and in test: {sorted(both)[0]}")]
    strange = (set(train or ()) | set(test or ())) - set(names)
    if strange:
        return [Finding("refuse", "splits", f"{len(strange)} names have no frame: {sorted(strange)[0]}")]
    shown = [f"{len(listed)} {what}" for what, listed in (("train", train), ("test", test)) if listed is not None]
    return [Finding("ok", "splits", ", ".join(shown))]


def check_sizes(source: Source, samples: Sequence[Sample]) -> list[Finding]:
    """Compare images, masks and depth maps of some frames with the size that the source states."""
    findings = []
    for what, maps in (
        ("images", [(s.frame.name, side, image.shape[:2]) for s in samples for side, image in s.images.items()]),
        ("masks", [(s.frame.name, side, mask.shape) for s in samples for side, mask in s.tissue.items()]),
        ("depth maps", [(s.frame.name, side, depth.shape) for s in samples for side, depth in s.depth_mm.items()]),
    ):
        wrong = [(name, side, shape) for name, side, shape in maps if shape[::-1] != source.image_size]
        if wrong:
            name, side, shape = wrong[0]
            words = f"{side} {name} has {shape[1]}x{shape[0]}, expected {'x'.join(map(str, source.image_size))}"
            do = "give maps of the stored images' size" if what != "images" else "give images of one size"
            findings.append(Finding("refuse", f"size of {what}", words, do))
        elif maps:
            findings.append(Finding("ok", f"size of {what}", f"equal in {len(samples)} frames that were opened"))
    return findings
