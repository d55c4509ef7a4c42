"""The velocity network of the pose-image flow: a small patch transformer that is told the time by adaptive norms.

Peebles and Xie 2023 (DiT), Ma et al. 2024 (SiT). One projection of the condition serves all blocks, each adds its
own offsets (Chen et al. 2024, PixArt).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 6  # of either side: rays have direction and moment, an image comes twice
_FREQUENCIES = 32
_FASTEST = 1000.0


@dataclass(frozen=True)
class NetworkShape:
    """What fixes the tensors of a network.

    Attributes:
        size: width and height of the images, px.
        patch: side of a token's square, px.
        width, depth, heads: of the transformer.
        start_variance: of the pose side, 1 + sigma squared; that of the image side is 1.
    """

    size: int = 32
    patch: int = 8
    width: int = 192
    depth: int = 5
    heads: int = 4
    start_variance: float = 1.01


class VelocityNetwork(nn.Module):
    """v(x_t, t): x (n, 6, s, s), t (n,) from 0 (pose) to 1 (image), `camera_like` (n,) bool.

    `camera_like` tells images as cameras take them (noise, other exposure, instruments) from clean renders: the
    first are inverted, the second are sampled.

    Input and output are scaled, and part of x passes by (Karras et al. 2022, table 1, for this path): at t = 1
    the transformer's output is the pose side alone, at t = 0 the image alone, each of unit variance.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        tokens, values = (shape.size // shape.patch) ** 2, CHANNELS * shape.patch**2
        self.embed = nn.Linear(values, shape.width)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, shape.width))
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, shape.width), nn.SiLU(), nn.Linear(shape.width, shape.width)
        )
        self.kind = nn.Embedding(2, shape.width)
        self.condition = nn.Linear(shape.width, 6 * shape.width)
        self.blocks = nn.ModuleList(_Block(shape.width, shape.heads) for _ in range(shape.depth))
        self.last_offset = nn.Parameter(torch.zeros(2, shape.width))
        self.last = nn.Linear(shape.width, values)
        for layer in (self.condition, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, camera_like: Tensor) -> Tensor:
        """Return the velocity (n, 6, s, s), float32."""
        start = self.shape.start_variance
        time = t[:, None, None, None]
        variance = time**2 + (1.0 - time) ** 2 * start
        passed = (time - (1.0 - time) * start) / variance
        told = functional.silu(self.time(_waves(t)) + self.kind(camera_like.long()))
        changes = self.condition(told).view(len(x), 6, -1)
        tokens = self.embed(_cut(x / variance.sqrt(), self.shape.patch)) + self.places
        for block in self.blocks:
            tokens = block(tokens, changes)
        shift, scale = (changes[:, :2] + self.last_offset).unbind(1)
        out = self.last(_modulated(tokens, shift, scale))
        return passed * x + (start / variance).sqrt() * _joined(out.float(), self.shape.patch)


class _Block(nn.Module):
    """Attention and a two-layer network, both shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offsets = nn.Parameter(0.02 * torch.randn(6, width))
        self.look = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, changes: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = (changes + self.offsets).unbind(1)
        tokens = tokens + gate_a[:, None] * self._attend(_modulated(tokens, shift_a, scale_a))
        return tokens + gate_b[:, None] * self.think(_modulated(tokens, shift_b, scale_b))

    def _attend(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        query, key, value = self.look(tokens).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # In float32: on the CPU the derivative of attention in bfloat16 takes 20 times as long.
        with torch.autocast(tokens.device.type, enabled=False):
            seen = functional.scaled_dot_product_attention(query.float(), key.float(), value.float())
        return self.mix(seen.transpose(1, 2).reshape(count, length, width))


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normal = functional.layer_norm(tokens, tokens.shape[-1:])
    return normal * (1.0 + scale[:, None]) + shift[:, None]


def _waves(t: Tensor) -> Tensor:
    """Return sines and cosines (n, 2 * frequencies) of a time in [0, 1]."""
    rates = torch.exp(torch.linspace(0.0, math.log(_FASTEST), _FREQUENCIES, device=t.device))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _cut(x: Tensor, patch: int) -> Tensor:
    """Return the patches (n, tokens, 6 * patch * patch) of x (n, 6, s, s)."""
    count, channels, size, _ = x.shape
    along = size // patch
    parts = x.view(count, channels, along, patch, along, patch).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(count, along * along, channels * patch * patch)


def _joined(patches: Tensor, patch: int) -> Tensor:
    """Return (n, 6, s, s) from what `_cut` makes."""
    count, tokens, _ = patches.shape
    along = math.isqrt(tokens)
    parts = patches.view(count, along, along, CHANNELS, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(count, CHANNELS, along * patch, along * patch)
