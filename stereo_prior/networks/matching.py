"""A network's raw disparity of both eyes, refined to a fraction of a pixel like that of any other matcher."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stereo_prior.judgement import Matcher
from stereo_prior.pair import Disparity, Pair, flip
from stereo_prior.sgbm import AGREE_PX, consistent, refined

Raw = Callable[[Pair], NDArray[np.float32]]


def matcher(raw: Raw) -> Matcher:
    """Make a matcher from a function that returns the disparity (h, w), px, of a pair's reference eye.

    The other eye's is had from the mirrored pair, so that the two can be compared.
    """

    def match(pair: Pair) -> tuple[Disparity, Disparity]:
        mirrored = pair.exchanged()
        left, right_mirrored = raw(pair), raw(mirrored)
        right = flip(right_mirrored)
        own = refined(pair, left, consistent(left, right, AGREE_PX))
        other = refined(mirrored, right_mirrored, consistent(right_mirrored, flip(left), AGREE_PX))
        return own, other.mirrored()

    return match
