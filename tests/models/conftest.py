"""Tiny models of every family, random weights and BatchNorm statistics that are not 0 and 1."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lessen.info import ModelInfo
from lessen.models import Model
from lessen.models.build import config_of, module_of
from lessen.models.family import family
from lessen.processors import ImageProcessor, train_text_processor

LABELS = ("ham", "spam", "eggs")
TEXTS = [f"the {a} {b} of the {c}" for a in ("red", "blue", "old") for b in ("box", "sum", "list") for c in "abcdef"]
SIZE = 32  # pixels
LENGTH = 12  # tokens
BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "electra": {**BERT, "embedding_size": 16},
    "roberta": BERT,
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.25},
}


def text_processor():
    return train_text_processor(TEXTS, vocab_size=60, max_length=LENGTH)


def splits(labels=LABELS, multi_label=False, inputs=TEXTS):
    return SimpleNamespace(labels=labels, multi_label=multi_label, train=SimpleNamespace(inputs=inputs))


def tiny(name: str, seed: int = 0, shape: dict[str, Any] | None = None, **info: Any) -> Model:
    """Build a tiny model of a family in evaluation mode."""
    one = family(name)
    about = ModelInfo(**{"family": name, "task": one.task, "source": "tiny", "labels": LABELS, "dropout": 0.1, **info})
    processor = text_processor() if one.task == "text-classification" else ImageProcessor(SIZE)
    values = one.scratch(dict(shape or SHAPES[name]), processor)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = module_of(config_of(one.model_types[0], values, about), about)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 4:  # deep networks of small weights would answer every image alike
                tensor.data = noise * (2 / tensor[0].numel()) ** 0.5
            else:
                tensor.data = tensor.data + (0.2 * noise.abs() if tensor.ndim == 1 else 0.05 * noise)
    return Model(module.eval(), processor, about)


def inputs_of(model: Model, batch: int) -> dict[str, torch.Tensor]:
    """Return a batch of texts of unequal length, padded, or of random images."""
    if model.processor.kind == "text":
        texts = [" ".join(TEXTS[i].split()[: 2 + i % 5]) for i in range(batch)]
        arrays = model.processor.collate(model.processor.encode(texts))
        assert batch == 1 or (arrays["attention_mask"] == 0).any()
        return {name: torch.from_numpy(value) for name, value in arrays.items()}
    generator = torch.Generator().manual_seed(batch)
    return {"pixel_values": torch.randn(batch, 3, SIZE, SIZE, generator=generator)}


def logits(model: Model, batch: int) -> torch.Tensor:
    """Return logits, in inference mode."""
    with torch.inference_mode():
        return model.module(**inputs_of(model, batch)).logits.clone()


@pytest.fixture
def kit():
    """The functions above; test modules of this folder cannot import each other."""
    return SimpleNamespace(
        tiny=tiny, logits=logits, inputs=inputs_of, splits=splits, LABELS=LABELS, LENGTH=LENGTH, SIZE=SIZE,
        SHAPES=SHAPES, text_processor=text_processor, TEXTS=TEXTS,
    )  # fmt: skip
