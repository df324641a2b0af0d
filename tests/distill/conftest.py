"""Tiny models made on the spot."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.data import Split, Splits
from lessen.data.batches import encode
from lessen.evaluate import predict_logits
from lessen.recipe import Data, ModelSpec
from lessen.runtime import Runtime


@pytest.fixture
def cpu():
    return Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture
def bert():
    def make(layers=2, width=16, heads=2, labels=3, seed=0, dropout=0.1):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_labels=labels,
            intermediate_size=2 * width, max_position_embeddings=32, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        return BertForSequenceClassification(config).eval()

    return make


@pytest.fixture
def resnet():
    def make(widths=(8, 12), seed=0, labels=3):
        torch.manual_seed(seed)
        config = ResNetConfig(
            num_channels=3, embedding_size=8, hidden_sizes=list(widths), depths=[1] * len(widths), layer_type="basic",
            num_labels=labels, downsample_in_first_stage=False,
        )  # fmt: skip
        return ResNetForImageClassification(config).eval()

    return make


@pytest.fixture
def mobilenet():
    def make(seed=0, labels=3):
        torch.manual_seed(seed)
        return MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.35, num_labels=labels)).eval()

    return make


@pytest.fixture
def texts():
    """Token ids of three texts of 5, 3 and 7 tokens, padded to `length`."""

    def make(length=7, seed=0):
        ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(seed))
        mask = torch.arange(7)[None, :] < torch.tensor([5, 3, 7])[:, None]
        ids = ids * mask
        grown = torch.zeros(3, length, dtype=torch.long)
        grown[:, :7] = ids
        real = torch.zeros(3, length, dtype=torch.long)
        real[:, :7] = mask.long()
        return {"input_ids": grown, "attention_mask": real}

    return make


def spec(**changes):
    shape = {"layers": 3, "hidden_size": 32, "heads": 2, "intermediate_size": 64}
    return ModelSpec(model="scratch:bert-mini", **{**shape, "vocab_size": 90, **changes})


def some_texts(count, seed):
    draw = np.random.default_rng(seed)
    words = ["red", "green", "blue", "apple", "pear", "sea", "sun", "tree", "leaf", "cat", "dog", "runs", "eats"]
    return [" ".join(draw.choice(words, int(draw.integers(3, 12)))) + f" {i}" for i in range(count)]


def split_of(name, count, seed, labels=3):
    texts = some_texts(count, seed)
    ids = np.array([hashlib.sha256(t.encode()).hexdigest()[:16] for t in texts])
    return Split(name, ids, texts, np.arange(count) % labels)


@dataclass
class World:
    """Data on which a teacher is perfect, since the labels of these made-up texts are its own answers."""

    splits: Splits
    teacher: Artifact
    folder: Path
    said: list = field(default_factory=list)

    @property
    def ctx(self):
        return Context(out_dir=self.folder, cache_dir=self.folder / "cache", stage="distill", emit=self.said.append)

    def lines(self, level=None):
        return [e.message for e in self.said if e.kind == "Log" and level in (None, e.level)]

    def student(self, **changes):
        shape = {"layers": 2, "hidden_size": 16, "heads": 1, "intermediate_size": 32, "tokenizer": "teacher"}
        made = spec(**{**shape, "init": "random", **changes})
        return models.student(made, models.open_model(self.teacher), self.splits, DATA, self.splits.task, 1)

    def encoded(self, model):
        return encode(self.splits.train, model.processor, None)

    def save(self, model, name):
        return models.save(
            model, self.folder / name, stage="teacher", key="k", history=({"stage": "teacher"},), facts={}
        )


DATA = Data(max_length=24)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    parts = [split_of(n, c, i) for i, (n, c) in enumerate([("train", 48), ("validation", 32), ("test", 8)])]
    splits = Splits("text-classification", ("a", "b", "c"), False, *parts, {}, "digest")
    teacher = models.fetch(spec(config={"initializer_range": 0.5}), splits, DATA, splits.task, 0)
    first = predict_logits(teacher, encode(parts[0], teacher.processor, None), torch.device("cpu"))
    with torch.no_grad():  # every class is answered about as often
        teacher.module.classifier.bias.sub_(torch.from_numpy(np.median(first, axis=0)))
    named = []
    for part in parts:
        logits = predict_logits(teacher, encode(part, teacher.processor, None), torch.device("cpu"))
        named.append(replace(part, labels=logits.argmax(1)))
    splits = replace(splits, train=named[0], validation=named[1], test=named[2])
    world = World(splits, Artifact(folder), folder)
    return replace(world, teacher=world.save(teacher, "teacher"))


@pytest.fixture
def world(made, tmp_path):
    return replace(made, folder=tmp_path, said=[])
