"""Commands around runs, over reports made up for the test: run, resume, list, show, compare, check, predict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lessen import cli
from lessen.errors import Cancelled, DataError, UnavailableError
from lessen.folder import claim, disk_bytes
from lessen.measure.metric import Metric, measured
from lessen.recipe import Recipe, parse
from lessen.report import Report, Row

RUN = import_module("lessen.runner")


def lessen(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def row(stage: str, f1: float, size: int, ms: float, speedup: float, **more: Any) -> Row:
    metrics: dict[str, Metric] = {
        "f1_macro": measured(f1, "share", n=100), "file_bytes": measured(size, "bytes"),
        "latency_p50_ms": measured(ms, "ms", n=50), "speedup": measured(speedup, "ratio"),
        "parameters": measured(size // 4, "count"),
    }  # fmt: skip
    given = {"artifact": f"stages/{stage}", "device": "cpu", "runtime": "eager", **more}
    return Row(stage=stage, metrics=metrics, **given)


def made_up(recipe: Recipe, *, complete: bool = True) -> Report:
    rows = [
        row("teacher", 0.90, 4_000_000, 20.0, 1.0),
        row("distill", 0.89, 1_000_000, 5.0, 4.0, source="teacher"),
        row("quantize", 0.88, 250_000, 2.0, 10.0, source="distill", runtime="onnx"),
    ]
    return Report(
        run_id="r-1", name=recipe.name, complete=complete, created="2026-01-01T00:00:00+00:00", task=recipe.task,
        pipeline=recipe.pipeline, recipe=recipe.model_dump(mode="json"), data={}, environment={"cpu": "x"}, rows=rows,
    )  # fmt: skip


def fake_run(
    recipe: Recipe, *, emit: Any = None, check: Any = None, force: bool = False, out_dir: Any = None
) -> Report:
    folder = claim(Path(str(recipe.output_dir)), recipe, force=force)
    check()
    report = made_up(recipe)
    (folder.path / "report.json").write_text(report.model_dump_json())
    folder.set_state("succeeded")
    return report


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run in `made`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RUN, "run", fake_run)
    assert lessen("run", "--data.path", "d.csv", "--output_dir", "made", "--quiet") == 0
    return tmp_path / "made"


def test_run_prints_the_table_as_data_and_talks_on_stderr(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert lessen("run", "--data.path", "d.csv", "--output_dir", "made") == 0
    out, err = capsys.readouterr()
    assert "quantize" in out
    assert "0.88" in out
    assert "quantize" not in err


def test_run_with_json_prints_the_report(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert lessen("run", "--data.path", "d.csv", "--output_dir", "made", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((run_folder / "report.json").read_text())
    assert [r["stage"] for r in found["rows"]] == ["teacher", "distill", "quantize"]


def test_another_recipe_in_the_same_folder_is_refused_with_exit_6_unless_forced(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["run", "--data.path", "other.csv", "--output_dir", "made", "--quiet"]
    assert lessen(*other) == 6
    assert "--force" in capsys.readouterr().err
    assert lessen(*other, "--force") == 0


def test_resume_runs_the_recipe_of_the_folder(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("resume", "made", "--quiet") == 0


def test_a_run_that_was_stopped_exits_75_and_says_how_to_go_on(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(recipe: Recipe, **_: Any) -> Report:
        raise Cancelled("stopped as asked", "go on with `lessen resume made`")

    monkeypatch.setattr(RUN, "run", stopped)
    assert lessen("resume", "made") == 75
    assert "lessen resume made" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(DataError("no rows", ""), 2), (UnavailableError("offline", ""), 4)])
def test_an_error_of_a_run_sets_the_exit_code(
    error: Exception, code: int, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(recipe: Recipe, **_: Any) -> Report:
        raise error

    monkeypatch.setattr(RUN, "run", fail)
    assert lessen("resume", "made") == code


def test_an_incomplete_report_exits_1(run_folder: Path) -> None:
    (run_folder / "report.json").write_text(made_up(parse({}), complete=False).model_dump_json())
    assert lessen("show", "made") == 1


def test_list_shows_runs_with_their_result(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert lessen("list", ".", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert (found["folder"], found["state"], found["f1_macro"]) == ("made", "succeeded", 0.88)
    assert (found["smaller"], found["faster"]) == (16, 10)
    assert found["disk_bytes"] == disk_bytes(run_folder) > 0


def test_list_and_show_say_what_a_run_takes_on_the_disk(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lessen.cli.runs.disk_bytes", lambda folder: 12_345_678)
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert lessen("list", ".") == 0
    assert "12.3 MB" in capsys.readouterr().out
    assert lessen("show", "made") == 0
    assert "on disk: 12.3 MB" in capsys.readouterr().err
    monkeypatch.setattr("lessen.cli.runs.live_state", lambda folder: "running")
    assert lessen("list", ".", "--json") == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["disk_bytes"] is None


def test_compare_sets_runs_side_by_side(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert lessen("compare", "made", "made") == 0
    assert capsys.readouterr().out.count("r-1") == 2


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        (["--max-drop", "f1_macro=0.0201"], 0),
        (["--max-drop", "f1_macro=0.019"], 3),
        (["--min-speedup", "10"], 0),
        (["--min-speedup", "10.1"], 3),
        (["--min-compression", "16"], 0),
        (["--min-compression", "17", "--min-speedup", "2"], 3),
        (["--at-least", "f1_macro=0.88"], 0),
        (["--at-most", "file_bytes=1000"], 3),
        (["--max-drop", "no_such_metric=0.5"], 3),
    ],
)
def test_check_holds_bounds_and_exits_3_where_one_is_missed(bounds: list[str], code: int, run_folder: Path) -> None:
    assert lessen("check", "made", *bounds) == code


def test_check_writes_junit(run_folder: Path) -> None:
    assert lessen("check", "made", "--min-speedup", "99", "--junit", "gates.xml") == 3
    cases = list(ElementTree.parse("gates.xml").iter("testcase"))
    assert sum(case.find("failure") is not None for case in cases) == 1


def test_a_run_without_a_report_is_told_apart_from_no_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / "report.json").unlink()
    assert lessen("show", "made") == 2
    assert "the run is succeeded" in capsys.readouterr().err


SCRIPT = """
    import sys, time
    from pathlib import Path
    from importlib import import_module
    from lessen import cli

    def endless(recipe, *, emit=None, check=None, force=False):
        Path("started").touch()
        while True:
            {step}
            time.sleep(0.02)

    import_module("lessen.runner").run = endless
    sys.exit(cli.main(["run", "--data.path", "d.csv", "--output_dir", "made"]))
"""


def interrupted(step: str, folder: Path, signals: list[signal.Signals]) -> subprocess.CompletedProcess[str]:
    """Start an endless run and send it signals once it runs."""
    code = textwrap.dedent(SCRIPT).format(step=step)
    with subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, text=True) as child:
        while not (folder / "started").exists() and child.poll() is None:
            time.sleep(0.02)
        for number in signals:
            time.sleep(0.3)
            child.send_signal(number)
        _, err = child.communicate(timeout=20)
    return subprocess.CompletedProcess([], child.returncode, "", err)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_stops_at_the_next_check_with_exit_75(number: signal.Signals, tmp_path: Path) -> None:
    done = interrupted("check()", tmp_path, [number])
    assert done.returncode == 75
    assert "stopping after a checkpoint" in done.stderr
    assert "lessen resume made" in done.stderr


@pytest.mark.slow
def test_the_second_ctrl_c_kills_with_exit_130(tmp_path: Path) -> None:
    assert interrupted("pass", tmp_path, [signal.SIGINT, signal.SIGINT]).returncode == 130


def test_signal_handlers_are_put_back() -> None:
    from lessen.cli.interrupt import stoppable

    before = signal.getsignal(signal.SIGINT)
    with stoppable("hint", quiet=True) as check:
        check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Cancelled):
            check()
    assert signal.getsignal(signal.SIGINT) is before
