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
    metrics, answers = measure_stage(artifact, part, None, QUICK, ctx, train=part)
    counted = sum(p.numel() for p in model.module.parameters())
    assert metrics["parameters"].value == counted
    assert metrics["layers"].value == 1
    assert (metrics["flops"].value or 0) > 1000
    assert metrics["train_accuracy"].value == metrics["accuracy"].value
    assert metrics["latency_p50_ms"].value is None
    assert answers.probabilities.shape == (40, 3)
    assert "l = 1 layers" in answers.facts["time_complexity"]
    again, _ = measure_stage(artifact, part, answers, QUICK, ctx)
    assert again["agreement_with_teacher"].value == 1.0
    assert again["f1_macro_change"].value == 0.0
    timed = measure_speed({"teacher": artifact}, part, QUICK, ctx)["teacher"]
    assert (timed["latency_p50_ms"].value or 0) > 0
    assert (timed["peak_rss_bytes"].value or 0) > 100e6  # torch was imported
