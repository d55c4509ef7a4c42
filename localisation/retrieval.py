"""Find the training views that look most like an image: correlation of thumbnails in even contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localisation.query import Eye, Query
from nerf.finished_field import FinishedField
from utils.types import FloatArray

SIZE = 32  # px of a thumbnail's longer side
SHIFTED = 0.25  # how far it may be shifted against another, as a share of that


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Spectra (n, 2 s, 2 s) of the training views' thumbnails, one eye's views or both."""

    spectra: FloatArray

    @staticmethod
    def of(field: FinishedField) -> Thumbnails:
        """Make those of all training views; what is no tissue, or shines, is grey."""
        spectra = []
        for (side, name), seen in zip(field.views, field.seen, strict=True):
            tissue, _ = field.dataset.masks(side, name)
            spectra.append(
                _spectrum(Eye.of(side, seen.camera, np.eye(4), field.dataset.image(side, name), tissue))
            )
        return Thumbnails(np.array(spectra))

    def most_alike(self, eye: Eye, count: int) -> list[tuple[int, float]]:
        """Return indices of the views most like an image with their correlation, the best shift taken of each."""
        product = np.fft.irfft2(self.spectra * np.conj(_spectrum(eye)), s=(2 * SIZE, 2 * SIZE))
        reach = round(SHIFTED * SIZE)
        shifts = np.r_[0 : reach + 1, -reach:0]
        best = product[:, shifts][:, :, shifts].max(axis=(1, 2))
        order = np.argsort(-best, kind="stable")[:count]
        return [(int(index), float(best[index])) for index in order]


def _spectrum(eye: Eye) -> FloatArray:
    """Return the spectrum of a thumbnail of unit length, with as much nothing around it."""
    fields = Query("thumbnail", (eye,)).observed(SIZE)[0].fields
    values = fields[..., 0] * fields[..., 1]
    room = np.zeros((2 * SIZE, 2 * SIZE))
    room[: values.shape[0], : values.shape[1]] = values / max(float(np.linalg.norm(values)), 1e-9)
    return np.asarray(np.fft.rfft2(room))
