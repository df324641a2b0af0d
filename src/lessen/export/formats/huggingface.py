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
AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal-lm": "AutoModelForCausalLM",
}


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
    module, name = _loaded(source, made)
    if source.info.generates:
        return {f"transformers {name}": _generating(source, made, module, splits)}
    import torch

    from lessen.export import parity

    session, worst = source.open(), 0.0
    for batch in parity.shapes(source.processor, splits).values():
        with torch.inference_mode():
            got = module(**{name: torch.from_numpy(value).to(_dtype(module, value)) for name, value in batch.items()})
        worst = max(worst, float(np.abs(session.logits(batch) - got.logits.float().numpy()).max()))
    if source.processor.kind == "text" and splits is not None:
        _same_tokens(source, made, [str(t) for t in splits.validation.inputs[:16]])
    return {f"transformers {name}": worst}


def _loaded(source: Artifact, made: Artifact) -> tuple[Any, str]:
    """Return the folder's model as transformers loads it, and the Auto class that did."""
    import transformers

    auto = getattr(transformers, AUTO[source.info.task])
    with _no_bars():
        module = auto.from_pretrained(made.path, local_files_only=True, trust_remote_code=False).eval()
    return module, auto.__name__


def _generating(source: Artifact, made: Artifact, module: Any, splits: Splits | None) -> float:
    """Return how far transformers' logits are from the source's, having compared a text that each generates.

    Raises:
        ArtifactError: the texts differ, or AutoTokenizer cuts a validation text into other tokens.
    """
    import torch

    from lessen.data.sequences import IGNORE, Blocks
    from lessen.errors import ArtifactError
    from lessen.export import sequences
    from lessen.runtimes import decode

    session: Any = source.open()
    data = sequences.samples(source, splits, session)
    data = data.alone() if isinstance(data, Blocks) else data
    batch = data.batch(np.arange(min(sequences.ROWS, len(data))))
    counted = batch["targets"] != IGNORE
    with torch.inference_mode():
        given = {name: torch.from_numpy(value) for name, value in batch.items() if name != "targets"}
        got = module(**given).logits.float().numpy()[..., : session.vocab]
    prompt, text = sequences.prompts(data, 1), data.processor
    new = min(sequences.NEW_TOKENS, max(1, text.max_length // 2))
    want = decode.generate(session, prompt, max_new_tokens=new, eos_id=text.eos_id, pad_id=text.pad_id)
    said = module.generate(
        **{name: torch.from_numpy(value) for name, value in prompt.items()},
        do_sample=False, num_beams=1, max_new_tokens=new, pad_token_id=text.pad_id,
    )[0]  # fmt: skip
    theirs = said[1 if module.config.is_encoder_decoder else prompt["input_ids"].shape[1] :].tolist()
    theirs = theirs[: theirs.index(text.eos_id)] if text.eos_id in theirs else theirs
    if theirs != want[0]:
        raise ArtifactError(
            f"transformers generates {theirs[:8]} ..., lessen {want[0][:8]} ...: {made.path.name} has other generation "
            "settings than the model was made with",
            "use format safetensors",
        )
    if splits is not None:
        _same_tokens(source, made, [str(t) for t in splits.validation.inputs[:16]])
    return float(np.abs(session.logits(batch)[counted] - got[counted]).max())


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
    ours: Any = source.processor
    if source.info.task == "causal-lm":  # whole texts, whose start and end tokens the data put there
        read = [ids for ids, _ in ours.tokens(texts)]
        theirs = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        read = ours.encode(texts)
        theirs = tokenizer(texts, truncation=True, max_length=ours.max_length)["input_ids"]
    for text, mine, other in zip(texts, read, theirs, strict=True):
        if list(mine) != list(other):
            raise ArtifactError(
                f"AutoTokenizer reads {text[:40]!r} as {other[:8]} ..., lessen as {list(mine)[:8]} ...",
                "use format safetensors",
            )
