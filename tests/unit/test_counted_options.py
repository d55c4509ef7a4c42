"""A flag of a source that does not run changes no stamp, so that it redoes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from monocular import depth as monocular_stage
from monocular.depth_source import MonocularOptions
from stereo_prior import stereo as stereo_stage
from stereo_prior.source import StereoOptions
from utils.options import stamped
from utils.stages import stage_record

OTHER_STEREO = {
    "pam_weights": "pam.pth",
    "sttr_weights": "sttr.pth",
    "anynet_weights": "anynet.pth",
    "sttr_stride": 5,
    "depth_N_iters": 7,
    "depth_lrate": 1e-4,
    "stereo_path": "maps",
    "stereo_png_mm": 0.1,
    "stereo_png_px": 0.5,
    "seed": 3,
    "device": "cpu",
}
OTHER_MONOCULAR = {
    "ns_path": "logs/first",
    "ns_loss_weight": 1.0,
    "monocular_path": "maps",
    "monocular_iters": 7,
    "monocular_lrate": 1e-4,
    "seed": 3,
    "device": "cpu",
}
SMALL = {"monocular_iters", "monocular_lrate", "ns_path", "ns_loss_weight", "seed", "device"}
TRAINED = {"depth_N_iters", "depth_lrate", "seed", "device"}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("sgbm", set()),
        ("sgbm,sgbm_wls", set()),
        ("pam", {"pam_weights", *TRAINED}),
        ("sgbm,sttr", {"sttr_weights", "sttr_stride", *TRAINED}),
        ("anynet", {"anynet_weights", "device"}),
        ("files", {"stereo_path", "stereo_png_mm", "stereo_png_px"}),
    ],
)
def test_a_stereo_stamp_holds_the_flags_of_its_own_sources(
    sources: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stereo_stage, "SOURCES", without_files(stereo_stage.SOURCES))
    assert deciding(stereo_stage.STAGE, StereoOptions, {"stereo": sources}, OTHER_STEREO) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("none", set()),
        ("auto", SMALL),
        ("small", SMALL),
        ("dpt", {"device"}),
        ("files", {"monocular_path"}),
    ],
)
def test_a_monocular_stamp_holds_the_flags_of_its_own_source(
    source: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monocular_stage, "SOURCES", without_files(monocular_stage.SOURCES))
    assert deciding(monocular_stage.STAGE, MonocularOptions, {"monocular": source}, OTHER_MONOCULAR) == expected


def without_files(sources: dict[str, Any]) -> dict[str, Any]:
    """Return sources that depend on no file: there is none here."""
    return {name: type(one)(one.prepare, one.options) for name, one in sources.items()}


def deciding(stage: Any, section: type, chosen: dict[str, Any], others: dict[str, Any]) -> set[str]:
    """Return which of the other flags, each changed alone, make another stamp."""
    usual = stage_record(stage, section(**chosen), {})
    return {
        name
        for name, value in others.items()
        if stage_record(stage, section(**chosen, **{name: value}), {}) != usual
    }


@pytest.mark.parametrize(
    ("section", "chooser", "others"),
    [(StereoOptions, "stereo", OTHER_STEREO), (MonocularOptions, "monocular", OTHER_MONOCULAR)],
)
def test_no_flag_is_forgotten_here(section: type, chooser: str, others: dict[str, Any]) -> None:
    assert set(stamped(section())) == {chooser, *others}


def test_a_name_that_is_no_flag_is_a_mistake_in_the_code() -> None:
    with pytest.raises(ValueError, match="monocular_itres"):
        stamped(MonocularOptions(), {"monocular", "monocular_itres"})
