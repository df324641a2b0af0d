"""Fake quantization: training sees the rounding that the deployed INT8 kernels will do.

Our own, because it must round as the target does. torchao 0.18's QAT covers Linear and Embedding only (no convolution)
and rounds activations per token; ONNX Runtime rounds them per tensor, and CNNs are what static INT8 is for.
The rounding itself, with straight-through gradients, is torch's (`torch.fake_quantize_per_*_affine`).

Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.
Differs: BatchNorm is not folded first; a scale per output channel makes rounding before and after folding the same.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

ACTIVATION_LEVELS = 255
AVERAGE = 0.95  # weight of the past in the running range of a static activation


class FakeWeight(nn.Module):
    """Round a weight to symmetric INT8, one scale per output (row of the first axis).

    Formula: w' = s · clip(round(w / s), -limit, limit), s = max|w| / limit.

    Args:
        limit: 127, or 64 where the target uses 7-bit weights.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, weight: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
        """Return the rounded weight."""
        with torch.no_grad():
            most = weight.abs().flatten(1).amax(dim=1)
            scale = torch.where(most > 0, most, torch.ones_like(most)).float() / self.limit
            zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.limit, self.limit)


class FakeActivation(nn.Module):
    """Round an activation (or an embedding table) to UINT8, one range per tensor that includes 0.

    Formula: x' = s · (clip(round(x / s) + z, 0, 255) - z), s = (high - low) / 255, z = round(-low / s).

    Args:
        ranges: dynamic takes the range of the tensor at hand; static a running average over training batches.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, ranges: Literal["dynamic", "static"]) -> None:
        super().__init__()
        self.ranges = ranges
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded activation, of any shape, in fp32."""
        x = x.float()
        with torch.no_grad():
            low, high = self._range(x.detach())
            span = high - low
            scale = torch.where(span > 0, span, torch.ones_like(span)) / ACTIVATION_LEVELS
            zero = torch.round(-low / scale).clamp(0, ACTIVATION_LEVELS).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, ACTIVATION_LEVELS)

    def _range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.clamp(x.min(), max=0.0), torch.clamp(x.max(), min=0.0)
        if self.ranges == "dynamic":
            return low, high
        if self.training:
            keep = AVERAGE if int(self.seen) else 0.0
            self.low.mul_(keep).add_(low, alpha=1 - keep)
            self.high.mul_(keep).add_(high, alpha=1 - keep)
            self.seen += 1
        return (self.low, self.high) if int(self.seen) else (low, high)


class Rounding:
    """The fake quantization of one module; take it off before saving.

    Args:
        module: changed in place; Linear, Conv2d and Embedding round from now on.
        ranges: how the target finds activation ranges.
        limit: largest weight integer of the target.
        left: names of modules that do not round.
    """

    def __init__(
        self,
        module: nn.Module,
        ranges: Literal["dynamic", "static"],
        limit: int = 127,
        left: frozenset[str] = frozenset(),
    ) -> None:
        self.rounded: list[nn.Module] = []
        self.handles: list[Any] = []
        self.activations = nn.ModuleList()
        for name, part in list(module.named_modules()):
            if isinstance(part, nn.Linear | nn.Conv2d | nn.Embedding) and name not in left:
                self._round(part, ranges, limit)

    def _round(self, part: nn.Module, ranges: Literal["dynamic", "static"], limit: int) -> None:
        lookup = isinstance(part, nn.Embedding)
        fake_weight = FakeActivation("dynamic") if lookup else FakeWeight(limit)
        parametrize.register_parametrization(part, "weight", fake_weight)
        self.rounded.append(part)
        if lookup:
            return
        fake = FakeActivation(ranges)
        self.activations.append(fake)

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (fake(inputs[0]), *inputs[1:])

        self.handles.append(part.register_forward_pre_hook(before))

    def remove_(self) -> None:
        """Take the fake quantization off; the weights are the trained ones, not rounded."""
        for handle in self.handles:
            handle.remove()
        for part in self.rounded:
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=False)
        self.handles, self.rounded = [], []
