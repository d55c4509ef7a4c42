"""What every HTML page of ours needs: escaped text, and images inside the page so that it opens offline."""

from __future__ import annotations

import base64
import html

import cv2
import numpy as np
from numpy.typing import NDArray

_PHOTO_QUALITY = 86


def text(value: object) -> str:
    """Return a value as text that HTML shows and never obeys."""
    return html.escape(str(value), quote=True)


def data_uri(image: NDArray[np.uint8], *, exact: bool) -> str:
    """Return an image as a WebP data URI.

    Args:
        image: (h, w, 3) RGB or (h, w, 4) RGB and opacity.
        exact: lossless, for maps whose colours are read against a colour bar; photos need not be.
    """
    order = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    quality = 101 if exact else _PHOTO_QUALITY  # OpenCV: above 100 is lossless
    done, encoded = cv2.imencode(".webp", cv2.cvtColor(image, order), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError("this OpenCV cannot write WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def picture(image: NDArray[np.uint8], alternative: str, *, exact: bool, kind: str = "") -> str:
    """Return an image, embedded; `alternative` is read to those who cannot see it."""
    height, width = image.shape[:2]
    return (
        f'<img class="{kind}" src="{data_uri(image, exact=exact)}" alt="{text(alternative)}" '
        f'width="{width}" height="{height}" decoding="async">'
    )
