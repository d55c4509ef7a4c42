"""When a pose is believed: it explains the image, it is certain enough, and no other place does as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from localisation.agreement import Agreement
from localisation.uncertainty import Uncertainty
from utils.errors import InputError
from utils.geometry import invert_rigid, rotation_angle_degrees
from utils.types import FloatArray

EYES_ALIKE = 0.8  # share of what both eyes explain that each must explain alone


@dataclass(frozen=True)
class Limits:
    """What a pose must satisfy; lengths in the unit of the run."""

    explained: float = 0.5
    overlap: float = 0.3
    std_degrees: float = 1.0
    std_mm: float = 1.0
    tie: float = 0.85
    apart_degrees: float = 3.0
    apart_mm: float = 3.0
    unit: str = "mm"

    def named(self, unit: str) -> Limits:
        """Return the same numbers in a run's own unit."""
        return replace(self, unit=unit)

    def check(self) -> None:
        """Raise InputError for limits that everything or nothing satisfies."""
        shares, stds = (self.explained, self.overlap), (self.std_degrees, self.std_mm)
        if not (all(0 <= share <= 1 for share in shares) and all(std > 0 for std in stds)):
            raise InputError(
                "nothing can be judged with these limits",
                found="--min_explained {:g}, --min_overlap {:g}, --max_std_degrees {:g}, --max_std_mm {:g}".format(
                    *shares, *stds
                ),
                expected="shares from 0 to 1, standard deviations above 0",
                do="correct the flag",
            )


def same_place(world_from_a: FloatArray, world_from_b: FloatArray, limits: Limits) -> bool:
    """Whether two poses (4, 4) are one place, found twice."""
    a_from_b = invert_rigid(world_from_a) @ world_from_b
    return bool(
        float(rotation_angle_degrees(a_from_b[:3, :3])) < limits.apart_degrees
        and float(np.linalg.norm(a_from_b[:3, 3])) < limits.apart_mm
    )


def unlike(agreement: Agreement, limits: Limits) -> str | None:
    """Return why a render does not look like the image, in words; None where it does."""
    if agreement.overlap < limits.overlap:
        return (
            f"the reconstruction shows {100 * agreement.overlap:.0f} % of what the image shows, "
            f"less than {100 * limits.overlap:.0f} %"
        )
    if agreement.explained < limits.explained:
        return (
            f"the render at the best pose explains {100 * agreement.explained:.0f} % of the image, "
            f"less than {100 * limits.explained:.0f} %: another place, or tissue that has changed"
        )
    if agreement.worst_eye < max(limits.explained, EYES_ALIKE * agreement.explained):
        return (
            f"the eyes contradict each other: the render explains {100 * agreement.worst_eye:.0f} % of one image, "
            f"{100 * agreement.explained:.0f} % of both: are they one pair, in the same order?"
        )
    return None


def doubtful(
    agreement: Agreement, uncertainty: Uncertainty, rival: Agreement | None, limits: Limits
) -> str | None:
    """Return why a refined pose is not believed, in words; None where it is.

    Args:
        rival: what the render at another place explains, where there is one that comes near.
    """
    reason = unlike(agreement, limits)
    if reason is not None:
        return reason
    if not (uncertainty.std_degrees <= limits.std_degrees and uncertainty.std_mm <= limits.std_mm):
        return (
            f"the pose is uncertain by {uncertainty.std_degrees:.2f} degrees and {uncertainty.std_mm:.2f} "
            f"{limits.unit}, more than {limits.std_degrees:g} and {limits.std_mm:g}"
        )
    if rival is not None and rival.score >= limits.tie * agreement.score:
        return (
            f"two places explain the image about as well ({100 * agreement.explained:.0f} % and "
            f"{100 * rival.explained:.0f} %)"
        )
    return None
