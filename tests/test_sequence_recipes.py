"""Whole runs of sequence tasks: the real shape of t5-small, 100 exported sentences, every pipeline on tiny models."""

from pathlib import Path

import numpy as np
import pytest

import tiny_speakers as speakers
from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.export import export
from lessen.finetune import finetune
from lessen.generator import Generator
from lessen.recipe import Export, Train, parse
from lessen.runner import run

PAIRS = next((p / "shared" / "data" / "multi30k" for p in Path(__file__).parents if (p / "shared").is_dir()), None)
LM = {
    "task": "causal-lm",
    "data": {"source": "pydocs", "limit": 80, "max_length": 48},
    "teacher": {"model": "scratch:gpt2-tiny", "vocab_size": 300, "train": {"epochs": 6, "batch_size": 8, "lr": 5e-3}},
    "student": {"model": "teacher", "layers": 1},
    "distill": {"teacher_margin": 0.0, "train": {"epochs": 1, "batch_size": 8, "lr": 5e-3}},
    "prune": {"recover": {"epochs": 1, "batch_size": 8, "lr": 1e-3}, "calib_samples": 32},
    "measure": {"generate": 4, "max_new_tokens": 6, "seconds": 0.02, "rounds": 1, "bootstrap": 20},
}


@pytest.mark.slow
def test_a_language_model_goes_through_every_stage(tmp_path: Path) -> None:
    report = run(parse({**LM, "pipeline": "kd_prune_quant"}), out_dir=tmp_path / "run")
    stages = [row.stage for row in report.rows]
    assert stages == ["teacher", "runtime", "distill", "prune", "export", "quantize"]
    for row in report.rows:
        assert row.value("perplexity") is not None
        assert row.value("token_ms") is not None, row.metrics["token_ms"].reason
    sizes = [row.value("file_bytes") for row in report.rows if row.role == "main"]
    assert sizes == sorted(sizes, reverse=True), "every stage is smaller than the one before"
    ppl = {row.stage: row.value("perplexity") for row in report.rows}
    assert ppl["runtime"] == pytest.approx(ppl["teacher"], rel=1e-4)
    assert ppl["export"] == pytest.approx(ppl["prune"], rel=1e-4)
    again = run(parse({**LM, "pipeline": "kd_prune_quant"}), out_dir=tmp_path / "run")
    assert again.run_id == report.run_id


@pytest.mark.slow
@pytest.mark.parametrize(("method", "pattern"), [("sparsegpt", "unstructured"), ("wanda", "2:4")])
def test_masks_hold_through_a_run_of_a_language_model(tmp_path: Path, method: str, pattern: str) -> None:
    prune = {**LM["prune"], "method": method, "pattern": pattern}
    recipe = parse({**LM, "pipeline": "prune_only", "prune": prune, "export": {"formats": []}})
    report = run(recipe, out_dir=tmp_path / "run")
    row = report.row("prune")
    assert row is not None
    assert row.facts["masks"]["fraction"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.slow
def test_the_real_shape_of_t5_small_trains_for_a_few_steps(tmp_path: Path) -> None:
    splits = speakers.splits("t5")
    recipe = parse({"task": "seq2seq", "teacher": {"model": "scratch:t5-small", "vocab_size": 300}})
    model = models.fetch(recipe.teacher, splits, splits.settings, "seq2seq", 0)
    config = model.module.config
    assert (config.num_layers, config.num_decoder_layers, config.d_model, config.d_ff) == (6, 6, 512, 2048)
    assert (config.num_heads, config.d_kv) == (8, 64)
    ctx = Context(out_dir=tmp_path, stage="teacher")
    train = Train(max_steps=12, eval_steps=6, batch_size=4, lr=5e-4, embedding_lr=30, warmup_frac=0, patience=None)
    made = finetune(model, train, splits, ctx, out=tmp_path / "teacher", key="k")
    history = made.manifest.facts["fit"]["history"]
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    opened = models.open_model(made).module
    assert opened.lm_head.weight is opened.shared.weight


@pytest.mark.slow
@pytest.mark.skipif(PAIRS is None or not PAIRS.is_dir(), reason="Multi30k is not in ../shared/data")
def test_an_exported_translator_says_the_same_as_torch_on_100_sentences(tmp_path: Path) -> None:
    recipe = parse(
        {
            "task": "seq2seq",
            "pipeline": "baseline",
            "data": {
                "source": "parallel", "path": str(PAIRS), "languages": ["en", "de"], "fraction": 0.02, "max_length": 48,
                "max_target_length": 48,
            },
            "teacher": {
                "model": "scratch:t5-tiny", "vocab_size": 800,
                "train": {"epochs": 4, "batch_size": 16, "lr": 1e-3, "embedding_lr": 30},
            },
            "export": {"formats": []},
            "measure": {"speed": False, "baseline": False, "generate": 2, "bootstrap": 10},
        }
    )  # fmt: skip
    report = run(recipe, out_dir=tmp_path / "run")
    artifact = Artifact(tmp_path / "run" / report.rows[0].artifact)
    ctx = Context(out_dir=tmp_path, stage="export")
    (exported,) = export(artifact, Export(formats=("onnx",)), None, ctx, out=tmp_path / "onnx")
    from lessen import data

    sentences = list(data.load(recipe.data.model_copy(update={"fraction": 0.5}), "seq2seq", 0).test.inputs[:100])
    assert len(sentences) == 100
    for beams in (1, 4):
        want = Generator(artifact).generate(sentences, 24, beams)
        got = Generator(exported).generate(sentences, 24, beams)
        assert got == want
    assert len(set(want)) > 1, "the model answers differently to different sentences"
    assert np.mean([len(text.split()) for text in want]) > 1
