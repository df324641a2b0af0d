"""Mixtures of experts: score, remove and merge experts.

Scores follow SEER-MoE (Muzio et al. 2024, arXiv 2404.05089: counted and gate-weighted usage) and REAP (Lasby et al.
2025, arXiv 2510.13999: gate weight times output norm); merging follows M-SMoE (Li et al. 2024, arXiv 2310.01334: groups
around the most used experts by likeness of router logits, usage-weighted averages). Unlike there, every layer keeps the
same number of experts, which is what a configuration can state, and units are not permuted before they are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lessen.errors import ModelError
from lessen.models.groups import layers, settle_
from lessen.models.modes import evaluating

if TYPE_CHECKING:
    from lessen.models import Model

ROWS = 4096  # router inputs that are kept of each layer
RIDGE = 1e-4  # of the mean squared input, where a router's row is fitted


@dataclass(frozen=True)
class Usage:
    """What the real tokens of some batches did at one layer; float64 [experts] unless said."""

    tokens: int
    counts: Tensor  # tokens that were sent to each expert
    gates: Tensor  # sum of the weights that its output got
    outputs: Tensor  # sum of weight x L2 norm of its output
    gram: Tensor  # [experts, experts]: inner products of router logits over tokens
    inputs: Tensor  # [rows, width]: what the router read, of the first 4096 tokens
    sections: int = 1  # groups of experts among which a token is sent first


def blocks(model: Model) -> dict[int, nn.Module]:
    """Return the mixture of experts of each layer that has one, by the layer's number.

    Raises:
        ModelError: there is none.
    """
    paths = enumerate(layers(model))
    parts = {i: model.module.get_submodule(f"{p}.mlp") for i, p in paths if _has_block(model.module, f"{p}.mlp")}
    found = {i: part for i, part in parts.items() if hasattr(part, "experts") and hasattr(part, "gate")}
    if not found:
        raise ModelError(f"{model.info.source} ({model.info.family}) has no experts", "give a mixture of experts")
    return found


def observe(model: Model, batches: Iterable[Mapping[str, Tensor]]) -> dict[int, Usage]:
    """Return what the tokens of some batches do at each layer's experts, by layer; padding does not count.

    Args:
        model: run in evaluation mode, which is put back.
        batches: module inputs of training data; `targets` is left out.

    Raises:
        ModelError: there are no real tokens, or no experts.
    """
    parts = blocks(model)
    watched = {i: _Watch(part) for i, part in parts.items()}
    with evaluating(model.module), _watching(watched), torch.no_grad():
        for batch in batches:
            inputs = {k: v for k, v in batch.items() if k != "targets"}
            for watch in watched.values():
                watch.real = real(inputs)
            model.module(**inputs)
    if not all(watch.tokens for watch in watched.values()):
        raise ModelError("the batches hold no real tokens", "give batches of training data")
    return {i: watch.usage() for i, watch in watched.items()}


def scores(usage: Usage, how: Literal["frequency", "usage", "reap"]) -> Tensor:
    """Return what each expert is worth, float64 [experts].

    Formulas, over the tokens x sent to an expert with weight g(x):
        frequency: share of tokens sent to it
        usage: frequency x mean g(x)
        reap: mean of g(x) |E(x)|; 0 where none is sent
    """
    if how == "frequency":
        return usage.counts / usage.tokens
    return usage.gates / usage.tokens if how == "usage" else usage.outputs / usage.counts.clamp(min=1)


def best(usage: Mapping[int, Usage], count: int, how: Literal["frequency", "usage", "reap"]) -> dict[int, list[int]]:
    """Return the `count` experts of each layer that are worth most, in their order; ties: the earlier.

    Where tokens are sent to groups of experts first, each group keeps the same number.

    Raises:
        ModelError: there are fewer, or `count` cannot be shared among the groups.
    """
    found = {}
    for layer, u in usage.items():
        if not 1 <= count <= len(u.counts) or count % u.sections:
            raise ModelError(
                f"{count} experts are to stay in layer {layer}; there are {len(u.counts)}, in {u.sections} groups",
                f"give a multiple of {u.sections}, at most {len(u.counts)}",
            )
        worth, size = scores(u, how).reshape(u.sections, -1), len(u.counts) // u.sections
        order = [[s * size + e for e in _ranked(worth[s])[: count // u.sections]] for s in range(u.sections)]
        found[layer] = sorted(e for section in order for e in section)
    return found


def similar(usage: Mapping[int, Usage], count: int) -> dict[int, list[list[int]]]:
    """Return `count` groups of experts of each layer: each of the others joins the most used one it is most like.

    Likeness is the cosine of two experts' router logits over tokens (M-SMoE, section 3.2).
    """
    found = {}
    for layer, u in usage.items():
        order = _ranked(u.gates)
        norm = u.gram.diagonal().clamp(min=1e-30).sqrt()
        like = u.gram / norm[:, None] / norm
        leaders = order[:count]
        made = {leader: [leader] for leader in leaders}
        for one in order[count:]:
            made[leaders[int(like[one, leaders].argmax())]].append(one)
        found[layer] = sorted(sorted(group) for group in made.values())
    return found


def prune_experts_(model: Model, keep: Mapping[int, Sequence[int]]) -> None:
    """Keep only some experts: their weights, their rows of the router; fewer experts a token where fewer are left.

    Answers stay the same where no token was sent to what goes and the weights of those chosen add up to one
    (Mixtral, Qwen3 with norm_topk_prob) or do not depend on the others (DeepSeek-V3). The other routers divide by the
    probability of all experts, so that what goes must also have had none.

    Args:
        model: pruned in place.
        keep: experts of every layer that has some, the same number of each.

    Raises:
        ModelError: a layer is missing, the numbers differ, one is out of range, or routing goes by groups of experts
            and the groups would not stay alike.
    """
    parts = blocks(model)
    _check_layers(parts, keep)
    if len({len(kept) for kept in keep.values()}) != 1:
        raise ModelError(
            f"experts to keep: {', '.join(f'{len(k)} in layer {i}' for i, k in keep.items())}",
            "keep the same number in each layer: the configuration has one number for all",
        )
    chosen = {i: _checked(i, parts[i], keep[i]) for i in parts}
    for i, part in parts.items():
        index = torch.as_tensor(chosen[i])
        _rebuild_(part, lambda tensor, index=index: tensor.index_select(0, index.to(tensor.device)))
    settle_(model)


def merge_experts_(
    model: Model,
    merged: Mapping[int, Sequence[Sequence[int]]],
    weights: Mapping[int, Tensor],
    inputs: Mapping[int, Tensor] | None = None,
) -> None:
    """Replace groups of experts by their averages, weighted by usage; in place.

    A group should be sent what its members were: its probability is the sum of theirs, so its router logit the
    log of the sum of their exponentials. A router's row is linear in its input and has no bias: it is the weighted
    average of the members' rows, exact (up to what all groups share) for groups of the same size with the same rows;
    with `inputs`, least squares then brings it nearer to that sum. Nothing changes where merged experts are the same,
    routing is exact and every token is sent to all of them.

    Args:
        merged: groups of every layer that has experts; each expert in one group, as many groups in each layer.
        weights: of the experts of each layer, [experts], at least 0: for example `Usage.gates`.
        inputs: what each layer's router reads, [rows, width]: `Usage.inputs`. Softmax routers only.

    Raises:
        ModelError: the groups do not divide the experts, or routing goes by groups of experts.
    """
    parts = blocks(model)
    _check_layers(parts, merged)
    if len({len(found) for found in merged.values()}) != 1:
        raise ModelError("layers have different numbers of groups", "make the same number in each layer")
    for i, part in parts.items():
        count = len(_weights(part))
        if sorted(e for group in merged[i] for e in group) != list(range(count)) or not all(merged[i]):
            raise ModelError(f"layer {i}: the groups do not hold each of {count} experts once", "give each to one")
        if (_sections(part) or 1) > 1:
            raise ModelError(f"layer {i} routes by groups of experts, which merging mixes", "prune experts instead")
    for i, part in parts.items():
        shares = _shares(merged[i], weights[i])
        router: Any = part.gate
        old = router.weight.detach().double()
        _rebuild_(part, lambda tensor, shares=shares: _averaged(tensor, shares))
        if inputs is not None and not hasattr(router, "e_score_correction_bias"):
            _fit_router_(router, old, shares, inputs[i].double())
    settle_(model)


def real(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Return which positions hold real tokens, bool [batch x tokens]; none: all do.

    Of packed rows (mask [batch, 1, tokens, tokens]) those that see or are seen by another; a piece of one token counts
    as padding.
    """
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim == 2:
        return None if mask is None else mask.bool().reshape(-1)
    seen = mask[:, 0].bool()
    return ((seen.sum(-1) > 1) | (seen.sum(-2) > 1)).reshape(-1)


class _Watch:
    """Sums over the tokens that pass one mixture of experts."""

    def __init__(self, block: Any) -> None:
        self.block, self.experts = block, block.experts
        count, width = len(self.experts.down_proj), self.experts.down_proj.shape[1]
        self.counts, self.gates, self.outputs = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
        self.gram, self.inputs = torch.zeros(count, count, dtype=torch.float64), torch.zeros(0, width)
        self.tokens = 0
        self.real: Tensor | None = None

    def routed(self, router: nn.Module, args: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        """See router logits, [tokens, experts]."""
        keep = slice(None) if self.real is None else self.real
        logits = out[0].double()[keep].cpu()
        self.gram += logits.T @ logits
        self.tokens += len(logits)
        rows = args[0].reshape(-1, args[0].shape[-1])[keep][: ROWS - len(self.inputs)]
        self.inputs = torch.cat([self.inputs, rows.float().cpu()])

    def sent(self, experts: nn.Module, args: tuple[Tensor, ...]) -> None:
        """See what goes to the experts: states [tokens, width], chosen experts and their weights [tokens, k]."""
        states, chosen, weights = args
        keep = torch.ones(len(states), dtype=torch.bool, device=states.device) if self.real is None else self.real
        for expert in sorted(set(chosen[keep].flatten().tolist())):
            token, place = torch.where((chosen == expert) & keep[:, None])
            gate = weights[token, place].double()
            norm = output(self.experts, expert, states[token]).double().norm(dim=-1)
            self.counts[expert] += len(token)
            self.gates[expert] += float(gate.sum())
            self.outputs[expert] += float((gate * norm).sum())

    def usage(self) -> Usage:
        """Return the sums."""
        sums = (self.counts, self.gates, self.outputs, self.gram)
        return Usage(self.tokens, *sums, self.inputs, _sections(self.block) or 1)


def output(experts: Any, expert: int, states: Tensor) -> Tensor:
    """Return what one expert makes of states [tokens, width]."""
    gate, up = functional.linear(states, experts.gate_up_proj[expert]).chunk(2, dim=-1)
    made: Tensor = functional.linear(experts.act_fn(gate) * up, experts.down_proj[expert])
    return made


@contextmanager
def _watching(watched: Mapping[int, _Watch]) -> Iterator[None]:
    handles = []
    for watch in watched.values():
        handles.append(watch.block.gate.register_forward_hook(watch.routed))
        handles.append(watch.experts.register_forward_pre_hook(watch.sent))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _has_block(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def _weights(part: Any) -> Tensor:
    weights: Tensor = part.experts.down_proj
    return weights


def _ranked(values: Tensor) -> list[int]:
    order: list[int] = torch.argsort(values, descending=True, stable=True).tolist()
    return order


def _check_layers(parts: Mapping[int, nn.Module], given: Mapping[int, Any]) -> None:
    if set(parts) != set(given):
        raise ModelError(f"layers given are {sorted(given)}; experts are in {sorted(parts)}", "give each of these")


def _checked(layer: int, part: Any, keep: Sequence[int]) -> list[int]:
    count, kept = len(_weights(part)), sorted(set(keep))
    if not kept or len(kept) != len(keep) or kept[0] < 0 or kept[-1] >= count:
        raise ModelError(
            f"layer {layer}: experts to keep are {list(keep)}; there are 0..{count - 1}", "keep at least one, once each"
        )
    sections = _sections(part)
    if sections is not None:
        size = count // sections
        held = {sum(e // size == s for e in kept) for s in range(sections)}
        least = 2 if hasattr(part.gate, "e_score_correction_bias") else 1  # a group is judged by its best two
        if len(held) != 1 or min(held) < least:
            raise ModelError(
                f"layer {layer} routes by {sections} groups of {size} experts; kept are {kept}",
                f"keep the same number of each group, at least {least}",
            )
    return kept


def _sections(part: Any) -> int | None:
    """Return the groups of experts among which a token is sent first; none: it is sent to experts at once."""
    gate = part.gate
    if getattr(gate, "topk_method", "group_limited_greedy") != "group_limited_greedy":
        return None
    return getattr(gate, "num_group", None)


def _rebuild_(part: Any, change: Any) -> None:
    """Apply a change along the experts to all tensors that have one entry an expert."""
    for owner, leaf in ((part.experts, "gate_up_proj"), (part.experts, "down_proj"), (part.gate, "weight")):
        old = getattr(owner, leaf)
        setattr(owner, leaf, nn.Parameter(change(old.detach()).contiguous(), requires_grad=old.requires_grad))
    if hasattr(part.gate, "e_score_correction_bias"):
        part.gate.e_score_correction_bias = change(part.gate.e_score_correction_bias)
    sections, count = _sections(part), len(_weights(part))
    reach = count if sections is None else count // sections * int(part.gate.topk_group)
    part.gate.top_k = min(int(part.gate.top_k), reach)


def _shares(found: Sequence[Sequence[int]], weights: Tensor) -> Tensor:
    """Return each expert's share of its group, float64 [groups, experts]; alike where none is used."""
    shares = torch.zeros(len(found), len(weights), dtype=torch.float64)
    for row, group in enumerate(found):
        own = weights.detach().double().cpu()[list(group)]
        shares[row, list(group)] = own / own.sum() if own.sum() > 0 else torch.full_like(own, 1 / len(own))
    return shares


def _averaged(tensor: Tensor, shares: Tensor) -> Tensor:
    mean: Tensor = torch.tensordot(shares.to(tensor.device), tensor.double(), dims=1)
    return mean.to(tensor.dtype)


def _fit_router_(router: Any, old: Tensor, shares: Tensor, inputs: Tensor) -> None:
    """Move the rows of a merged softmax router to where they give the log of the summed probabilities."""
    x, rows = inputs.to(old.device), router.weight.detach().double()
    member = (shares > 0).to(old.device)
    logits = (x @ old.T)[:, None, :].masked_fill(~member, float("-inf"))
    missing = logits.logsumexp(-1) - x @ rows.T
    missing -= missing.mean(dim=1, keepdim=True)  # what all groups share changes no probability
    inner = x.T @ x
    damped = inner + RIDGE * inner.diagonal().mean() * torch.eye(len(inner), dtype=x.dtype, device=x.device)
    with torch.no_grad():
        router.weight.copy_(rows + torch.linalg.solve(damped, x.T @ missing).T)
