"""Models that generate: their students, and where they come from."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lessen import models, processors
from lessen.errors import ModelError
from lessen.models import presets
from lessen.models.cut import entries
from lessen.models.groups import cut_, drop_layers_, groups, layers
from lessen.models.shape import count
from lessen.recipe import Data, ModelSpec, Recipe

KINDS = ["t5", "t5-gated", "gpt2", "llama", "qwen3_moe"]


@pytest.fixture(params=KINDS)
def model(kit, request):
    return kit.language(request.param)


@pytest.fixture
def data(kit):
    def go(task, length=kit.LENGTH, words=False):
        targets = np.array([text[::-1] for text in kit.TEXTS], dtype=object)
        labels = np.arange(len(kit.TEXTS)) % 2 if words else targets
        train = SimpleNamespace(inputs=kit.TEXTS, labels=labels)
        names = ("good", "bad") if words else ()
        return SimpleNamespace(task=task, labels=names, multi_label=False, train=train), Data(max_length=length)

    return go


@pytest.fixture
def fetch(data, kit):
    def go(model, task, words=False, length=kit.LENGTH, **spec):
        return models.fetch(ModelSpec(model=str(model), **spec), *data(task, length, words), task, 1)

    return go


def student(kit, data, teacher, **spec):
    return models.student(ModelSpec(**{"model": "teacher", **spec}), teacher, *data(teacher.info.task), "", 3)


def write(model, path):
    return models.save(model, path, stage="teacher", key="", history=(), facts={})


def test_a_student_of_all_layers_is_the_teacher(kit, data, model):
    model.module.generation_config.no_repeat_ngram_size = 3
    got = student(kit, data, model, layers=3)
    assert torch.equal(kit.logits(got, 3), kit.logits(model, 3))
    assert got.facts["copied_frac"] == 1.0
    assert got.facts["not_copied"] == []
    assert kit.tied(got) == kit.tied(model) == (model.info.family in ("t5", "gpt2"))
    assert got.module is not model.module
    assert got.module.generation_config.to_dict() == model.module.generation_config.to_dict()


def test_a_student_of_fewer_layers_is_the_teacher_with_layers_dropped(kit, data, model):
    got = student(kit, data, model, layers=2)
    keep = [1, 2, 4, 5] if model.info.task == "seq2seq" else [1, 2]
    drop_layers_(model, keep)
    assert got.facts["layer_map"] == keep
    assert torch.equal(kit.logits(got, 3), kit.logits(model, 3))
    assert got.facts["copied_frac"] == 1.0


def test_half_of_each_stack_is_what_is_made_when_nothing_is_said(kit, data, model):
    got = student(kit, data, model)
    assert len(layers(got)) == (2 if model.info.task == "seq2seq" else 1)


def test_a_narrower_student_takes_the_strong_units(kit, data, model):
    strong = [1, 4, 5, 9]
    for group in groups(model):
        for cut in group.producers if group.kind == "ffn" else ():
            tensor = getattr(model.module.get_submodule(cut.module), cut.leaf, None)
            if tensor is not None:
                at = torch.tensor(entries(cut, strong, group.units))
                tensor.data.index_copy_(cut.axis, at, tensor.data.index_select(cut.axis, at) * 20)
    got = student(kit, data, model, layers=3, intermediate_size=len(strong))
    narrow = {g.name: g.units for g in groups(got)}
    assert 4 in narrow.values()
    for group in groups(model):
        if narrow[group.name] == 4 < group.units:
            cut_(model, group, strong)
    assert torch.equal(kit.logits(got, 2), kit.logits(model, 2))
    assert got.facts["copied_frac"] == 1.0


def test_fewer_hidden_dimensions_are_the_same_ones_everywhere(kit, data, model):
    """The teacher's live dimensions of the residual stream are found, in every tensor along it."""
    live, dead = torch.arange(0, 32, 2), torch.arange(1, 32, 2)
    table = model.module.get_input_embeddings().weight
    for value in dict(model.module.named_parameters()).values():
        for axis, size in enumerate(value.shape):
            if size == 32:
                value.data.index_copy_(axis, dead, value.data.index_select(axis, dead) * 1e-3)
    heads = 4 if model.info.task == "seq2seq" else 2  # of the same size as the teacher's
    got = student(kit, data, model, layers=3, hidden_size=16, heads=heads)
    assert torch.equal(got.module.get_input_embeddings().weight, table[:, live])
    assert got.facts["copied_frac"] == 1.0
    assert kit.tied(got) == kit.tied(model)
    assert torch.isfinite(kit.logits(got, 2)).all()


def test_random_means_random(kit, data, model):
    got = student(kit, data, model, layers=3, init="random")
    assert "layer_map" not in got.facts
    assert not torch.equal(kit.logits(got, 2), kit.logits(model, 2))


def test_a_pruned_teacher_has_students_too(kit, data, model):
    kit.uneven(model)
    got = student(kit, data, model, layers=2)
    assert got.info.widths == {}
    assert torch.isfinite(kit.logits(got, 2)).all()


@pytest.mark.parametrize(("preset", "task"), [("t5-tiny", "seq2seq"), ("gpt2-tiny", "causal-lm")])
def test_a_preset_trains_its_tokenizer_on_sources_and_targets(kit, fetch, preset, task, monkeypatch):
    seen = []
    train = processors.train_bpe_processor
    monkeypatch.setattr(processors, "train_bpe_processor", lambda t, **k: seen.extend(t) or train(t, **k))
    model = fetch(f"scratch:{preset}", task, vocab_size=280)
    assert set(kit.TEXTS) <= set(seen)
    assert (kit.TEXTS[3][::-1] in seen) == (task == "seq2seq")
    config, settings = model.module.config, model.module.generation_config
    assert config.vocab_size == model.processor.vocab_size
    assert (settings.pad_token_id, settings.eos_token_id) == (model.processor.pad_id, 1)
    assert config._attn_implementation == "sdpa"
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert (model.info.labels, model.info.task) == ((), task)
    assert torch.isfinite(kit.logits(model, 2)).all()
    assert presets.find(preset).task == task


def test_label_words_are_labels_and_targets(fetch, monkeypatch):
    seen = []
    train = processors.train_bpe_processor
    monkeypatch.setattr(processors, "train_bpe_processor", lambda t, **k: seen.extend(t) or train(t, **k))
    assert fetch("scratch:t5-tiny", "seq2seq", words=True, vocab_size=280).info.labels == ("good", "bad")
    assert {"good", "bad"} <= set(seen)


def test_a_classifier_s_settings_are_refused(fetch):
    for wrong in ({"pooling": "mean"}, {"head_width": 4}, {"output": "sigmoid"}):
        with pytest.raises(ModelError, match="are for classifiers"):
            fetch("scratch:gpt2-tiny", "causal-lm", vocab_size=280, **wrong)
    with pytest.raises(ModelError, match="is for causal-lm, the recipe's task is seq2seq"):
        fetch("scratch:gpt2-tiny", "seq2seq")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_transformers_answers_as_it_did(kit, fetch, tmp_path, kind):
    model = kit.language(kind)
    model.module.save_pretrained(tmp_path)
    model.processor.save(tmp_path)
    got = fetch(tmp_path, model.info.task)
    assert torch.equal(kit.logits(got, 2), kit.logits(model, 2))
    assert kit.tied(got) == kit.tied(model)
    assert got.module.config._attn_implementation == "sdpa"
    assert got.facts["new"] == []
    assert len(layers(fetch(tmp_path, model.info.task, layers=1))) == (2 if "t5" in kind else 1)


def test_a_tokenizer_without_padding_pads_with_its_end_token(kit, fetch, tmp_path):
    model = kit.language("gpt2")
    model.module.save_pretrained(tmp_path)
    model.processor.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    del config["pad_token"]
    file.write_text(json.dumps(config))
    got = fetch(tmp_path, "causal-lm")
    assert got.processor.pad_id == got.module.generation_config.pad_token_id == 1
    again = models.open_model(write(got, tmp_path / "a"))
    assert again.processor.pad_id == again.module.generation_config.pad_token_id == 1


@pytest.mark.parametrize(("kind", "lost"), [("gpt2", "transformer.h.1.mlp.c_fc.weight"), ("llama", "lm_head.weight")])
def test_missing_weights_are_refused(kit, fetch, tmp_path, kind, lost):
    model = kit.language(kind)
    model.module.save_pretrained(tmp_path)
    model.processor.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"lacks 1 weights .*{lost}"):
        fetch(tmp_path, "causal-lm")


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_an_artifact_of_ours_is_taken_as_it_is(kit, fetch, tmp_path, kind):
    model = kit.language(kind)
    kit.uneven(model)
    path = write(model, tmp_path / "a").path
    got = fetch(path, model.info.task, length=9)
    assert torch.equal(kit.logits(got, 2), kit.logits(model, 2))
    assert got.processor.max_length == 9
    assert got.info.widths == model.info.widths


def test_texts_longer_than_gpt2_s_positions_are_refused(fetch, kit, tmp_path):
    path = write(kit.language("gpt2"), tmp_path / "a").path
    with pytest.raises(ModelError, match=f"at most {kit.LENGTH} tokens"):
        fetch(path, "causal-lm", length=64)
    path = write(kit.language("t5"), tmp_path / "b").path
    assert fetch(path, "seq2seq", length=64).processor.max_length == 64


@pytest.mark.parametrize(("preset", "task"), [("t5-mini", "seq2seq"), ("gpt2-mini", "causal-lm")])
def test_parameters_are_estimated_without_weights(fetch, preset, task):
    teacher = {"model": f"scratch:{preset}", "vocab_size": 280}
    recipe = Recipe.model_construct(
        task=task, data=Data(max_length=12), teacher=ModelSpec(**teacher), student=ModelSpec(model="teacher", layers=2)
    )
    built = fetch(f"scratch:{preset}", task, vocab_size=280)
    words = built.module.config.vocab_size
    rest = count(built.module) - words * 256
    assert models.parameters(recipe, recipe.teacher) == rest + 280 * 256
    assert models.parameters(recipe, recipe.student) < rest
