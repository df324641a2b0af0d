"""Students: shapes derived from the teacher, weights copied from it."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from tokenizers import Tokenizer

from lessen import models
from lessen.errors import ModelError
from lessen.models.copying import layer_map
from lessen.models.groups import cut_, drop_layers_, groups, layers
from lessen.processors import TextProcessor
from lessen.recipe import Data, ModelSpec

ENCODERS = ["bert", "distilbert", "electra", "roberta"]


@pytest.fixture
def student(kit):
    def go(teacher, labels=kit.LABELS, **spec):
        made = ModelSpec(**{"model": "teacher", **spec})
        data = Data(max_length=kit.LENGTH)
        return models.student(made, teacher, kit.splits(labels), data, teacher.info.task, 3)

    return go


def weights(model, contains):
    return {k: v for k, v in model.module.state_dict().items() if contains in k}


@pytest.mark.parametrize(
    ("mine", "theirs", "want"),
    [(6, 12, [1, 3, 5, 7, 9, 11]), (2, 4, [1, 3]), (1, 3, [2]), (2, 3, [1, 2]), (3, 3, [0, 1, 2]), (4, 3, [])],
)
def test_layers_are_taken_evenly_with_the_last_one(mine, theirs, want):
    assert layer_map(mine, theirs) == want


@pytest.mark.parametrize("name", ENCODERS)
def test_a_student_of_fewer_layers_is_the_teacher_with_layers_dropped(kit, student, name):
    teacher = kit.tiny(name)
    got = student(teacher, layers=2)
    drop_layers_(teacher, [1, 2])
    torch.testing.assert_close(kit.logits(got, 3), kit.logits(teacher, 3))
    assert got.facts["layer_map"] == [1, 2]
    assert (got.facts["copied_frac"], got.facts["not_copied"]) == (1.0, [])
    assert got.info.widths == {}


def test_half_the_layers_is_what_is_made_when_nothing_is_said(kit, student):
    got = student(kit.tiny("bert"))
    assert len(layers(got)) == 1
    assert got.facts["layer_map"] == [2]


@pytest.mark.parametrize("name", ENCODERS)
def test_narrower_layers_take_the_units_of_largest_norm(kit, student, name):
    teacher = kit.tiny(name)
    strong = [1, 4, 5, 9]
    for group in groups(teacher):
        if group.kind == "ffn":
            for cut in group.producers:
                getattr(teacher.module.get_submodule(cut.module), cut.leaf).data[strong] += 3.0
    got = student(teacher, intermediate_size=len(strong))
    for group in groups(teacher):
        if group.kind == "ffn":
            cut_(teacher, group, strong)
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(teacher, 2))
    assert got.facts["copied_frac"] == 1.0


@pytest.mark.parametrize("name", ENCODERS)
def test_fewer_hidden_dimensions_are_the_same_ones_everywhere(kit, student, name):
    """A teacher that lives in 16 of its 32 dimensions loses nothing with the others, once LayerNorm is apart."""
    teacher = kit.tiny(name)
    live = torch.arange(0, 32, 2)
    dead = torch.arange(1, 32, 2)
    for key, value in teacher.module.state_dict().items():
        for axis, size in enumerate(value.shape):
            if size == 32 and value.is_floating_point() and not key.startswith("classifier.weight"):
                value.index_fill_(axis, dead, 1e-3)
    got = student(teacher, hidden_size=16, heads=2)
    assert got.module.config.hidden_size == 16
    assert got.facts["copied_frac"] == 1.0
    table = "embeddings.LayerNorm.weight"
    if "electra" not in name:
        mine, theirs = (next(v for k, v in weights(m, table).items()) for m in (got, teacher))
        assert torch.equal(mine, theirs[live])
    path, other = layers(got)[0], layers(teacher)[0]
    for norm in ("LayerNorm", "layer_norm"):
        for key, value in weights(got, path).items():
            if norm in key and key.endswith("weight"):
                assert torch.equal(value, teacher.module.state_dict()[key.replace(path, other)][live])
    assert torch.isfinite(kit.logits(got, 2)).all()


def test_narrower_heads_keep_queries_and_keys_together_and_their_scores(kit, student):
    teacher = kit.tiny("bert")
    first = layers(teacher)[0]
    state = teacher.module.state_dict()
    for part, dead in (("query", [0, 3]), ("key", [4, 6])):  # a dead dimension of either is worth nothing
        for leaf in ("weight", "bias"):
            state[f"{first}.attention.self.{part}.{leaf}"].reshape(4, 8, -1)[:, dead] = 0.0
    got = student(teacher, layers=3, hidden_size=32, heads=8, intermediate_size=48)
    assert not got.module.bert.encoder.layer[0].attention.self.query.weight.equal(
        state[f"{first}.attention.self.query.weight"]
    )
    narrow = student(teacher, layers=3, hidden_size=16, heads=4, intermediate_size=48)
    assert narrow.module.bert.encoder.layer[0].attention.self.attention_head_size == 4
    q, k = (weights(narrow, f"{first}.attention.self.{p}.bias").popitem()[1] for p in ("query", "key"))
    live = state[f"{first}.attention.self.query.bias"].reshape(4, 8)[:, [1, 2, 5, 7]].reshape(-1)
    torch.testing.assert_close(q, live * 0.5**0.5)  # the student divides by a smaller root
    assert torch.equal(k, state[f"{first}.attention.self.key.bias"].reshape(4, 8)[:, [1, 2, 5, 7]].reshape(-1))


def test_more_heads_than_the_teacher_has_are_left_random_and_named(kit, student):
    got = student(kit.tiny("bert"), layers=2, heads=8)
    assert any("attention.self.query" in name for name in got.facts["not_copied"])
    assert 0 < got.facts["copied_frac"] < 1


def test_a_student_inherits_head_pooling_and_output_unless_told(kit, student):
    teacher = kit.tiny("bert", pooling="mean", head_width=6)
    got = student(teacher, layers=3)
    assert (got.info.pooling, got.info.head_width) == ("mean", 6)
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(teacher, 2))
    other = student(teacher, layers=3, pooling="cls", head_width=None)
    assert other.info.head_width is None


def test_labels_in_another_order_do_not_take_the_teacher_s_classifier(kit, student):
    got = student(kit.tiny("bert"), labels=("spam", "ham", "eggs"), layers=3)
    assert got.facts["not_copied"] == ["classifier.bias", "classifier.weight"]


def test_a_preset_takes_embeddings_only_with_the_teacher_s_tokenizer(kit, student):
    teacher = kit.tiny("bert", shape={**kit.SHAPES["bert"], "hidden_size": 128, "num_attention_heads": 2})
    same = student(teacher, model="scratch:bert-tiny", tokenizer="teacher", layers=2, intermediate_size=48)
    other = student(teacher, model="scratch:bert-tiny", vocab_size=50, layers=2, intermediate_size=48)
    table = "bert.embeddings.word_embeddings.weight"
    assert same.facts["copied_frac"] == 1.0
    assert other.facts["not_copied"] == [table]
    assert other.module.config.vocab_size != same.module.config.vocab_size


def test_embeddings_of_as_many_but_other_words_are_not_copied(kit, student):
    teacher = kit.tiny("bert")
    own = student(teacher, layers=3)
    assert own.facts["not_copied"] == []
    swapped = json.loads(teacher.processor.tokenizer.to_str())
    words = swapped["model"]["vocab"]
    words["box"], words["sum"] = words["sum"], words["box"]
    teacher.processor = TextProcessor(Tokenizer.from_str(json.dumps(swapped)), {"pad_token": "[PAD]"}, kit.LENGTH, 0)
    shape = {"layers": 3, "hidden_size": 32, "heads": 4, "intermediate_size": 48}
    other = student(teacher, model="scratch:bert-tiny", vocab_size=60, **shape)
    assert other.processor.vocab_size == teacher.processor.vocab_size
    assert other.facts["not_copied"] == ["bert.embeddings.word_embeddings.weight"]


def test_another_family_cannot_take_over_weights(kit, student):
    teacher = kit.tiny("electra")
    got = student(teacher, model="scratch:distilbert-mini", tokenizer="teacher")
    assert (got.facts["copied_parameters"], got.facts["weights"]) == (0, "random")
    with pytest.raises(ModelError, match="nothing of the teacher fits"):
        student(teacher, model="scratch:distilbert-mini", tokenizer="teacher", init="teacher")


def test_random_means_random(kit, student):
    teacher = kit.tiny("bert")
    got = student(teacher, layers=3, init="random")
    assert "layer_map" not in got.facts
    assert not torch.equal(kit.logits(got, 2), kit.logits(teacher, 2))


def test_a_field_of_the_configuration_alone_changes_nothing_else(kit, student):
    got = student(kit.tiny("bert"), config={"num_hidden_layers": 2})
    assert (len(layers(got)), got.module.config.intermediate_size) == (2, 48)


def test_a_pruned_teacher_has_students_too(kit, student):
    teacher = kit.tiny("bert")
    cut_(teacher, groups(teacher)[0], [1, 2])
    got = student(teacher, layers=2)
    assert got.info.widths == {}
    assert torch.isfinite(kit.logits(got, 2)).all()


def test_a_resnet_student_of_all_widths_is_the_teacher(kit, student):
    teacher = kit.tiny("resnet")
    got = student(teacher, hidden_size=16)
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(teacher, 2))


def test_a_resnet_student_keeps_the_blocks_that_change_shape_and_the_strong_channels(kit, student):
    teacher = kit.tiny("resnet")
    got = student(teacher)
    assert got.module.config.depths == [1, 1]
    assert got.facts["layer_map"] == [1, 2]
    reference = copy.deepcopy(teacher)
    drop_layers_(reference, [1, 2])
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(reference, 2))
    narrow = student(teacher, hidden_size=8)
    assert narrow.module.config.hidden_sizes == [4, 8]
    assert narrow.facts["copied_frac"] == 1.0
    assert torch.isfinite(kit.logits(narrow, 2)).all()


def test_a_mobilenet_student_takes_half_of_every_width(kit, student):
    teacher = kit.tiny("mobilenet_v2", shape={"depth_multiplier": 0.5})
    got = student(teacher)
    assert got.module.config.depth_multiplier == 0.25
    assert got.facts["copied_frac"] == 1.0


def test_an_image_student_of_another_family_reads_the_teacher_s_images(kit, student):
    teacher = kit.tiny("resnet")
    got = student(teacher, model="scratch:mobilenet-v2-half")
    assert got.processor is teacher.processor
    assert got.facts["copied_parameters"] == 0
