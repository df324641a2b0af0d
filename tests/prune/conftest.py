"""Tiny models of real families and a data set in memory that follows the interface of `Encoded`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from lessen.info import ModelInfo
from lessen.models import Model
from lessen.models.build import config_of, module_of

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": (
        "bert",
        {
            "vocab_size": 50,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 24,
        },
    ),
    "distilbert": ("distilbert", {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}),
    "resnet": (
        "resnet",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic", "num_channels": 1},
    ),
    "mobilenet_v2": ("mobilenet_v2", {"depth_multiplier": 0.25, "min_depth": 4, "num_channels": 1, "expand_ratio": 4}),
}


@dataclass
class Items:
    """Samples in memory: what pruning uses of `lessen.data.batches.Encoded`."""

    ids: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    tokens: list[np.ndarray] | None = None
    pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows, view=None):
        if self.pixels is not None:
            return {"pixel_values": self.pixels[rows]}
        longest = int(self.lengths[rows].max())
        ids, mask = np.zeros((2, len(rows), longest), dtype=np.int64)
        for out, (i, row) in enumerate(enumerate(rows)):
            ids[out, : self.lengths[row]] = self.tokens[row]
            mask[i, : self.lengths[row]] = 1
        return {"input_ids": ids, "attention_mask": mask}


def make_model(name: str, seed: int = 0, **more: Any) -> Model:
    torch.manual_seed(seed)
    model_type, values = SHAPES[name][0], {**SHAPES[name][1], **more}
    images = name in ("resnet", "mobilenet_v2")
    task = "image-classification" if images else "text-classification"
    info = ModelInfo(family=name, task=task, source="test", labels=("a", "b", "c"), dropout=0.1)
    module = module_of(config_of(model_type, values, info), info)
    for parameter in module.parameters():  # spread, so that no bias is zero and no unit alike
        parameter.data.add_(
            torch.randn(parameter.shape) * (0.1 if parameter.dim() == 1 else 0.15 / parameter[0].numel() ** 0.25)
        )
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return Model(module.eval(), None, info)


def make_items(name: str, count: int = 48, seed: int = 0) -> Items:
    rng = np.random.default_rng(seed)
    ids, labels = np.array([f"{i:04d}" for i in range(count)]), rng.integers(0, 3, count)
    if name in ("resnet", "mobilenet_v2"):
        pixels = rng.standard_normal((count, 1, 32, 32)).astype(np.float32)
        return Items(ids, labels, np.ones(count, dtype=np.int64), pixels=pixels)
    lengths = rng.integers(3, 12, count)
    return Items(ids, labels, lengths, tokens=[rng.integers(5, 50, n) for n in lengths])


@pytest.fixture(scope="session")
def model():
    return make_model


@pytest.fixture(scope="session")
def items():
    return make_items


MIXED = {  # a plain layer, then one with experts
    "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
    "mlp_only_layers": [0],
}  # fmt: skip
SPEAKERS = ("t5", "gpt2", "llama", "mixtral", "qwen3_moe")


@pytest.fixture(scope="session")
def speaking(tmp_path_factory):
    """Return (artifact, splits, context) of a tiny model that generates; each is made once."""
    import tiny_speakers
    from lessen.context import Context

    root, made = tmp_path_factory.mktemp("speaking"), {}

    def get(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(tiny_speakers.SHAPES, "qwen3_moe", MIXED)
                source = tiny_speakers.save(name, root / name)
            ctx = Context(out_dir=root, cache_dir=root / "cache", stage="prune")
            made[name] = (source, tiny_speakers.splits(name), ctx)
        return made[name]

    return get


@pytest.fixture(scope="session")
def speaker(speaking):
    """Return (a fresh model, its training data, one sample to a row)."""
    from lessen import models
    from lessen.data.rows import rows_of
    from lessen.prune.calibrate import alone

    def get(name):
        source, splits, _ = speaking(name)
        model = models.open_model(source)
        model.module.eval()
        return model, alone(rows_of(splits, "train", model.processor, None))

    return get
