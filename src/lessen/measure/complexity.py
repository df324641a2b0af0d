"""How much a model computes: FLOPs counted on the dense model, layers, and the formulas that its configuration gives.

A multiply-add is two FLOPs. Attention is forced to its eager form: the fused CPU kernel is counted as nothing
(pytorch issue 195460). Quantized and exported artifacts inherit the count of the fp32 model they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.measure import inputs
from lessen.measure.metric import Metric, Metrics, derived, measured, missing

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Splits

_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
_HIDDEN = ("hidden_size", "dim", "d_model", "n_embd")
_HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_FFN = ("moe_intermediate_size", "intermediate_size", "hidden_dim", "d_ff", "n_inner")


@dataclass(frozen=True)
class Example:
    """One typical test sample as a model takes it."""

    batch: dict[str, np.ndarray[Any, Any]]
    length: int  # tokens or pixels a side
    unit: str
    words: str  # its shape, for people
    answers: int = 1  # tokens predicted


def complexity(
    artifact: Artifact,
    splits: Splits,
    source: Mapping[str, Metric] | None = None,
    source_facts: Mapping[str, Any] | None = None,
) -> tuple[Metrics, dict[str, Any]]:
    """Return flops and layers of one forward pass of one typical test sample, and the formulas in words.

    Models of sequences also have `flops_per_token`, of each token predicted, and `active_parameters`: those that one
    token meets, which are fewer in a mixture of experts.

    Args:
        source: metrics of the fp32 model that the artifact was made from, for artifacts that are not torch modules.
        source_facts: its facts, for the formulas.
    """
    if artifact.manifest.runtime != "eager":
        return _inherit(artifact, source, source_facts)
    from lessen import models
    from lessen.runtimes.eager import start_id

    model = models.open_model(artifact)
    start = start_id(model.module) if getattr(model.module.config, "is_encoder_decoder", False) else None
    example = typical(artifact, splits, start)
    total = flops(model.module, example.batch)
    config = _config(artifact)
    facts = {"flops_input": example.words, **describe(config, artifact.info.widths, example.length, example.unit)}
    metrics: Metrics = {
        "flops": measured(total, "FLOP", n=1),
        "layers": measured(count_layers(model.module, config), "count"),
    }
    if artifact.info.generates:
        each = derived(total / example.answers, "FLOP", f"flops / {example.answers} tokens predicted")
        metrics |= {"flops_per_token": each, "active_parameters": active_parameters(model.module, config)}
    return metrics, facts


def typical(artifact: Artifact, splits: Splits, start_id: int | None = None) -> Example:
    """Return the test sample of typical length, encoded: a pair or a document with its teacher-forced tokens.

    Args:
        start_id: what a decoder of pairs reads first.
    """
    if not artifact.info.generates:
        probe = inputs.probe(splits.test, artifact.processor, 1)
        return Example(probe.batches[0], probe.length, probe.unit, f"1 x {probe.length} {probe.unit}")
    from lessen.data.encoding import sequences_of
    from lessen.data.sequences import Blocks

    processor: Any = artifact.processor
    data = sequences_of(splits, "test", processor, None, start_id)
    rows = data.alone() if isinstance(data, Blocks) else data
    at = int(np.argsort(np.abs(rows.lengths - np.median(rows.lengths)), kind="stable")[0])
    batch = rows.batch(np.asarray([at]))
    answers = int(batch.pop("targets").shape[1])
    length = int(batch["input_ids"].shape[1])
    words = f"1 x {length} tokens" if isinstance(data, Blocks) else f"1 x {length} source and {answers} target tokens"
    return Example(batch, length, "tokens", words, answers)


def active_parameters(module: Any, config: Mapping[str, Any]) -> Metric:
    """Count the weights that one token meets: all but those of the experts that it is not sent to."""
    sizes = {name: int(p.numel()) for name, p in module.named_parameters()}
    total = sum(sizes.values())
    experts, chosen = _first(config, _EXPERTS), _first(config, ("num_experts_per_tok", "moe_topk"))
    shared_out = sum(count for name, count in sizes.items() if ".experts." in name)
    if not experts or not chosen or not shared_out:
        return derived(total, "count", "a dense model: every parameter")
    idle = shared_out * (experts - chosen) // experts
    return derived(
        total - idle, "count", f"all parameters but those of {experts - chosen} of {experts} experts a layer"
    )


def flops(module: Any, batch: Mapping[str, Any]) -> int:
    """Count the FLOPs of one forward pass with eager attention, on the CPU.

    Args:
        module: a torch module; its attention implementation is changed.
        batch: collated inputs, numpy.
    """
    return flops_of_modules(module, batch)[""]


def flops_of_modules(module: Any, batch: Mapping[str, Any]) -> dict[str, int]:
    """Count the FLOPs of one forward pass as `flops` does, by the path of the module; "" is the whole.

    A module's count includes those within it; modules that compute nothing are left out.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for part in {id(m): m for m in (module, getattr(module, "base_model", module))}.values():  # a head may be ours
        for name in ("set_attn_implementation", "set_experts_implementation"):
            change = getattr(part, name, None)
            if change is not None and (name.startswith("set_attn") or _has_experts(module)):
                change("eager")
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(**tensors)
    found = {str(name): sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    root = f"{type(module).__name__}."
    inner = {name.removeprefix(root): n for name, n in found.items() if name.startswith(root)}
    return {"": int(counter.get_total_flops()), **{name: int(n) for name, n in inner.items()}}


def count_layers(module: Any, config: Mapping[str, Any]) -> int:
    """Count transformer layers, or the convolutions and linear layers of a network without such a number."""
    from torch import nn

    lists = {name: len(m) for name, m in module.named_modules() if isinstance(m, nn.ModuleList)}
    stacks = [n for name, n in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    if _first(config, _LAYERS) is not None and stacks:  # what is there, which pruning may have changed
        return sum(stacks) if config.get("is_encoder_decoder") else max(stacks)
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules())


def describe(config: Mapping[str, Any], widths: Mapping[str, int], length: int, unit: str) -> dict[str, Any]:
    """Return time and space complexity as formulas with this model's numbers.

    Args:
        config: of the model (config.json).
        widths: units kept, by group, where they differ from the configuration.
        length: tokens or pixels a side.
    """
    layers, hidden = _first(config, _LAYERS), _first(config, _HIDDEN)
    ffn = _first(config, _FFN) or (4 * hidden if hidden and "n_inner" in config else None)  # GPT-2 leaves it out
    if unit == "tokens" and layers and hidden and ffn:
        kept = [v for name, v in widths.items() if "ffn" in name or "intermediate" in name]
        mean = f" (mean of {len(kept)} pruned layers: {sum(kept) / len(kept):.0f})" if kept else ""
        both = " each of encoder and decoder" if config.get("is_encoder_decoder") else ""
        experts, chosen = _first(config, _EXPERTS), _first(config, ("num_experts_per_tok", "moe_topk"))
        routed = f", {chosen} of {experts} experts a token" if experts and chosen else ""
        return {
            "time_complexity": (
                f"O(l (n h^2 + n^2 h + n h f)) per sample: l = {layers} layers{both}, n = {length} tokens, "
                f"h = {hidden} hidden, f = {ffn} feed-forward units{mean}{routed}"
            ),
            "space_complexity": (
                "O(l (h^2 + h f) + V h) weights and O(n h + a n^2) activations: "
                f"V = {config.get('vocab_size')} tokens, "
                f"a = {_first(config, _HEADS)} heads"
            ),
        }
    if unit == "tokens":
        return {}
    return {
        "time_complexity": (
            f"O(sum over convolutions of H_out W_out k^2 c_in c_out / groups) per sample, at {length} x {length} pixels"
        ),
        "space_complexity": "O(sum over convolutions of k^2 c_in c_out / groups) weights and O(max H W c) activations",
    }


def _inherit(
    artifact: Artifact, source: Mapping[str, Metric] | None, source_facts: Mapping[str, Any] | None
) -> tuple[Metrics, dict[str, Any]]:
    units = {"flops": "FLOP", "layers": "count"}
    if artifact.info.generates:
        units |= {"flops_per_token": "FLOP", "active_parameters": "count"}
    runtime = artifact.manifest.runtime
    out: Metrics = {}
    for name in units:
        found = source.get(name) if source else None
        if found is None or found.value is None:
            out[name] = missing(units[name], f"not counted in {runtime}, and its fp32 source was not given")
        else:
            out[name] = derived(found.value, units[name], f"of its fp32 source; not counted in {runtime}")
    keep = ("flops_input", "time_complexity", "space_complexity")
    return out, {k: v for k, v in (source_facts or {}).items() if k in keep}


def _has_experts(module: Any) -> bool:
    return any(".experts." in f"{name}." for name, _ in module.named_modules())


def _config(artifact: Artifact) -> dict[str, Any]:
    file = artifact.path / "config.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return values


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)
