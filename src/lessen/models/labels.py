"""Give a classifier the labels of the data: by name, never by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lessen.info import ModelInfo
from lessen.models.build import label_

STD = 0.02  # of a new classifier's weights, as BERT initialises them


def output_names(info: ModelInfo) -> tuple[str, ...]:
    """Return the label behind each logit; a one-logit model has only its positive label."""
    return info.labels[1:] if info.one_logit else info.labels


def order(have: Sequence[str], want: Sequence[str]) -> list[int] | None:
    """Return the position in `have` of each name of `want`, or None where the names differ."""
    positions = {name.strip(): i for i, name in enumerate(have)}
    wanted = [name.strip() for name in want]
    return [positions[n] for n in wanted] if set(wanted) == set(positions) and len(have) == len(want) else None


def relabel_(module: nn.Module, last: str, have: Sequence[str] | None, info: ModelInfo) -> dict[str, Any]:
    """Make a classifier answer the labels of `info`, in their order.

    The same names in another order permute the rows of the last Linear; other names get a new one.

    Args:
        module: changed in place, its configuration too.
        last: path of the Linear that gives the logits.
        have: label names behind its rows now; none: it was never trained.
        info: what the outputs shall mean.

    Returns:
        facts: labels (kept, permuted, new head) and the names there were before.
    """
    label_(module.config, info)
    if hasattr(module, "num_labels"):
        module.num_labels = info.logits  # type: ignore[assignment]
    found = order(have, output_names(info)) if have is not None else None
    if found is not None:
        if found == sorted(found):
            return {"labels": "kept"}
        old: Any = module.get_submodule(last)
        with torch.no_grad():
            old.weight.copy_(old.weight[found].clone())
            if old.bias is not None:
                old.bias.copy_(old.bias[found].clone())
        return {"labels": "permuted by name", "labels_before": list(have or ())}
    width = int(module.get_submodule(last).in_features)  # type: ignore[arg-type]
    new = nn.Linear(width, info.logits)
    nn.init.normal_(new.weight, std=STD)
    nn.init.zeros_(new.bias)
    module.set_submodule(last, new)
    return {"labels": "new head", **({"labels_before": list(have)} if have is not None else {})}


def flip_(module: nn.Module, info: ModelInfo) -> dict[str, Any]:
    """Make a one-logit classifier of two labels answer them in the other order: its logit changes sign."""
    label_(module.config, info)
    last: Any = module.get_submodule(last_linear(module))
    with torch.no_grad():
        for value in last.parameters():
            value.neg_()
    return {"labels": "permuted by name", "labels_before": list(info.labels[::-1])}


def last_linear(module: nn.Module) -> str:
    """Return the path of the Linear that gives the logits."""
    return [str(n) for n, m in module.named_modules() if n.startswith("classifier") and isinstance(m, nn.Linear)][-1]
