"""How much a model computes: FLOPs counted on the dense model, layers, and the formulas that its configuration gives.

A multiply-add is two FLOPs. Attention is forced to its eager form: the fused CPU kernel is counted as nothing
(pytorch issue 195460). Quantized and exported artifacts inherit the count of the fp32 model they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lessen.measure import inputs
from lessen.measure.metric import Metric, Metrics, derived, measured, missing

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split

_INHERITED = ("flops", "layers")
_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
_HIDDEN = ("hidden_size", "dim", "d_model", "n_embd")
_FFN = ("intermediate_size", "hidden_dim", "d_ff", "n_inner")


def complexity(
    artifact: Artifact,
    test: Split,
    source: Mapping[str, Metric] | None = None,
    source_facts: Mapping[str, Any] | None = None,
) -> tuple[Metrics, dict[str, Any]]:
    """Return flops and layers of one forward pass of one typical test sample, and the formulas in words.

    Args:
        source: metrics of the fp32 model that the artifact was made from, for artifacts that are not torch modules.
        source_facts: its facts, for the formulas.
    """
    if artifact.manifest.runtime != "eager":
        return _inherit(artifact, source, source_facts)
    from lessen import models

    probe = inputs.probe(test, artifact.processor, 1)
    model = models.open_model(artifact)
    total = flops(model.module, probe.batches[0])
    formulas = describe(_config(artifact), artifact.info.widths, probe.length, probe.unit)
    layers = count_layers(model.module, _config(artifact))
    facts = {"flops_input": f"1 x {probe.length} {probe.unit}", **formulas}
    return {"flops": measured(total, "FLOP", n=1), "layers": measured(layers, "count")}, facts


def flops(module: Any, batch: Mapping[str, Any]) -> int:
    """Count the FLOPs of one forward pass with eager attention, on the CPU.

    Args:
        module: a torch module; its attention implementation is changed.
        batch: collated inputs, numpy.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    change = getattr(module, "set_attn_implementation", None)
    if change is not None:
        change("eager")
    tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(**tensors)
    return int(counter.get_total_flops())


def count_layers(module: Any, config: Mapping[str, Any]) -> int:
    """Count transformer layers, or the convolutions and linear layers of a network without such a number."""
    from torch import nn

    stacks = [len(m) for m in module.modules() if isinstance(m, nn.ModuleList)]
    if _first(config, _LAYERS) is not None and stacks:
        return max(stacks)  # what is there, which pruning may have changed
    return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules())


def describe(config: Mapping[str, Any], widths: Mapping[str, int], length: int, unit: str) -> dict[str, Any]:
    """Return time and space complexity as formulas with this model's numbers.

    Args:
        config: of the model (config.json).
        widths: units kept, by group, where they differ from the configuration.
        length: tokens or pixels a side.
    """
    layers, hidden, ffn = _first(config, _LAYERS), _first(config, _HIDDEN), _first(config, _FFN)
    if unit == "tokens" and layers and hidden and ffn:
        kept = [v for name, v in widths.items() if "ffn" in name or "intermediate" in name]
        mean = f" (mean of {len(kept)} pruned layers: {sum(kept) / len(kept):.0f})" if kept else ""
        return {
            "time_complexity": (
                f"O(l (n h^2 + n^2 h + n h f)) per sample: l = {layers} layers, n = {length} tokens, "
                f"h = {hidden} hidden, f = {ffn} feed-forward units{mean}"
            ),
            "space_complexity": (
                "O(l (h^2 + h f) + V h) weights and O(n h + a n^2) activations: "
                f"V = {config.get('vocab_size')} tokens, "
                f"a = {_first(config, ('num_attention_heads', 'n_heads', 'n_head'))} heads"
            ),
        }
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
    runtime = artifact.manifest.runtime
    out: Metrics = {}
    for name in _INHERITED:
        found = source.get(name) if source else None
        if found is None or found.value is None:
            out[name] = missing(units[name], f"not counted in {runtime}, and its fp32 source was not given")
        else:
            out[name] = derived(found.value, units[name], f"of its fp32 source; not counted in {runtime}")
    keep = ("flops_input", "time_complexity", "space_complexity")
    return out, {k: v for k, v in (source_facts or {}).items() if k in keep}


def _config(artifact: Artifact) -> dict[str, Any]:
    file = artifact.path / "config.json"
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return values


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[name]) for name in names if config.get(name)), None)
