"""--dry-run: the plan, estimates that name their basis, and nothing on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lessen import cli
from lessen.plan import plan
from lessen.plan_time import Pace, Work, training_time
from lessen.recipe import parse


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small table of two labels, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lessen.plan_time._pace", lambda *given: Pace(step=0.01, answer=0.0, timed=True))  # no timing
    path = tmp_path / "data.csv"
    rows = [f"text number {i} of {i % 2},{i % 2}" for i in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


def recipe(table: Path, **more: object) -> object:
    return parse({"data": {"path": str(table)}, "teacher": {"model": "scratch:bert-tiny"}, **more})


def test_stages_stand_in_order_with_what_they_do(table: Path) -> None:
    made = plan(recipe(table, distill={"control": True}))  # type: ignore[arg-type]
    assert [s.name for s in made.stages] == ["teacher", "runtime", "control", "distill", "prune", "export", "quantize"]
    assert "train scratch:bert-tiny, 10 epochs" in made.stages[0].does
    assert made.stages[0].folder == "runs/run/stages/00-teacher"


def test_estimates_are_numbers_with_their_basis(table: Path) -> None:
    made = plan(recipe(table))  # type: ignore[arg-type]
    teacher, student = made.teacher_parameters.value, made.student_parameters.value
    assert teacher is not None
    assert student is not None
    assert teacher > student > 0
    assert made.rows.value == 42
    assert made.disk_bytes.value is not None
    assert made.disk_bytes.value > 4 * teacher
    assert made.seconds.value is not None
    assert made.seconds.value > 0
    assert all(e.basis for e in (made.teacher_parameters, made.disk_bytes, made.seconds))


def test_twice_the_epochs_are_about_twice_the_training(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lessen.plan_time.MEASURE_SECONDS", 0.0)
    monkeypatch.setattr("lessen.plan_time.CONVERT_SECONDS", 0.0)
    times = []
    for epochs in (10, 20):
        short = {"seconds": 1e-9, "rounds": 1}
        teacher = {"model": "scratch:bert-tiny", "train": {"epochs": epochs}}
        times.append(plan(recipe(table, pipeline="baseline", teacher=teacher, measure=short)).seconds.value)  # type: ignore[arg-type]
    assert times == [pytest.approx(10 * 42 * 0.01, rel=1e-3), pytest.approx(20 * 42 * 0.01, rel=1e-3)]


def test_images_have_an_estimate_too(table: Path) -> None:
    teacher, student = {"model": "scratch:resnet-tiny"}, {"model": "scratch:mobilenet-v2-half"}
    given = {"task": "image-classification", "data": {"source": "digits"}}
    made = plan(parse({**given, "teacher": teacher, "student": student}))
    assert made.seconds.value is not None
    assert "pixels a side" in made.seconds.basis


def test_every_fold_takes_its_time(table: Path) -> None:
    folds = plan(recipe(table, pipeline="baseline", data={"path": str(table), "folds": 3})).seconds  # type: ignore[arg-type]
    assert folds.value is not None
    assert folds.value > 2.5 * training_time(recipe(table, pipeline="baseline"), Work(28, 4, 20, 8)).seconds  # type: ignore[arg-type, operator]


def test_a_dry_run_touches_nothing(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--data.path", "data.csv", "--teacher.model", "scratch:bert-tiny", "--dry-run"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "remove_frac: 0.5" in text
    assert "# the plan: nothing was written; a run would write runs/run" in text
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"recipe", "plan"}
    assert [path.name for path in table.parent.iterdir()] == ["data.csv"]


def test_a_dry_run_finds_what_is_wrong_with_the_data(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--data.path", "data.csv", "--data.label_column", "stars", "--dry-run"]) == 2
    assert "stars" in capsys.readouterr().err


def test_a_model_that_is_not_here_has_no_estimate_but_a_reason(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = plan(recipe(table, teacher={"model": "nobody/no-such-model"}, pipeline="baseline"))  # type: ignore[arg-type]
    assert made.teacher_parameters.value is None
    assert "nobody/no-such-model" in made.teacher_parameters.basis
    assert made.disk_bytes.value is None
    assert "not known" in made.text()


def test_an_existing_folder_is_told(table: Path) -> None:
    (table.parent / "runs" / "run").mkdir(parents=True)
    (table.parent / "runs" / "run" / "x").touch()
    assert any("runs/run exists" in text for text in plan(recipe(table)).warnings)  # type: ignore[arg-type]
