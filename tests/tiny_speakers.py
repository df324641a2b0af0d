"""Tiny models that generate, and data for them, for tests of what is done with a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tiny
from lessen.artifact import Artifact
from lessen.data import Split, Splits
from lessen.info import ModelInfo
from lessen.processors import train_bpe_processor
from lessen.recipe import Data

MAX_LENGTH = 32
SHAPES: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "num_decoder_layers": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "llama": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "mixtral": {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_local_experts": 4,
    },
}  # fmt: skip


def task(name: str) -> str:
    return "seq2seq" if name == "t5" else "causal-lm"


def ends(name: str) -> dict[str, int]:
    """Return the special tokens of a family's configuration, as our tokenizer has them."""
    return {
        "eos_token_id": 1,
        "pad_token_id": 0,
        ("decoder_start_token_id" if name == "t5" else "bos_token_id"): 0 if name == "t5" else 1,
    }


def module(name: str, seed: int = 0, vocab: int = 60, spread: float = 3.0) -> Any:
    """Return a stock module whose answers differ, end token 1."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(name, vocab_size=vocab, **ends(name), **SHAPES[name])
    auto = AutoModelForSeq2SeqLM if name == "t5" else AutoModelForCausalLM
    made = auto.from_config(config).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(spread)
    return made


def batch(seed: int, *, left: bool, rows: int = 4, vocab: int = 60) -> dict[str, np.ndarray]:
    """Return token ids and masks of 1 to 9 tokens."""
    rng = np.random.default_rng(seed)
    ids, mask = np.zeros((rows, 9), dtype=np.int64), np.zeros((rows, 9), dtype=np.int64)
    for row in range(rows):
        long = 9 if row == 0 else int(rng.integers(1, 10))
        span = slice(9 - long, 9) if left else slice(0, long)
        ids[row, span], mask[row, span] = rng.integers(3, vocab, long), 1
    return {"input_ids": ids, "attention_mask": mask}


def splits(name: str, count: int = 24) -> Splits:
    """Return made-up texts of a family's task; a target repeats the end of its source."""
    texts = [" ".join(t.split()[:8]) for t in tiny.texts(3 * count, seed=3)]
    pairs = task(name) == "seq2seq"
    said = [" ".join(t.split()[-3:]) for t in texts] if pairs else [() for _ in texts]
    labels = np.empty(len(texts), dtype=object)
    labels[:] = said
    ids = np.array([f"{i:04d}" for i in range(len(texts))])
    parts = {
        part: Split(part, ids[at : at + count], texts[at : at + count], labels[at : at + count])
        for part, at in (("train", 0), ("validation", count), ("test", 2 * count))
    }
    settings = Data(max_length=MAX_LENGTH, max_target_length=12)
    return Splits(task(name), (), False, **parts, facts={}, digest=name, settings=settings)


def save(name: str, folder: Path, *, spread: float = 3.0, words: tuple[str, ...] = (), steps: int = 0) -> Artifact:
    """Write an artifact of a family, with random weights or trained for some steps."""
    import torch

    from lessen import models
    from lessen.models import language
    from lessen.models.build import config_of, module_of

    torch.manual_seed(0)
    info = ModelInfo(family=name, task=task(name), source="test", labels=words)
    processor = train_bpe_processor(tiny.texts(200), vocab_size=280, max_length=MAX_LENGTH)
    values = {**SHAPES[name], **ends(name), "vocab_size": processor.vocab_size}
    made = module_of(config_of(name, values, info), info).eval()
    for parameter in made.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(spread)
    language.tokens_(made, processor)
    model = models.Model(made, processor, info)
    if steps:
        _train_(model, steps)
    return models.save(model, folder, stage="teacher", key="", history=({"stage": "teacher"},), facts={})


def _train_(model: Any, steps: int) -> None:
    import torch

    from lessen.data.encoding import sequences_of

    data = sequences_of(splits(model.info.family), "train", model.processor, None)
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=3e-3)
    for step in range(steps):
        given = data.batch(np.arange(step * 4, step * 4 + 4) % len(data))
        targets = torch.from_numpy(given.pop("targets"))
        logits = model.module(**{n: torch.from_numpy(v) for n, v in given.items()}).logits
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
