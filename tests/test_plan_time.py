"""The time of a run: timed steps of its models, every stage counted, images as texts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lessen import models, plan_time
from lessen.errors import ModelError
from lessen.plan_time import Pace, Work, along, steps_of, training_time
from lessen.recipe import Recipe, Train, parse

WORK = Work(rows=320, validation=40, test=80, length=16)
NO_TIMING = {"seconds": 0.5, "rounds": 3}


def recipe(**more: Any) -> Recipe:
    return parse({"data": {"path": "d.csv"}, "teacher": {"model": "scratch:bert-tiny", "vocab_size": 300}, **more})


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that takes 10 ms a row in training, a student that takes 1 ms; an answer takes a tenth."""

    def pace(made: Recipe, spec: Any, *rest: Any) -> Pace:
        return Pace(0.010, 0.001, True) if spec is made.teacher else Pace(0.001, 0.0001, True)

    monkeypatch.setattr(plan_time, "_pace", pace)


def stages(found: plan_time.Time) -> dict[str, float]:
    """Read the seconds of each stage from the words of the basis."""
    told = found.basis.split("all epochs: ")[1].split(", and ")[0]
    return {name: float(value) for name, value in (part.split(" ") for part in told.split(", "))}


@pytest.mark.usefixtures("fixed")
def test_every_stage_counts_its_steps_and_its_answers() -> None:
    train = {"epochs": 10, "batch_size": 32}
    made = recipe(
        teacher={"model": "scratch:bert-tiny", "train": train},
        distill={"train": {**train, "epochs": 100}, "control": True},
        prune={"recover": {**train, "epochs": 50}},
        measure=NO_TIMING,
    )
    found = training_time(made, WORK)
    by_stage = stages(found)
    assert list(by_stage) == ["teacher", "runtime", "control", "distill", "prune", "export", "quantize"]
    assert by_stage["teacher"] == pytest.approx(320 * 10 * 0.010 + 0.001 * (80 + 320 + 40 * 11), abs=0.5)
    assert by_stage["control"] == pytest.approx(320 * 100 * 0.001 + 0.0001 * (400 + 40 * 101), abs=0.5)
    assert by_stage["prune"] == pytest.approx(320 * 50 * 0.001, abs=1)
    assert found.seconds == pytest.approx(sum(by_stage.values()) + 7 * (5 + 2 * 0.5 * 3), abs=4)


@pytest.mark.usefixtures("fixed")
def test_a_teacher_that_sees_every_view_is_asked_at_every_step() -> None:
    image = {"task": "image-classification", "pipeline": "kd_only", "student": {"model": "scratch:mobilenet-v2"}}
    data = {"source": "digits", "image_size": 32}
    teacher = {"model": "scratch:resnet-18", "train": {"epochs": 1}}
    distill = {"train": {"epochs": 100, "batch_size": 32}}
    times = []
    for augment in ("none", "crop"):
        made = parse({**image, "data": {**data, "augment": augment}, "teacher": teacher, "distill": distill})
        times.append(stages(training_time(made, WORK))["distill"])
    assert times[1] - times[0] == pytest.approx(99 * 320 * 0.001, abs=1.5)


def test_steps_may_be_given_instead_of_epochs() -> None:
    assert steps_of(Train(max_steps=7, epochs=100), 320) == 7
    assert steps_of(Train(epochs=2, batch_size=32), 320) == 20


def test_a_cut_batch_is_drawn_out_along_a_line() -> None:
    assert along(4, 1.4, 8, 1.8, 8) == 1.8
    assert along(4, 1.4, 8, 1.8, 32) == pytest.approx(1.0 + 0.1 * 32)  # 1 s a step, 0.1 s a row
    assert along(4, 2.0, 4, 2.0, 32) == pytest.approx(16.0)  # one size alone: in proportion
    assert along(4, 9.0, 8, 1.8, 32) == 1.8  # a first step that was held up makes nothing negative


def test_steps_are_timed_in_the_precision_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def timed(module: Any, inputs: Any, batch: int, there: Any, clock: Any) -> tuple[float, float]:
        given = inputs(batch)["input_ids"]
        seen.append((there.dtype, tuple(given.shape)))
        return 0.01, 0.001

    monkeypatch.setattr(plan_time, "timed", timed)
    for precision in ("bf16", "fp32"):
        train = {"precision": precision, "batch_size": 12, "accumulate": 2}
        training_time(recipe(pipeline="baseline", teacher={"model": "scratch:bert-tiny", "train": train}), WORK)
    assert seen == [(torch.bfloat16, (6, 16)), (torch.float32, (6, 16))]


@pytest.mark.parametrize(
    "given",
    [
        {"teacher": {"model": "scratch:bert-tiny", "vocab_size": 300}},
        {
            "task": "image-classification",
            "data": {"source": "digits", "image_size": 16},
            "teacher": {"model": "scratch:resnet-tiny"},
        },
        {"task": "seq2seq", "teacher": {"model": "scratch:t5-tiny", "vocab_size": 300}},
        {"task": "causal-lm", "teacher": {"model": "scratch:gpt2-tiny", "vocab_size": 300}},
    ],
)
def test_every_task_is_timed(given: dict[str, Any]) -> None:
    ticks = iter(range(100_000))
    work = Work(32, 8, 8, 16, "pixels a side" if "image" in given.get("task", "") else "tokens")
    made = parse({"data": {"path": "d.csv"}, "pipeline": "baseline", **given})
    found = training_time(made, work, clock=ticks.__next__)  # type: ignore[arg-type]
    assert found.seconds is not None
    assert next(ticks) > 4  # steps and answers
    assert "timed here" in found.basis


def test_a_large_model_is_counted_and_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_time, "TIMED_PARAMETERS", 0)
    monkeypatch.setattr(plan_time, "matrix_flops", lambda there, clock: 1e9)
    monkeypatch.setattr(models, "sketch", lambda *given: pytest.fail("built"))
    made = recipe(pipeline="baseline", measure=NO_TIMING)
    found = training_time(made, WORK)
    assert "FLOPs counted" in found.basis
    each = models.flops(made, made.teacher, 16)
    assert stages(found)["teacher"] == pytest.approx(3 * each * 320 * 10 / 0.4e9, rel=0.2, abs=1)


def test_embedding_tables_are_no_work() -> None:
    small, large = (
        recipe(teacher={"model": "scratch:bert-tiny", "vocab_size": size, "train": None}) for size in (300, 30_000)
    )
    assert models.parameters(large, large.teacher) > 2 * models.parameters(small, small.teacher)
    assert models.flops(large, large.teacher, 16) == models.flops(small, small.teacher, 16)


def test_flops_without_weights_are_those_that_are_measured() -> None:
    from lessen.measure.complexity import flops

    made = recipe()
    module, inputs = models.sketch(made, made.teacher, 16, "cpu")
    measured = flops(module, {name: values.numpy() for name, values in inputs(1).items()})
    assert models.flops(made, made.teacher, 16) == measured


def test_a_sketch_leaves_the_random_numbers_as_they_were() -> None:
    made = recipe()
    before = torch.random.get_rng_state()
    models.sketch(made, made.teacher, 16, "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_cannot_be_counted_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> float:
        raise ModelError("the FLOPs of x cannot be counted without weights", "run it")

    monkeypatch.setattr(plan_time, "TIMED_PARAMETERS", 0)
    monkeypatch.setattr(models, "flops", refuse)
    found = training_time(recipe(pipeline="baseline"), WORK)
    assert found.seconds is None
    assert "cannot be counted" in found.basis
