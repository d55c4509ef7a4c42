"""The doctor: everything that can be found wrong with a source before it is used, line by line."""

from __future__ import annotations

from collections.abc import Sequence

from utils.datasets.check_files import check_frames, check_sizes
from utils.datasets.check_maps import check_depth, check_masks
from utils.datasets.check_matches import check_eyes, check_steps
from utils.datasets.check_poses import check_poses
from utils.datasets.check_rig import check_rig
from utils.datasets.check_warp import STEPS, check_motion, check_stereo
from utils.datasets.options import ReaderOptions
from utils.datasets.samples import Sample, take_samples
from utils.datasets.source import Finding, Source
from utils.errors import InputError


def examine(source: Source, options: ReaderOptions) -> list[Finding]:
    """Return what the reader and all checks found; some frames are decoded, and evidence in pixels is weighed.

    Raises:
        InputError: an image, mask or map cannot be decoded.
    """
    findings = [*source.findings, *check_frames(source), *check_rig(source)]
    if refusals(findings):
        return findings
    samples = take_samples(source)
    findings += check_sizes(source, samples)
    if refusals(findings):
        return findings
    with_masks = take_samples(source, lambda frame: bool(frame.tissue))
    with_depth = take_samples(source, lambda frame: bool(frame.depth_mm))
    findings += check_masks(with_masks, options)
    findings += check_depth(source, with_depth)
    findings += check_eyes(source, samples[:3])
    findings += check_stereo(source, with_depth)
    findings += check_poses(source, with_depth)
    if not refusals(findings):
        findings += check_motion(source, _with_later(source, with_depth))
        findings += check_steps(source, _with_later(source, samples), STEPS)
    return findings


def _with_later(source: Source, samples: Sequence[Sample]) -> dict[int, Sample]:
    """Return three of the samples by number, and the frames at the steps after them."""
    samples, last = samples[:: max(1, len(samples) // 3)][:3], len(source.frames) - 1
    wanted = {sample.index + step for sample in samples for step in (0, *STEPS) if sample.index + step <= last}
    known = {sample.index: sample for sample in samples}
    return {index: known.get(index) or Sample(index, source.frames[index]) for index in sorted(wanted)}


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
