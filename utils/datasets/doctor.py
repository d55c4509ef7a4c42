"""The doctor: everything that can be found wrong with a source before it is used, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from utils.datasets.check_files import check_frames, check_sizes
from utils.datasets.check_maps import check_depth, check_masks
from utils.datasets.check_matches import check_eyes, check_steps
from utils.datasets.check_poses import check_poses
from utils.datasets.check_rig import check_rig
from utils.datasets.check_warp import check_motion, check_stereo
from utils.datasets.options import ReaderOptions
from utils.datasets.samples import Sample, take_samples
from utils.datasets.source import Finding, Source
from utils.errors import InputError

STEPS = (1, 2, 4, 8, 16)  # frames from one image of a pair to the other


def examine(source: Source, options: ReaderOptions) -> list[Finding]:
    """Return what the reader and all checks found; some frames are decoded, and evidence in pixels is weighed.

    Raises:
        InputError: an image, mask or map cannot be decoded.
    """
    findings = [*source.findings, *check_frames(source), *check_rig(source)]
    if refusals(findings):
        return findings
    pool: dict[int, Sample] = {}  # what one check decoded serves the others
    samples = take_samples(source, pool)
    with_masks = take_samples(source, pool, lambda frame: bool(frame.tissue))
    with_depth = take_samples(source, pool, lambda frame: bool(frame.depth_mm))
    steps, carried = _pairs(source, samples, pool), _pairs(source, with_depth, pool)
    _look(pool)
    findings += check_sizes(source, samples)
    if refusals(findings):
        return findings
    findings += check_masks(with_masks, options)
    findings += check_depth(source, with_depth)
    findings += check_eyes(source, samples[:3])
    findings += check_stereo(source, with_depth)
    findings += check_poses(source, with_depth)
    if not refusals(findings):
        findings += check_motion(source, carried)
        findings += check_steps(source, steps)
    return findings


def _look(pool: Mapping[int, Sample]) -> None:
    """Decode the images of all samples in the order of time: to go back in a video is to decode it again."""
    for index in tqdm(sorted(pool), desc="check", unit="frame", disable=None):
        _ = pool[index].images


def _pairs(source: Source, samples: Sequence[Sample], pool: dict[int, Sample]) -> list[tuple[Sample, Sample]]:
    """Return three of the samples, each with frames near and far after it; only pairs whose poses are known."""
    poses, count = source.world_from_left, len(source.frames)
    if poses is None or len(poses) != count:
        return []
    placed = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
    pairs = []
    for first in samples[:: max(1, len(samples) // 3)][:3]:
        for index in (first.index + step for step in STEPS if first.index + step < count):
            if placed[first.index] and placed[index]:
                later = pool.setdefault(index, Sample(index, source.frames[index]))
                pairs.append((first, later))
    return pairs


def refusals(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that stop a conversion."""
    return [finding for finding in findings if finding.verdict == "refuse"]


def line(finding: Finding) -> str:
    """Return a finding as one line of the report."""
    todo = f"; {finding.do}" if finding.do and finding.verdict != "ok" else ""
    return f"[{finding.verdict}] {finding.subject}: {finding.words}{todo}"


def require_healthy(source: Source, findings: Sequence[Finding]) -> None:
    """Raise InputError with the first refusal among the findings, and how many more there are."""
    refused = refusals(findings)
    if not refused:
        return
    first, rest = refused[0], len(refused) - 1
    raise InputError(
        f"{source.folder} cannot be used as {source.kind}: {first.subject}",
        found=first.words + (f" (and {rest} more)" if rest else ""),
        expected="a dataset whose parts agree",
        do=first.do or "mend it; --check prints the whole report",
    )
