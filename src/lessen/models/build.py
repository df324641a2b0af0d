"""A module from a configuration and what its outputs mean."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lessen.errors import ModelError, UnknownNameError
from lessen.info import ModelInfo, Task, generates
from lessen.models.family import Family, family, field_of
from lessen.models.heads import PooledClassifier, attention, is_stock
from lessen.recipe import ModelSpec

# What a configuration reads and writes without declaring it. T5's says whether the decoder's states are scaled by their
# width; files of T5 1.1 and FLAN-T5 say so by tie_word_embeddings: false, and the embeddings are tied all the same.
UNDECLARED = {
    "t5": frozenset({"scale_decoder_outputs", "decoder_start_token_id"}),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3_moe", "olmoe"), frozenset({"head_dim"})),
}
SHAPE = ("layers", "hidden_size", "intermediate_size", "heads")


def module_of(config: Any, info: ModelInfo) -> nn.Module:
    """Return a freshly initialised module: the stock class, or PooledClassifier where pooling or head is ours."""
    one = family(info.family)
    if is_stock(info):
        module: nn.Module = stock_class(info.task).from_config(config, **attention(one))
    else:
        module = PooledClassifier(config, info)
    one.mend_(module)
    return module.to(torch.float32)


def stock_class(task: Task) -> Any:
    """Return the Auto class of transformers for a task."""
    import transformers

    return {
        "text-classification": transformers.AutoModelForSequenceClassification,
        "image-classification": transformers.AutoModelForImageClassification,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "causal-lm": transformers.AutoModelForCausalLM,
    }[task]


def config_of(model_type: str, values: Mapping[str, Any], info: ModelInfo) -> Any:
    """Return a configuration that says the labels and the dropout.

    Raises:
        UnknownNameError: a field does not exist in this architecture.
        ModelError: a value does not fit.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    check_fields(model_type, values)
    dropouts = dict.fromkeys(family(info.family).dropouts, info.dropout)
    try:
        config = AutoConfig.for_model(model_type, **{**dropouts, **values})
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ModelError(f"{info.source}: {error}", "see the architecture's configuration") from None
    label_(config, info)
    _check_heads(config, family(info.family), info.source)
    return config


def check_fields(model_type: str, names: Iterable[str]) -> None:
    """Raise UnknownNameError unless every name is a field of the architecture's configuration."""
    fields = known_fields(model_type)
    for name in names:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            raise UnknownNameError(
                f"{model_type} has no configuration field {name!r}",
                f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(fields))}",
            )


def known_fields(model_type: str) -> frozenset[str]:
    """Return the fields of an architecture's configuration."""
    from transformers import CONFIG_MAPPING

    known = CONFIG_MAPPING[model_type]
    fields = frozenset(f.name for f in dataclasses.fields(known)) | frozenset(getattr(known, "attribute_map", {}))
    return fields | UNDECLARED.get(model_type, frozenset())


def label_(config: Any, info: ModelInfo) -> None:
    """Write the labels into a configuration; a one-logit model has only its positive label, one that generates none."""
    if info.generates:
        return
    names = info.labels[1:] if info.one_logit else info.labels
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    config.problem_type = "multi_label_classification" if info.output == "sigmoid" else "single_label_classification"


def wanted_shape(spec: ModelSpec, one: Family) -> dict[str, int]:
    """Return the widths that a spec asks for, by our names.

    Raises:
        UnknownNameError: the architecture has no such width.
    """
    given = {name: getattr(spec, name) for name in SHAPE if getattr(spec, name) is not None}
    for name in given:
        field_of(one, name, spec.model)
    return given


def info_of(spec: ModelSpec, one: Family, labels: tuple[str, ...], multi_label: bool) -> ModelInfo:
    """Return what the outputs of a model mean.

    Raises:
        ModelError: one logit is asked for more than two labels, softmax for labels that are not exclusive, or a
            classifier's setting for a model that generates.
    """
    if generates(one.task) and (
        multi_label or (spec.output, spec.pooling, spec.head_width) != ("softmax", "cls", None)
    ):
        raise ModelError(
            f"{spec.model} answers with tokens; output, pooling, head_width and multi-label data are for classifiers",
            "leave them out",
        )
    if spec.output == "sigmoid" and not multi_label and len(labels) != 2:
        raise ModelError(
            f"output sigmoid with {len(labels)} exclusive labels; one logit decides between two", "use output: softmax"
        )
    return ModelInfo(
        family=one.name,
        task=one.task,
        source=spec.model,
        labels=labels,
        output="sigmoid" if multi_label else spec.output,
        multi_label=multi_label,
        pooling=spec.pooling,
        head_width=spec.head_width,
        dropout=spec.dropout,
    )


def _check_heads(config: Any, one: Family, source: str) -> None:
    if "heads" not in one.fields or getattr(config, "head_dim", None):
        return  # no heads, or heads of a size of their own
    hidden, heads = (int(getattr(config, one.fields[k])) for k in ("hidden_size", "heads"))
    if hidden % heads:
        near = sorted((h for h in range(1, hidden + 1) if hidden % h == 0), key=lambda h: abs(h - heads))[:3]
        raise ModelError(
            f"{source}: {heads} heads do not divide a hidden size of {hidden}", f"use {', '.join(map(str, near))} heads"
        )
