"""A tiny ONNX classifier that counts words of each class: an artifact that answers, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.artifact import Artifact, Manifest, write
from lessen.info import ModelInfo
from lessen.processors import train_text_processor

WORDS = ("red rose ruby", "blue sky sea", "green leaf moss")
LABELS = ("red", "blue", "green")


@dataclass(frozen=True)
class Part:
    """The members of a data.Split that measuring uses."""

    inputs: Sequence[Any]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> Part:
        return Part([self.inputs[i] for i in rows], self.labels[list(rows)])


def texts(n: int = 60, seed: int = 0) -> Part:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    words = [w.split() for w in WORDS]
    inputs = [" ".join(rng.choice(words[k], size=rng.integers(2, 7))) for k in labels]
    return Part(inputs, labels.astype(np.int64))


def graph(vocabulary: int, votes: dict[int, int], *, extra: int = 0) -> onnx.ModelProto:
    """Return logits = mean over tokens of an embedding that votes for a class."""
    table = np.zeros((vocabulary, 3), dtype=np.float32)
    for token, k in votes.items():
        table[token, k] = 5.0
    initializers = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("ReduceMean", ["states", "axis"], ["mean" if extra else "logits"], keepdims=0),
    ]
    if extra:
        initializers.append(numpy_helper.from_array(np.eye(3, dtype=np.float32), "head"))
        nodes.append(helper.make_node("MatMul", ["mean", "head"], ["logits"]))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "l"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])],
        initializers,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def artifact(path: Path, *, break_file: bool = False, votes: Sequence[int] = (0, 1, 2)) -> Artifact:
    processor = train_text_processor(list(WORDS) * 4, vocab_size=60, max_length=12)
    ids = {w: int(processor.encode([w])[0][1]) for line in WORDS for w in line.split()}
    table = {ids[w]: votes[k] for k, line in enumerate(WORDS) for w in line.split()}

    def fill(folder: Path) -> None:
        processor.save(folder)
        model = graph(processor.vocab_size, table)
        (folder / "model.onnx").write_bytes(b"broken" if break_file else model.SerializeToString())
        (folder / "README.md").write_text("not needed to run\n" * 500, encoding="utf-8")

    info = ModelInfo(family="words", task="text-classification", source="test", labels=LABELS)
    return write(path, Manifest(runtime="onnx", info=info, stage="export"), fill)


@pytest.fixture
def make_artifact() -> Callable[..., Artifact]:
    return artifact


@pytest.fixture
def make_texts() -> Callable[..., Part]:
    return texts


@pytest.fixture
def make_graph() -> Callable[..., onnx.ModelProto]:
    return graph
