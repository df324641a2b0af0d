"""--jsonl, --log-to, `latest` and the demos, over runs made up for the test."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lessen import cli
from lessen.errors import DataError
from lessen.events import Log, Progress, RunFinished
from lessen.folder import claim
from lessen.recipe import Recipe
from lessen.report import Report, Row

RUN = import_module("lessen.runner")
HEARD: list[dict[str, Any]] = []


def lessen(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def fake_run(recipe: Recipe, *, emit: Any, check: Any, force: bool = False, **more: Any) -> Report:
    """Claim the folder, tell three events and leave a report."""
    HEARD.append({"recipe": recipe, **more})
    folder = claim(Path(recipe.output_dir or f"runs/{recipe.name}"), recipe, force=force)
    emit(Log(stage="run", message="begun"))
    emit(Progress(stage="teacher", step=1, total_steps=2, loss=float("nan"), values={"lr": 0.1}))
    rows = [Row(stage="teacher", metrics={}, artifact=None, device="cpu", runtime="eager")]
    report = Report(
        run_id="r", name=recipe.name, complete=True, created="2026-01-01T00:00:00+00:00", task=recipe.task,
        pipeline=recipe.pipeline, recipe=recipe.model_dump(mode="json"), data={}, environment={}, rows=rows,
    )  # fmt: skip
    (folder.path / "report.json").write_text(report.model_dump_json())
    folder.set_state("succeeded")
    emit(RunFinished(report=str(folder.path / "report.json"), seconds=1.0))
    return report


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder where runs are made up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RUN, "run", fake_run)
    HEARD.clear()
    return tmp_path


@pytest.mark.parametrize("command", ["run", "resume"])
def test_jsonl_prints_the_events_and_nothing_else(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.path", "d.csv", "--output_dir", "made"]
    assert lessen("run", *words) == 0
    capsys.readouterr()
    given = words if command == "run" else ["made"]
    assert lessen(command, *given, "--jsonl", "--quiet") == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["kind"] for line in lines] == ["Log", "Progress", "RunFinished"]
    assert lines[1]["loss"] is None  # JSON has no NaN
    assert lines[1]["values"] == {"lr": 0.1}
    assert not err


def test_jsonl_tells_of_an_error_as_its_last_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(recipe: Recipe, *, emit: Any, **more: Any) -> Report:
        emit(Log(stage="run", message="begun"))
        raise DataError("there is no d.csv", "give one")

    monkeypatch.setattr(RUN, "run", fail)
    assert lessen("run", "--data.path", "d.csv", "--jsonl") == 2
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["message"] == "begun"
    assert lines[-1] == {"error": "there is no d.csv", "hint": "give one", "exit_code": 2}
    assert "error: there is no d.csv" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--jsonl", "--json"], "--json and --jsonl are both given"),
        (["--jsonl", "--dry-run"], "--jsonl is given with --dry-run"),
        (["--log-to", "wandbx"], "no 'wandbx'"),
        (["--log-to", "tensorboard", "--server"], "--log-to is given with --server"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("run", "--data.path", "d.csv", *words) == 2
    assert told in capsys.readouterr().err
    assert not HEARD


def test_loggers_are_handed_to_the_run() -> None:
    assert lessen("run", "--data.path", "d.csv", "--log-to", "tensorboard", "--quiet") == 0
    assert HEARD[0]["loggers"] == ["tensorboard"]


def test_latest_is_the_run_that_started_last(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b-first", "a-second"):
        assert lessen("run", "--data.path", "d.csv", "--output_dir", f"runs/{name}", "--name", name, "--quiet") == 0
    for at, name in enumerate(("b-first", "a-second", "a-second/fold-0")):  # a fold is no run of its own
        file = here / "runs" / name / "run.json"
        file.parent.mkdir(exist_ok=True)
        (file.parent / "recipe.json").touch()
        state = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**state, "started": f"2026-01-01T00:00:0{at}+00:00"}))
    capsys.readouterr()
    assert lessen("show", "latest", "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "a-second"
    assert lessen("compare", "latest", "runs/b-first", "--json") == 0
    assert lessen("resume", "latest", "--quiet") == 0
    assert HEARD[-1]["recipe"].output_dir == "runs/a-second"
    assert lessen("check", "latest", "--at-least", "f1_macro=0.5") == 3


def test_without_runs_there_is_no_latest(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("show", "latest") == 2
    assert "there is no latest run: runs holds none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "model"),
    [
        ([], "demo", "scratch:bert-mini"),
        (["--quick"], "distillbert-demo", "scratch:distilbert-mini"),
        (["digits", "--quick"], "mobilenetv2-demo", "scratch:mobilenet-v2"),
        (["resnet-18"], "resnet18-demo", "scratch:resnet-18"),
        (["t5-small"], "t5small-demo", "scratch:t5-mini"),
    ],
)
def test_demos_run_the_packaged_recipes_and_the_servers_presets(words: list[str], name: str, model: str) -> None:
    assert lessen("demo", *words, "--output_dir", "made", "--quiet") == 0
    recipe = HEARD[0]["recipe"]
    assert (recipe.name, recipe.teacher.model, recipe.output_dir) == (name, model, "made")


def test_the_demos_help_lists_every_choice_with_its_duration(capsys: pytest.CaptureFixture[str]) -> None:
    from lessen.server.presets import PRESETS

    assert lessen("demo", "--help") == 0
    out = capsys.readouterr().out
    for name in ("text", "digits", *(preset.casefold() for preset in PRESETS)):
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {name} ")]
        assert "minute" in line
