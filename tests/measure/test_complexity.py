from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lessen.measure.complexity import complexity, count_layers, describe, flops, flops_of_modules
from lessen.measure.metric import measured

H, F, N, L, V, C = 16, 40, 11, 2, 30, 3  # hidden, feed-forward, tokens, layers, vocabulary, classes


def bert(**more: object) -> object:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=V, hidden_size=H, num_hidden_layers=L, num_attention_heads=2, intermediate_size=F, num_labels=C,
        max_position_embeddings=16, **more,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def test_flops_of_an_encoder_equal_the_closed_formula() -> None:
    batch = {"input_ids": np.ones((1, N), dtype=np.int64), "attention_mask": np.ones((1, N), dtype=np.int64)}
    layer = (
        8 * N * H * H + 4 * N * N * H + 4 * N * H * F
    )  # q, k, v, output; scores and mixing; two feed-forward matrices
    head = 2 * H * H + 2 * H * C  # pooler, classifier
    assert flops(bert(), batch) == L * layer + head


def test_a_head_of_our_own_does_not_hide_the_attention_from_the_count() -> None:
    from transformers import BertConfig

    from lessen.info import ModelInfo
    from lessen.models.heads import PooledClassifier

    config = BertConfig(
        vocab_size=V, hidden_size=H, num_hidden_layers=L, num_attention_heads=2, intermediate_size=F,
        max_position_embeddings=16,
    )  # fmt: skip
    info = ModelInfo(family="bert", task="text-classification", source="x", labels=("a", "b", "c"), pooling="mean")
    found = flops_of_modules(PooledClassifier(config, info), {"input_ids": np.ones((1, N), dtype=np.int64)})
    scores_and_mixing = 4 * N * N * H
    assert found[""] == L * (8 * N * H * H + scores_and_mixing + 4 * N * H * F) + 2 * H * C
    assert found["bert.encoder.layer.0.attention.self"] == 6 * N * H * H + scores_and_mixing
    assert found["bert.encoder.layer.1.intermediate.dense"] == 2 * N * H * F


def test_flops_grow_with_the_length_of_the_input() -> None:
    def at(n: int) -> int:
        return flops(bert(), {"input_ids": np.ones((1, n), dtype=np.int64)})

    assert at(16) > 2 * at(8)  # more than linear: attention is quadratic


def test_layers_are_counted_in_the_model_not_in_its_configuration() -> None:
    module = bert()
    config = {"num_hidden_layers": L}
    assert count_layers(module, config) == L
    del module.bert.encoder.layer[0]  # type: ignore[attr-defined]
    assert count_layers(module, config) == L - 1


def test_an_exported_artifact_inherits_flops_and_says_so(
    tmp_path: Path, make_artifact: Callable, make_texts: Callable
) -> None:
    artifact = make_artifact(tmp_path / "a")
    metrics, _ = complexity(
        artifact, SimpleNamespace(test=make_texts()), {"flops": measured(100, "FLOP"), "layers": measured(2, "count")}
    )
    assert metrics["flops"].value == 100
    assert metrics["flops"].kind == "derived"
    assert "not counted in onnx" in (metrics["flops"].reason or "")
    metrics, _ = complexity(artifact, SimpleNamespace(test=make_texts()))
    assert metrics["flops"].value is None


def test_formulas_carry_the_numbers_of_the_configuration() -> None:
    config = {
        "num_hidden_layers": 4,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "vocab_size": 8000,
        "num_attention_heads": 4,
    }
    text = describe(config, {"layer0.ffn": 512, "layer1.ffn": 256}, 24, "tokens")["time_complexity"]
    for part in ("n^2 h", "l = 4", "n = 24", "h = 256", "f = 1024", "mean of 2 pruned layers: 384"):
        assert part in text
    assert "k^2 c_in c_out" in describe({}, {}, 32, "pixels")["time_complexity"]


@pytest.mark.parametrize("words", [True, False])
def test_a_simple_model_is_fitted_on_train_and_scored_on_test(words: bool, make_texts: Callable) -> None:
    from lessen.measure.baseline import score_baseline
    from lessen.recipe import Measure

    train, test = make_texts(90, 1), make_texts(45, 2)
    if not words:
        rng = np.random.default_rng(0)

        def images(part: object) -> list[np.ndarray]:
            return [rng.integers(0, 40, (8, 8, 3), dtype=np.uint8) + np.uint8(60 * k) for k in part.labels]  # type: ignore[attr-defined]

        train, test = type(train)(images(train), train.labels), type(test)(images(test), test.labels)
    task = "text-classification" if words else "image-classification"
    splits = SimpleNamespace(train=train, test=test, task=task, labels=("red", "blue", "green"), multi_label=False)
    metrics, facts = score_baseline(splits, Measure(bootstrap=20))
    assert (metrics["f1_macro"].value or 0) > 0.95
    assert metrics["f1_macro"].n == 45
    assert "logistic regression" in facts["method"]
    shuffled = SimpleNamespace(**{**vars(splits), "test": type(test)(test.inputs, (test.labels + 1) % 3)})
    assert (score_baseline(shuffled, Measure(bootstrap=5))[0]["accuracy"].value or 0) < 0.05
