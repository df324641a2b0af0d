from dataclasses import replace

import pytest
import torch

from lessen import models
from lessen.distill import probe
from lessen.errors import ModelError, TrainingError
from lessen.recipe import Distill


def teacher_with(world, change):
    model = models.open_model(world.teacher)
    with torch.no_grad():
        change(model.module.classifier)
    return world.save(model, "changed")


def test_r19_a_teacher_that_knows_the_labels_passes_and_the_figures_are_told(world):
    """R19."""
    facts = probe(world.teacher, world.splits, Distill(), world.ctx)
    assert facts["f1_macro"] == pytest.approx(1.0)
    assert 0 < facts["majority_f1_macro"] < 0.5
    assert facts["n"] == 32


def test_r19_a_teacher_at_chance_stops_the_run(world):
    """R19: the predecessor distilled from a teacher with 17 to 41 % agreement on two classes."""
    validation = world.splits.validation
    wrong = replace(world.splits, validation=replace(validation, labels=(validation.labels + 1) % 3))
    with pytest.raises(TrainingError, match=r"macro-F1 on 32 validation rows is 0\.000; always answering"):
        probe(world.teacher, wrong, Distill(), world.ctx)


def test_r19_the_margin_is_asked_for(world):
    """R19: beating the majority is not enough."""
    with pytest.raises(TrainingError, match="asks for 1 more"):
        probe(world.teacher, world.splits, Distill(teacher_margin=1.0), world.ctx)


def test_r19_a_constant_teacher_stops_the_run(world):
    """R19."""
    flat = teacher_with(world, lambda head: head.weight.zero_())
    with pytest.raises(TrainingError, match="answers the same to all 32 validation rows"):
        probe(flat, world.splits, Distill(), world.ctx)


def test_r19_a_teacher_that_is_not_finite_stops_the_run(world):
    """R19."""
    broken = teacher_with(world, lambda head: head.bias.fill_(float("nan")))
    with pytest.raises(TrainingError, match="not finite for 32 of 32 validation rows"):
        probe(broken, world.splits, Distill(), world.ctx)


def test_r31_a_teacher_with_its_labels_in_another_order_is_scored_by_name(world):
    """R31: label maps are compared by name."""
    model = models.open_model(world.teacher)
    model.info = model.info.model_copy(update={"labels": ("c", "a", "b")})
    order = [2, 0, 1]
    with torch.no_grad():
        model.module.classifier.weight.copy_(model.module.classifier.weight[order].clone())
        model.module.classifier.bias.copy_(model.module.classifier.bias[order].clone())
    facts = probe(world.save(model, "reordered"), world.splits, Distill(), world.ctx)
    assert facts["f1_macro"] == pytest.approx(1.0)


def test_r31_a_teacher_of_other_labels_is_refused(world):
    """R31."""
    other = replace(world.splits, labels=("a", "b", "d"))
    with pytest.raises(ModelError, match="a, b, c; wanted are a, b, d"):
        probe(world.teacher, other, Distill(), world.ctx)
