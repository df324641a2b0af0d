"""How much memory distilling takes, and what is proposed where it does not fit."""

import json

import pytest

from lessen.cli import main
from lessen.errors import RecipeError
from lessen.plan_memory import HEADROOM, Settings, Shape, estimate, plan_memory
from lessen.recipe import parse

SMALL, LARGE = Shape(1_000_000, 2, 64, 2000), Shape(30_000_000, 12, 512, 2000)


def recipe(**distill):
    return parse(
        {
            "task": "causal-lm", "device": "cpu", "data": {"source": "pydocs", "max_length": 128},
            "teacher": {"model": "scratch:gpt2", "vocab_size": 2000}, "student": {"model": "scratch:gpt2-mini"},
            "distill": {"train": {"batch_size": 32, "precision": "fp32"}, **distill},
        }
    )  # fmt: skip


def need(**changes):
    return estimate(LARGE, SMALL, Settings(**{**vars(Settings(8, 1, False, False)), **changes}), 128, "fp32", 256)


def test_a_student_takes_its_weights_gradients_and_two_moments():
    assert need().student == 4 * 4 * SMALL.parameters


def test_a_cached_teacher_takes_nothing_a_live_one_its_weights():
    assert need(cached=True).teacher == 0
    assert need().teacher > 4 * LARGE.parameters


def test_activations_grow_with_the_micro_batch_not_with_accumulation_and_shrink_when_recomputed():
    assert need(micro_batch=16).activations == 2 * need().activations
    assert need(accumulate=4).activations == need().activations
    assert need(checkpointing=True).activations < need().activations


def test_logits_are_those_of_a_chunk_whatever_the_batch():
    assert need(micro_batch=64).logits == need(micro_batch=8).logits


def test_what_is_proposed_fits_and_learns_from_as_many_rows():
    made = plan_memory(recipe(cache="off"), free=0.6 * 2**30)
    assert not made.fits
    assert made.proposed is not None
    assert made.proposed.total <= HEADROOM * 0.6 * 2**30
    assert made.proposed.settings.batch >= made.asked.settings.batch == 32


def test_a_teacher_that_must_answer_live_is_never_planned_as_cached():
    made = plan_memory(recipe(sequences="student", objective="reverse_kl"), free=2**40)
    assert made.asked.teacher > 0
    assert made.proposed is not None
    assert not made.proposed.settings.cached


def test_nothing_fits_into_nothing():
    made = plan_memory(recipe(), free=1e6)
    assert made.proposed is None
    assert "nothing fits" in made.text()


def test_memory_is_planned_for_models_that_generate_only():
    with pytest.raises(RecipeError, match="text-classification"):
        plan_memory(parse({}))


def test_the_command_prints_one_object_and_exits_3_where_nothing_fits(capsys):
    words = ["plan-memory", "--teacher_model", "scratch:gpt2", "--student_model", "scratch:gpt2-mini", "--json"]
    assert main([*words, "--memory_gib", "64"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] is True
    assert told["proposed"]["settings"]["micro_batch"] == 1
    assert main([*words, "--memory_gib", "0.01"]) == 3
