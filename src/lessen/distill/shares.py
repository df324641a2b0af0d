"""Which term of the loss moves the student: each term's share of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lessen.context import Context

FAINT = 0.01  # below this share the teacher has no say


class Shares(nn.Module):
    """Gradient norms of the terms at the first step of each epoch, on one micro-batch.

    Its buffers are in the checkpoint, so a resumed run tells the same. Costs one backward pass per term and epoch.
    """

    first: Tensor
    last: Tensor
    epoch: Tensor

    def __init__(self, terms: Sequence[str], taught: Sequence[str], ctx: Context) -> None:
        """Watch `terms`, of which `taught` come from the teacher."""
        super().__init__()
        self.terms, self.taught, self.ctx = tuple(terms), frozenset(taught), ctx
        self.register_buffer("first", torch.zeros(len(self.terms)))
        self.register_buffer("last", torch.zeros(len(self.terms)))
        self.register_buffer("epoch", torch.tensor(-1))

    def due(self, epoch: int) -> bool:
        """Whether this epoch has not been measured."""
        return torch.is_grad_enabled() and int(self.epoch) < epoch

    def measure(self, values: Mapping[str, Tensor], parameters: Sequence[Tensor], epoch: int) -> None:
        """Take the gradient norm of each weighted term; the graph is kept for the step's own backward pass."""
        norms = torch.stack([_norm(values[name].mean(), parameters) for name in self.terms]).to(self.last.device)
        if int(self.epoch) < 0:
            self.first.copy_(norms)
        self.last.copy_(norms)
        self.epoch.fill_(epoch)
        self._speak(values, epoch)

    def facts(self) -> dict[str, dict[str, float]]:
        """Return the shares at the first step and in the epoch whose weights were kept."""
        return {"first": self._shares(self.first), "kept": self._shares(self.last)}

    def _shares(self, norms: Tensor) -> dict[str, float]:
        total = float(norms.sum())
        return {n: float(v) / total if total else 0.0 for n, v in zip(self.terms, norms, strict=True)}

    def _speak(self, values: Mapping[str, Tensor], epoch: int) -> None:
        shares = self._shares(self.last)
        text = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        taught = sum(share for name, share in shares.items() if name in self.taught)
        left = ", ".join(f"{name} {float(v.detach().mean()):.2g}" for name, v in values.items() if name in self.taught)
        if taught < FAINT:
            self.ctx.say(
                f"epoch {epoch}: the teacher moves the student by {taught:.2%} of the gradient ({text}; loss {left}): "
                "it has nothing more to teach, or distill.alpha, the temperature or the feature weights are too small",
                "warning",
            )
        else:
            self.ctx.say(f"epoch {epoch}: gradient shares: {text}")


def _norm(value: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    if not value.requires_grad:
        return torch.zeros((), device=value.device)
    grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    squares = [g.float().square().sum() for g in grads if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=value.device)
