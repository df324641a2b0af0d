"""The command line: what goes where, exit codes, one line per mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lessen import cli
from lessen.cli import flags, parser
from lessen.recipe import Recipe


def lessen(*words: str) -> int:
    return cli.main(list(words))


def test_help_shows_examples_before_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("--help") == 0
    out = capsys.readouterr().out
    assert out.index("examples:") < out.index("commands:")
    assert all(f"\n  {name} " in out for name in parser.COMMANDS)
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("name", parser.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen(name, "--help") == 0
    assert f"lessen {name}" in capsys.readouterr().out


@pytest.mark.slow
def test_help_answers_in_under_half_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lessen", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_version_names_python_and_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("--version") == 0
    assert capsys.readouterr().out.startswith("lessen 0.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rnu"], "'rnu' is not a command; did you mean run?"),
        (["run", "--prune.remove_fracs", "0.3"], "did you mean --prune.remove_frac?"),
        (["run", "--prune_sparcity", "0.3"], "did you mean --prune_sparsity?"),
        (["run"], "neither a recipe nor a setting"),
        (["run", "absent.yaml"], "no recipe at absent.yaml"),
        (["run", "absent"], "one of cifar10, digits, docstrings"),
        (["run", "--seed"], "--seed: expected one argument"),
        (["run", "--seed", "x", "--data.path", "d.csv"], "seed is 'x'"),
        (["run", "--prune.remove_frac", "1.5"], "prune.remove_frac is '1.5'"),
        (["run", "--pipeline", "kd_then_sleep"], "pipeline is 'kd_then_sleep'"),
        (["demo", "audio"], "invalid choice: 'audio'"),
        (["show", "absent"], "no report at absent"),
        (["resume", "absent"], "absent is not a run"),
        (["check", "absent"], "no bound is given"),
        (["check", "absent", "--max-drop", "f1"], "--max-drop is 'f1'"),
        (["compare", "one"], "two or more"),
        (["list", "absent"], "there is no folder absent"),
        (["predict", "absent", "--input", "x.csv"], "absent is not a lessen model folder"),
        (["export", "absent", "--format", "docx", "--output", "o"], "export.formats has no 'docx'"),
        (["completion", "tcsh"], "invalid choice: 'tcsh'"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_2(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lessen(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_with_json_a_mistake_is_one_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("run", "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"error", "hint", "exit_code"}
    assert found["exit_code"] == 2


@pytest.mark.parametrize("words", [["models"], ["doctor"], ["schema"], ["list"], ["completion", "bash"]])
def test_with_json_stdout_is_exactly_one_object(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lessen("--json", *words) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_an_error_of_ours_says_so_and_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lessen.doctor.examine", lambda **_: 1 / 0)
    assert lessen("doctor") == 1
    plain = capsys.readouterr().err
    assert "internal: ZeroDivisionError" in plain
    assert "Traceback" not in plain
    assert lessen("doctor", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), 7), (OSError(28, "No space left on device"), 7), (KeyboardInterrupt(), 130)]
)
def test_resources_and_ctrl_c_have_their_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr("lessen.doctor.examine", fail)
    assert lessen("doctor") == code


def test_a_setting_may_be_spelled_with_dashes_and_an_equals_sign() -> None:
    run = parser.parser_of("run")
    args = run.parse_args(run.canonical(["--prune.remove-frac=0.3", "--data-fraction", "0.5", "--dry_run"]))
    assert flags.given(args) == {"prune.remove_frac": "0.3"}
    assert flags.old(args) == {"data_fraction": "0.5"}
    assert args.dry_run


def test_there_is_a_flag_for_every_setting_of_the_schema() -> None:
    names = {path for path, _, _ in flags.settings()}

    def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            path = f"{prefix}{key}"
            found |= leaves(value, f"{path}.") if isinstance(value, dict) and value and path != "legacy" else {path}
        return found

    resolved = Recipe().model_dump()
    assert leaves(resolved) - names == flags.SET_BY_PROGRAM
    assert {"quantize.train", "prune.recover", "teacher.train"} <= names


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data.labels", "a,b", ("a", "b")),
        ("data.labels", "[a, b]", ("a", "b")),
        ("data.stratify", "false", False),
        ("data.text_column", "none", None),
        ("data.text_column", "2024", "2024"),
        ("distill.features", "hidden=0.3,attention=0.1", {"hidden": 0.3, "attention": 0.1}),
        ("distill.features", "{hidden: 0.3}", {"hidden": 0.3}),
        ("distill.layer_map", "last", "last"),
        ("distill.layer_map", "[[0, 1], [1, 3]]", ((0, 1), (1, 3))),
        ("teacher.train.lr", "3e-4", 3e-4),
        ("prune.recover", "none", None),
        ("export.formats", "onnx", ("onnx",)),
        ("prune.ignore", "classifier,*.layer.0.*", ("classifier", "*.layer.0.*")),
        ("prune.sensitivity", "0.25,0.5", (0.25, 0.5)),
        ("quantize.ignore", "classifier", ("classifier",)),
        ("student.config", "hidden_act=relu", {"hidden_act": "relu"}),
    ],
)
def test_a_flag_fills_its_setting(name: str, text: str, value: Any) -> None:
    found: Any = flags.build(None, {name: text}, {})
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


def test_flags_lie_over_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\nprune: {remove_frac: 0.2, method: taylor}\nteacher: {train: null}\n", encoding="utf-8")
    found = flags.build(path, {"prune.remove_frac": "0.3", "teacher.train.lr": "1e-4"}, {})
    assert (found.name, found.seed, found.prune.remove_frac, found.prune.method) == ("mine", 1, 0.3, "taylor")
    assert found.teacher.train is not None
    assert found.teacher.train.lr == 1e-4


def test_yaml_flags_and_python_give_the_same_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: r\nseed: 7\ndistill: {alpha: 0.9, features: {hidden: 1.0}}\n", encoding="utf-8")
    by_flags = flags.build(None, {"name": "r", "seed": "7", "distill.alpha": "0.9", "distill.features": "hidden=1"}, {})
    assert (
        flags.build(path, {}, {})
        == by_flags
        == Recipe.model_validate({"name": "r", "seed": 7, "distill": {"alpha": 0.9, "features": {"hidden": 1.0}}})
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_flags(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("completion", shell) == 0
    out = capsys.readouterr().out
    assert "compare" in out
    assert "prune.remove_frac" in out


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "lessen", "schema"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_tables_are_plain_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("models") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "scratch:bert-mini" in out
    assert all(line == line.rstrip() for line in out.splitlines())
