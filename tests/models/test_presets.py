"""Presets: real architectures of the stated size, listed without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lessen import models
from lessen.errors import ModelError, UnknownNameError
from lessen.info import generates
from lessen.models import presets
from lessen.models.build import config_of, info_of, module_of
from lessen.models.family import families, family
from lessen.models.shape import count
from lessen.models.sources import shaped
from lessen.recipe import ModelSpec, Recipe


def build(spec):
    preset = presets.find(spec.model)
    one = family(preset.family)
    info = info_of(spec, one, () if generates(one.task) else ("a", "b"), False)
    with torch.device("meta"):
        return module_of(config_of(preset.model_type, shaped(preset, spec, one, info), info), info)


def test_presets_are_listed_without_torch():
    script = "import sys; from lessen.models import presets; presets.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_builds_and_its_family_finds_all_groups(name):
    module = build(ModelSpec(model=f"scratch:{name}"))
    one = family(presets.find(name).family)
    assert one.task == presets.find(name).task
    assert one.units(module.config) == {g.name: g.units for g in one.groups(module)}


@pytest.mark.parametrize(
    ("name", "millions"),  # transformers' own bert-base-uncased, distilbert, resnet-18, resnet-50, mobilenet_v2_1.0_224
    [
        ("bert-base", 109.5),
        ("distilbert-base", 67.0),
        ("resnet-18", 11.2),
        ("resnet-50", 23.5),
        ("mobilenet-v2", 2.2),
        ("t5-small", 60.5),
        ("t5-base", 222.9),
        ("distilgpt2", 81.9),
        ("gpt2", 124.4),
        ("gpt2-medium", 354.8),
    ],
)
def test_the_well_known_presets_have_the_published_size(name, millions):
    assert count(build(ModelSpec(model=f"scratch:{name}"))) / 1e6 == pytest.approx(millions, abs=0.06)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean scratch:bert-mini"):
        presets.find("scratch:bert-minni")


def test_settings_override_a_preset_and_the_rest_follows():
    config = build(ModelSpec(model="scratch:bert-mini", hidden_size=128, layers=2)).config
    assert (config.num_hidden_layers, config.hidden_size) == (2, 128)
    assert (config.intermediate_size, config.num_attention_heads) == (512, 2)  # 4 x hidden, heads of 64
    given = build(ModelSpec(model="scratch:bert-mini", intermediate_size=77, config={"hidden_act": "relu"})).config
    assert (given.intermediate_size, given.hidden_act, given.hidden_size) == (77, "relu", 256)
    net = build(ModelSpec(model="scratch:resnet-18", layers=4, hidden_size=64)).config
    assert (net.depths, net.hidden_sizes, net.embedding_size) == ([1, 1, 1, 1], [8, 16, 32, 64], 8)


def test_dropout_reaches_the_configuration():
    for name, fields in (("bert-mini", ("hidden_dropout_prob",)), ("mobilenet-v2", ("classifier_dropout_prob",))):
        config = build(ModelSpec(model=f"scratch:{name}", dropout=0.25)).config
        assert all(getattr(config, f) == 0.25 for f in fields)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"heads": 3}, "3 heads do not divide a hidden size of 256; use 2, 4, 1 heads"),
        ({"config": {"hidden_dropout": 0.2}}, "did you mean hidden_dropout_prob"),
        ({"config": {"hidden_size": "wide"}}, "hidden_size"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(spec, words):
    with pytest.raises((ModelError, UnknownNameError), match=words):
        build(ModelSpec(model="scratch:bert-mini", **spec))


def test_a_width_that_the_architecture_lacks_is_refused():
    with pytest.raises(UnknownNameError, match="resnet has no setting 'heads'"):
        build(ModelSpec(model="scratch:resnet-18", heads=2))


def test_parameters_are_estimated_without_weights():
    student = ModelSpec(model="teacher", layers=2)
    recipe = Recipe(teacher={"model": "scratch:bert-small", "vocab_size": 1000}, student=student)
    teacher = models.parameters(recipe, recipe.teacher)
    smaller = models.parameters(recipe, recipe.student)
    layer = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    assert teacher - smaller == 2 * layer
    assert teacher == 1000 * 512 + (128 + 2) * 512 + 2 * 512 + 4 * layer + 512 * 512 + 512 + 2 * 512 + 2


def test_model_types_belong_to_one_family():
    types = [t for one in families() for t in one.model_types]
    assert len(types) == len(set(types))
    assert {"bert", "distilbert", "electra", "roberta", "xlm-roberta", "resnet", "mobilenet_v2"} < set(types)
    assert {"t5", "mt5", "gpt2"} < set(types)
