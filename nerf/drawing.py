"""Draw pixels with probability proportional to a weight."""

from __future__ import annotations

import torch
from torch import Tensor

# More candidates than are expected to be needed, by this share and this number, so that one round mostly does.
SPARE, AT_LEAST = 1.15, 64
MOST_ROUNDS = 50
SURVEYED = 1_000_000  # weights that tell how many candidates are accepted


class Drawing:
    """Draws from weights (p,) in [0, 1].

    On the CPU by rejection, which needs no room of its own. On a GPU by the sums up to each pixel: nothing there
    depends on how many were rejected, so the host never waits for an answer.
    """

    def __init__(self, weight: Tensor) -> None:
        self.sums: Tensor | None = None
        if weight.device.type == "cpu":
            self.weight = weight
            some = weight[:: max(len(weight) // SURVEYED, 1)]
            self.expected = max(float(some.float().mean()), 1e-3)
        else:
            self.sums = torch.cumsum(weight, 0, dtype=torch.float64)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` pixels; where hardly any has a weight, some of them more than once."""
        if self.sums is not None:
            places = torch.rand(count, generator=generator, device=self.sums.device, dtype=torch.float64)
            found = torch.searchsorted(self.sums, places * self.sums[-1], right=True)
            return found.clamp(max=len(self.sums) - 1)
        return self._by_rejection(count, generator)

    def _by_rejection(self, count: int, generator: torch.Generator) -> Tensor:
        kept: list[Tensor] = []
        missing = count
        for _ in range(MOST_ROUNDS):
            tried = int(SPARE * missing / self.expected) + AT_LEAST
            candidates = torch.randint(len(self.weight), (tried,), generator=generator)
            accept = torch.rand(tried, generator=generator) < self.weight[candidates]
            kept.append(candidates[accept][:missing])
            missing -= len(kept[-1])
            if missing == 0:
                break
        drawn = torch.cat(kept)
        return drawn if missing == 0 else drawn.repeat(-(-count // max(len(drawn), 1)))[:count]
