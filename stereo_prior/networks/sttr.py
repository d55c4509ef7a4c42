"""The Stereo Transformer: disparity by attention along rows, made unique by optimal transport.

Li et al., Revisiting Stereo Depth Estimation From a Sequence-to-Sequence Perspective with Transformers, ICCV 2021.
Modules are named so that the published checkpoints load. Rows never attend to each other, so they are worked on in
portions: memory does not grow with the height of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stereo_prior.networks.sttr_context import ContextAdjustment
from stereo_prior.networks.sttr_features import Backbone, Tokenizer

CHANNELS, HEADS, LAYERS = 128, 8, 6
_SINKHORN_STEPS = 10
_LEAST_MATCHED = 0.1  # attention around the best match below this is left as it is: nothing was found
_BYTES = 400 * 2**20  # of one attention map of all heads; several live at a time


@dataclass(frozen=True, eq=False)
class Stereo:
    """What the network finds in a pair of images (b, 3, h, w), on the left image's pixels.

    Attributes:
        disparity_px: (b, h, w), not clamped.
        occlusion: (b, h, w), 0 to 1; 1: the right eye does not see it.
        coarse_px: (b, rows, columns) disparity of the sampled tokens before the context is looked at, in px of the
            full image.
        transport: (b, rows, columns + 1, columns + 1) optimal transport between left and right tokens, the last
            of each the dustbin; only when asked for.
    """

    disparity_px: Tensor
    occlusion: Tensor
    coarse_px: Tensor
    transport: Tensor | None = None


class _Attention(nn.Module):
    """Multi-head attention along a row whose logits also see the distance between two positions (section 3.2)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, query: Tensor, source: Tensor, distance: Tensor, forbidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return updates (r, w, c) of the queries and the logits (r, w, w) summed over the heads.

        Args:
            query: (r, w, c) tokens of rows.
            source: (r, w, c) tokens that are attended to.
            distance: (2 w - 1, c) encoding of query column - source column, from w - 1 down to 1 - w.
            forbidden: (w, w) bool, pairs that must not match.
        """
        rows, width, channels = query.shape
        to_query, to_key, to_value = self.in_proj_weight.chunk(3)
        bias_query, bias_key, bias_value = self.in_proj_bias.chunk(3)
        scale = (channels // self.heads) ** -0.5
        q = self._split(functional.linear(query, to_query, bias_query) * scale)
        k = self._split(functional.linear(source, to_key, bias_key))
        v = self._split(functional.linear(source, to_value, bias_value))
        q_far = self._split(functional.linear(distance, to_query, bias_query)[None] * scale)
        k_far = self._split(functional.linear(distance, to_key, bias_key)[None])
        logits = q @ k.transpose(-1, -2)
        logits = logits + _along_diagonals(q @ k_far.transpose(-1, -2))
        # for the key's own row of positions the distance runs the other way
        logits = logits + _along_diagonals(k @ q_far.flip(-2).transpose(-1, -2)).transpose(-1, -2)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, -torch.inf)
        mixed = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(rows, width, channels)
        return self.out_proj(mixed), logits.sum(dim=1)

    def _split(self, values: Tensor) -> Tensor:
        """Return (r, heads, n, c / heads) from (r, n, c)."""
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _along_diagonals(values: Tensor) -> Tensor:
    """Return (..., w, w) whose entry (i, j) is values[..., i, w - 1 - i + j], of values (..., w, 2 w - 1)."""
    width = values.shape[-2]
    flat = values.flatten(-2)[..., width - 1 : width - 1 + width * (2 * width - 2)] if width > 1 else None
    return values if flat is None else flat.unflatten(-1, (width, 2 * width - 2))[..., :width]


class _SelfLayer(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = _Attention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, distance: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        return tokens + self.self_attn(normed, normed, distance)[0]


class _CrossLayer(nn.Module):
    """The right row looks at the left one, then the left row at the right one so renewed."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = _Attention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(
        self, left: Tensor, right: Tensor, distance: Tensor, forbidden: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        normed_left = self.norm1(left)
        right = right + self.cross_attn(self.norm1(right), normed_left, distance.flip(0))[0]
        update, logits = self.cross_attn(normed_left, self.norm2(right), distance, forbidden)
        return left + update, right, logits


class Transformer(nn.Module):
    """Six times: each row of each eye looks at itself, then at the other eye's."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn_layers = nn.ModuleList([_SelfLayer(CHANNELS, HEADS) for _ in range(LAYERS)])
        self.cross_attn_layers = nn.ModuleList([_CrossLayer(CHANNELS, HEADS) for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(CHANNELS)  # in the published checkpoints, and unused there too

    def forward(self, left: Tensor, right: Tensor, stride: float) -> Tensor:
        """Return logits (r, w, w) that left tokens (r, w, c) match right ones; -inf right of the left column."""
        rows, width, channels = left.shape
        distance = encode_distances(width, stride, channels, left)
        behind = torch.ones(width, width, dtype=torch.bool, device=left.device).triu(1)
        logits = left.new_empty(0)
        for number, (own, cross) in enumerate(zip(self.self_attn_layers, self.cross_attn_layers, strict=True)):
            both = own(torch.cat([left, right]), distance)
            last = number == LAYERS - 1
            left, right, logits = cross(both[:rows], both[rows:], distance, behind if last else None)
        return logits


def encode_distances(width: int, stride: float, channels: int, like: Tensor) -> Tensor:
    """Return sines and cosines (2 width - 1, channels) of distances from width - 1 down, times stride."""
    distances = torch.arange(width - 1, -width, -1, dtype=like.dtype, device=like.device) * stride
    exponents = torch.arange(0, channels, 2, dtype=like.dtype, device=like.device) / channels
    angles = distances[:, None] / 10_000**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class RegressionHead(nn.Module):
    """From logits to disparity and occlusion."""

    def __init__(self) -> None:
        super().__init__()
        self.cal = ContextAdjustment()
        self.phi = nn.Parameter(torch.zeros(()))  # logit of the dustbin

    def transport(self, logits: Tensor) -> Tensor:
        """Return the optimal transport (r, w + 1, w + 1) of logits (r, w, w), rows summing to 1 (section 3.3).

        Entropy-regularised, by Sinkhorn's iterations in log space; the dustbins take what has no partner.
        """
        rows, width, _ = logits.shape
        padded = functional.pad(logits, (0, 1, 0, 1))
        inside = functional.pad(torch.ones_like(logits, dtype=torch.bool), (0, 1, 0, 1))
        padded = torch.where(inside, padded, self.phi)
        marginal = logits.new_full((width + 1,), -math.log(2 * width))
        marginal[-1] = math.log(0.5)
        u = logits.new_zeros(rows, width + 1)
        v = u
        for _ in range(_SINKHORN_STEPS):
            v = marginal - torch.logsumexp(padded + u[:, :, None], dim=1)
            u = marginal - torch.logsumexp(padded + v[:, None, :], dim=2)
        return torch.exp(padded + u[:, :, None] + v[:, None, :] + math.log(2 * width))

    @staticmethod
    def regress(transport: Tensor) -> tuple[Tensor, Tensor]:
        """Return disparity (r, w), in columns, around the best match, and how much is matched there."""
        matched = transport[:, :-1, :-1]
        width = matched.shape[-1]
        best = matched.argmax(dim=-1, keepdim=True)
        columns = best + torch.arange(-1, 2, device=best.device)
        inside = (columns >= 0) & (columns < width)
        weights = torch.where(inside, matched.gather(-1, columns.clamp(0, width - 1)), 0.0)
        total = weights.sum(dim=-1)
        total = torch.where(total < _LEAST_MATCHED, torch.ones_like(total), total)
        here = torch.arange(width, device=best.device)[None, :, None]
        disparities = (here - columns).clamp(min=0)
        return (weights / total[..., None] * disparities).sum(dim=-1), total


class STTR(nn.Module):
    """The whole network. Input: RGB normalised by ImageNet's mean and deviation, rectified, disparities >= 0."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.tokenizer = Tokenizer(CHANNELS)
        self.transformer = Transformer()
        self.regression_head = RegressionHead()

    def forward(self, left: Tensor, right: Tensor, stride: int, *, keep_transport: bool = False) -> Stereo:
        """Match pairs of images.

        Args:
            left, right: (b, 3, h, w), sides of 128 px or more.
            stride: px between the tokens that are matched, along both axes, from stride // 2 on; 1: all.
            keep_transport: return the transport too, for losses.
        """
        height, width = left.shape[-2:]
        columns = torch.arange(first_sample(stride), width, stride, device=left.device)
        rows = torch.arange(first_sample(stride), height, stride, device=left.device)
        tokens = self.tokens(left, right)[..., rows, :][..., columns] if stride > 1 else self.tokens(left, right)
        return self.match(left, tokens, width / tokens.shape[-1], keep_transport=keep_transport)

    def tokens(self, left: Tensor, right: Tensor) -> Tensor:
        """Return tokens (2 b, c, h, w), the left images first."""
        images = torch.cat([left, right])
        return self.tokenizer(images, self.backbone(images))

    def match(self, left: Tensor, tokens: Tensor, stride: float, *, keep_transport: bool = False) -> Stereo:
        """Match tokens (2 b, c, rows, columns) that lie `stride` px apart in the images `left` (b, 3, h, w)."""
        batch, _, height, width = left.shape
        lines = tokens.permute(0, 2, 3, 1)  # (2 b, rows, columns, c)
        left_lines, right_lines = lines[:batch].flatten(0, 1), lines[batch:].flatten(0, 1)
        columns = lines.shape[2]
        at_once = max(1, _BYTES // (4 * HEADS * columns * (2 * columns - 1) * 2))
        parts = [
            self._match_rows(left_lines[start : start + at_once], right_lines[start : start + at_once], stride)
            for start in range(0, len(left_lines), at_once)
        ]
        coarse = torch.cat([part[0] for part in parts]).unflatten(0, (batch, -1)) * stride
        occlusion = 1.0 - torch.cat([part[1] for part in parts]).unflatten(0, (batch, -1))
        transport = torch.cat([part[2] for part in parts]).unflatten(0, (batch, -1)) if keep_transport else None
        if stride == 1:
            return Stereo(coarse, occlusion, coarse, transport)
        size = (height, width)
        dense = functional.interpolate(coarse[:, None], size)
        mean, spread = dense.mean(), dense.std() + 1e-6
        hidden = functional.interpolate(occlusion[:, None], size)
        adjusted, hidden = self.regression_head.cal((dense - mean) / spread, 2.0 * hidden - 1.0, left)
        return Stereo((adjusted * spread + mean)[:, 0], hidden[:, 0], coarse, transport)

    def _match_rows(self, left: Tensor, right: Tensor, stride: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return disparity (r, w) in tokens, the share matched, and the transport, of rows (r, w, c)."""
        transport = self.regression_head.transport(self.transformer(left, right, stride))
        disparity, matched = RegressionHead.regress(transport)
        return disparity, matched, transport


def first_sample(stride: int) -> int:
    """Return the first sampled column and row: the middle of the first cell."""
    return stride // 2
