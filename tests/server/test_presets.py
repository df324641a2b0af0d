"""The predecessors' four names: found however they are written, each a recipe that can be carried out."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lessen import data
from lessen.errors import RecipeError, UnknownNameError
from lessen.recipe import parse
from lessen.server import presets
from lessen.server.presets import LEVELS, PRESETS

EVERY = [(name, level) for name in PRESETS for level in LEVELS]


def test_the_names_are_the_predecessors():
    assert list(PRESETS) == ["distillBert", "T5-small", "MobileNetV2", "ResNet-18"]
    assert all(tuple(preset.levels) == LEVELS for preset in PRESETS.values())


@given(st.sampled_from(list(PRESETS)), st.randoms(use_true_random=False))
def test_case_and_separators_do_not_matter(name, random):
    plain = "".join(c for c in name if c.isalnum())
    odd = "".join(random.choice(("", "-", "_", " ", ".")) + random.choice((c.lower(), c.upper())) for c in plain)
    assert presets.find(odd).model_name == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [("DistilBERT", "distillBert"), ("distilbert-base-uncased", "distillBert"), ("t5", "T5-small"),
     ("google-t5/t5-small", "T5-small"), ("mobilenet", "MobileNetV2"), ("resnet18", "ResNet-18"),
     ("microsoft/resnet-18", "ResNet-18")],
)  # fmt: skip
def test_aliases(alias, name):
    assert presets.find(alias).model_name == name


def alone(name):
    """Return a name without case and signs, which do not count."""
    return "".join(c for c in name.lower() if c.isalnum())


@given(st.text(string.printable, max_size=30))
def test_other_names_are_refused_with_the_list(name):
    known = {alone(word) for preset in PRESETS.values() for word in (preset.model_name, *preset.aliases)}
    assume(alone(name) not in known)
    with pytest.raises(UnknownNameError) as told:
        presets.find(name)
    assert all(known in str(told.value) for known in PRESETS)


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_every_recipe_holds_and_says_where_its_weights_come_from(name, level):
    recipe = presets.recipe(name, level)
    assert (recipe.task, recipe.pipeline) == (PRESETS[name].task, "kd_prune_quant")
    assert parse(recipe.model_dump()) == recipe
    assert recipe.note is not None
    scratch = recipe.teacher.model.startswith("scratch:")
    assert scratch == (level != "thorough") == ("no pretrained weights" in recipe.note)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "level"), [(n, level) for n in PRESETS for level in ("demo", "balanced")])
def test_the_note_counts_what_is_there(name, level):
    recipe = presets.recipe(name, level)
    splits = data.load(recipe.data, recipe.task, recipe.seed)
    told = re.search(r"on ([\d,]+) ", recipe.note)
    assert told is not None
    assert int(told[1].replace(",", "")) == len(splits.train)
    words = recipe.data.label_words.values()
    assert set(words) <= set(splits.labels)  # text to text: the answers are these words


def test_settings_are_laid_over_the_preset_nested_or_dotted():
    given = {"prune": {"remove_frac": 0.2}, "teacher.train.epochs": 1, "seed": 7, "distill.train": {"lr": 0.5}}
    recipe = presets.recipe("distillBert", "demo", given)
    assert (recipe.prune.remove_frac, recipe.teacher.train.epochs, recipe.seed) == (0.2, 1, 7)
    assert recipe.distill.train.lr == 0.5
    assert recipe.distill.train.epochs == presets.recipe("distillBert").distill.train.epochs
    assert recipe.note == PRESETS["distillBert"].levels["demo"].note


def test_a_setting_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match=r"prune\.speed is not a setting"):
        presets.recipe("distillBert", "demo", {"prune.speed": 1})
    with pytest.raises(UnknownNameError, match="demo, balanced, thorough"):
        presets.recipe("distillBert", "quick")
    with pytest.raises(RecipeError, match="given twice"):
        presets.nested({"prune.remove_frac": 0.1, "prune": 3})
    with pytest.raises(RecipeError, match="as a value too"):
        presets.nested({"prune": 3, "prune.remove_frac": 0.1})
    both = presets.nested({"prune": {"remove_frac": 0.1}, "prune.method": "wanda"})
    assert both == {"prune": {"remove_frac": 0.1, "method": "wanda"}}


def test_data_of_ones_own_takes_the_embedded_data_away():
    recipe = presets.recipe("T5-small", "demo", {"data.path": "mine.csv"})
    assert (recipe.data.path, recipe.data.source, recipe.data.limit) == ("mine.csv", "auto", None)
    assert recipe.data.label_words == {}
    assert recipe.data.labels == ()
    assert recipe.data.max_length == presets.recipe("T5-small").data.max_length
    assert "on the data given" in recipe.note
    assert "1,470" not in recipe.note


def test_other_amounts_of_data_do_not_keep_the_count():
    assert "2,100" not in presets.recipe("distillBert", "demo", {"data": {"limit": 20}}).note


def test_label_words_are_those_given_and_no_others():
    given = {"data": {"labels": ["numpy", "torch"], "label_words": {"numpy": "n", "torch": "t"}}}
    assert presets.recipe("T5-small", "demo", given).data.label_words == {"numpy": "n", "torch": "t"}


def test_a_pretrained_teacher_is_not_trained_like_random_weights():
    mine = presets.recipe("distillBert", "demo", {"teacher.model": "/models/mine"})
    assert mine.teacher.train.lr < 1e-4 < presets.recipe("distillBert").teacher.train.lr
    assert mine.teacher.config == {}
    assert mine.data.limit == presets.recipe("distillBert").data.limit
    assert mine.note is None or "from scratch on" not in mine.note


def test_another_architecture_brings_its_own_shape():
    recipe = presets.recipe("distillBert", "demo", {"teacher.model": "scratch:bert-tiny"})
    assert recipe.teacher.config == {}  # attention_dropout is a word of DistilBERT's alone
    assert recipe.teacher.train.epochs == presets.recipe("distillBert").teacher.train.epochs


def test_the_caller_may_say_what_readers_must_know():
    assert presets.recipe("ResNet-18", "demo", {"note": "for the class"}).note == "for the class"


def test_presets_are_not_changed_by_use():
    before = presets.recipe("T5-small")
    presets.recipe("T5-small", "demo", {"data": {"label_words": {"numpy": "x"}}, "teacher.train.lr": 0.1})
    assert presets.recipe("T5-small") == before
