from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lessen.context import Context
from lessen.measure import measure_speed, measure_stage
from lessen.recipe import Data, Measure, ModelSpec

QUICK = Measure(seconds=0.02, rounds=2, batch_size=2, threads=1, bootstrap=10)


@pytest.mark.slow
def test_a_torch_stage_is_measured_from_its_folder(tmp_path: Path, make_texts: Callable) -> None:
    from lessen import models

    part = make_texts(40)
    splits = SimpleNamespace(
        train=part, validation=part, test=part, labels=("red", "blue", "green"), multi_label=False,
        task="text-classification",
    )  # fmt: skip
    small = {"layers": 1, "hidden_size": 16, "intermediate_size": 32, "heads": 2, "vocab_size": 60}
    spec = ModelSpec(model="scratch:bert-mini", **small)
    model = models.fetch(spec, splits, Data(max_length=12), "text-classification", 0)
    artifact = models.save(model, tmp_path / "teacher", stage="teacher", key="k", history=(), facts={})
    ctx = Context(out_dir=tmp_path)
    metrics, answers = measure_stage(artifact, splits, None, QUICK, ctx, train=True)
    counted = sum(p.numel() for p in model.module.parameters())
    assert metrics["parameters"].value == counted
    assert metrics["layers"].value == 1
    assert (metrics["flops"].value or 0) > 1000
    assert metrics["train_accuracy"].value == metrics["accuracy"].value
    assert metrics["latency_p50_ms"].value is None
    assert answers.probabilities.shape == (40, 3)
    assert "l = 1 layers" in answers.facts["time_complexity"]
    again, _ = measure_stage(artifact, splits, answers, QUICK, ctx)
    assert again["agreement_with_teacher"].value == 1.0
    assert again["f1_macro_change"].value == 0.0
    timed = measure_speed({"teacher": artifact}, part, QUICK, ctx)["teacher"].metrics
    assert (timed["latency_p50_ms"].value or 0) > 0
    assert (timed["peak_rss_bytes"].value or 0) > 100e6  # torch was imported


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["gpt2-mini", "t5-mini", "mixtral-mini"])
def test_a_torch_stage_of_sequences_is_measured_from_its_folder(tmp_path: Path, preset: str) -> None:
    from lessen import models
    from measure.speakers import objects, splits
    from measure.test_sequences import sentences

    task = "seq2seq" if preset == "t5-mini" else "causal-lm"
    texts = sentences(12)
    data = splits(task, texts, objects(texts if task == "seq2seq" else [()] * 12))
    small = {"layers": 2, "hidden_size": 32, "intermediate_size": 64, "heads": 2, "vocab_size": 290}
    model = models.fetch(ModelSpec(model=f"scratch:{preset}", **small), data, data.settings, task, 0)
    artifact = models.save(model, tmp_path / "teacher", stage="teacher", key="k", history=(), facts={})
    ctx = Context(out_dir=tmp_path, cache_dir=tmp_path / "cache")
    cfg = QUICK.model_copy(update={"generate": 4, "max_new_tokens": 6})
    metrics, said = measure_stage(artifact, data, None, cfg, ctx, train=True)
    # scratch models know nothing yet: about as many choices as there are tokens
    assert 150 < (metrics["perplexity"].value or 0) < 1500
    assert metrics["train_perplexity"].value == pytest.approx(metrics["perplexity"].value, rel=1e-4)
    counted = sum(p.numel() for p in model.module.parameters())
    assert metrics["parameters"].value == pytest.approx(counted, rel=0.01)
    assert metrics["layers"].value == (4 if preset == "t5-mini" else 2)  # encoder and decoder
    assert metrics["first_token_ms"].value is None
    again, _ = measure_stage(artifact, data, said, cfg, ctx)
    assert again["agreement_with_teacher"].value == 1.0
    assert again["kl_to_teacher"].value == pytest.approx(0, abs=1e-9)
    assert again["perplexity_ratio"].value == pytest.approx(1)
    n, h, f, v = (int(said.facts["flops_input"].split()[2]), 32, 64, model.processor.vocab_size)
    if preset == "gpt2-mini":
        assert metrics["flops"].value == 2 * (8 * n * h * h + 4 * n * n * h + 4 * n * h * f) + 2 * n * h * v
        assert metrics["active_parameters"].value == counted
    if preset == "mixtral-mini":
        experts = 2 * 8 * 3 * h * f  # layers, experts, matrices
        assert metrics["active_parameters"].value == counted - experts * 6 // 8
        assert "2 of 8 experts" in said.facts["time_complexity"]


@pytest.mark.slow
def test_a_language_model_is_timed_by_its_tokens_in_a_fresh_process(tmp_path: Path) -> None:
    from lessen import models
    from measure.speakers import objects, splits
    from measure.test_sequences import sentences

    data = splits("causal-lm", sentences(12), objects([()] * 12))
    small = {"layers": 1, "hidden_size": 16, "intermediate_size": 32, "heads": 2, "vocab_size": 290}
    model = models.fetch(ModelSpec(model="scratch:gpt2-mini", **small), data, data.settings, "causal-lm", 0)
    artifact = models.save(model, tmp_path / "teacher", stage="teacher", key="k", history=(), facts={})
    cfg = QUICK.model_copy(update={"max_new_tokens": 6})
    timed = measure_speed({"teacher": artifact}, data.test, cfg, Context(out_dir=tmp_path))["teacher"].metrics
    assert timed["answer_tokens"].value == 6  # an end token does not stop it
    assert timed["token_ms"].n == 5 * (timed["first_token_ms"].n or 0)
    whole, parts = timed["latency_mean_ms"].value or 0, timed["tokens_per_s"].value or 0
    assert whole == pytest.approx(6e3 / parts, rel=0.2)
    assert timed["speedup"].value == 1.0
