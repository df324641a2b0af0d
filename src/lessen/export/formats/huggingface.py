"""A Hugging Face folder: what transformers' Auto classes load as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.export.formats import safetensors

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Splits

RUNTIME = None  # the source's own: the folder stays a lessen artifact too


def refuse(source: Artifact) -> str | None:
    """Return why transformers could not load this model as it is, or None."""
    info = source.info
    if safetensors.refuse(source):
        return safetensors.refuse(source)
    if info.pooling != "cls" or info.head_width is not None:
        head = f"pooling {info.pooling}" if info.pooling != "cls" else f"a head of {info.head_width} hidden units"
        return f"{source.path} has {head}, which no transformers class has; use format safetensors"
    if info.widths:
        names = ", ".join(list(info.widths)[:3])
        return (
            f"{source.path} was cut where its configuration cannot say so ({len(info.widths)} widths: {names} ...); "
            "use format safetensors"
        )
    return None


def fill(source: Artifact, folder: Path) -> None:
    """Write configuration, weights and processor as transformers does."""
    from lessen import models
    from lessen.models import folders

    folders.fill(models.open_model(source), folder)


def facts(folder: Path) -> dict[str, Any]:
    """Return how the weights are stored."""
    return safetensors.facts(folder)


def check(source: Artifact, made: Artifact, splits: Splits | None) -> dict[str, float]:
    """Load the folder with transformers' Auto classes and return how far it answers from the source, by reading.

    Raises:
        ArtifactError: AutoTokenizer cuts a validation text into other tokens.
    """
    import torch
    import transformers

    from lessen.export import parity

    text = source.processor.kind == "text"
    auto = transformers.AutoModelForSequenceClassification if text else transformers.AutoModelForImageClassification
    with _no_bars():
        module = auto.from_pretrained(made.path, local_files_only=True, trust_remote_code=False).eval()
    session, worst = source.open(), 0.0
    for batch in parity.shapes(source.processor, splits).values():
        with torch.inference_mode():
            got = module(**{name: torch.from_numpy(value).to(_dtype(module, value)) for name, value in batch.items()})
        worst = max(worst, float(np.abs(session.logits(batch) - got.logits.float().numpy()).max()))
    if text and splits is not None:
        _same_tokens(source, made, [str(t) for t in splits.validation.inputs[:16]])
    return {f"transformers {auto.__name__}": worst}


@contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _dtype(module: Any, value: np.ndarray[Any, Any]) -> Any:
    import torch

    return module.dtype if value.dtype.kind == "f" else torch.int64


def _same_tokens(source: Artifact, made: Artifact, texts: list[str]) -> None:
    import transformers

    from lessen.errors import ArtifactError

    tokenizer = transformers.AutoTokenizer.from_pretrained(made.path, local_files_only=True, trust_remote_code=False)
    limit: Any = source.processor
    theirs = tokenizer(texts, truncation=True, max_length=limit.max_length)["input_ids"]
    for text, mine, other in zip(texts, source.processor.encode(texts), theirs, strict=True):
        if list(mine) != list(other):
            raise ArtifactError(
                f"AutoTokenizer reads {text[:40]!r} as {other[:8]} ..., lessen as {list(mine)[:8]} ...",
                "use format safetensors",
            )
