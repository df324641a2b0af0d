from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lessen import models
from lessen.artifact import load
from lessen.distill import control, distill
from lessen.errors import RecipeError, TrainingError
from lessen.recipe import Distill, Train

TRAIN = Train(epochs=3, batch_size=16, lr=3e-3, precision="fp32", patience=None, tune_threshold=False)


def run(world, cfg, stage=distill, name="student", student=None, ctx=None):
    student = student or world.student()
    return stage(world.teacher, student, cfg, world.splits, ctx or world.ctx, out=world.folder / name, key="k")


def test_a_distilled_student_is_saved_alone_and_says_what_was_done(world):
    """R34: projectors are not in the exported student."""
    cfg = Distill(temperature=4.0, alpha=0.6, features={"hidden": 1.0}, train=TRAIN)
    artifact = run(world, cfg)
    artifact.verify()
    assert set(load_file(artifact.path / "model.safetensors")) == set(world.student().module.state_dict())
    facts = artifact.manifest.facts
    told = facts["distill"]
    assert (told["objective"], told["alpha"], told["temperature"], told["steps"]) == ("kl", 0.6, 4.0, 9)
    history = facts["fit"]["history"]
    assert told["soft_loss"]["final"] == pytest.approx(history[-1]["loss_soft"] / 0.6)
    assert told["convergence"]["first_loss"] == history[0]["loss_total"]
    assert told["convergence"]["last_loss"] == history[-1]["loss_total"]
    assert told["convergence"]["fell"] == (history[-1]["loss_total"] < history[0]["loss_total"])
    assert sum(told["shares_of_gradient_norm"]["first"].values()) == pytest.approx(1.0)
    assert facts["sizes"]["times_smaller"] > 1
    assert facts["teacher"]["probe"]["f1_macro"] == pytest.approx(1.0)
    assert [entry["stage"] for entry in artifact.manifest.history] == ["teacher", "distill"]
    assert not list(world.folder.glob(".student.work"))
    assert len(load(artifact.path).predict(["red apple", "blue sea"])) == 2


def test_a_student_that_starts_as_the_teacher_learns_nothing_new_and_stays_right(world):
    """The stage as a whole: with the teacher as student, agreement stays complete at a small learning rate."""
    twin = models.open_model(world.teacher)
    cfg = Distill(alpha=1.0, allow_larger=True, train=TRAIN.model_copy(update={"lr": 1e-6, "epochs": 1}))
    artifact = run(world, cfg, student=twin)
    assert artifact.manifest.facts["fit"]["best"]["val_accuracy"] == 1.0
    assert artifact.manifest.facts["sizes"]["student_not_smaller"]
    assert any("is not smaller than the teacher" in line for line in world.lines("warning"))


def test_rule_3_a_student_that_is_not_smaller_is_refused(world):
    """A copy of the teacher compresses nothing."""
    twin = models.open_model(world.teacher)
    with pytest.raises(RecipeError, match="it is not smaller"):
        run(world, Distill(train=TRAIN), student=twin)
    assert not (world.folder / "student").exists()


def test_rule_2_a_useless_teacher_stops_the_stage_before_training(world):
    """R19."""
    wrong = replace(world.splits.validation, labels=(world.splits.validation.labels + 1) % 3)
    world.splits = replace(world.splits, validation=wrong)
    with pytest.raises(TrainingError, match="always answering"):
        run(world, Distill(train=TRAIN))
    assert list(world.folder.glob("*student*")) == []


@pytest.mark.slow
def test_rule_13_the_control_is_the_same_student_with_the_same_steps_and_no_teacher(world):
    cfg = Distill(train=TRAIN)
    artifact = run(world, cfg, control, "control", ctx=world.ctx.at("control"))
    taught = run(world, cfg)
    assert artifact.manifest.stage == "control"
    assert artifact.manifest.facts["control_of"] == "distill"
    assert artifact.manifest.facts["fit"]["steps"] == taught.manifest.facts["fit"]["steps"]
    assert {k for k in artifact.manifest.facts["fit"]["history"][0] if k.startswith("loss_")} == {
        "loss_label",
        "loss_total",
    }
    sizes = [a.manifest.facts["sizes"]["student_parameters"] for a in (artifact, taught)]
    assert sizes[0] == sizes[1]


@pytest.mark.slow
def test_distilling_brings_the_student_to_the_teachers_answers(world):
    """The soft loss falls by distillation and not by itself."""
    cfg = Distill(alpha=1.0, train=TRAIN.model_copy(update={"epochs": 16, "lr": 1e-2}))
    student = world.student(dropout=0.0, hidden_size=32)
    history = run(world, cfg, student=student).manifest.facts["fit"]["history"]
    assert history[-1]["loss_soft"] < 0.5 * history[0]["loss_soft"]


@pytest.mark.slow
def test_two_runs_with_one_seed_give_the_same_student(world):
    ends = [run(world, Distill(train=TRAIN), name=name) for name in ("one", "two")]
    first, second = (load_file(a.path / "model.safetensors") for a in ends)
    assert all(torch.equal(v, second[k]) for k, v in first.items())
