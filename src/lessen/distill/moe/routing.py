"""Which experts of a teacher speak: its own choice, all of them, or one fewer, now and then drawn (KA).

H are the router's logits of one token at one layer, N the experts, s the factor of the weights (1 in most models,
routed_scaling_factor in DeepSeek-V2)::

    frozen   the model's own choice and weights, untouched
    all      s · softmax(H), all N experts
    ka       s · softmax(KA(H, E)); KA(H, E)_i = H_i where i in E, else −inf; E has N − 1 experts: the likeliest,
             or with probability sample_frac drawn from softmax(H) without replacement

Source: Kim et al. 2025, Every Expert Matters, https://arxiv.org/abs/2502.12947, eqs. 7, 8 and algorithm 1. Draws are
those of sequential sampling: the N − 1 largest of H + Gumbel noise. Under `all` and `ka` weights add up to s also where
the model's own do not (Qwen2-MoE, OLMoE, DeepSeek-V2 leave the probability of experts that are not chosen unused), and
limits to groups of experts (DeepSeek-V2) do not hold: they save messages between devices, and are no part of H. Shared
experts speak as always.

Works for Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, DeepSeek-V2, GraniteMoE, and whatever answers as they do. Refused, since
their weights are no softmax of logits: DeepSeek-V3 (sigmoids and a correction of the choice), Phi-MoE (two masked
softmaxes, which add up to 2); since nothing of that form is answered: JetMoE (experts of attention, a fixed number of
queries) and Switch (one expert of limited capacity).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lessen.distill.divergence import wide
from lessen.distill.moe.routers import Router, refuse_unchangeable, routers
from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Distill

How = Literal["frozen", "all", "ka"]
HOWS = ("frozen", "all", "ka")
See = Callable[[Router, Tensor, Tensor], None]  # a router, its logits [tokens, experts], its own choice [tokens, k]


@contextmanager
def routing(
    module: nn.Module,
    how: How,
    *,
    sample_frac: float = 0.05,
    found: Sequence[Router] | None = None,
    see: See | None = None,
) -> Iterator[None]:
    """Have the experts of one model chosen otherwise for as long as this is open; afterwards, or on error, as before.

    Random numbers come from torch's own generator, the same ones whatever is drawn.

    Args:
        module: a stock language model.
        how: frozen, all, ka; see the module's first lines.
        sample_frac: ka: probability, for each token and layer, that the experts are drawn.
        found: what `routers(module)` returned; looked up where absent.
        see: told of each router's logits (with a graph) and own choice, at each pass.

    Raises:
        RecipeError: there is no such way.
        ModelError: the model has no routers, or their choice cannot be changed.
    """
    if how not in HOWS or not 0 <= sample_frac <= 1:
        raise RecipeError(
            f"routing is {how!r} with sample_frac {sample_frac:g}",
            f"use one of {', '.join(HOWS)} and a share between 0 and 1",
        )
    there = routers(module) if found is None else found
    if how != "frozen":
        refuse_unchangeable(there, how)
    handles = []
    try:
        for router in there:
            if how != "frozen" or see is not None:
                handles.append(router.module.register_forward_hook(_hook(router, how, sample_frac, see)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def routed(module: nn.Module, cfg: Distill) -> tuple[list[Router], Callable[[], AbstractContextManager[None]]]:
    """Return a teacher's routers, and what opens the routing of a recipe: distill.router all, ka, sar (all), frozen.

    Raises:
        ModelError: the teacher has no routers, or their choice cannot be changed.
    """
    found = routers(module)
    asked = str(cfg.router)
    how: How = "all" if asked in ("all", "sar") else "ka" if asked == "ka" else "frozen"
    if how != "frozen":
        refuse_unchangeable(found, asked)
    return found, partial(routing, module, how, sample_frac=cfg.moe.sample_frac, found=found)


def _hook(router: Router, how: How, sample_frac: float, see: See | None) -> Callable[..., Any]:
    def changed(part: nn.Module, args: Any, answer: tuple[Tensor, Tensor, Tensor]) -> Any:
        logits, weights, chosen = answer
        if see is not None:
            see(router, logits, chosen)
        if how == "frozen":
            return None
        experts = _all(logits) if how == "all" else _ka(logits, sample_frac)
        new = router.scale * wide(logits).gather(1, experts).softmax(dim=-1)
        return logits, new.to(weights.dtype), experts.to(chosen.dtype)

    return changed


def _all(logits: Tensor) -> Tensor:
    """Return every expert for every token, [tokens, experts]."""
    return torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)


def _ka(logits: Tensor, sample_frac: float) -> Tensor:
    """Return N − 1 experts for every token: the likeliest, or with some probability drawn without replacement."""
    h = wide(logits.detach())
    noise = -torch.empty_like(h).exponential_().log()  # Gumbel
    drawn = torch.rand(len(h), 1, device=h.device) < sample_frac
    return torch.where(drawn, h + noise, h).topk(h.shape[1] - 1, dim=-1).indices
