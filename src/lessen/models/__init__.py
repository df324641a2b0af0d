"""Models: fetched, built, derived, cut, saved and reopened. torch is imported only when one is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.artifact import Artifact
    from lessen.data import Splits
    from lessen.info import ModelInfo
    from lessen.processors import Processor
    from lessen.recipe import Data, ModelSpec, Recipe


@dataclass
class Model:
    """A model in memory. `info` is replaced when widths or the threshold change."""

    module: nn.Module  # called as module(**inputs, output_hidden_states=, output_attentions=); .logits [batch, outputs]
    processor: Processor
    info: ModelInfo
    facts: dict[str, Any] = field(default_factory=dict)  # how it came to be: copied layers, permuted labels, new head


def fetch(spec: ModelSpec, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    """Return a model from a hub id, a local folder (Hugging Face or lessen), or scratch:<preset>.

    Args:
        spec: the model and what differs from its own shape.
        splits: labels, and training texts for a tokenizer.
        data_cfg: longest text, image size.
        task: text-classification or image-classification.
        seed: of random weights.

    Raises:
        UnavailableError: it is not on this machine and cannot be fetched.
        ModelError: the architecture is unknown, or shape, weights and data do not fit each other.
    """
    from lessen.models import sources

    return _prefixed(sources.fetch(spec, splits, data_cfg, task, seed), data_cfg)


def student(spec: ModelSpec, teacher: Model, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    """Return a student: any model of `fetch`, or one whose shape is derived from the teacher's (model: teacher).

    Weights are copied from the teacher wherever shapes allow, unless `init` is random; `facts` says what was.

    Raises:
        ModelError: init is teacher and nothing can be copied; or see `fetch`.
    """
    from lessen.models import students

    return _prefixed(students.student(spec, teacher, splits, data_cfg, task, seed), data_cfg)


def _prefixed(model: Model, data_cfg: Data) -> Model:
    """Let a model know what stands before the sources it is trained on."""
    if model.info.task == "seq2seq":
        model.info = model.info.model_copy(update={"prefix": data_cfg.prefix})
    return model


def save(
    model: Model, path: Path, *, stage: str, key: str, history: tuple[dict[str, Any], ...], facts: dict[str, Any]
) -> Artifact:
    """Write a model as an artifact that `open_model` rebuilds bit for bit."""
    from lessen.models import folders

    return folders.save(model, path, stage=stage, key=key, history=history, facts=facts)


def open_model(artifact: Artifact, device: str = "cpu") -> Model:
    """Rebuild a model from its artifact, in evaluation mode.

    Raises:
        ArtifactError: files are missing or do not fit each other.
    """
    from lessen.models import folders

    return folders.open_model(artifact, device)


def parameters(recipe: Recipe, spec: ModelSpec) -> int:
    """Return the parameters that the recipe's teacher or student would have; nothing is fetched or trained.

    Raises:
        UnavailableError: the model is not on this machine.
        ModelError: its shape does not fit.
    """
    from lessen.models import estimate

    return estimate.parameters(recipe, spec)


def outline(recipe: Recipe, spec: ModelSpec) -> dict[str, int]:
    """Return parameters, layers, hidden_size and vocab_size that a language model would have."""
    from lessen.models import estimate

    return estimate.outline(recipe, spec)


def flops(recipe: Recipe, spec: ModelSpec, length: int) -> float:
    """Return the FLOPs of one row forward, counted without weights; length in tokens, or pixels a side.

    Raises:
        ModelError: they cannot be counted of this model.
    """
    from lessen.models import estimate

    return estimate.flops(recipe, spec, length)


def sketch(
    recipe: Recipe, spec: ModelSpec, length: int, device: str
) -> tuple[nn.Module, Callable[[int], dict[str, Tensor]]]:
    """Return a recipe's model with random weights, and the inputs of a batch of so many rows, to time it."""
    from lessen.models import estimate

    return estimate.sketch(recipe, spec, length, device)


def experts(model: str) -> int:
    """Return the experts a layer of a model has, by its configuration; 0: it is dense."""
    from lessen.models import estimate

    return estimate.experts(model)


def is_stock(model: Model) -> bool:
    """Whether transformers' Auto classes load the saved folder as it is."""
    from lessen.models import folders

    return folders.is_stock_folder(model)


def describe(model: Model) -> dict[str, Any]:
    """Return parameters, embedding share, layers and widths; see models/shape.py."""
    from lessen.models import shape

    return shape.describe(model)


def example(model: Model, batch: int = 1, length: int | None = None) -> Mapping[str, Tensor]:
    """Return inputs for export and FLOP counts; length in tokens, or pixels a side."""
    from lessen.models import shape

    return shape.example(model, batch, length)
