"""lessen gc: what goes is listed first, and nothing else goes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lessen import cli
from lessen.folder import claim, disk_bytes, lock, read_state
from lessen.jobs.place import RootLock
from lessen.measure.metric import measured
from lessen.recipe import parse
from lessen.report import Report, Row
from lessen.store import RunRecord, Store


def lessen(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make(root: Path) -> Callable[..., Path]:
    def made(
        name: str, score: float, where: str, *, metric: str = "f1_macro", task: str = "text-classification",
        state: Any = "succeeded", complete: bool = True, finished: str = "2026-01-01T00:00:00+00:00",
    ) -> Path:  # fmt: skip
        recipe = parse({"name": name, "data": {"source": "docstrings"}})
        folder = claim(root / where, recipe)
        row = Row(
            stage="quantize", artifact="x", device="cpu", runtime="eager", metrics={metric: measured(score, "share")}
        )
        report = Report(
            run_id=read_state(folder.path)["run_id"], name=name, complete=complete, created=finished, task=task,
            pipeline="kd_only", recipe={}, data={}, environment={}, rows=[row],
        )  # fmt: skip
        (folder.path / "report.json").write_text(report.model_dump_json())
        folder.set_state(state, finished=finished)
        return folder.path

    return made


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert lessen("gc", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_the_best_of_each_name_stay(root: Path, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    kept = [make("a", 0.9, "a1"), make("a", 0.8, "group/a2"), make("b", 0.1, "b1")]
    kept += [make("a", 0.1, "bad", state="failed"), make("a", 0.1, "part", complete=False)]
    kept += [make("lm", 5.0, f"lm{n}", metric="perplexity", task="causal-lm") for n in (1, 2)]
    gone = [make("a", 0.7, "a0"), make("lm", 9.0, "lm3", metric="perplexity", task="causal-lm")]
    size = sum(disk_bytes(folder) for folder in gone)
    told = asked(capsys, root, "--keep-best", "2", "--dry-run")
    assert [Path(run["folder"]) for run in told["runs"]] == gone
    assert (told["disk_bytes"], told["removed"]) == (size, [])
    assert all(folder.is_dir() for folder in kept + gone)
    told = asked(capsys, root, "--keep-best", "2", "--yes")
    assert len(told["removed"]) == 2
    assert all(folder.is_dir() for folder in kept)
    assert not any(folder.exists() for folder in gone)
    assert not list((root / ".lessen").rglob("report.json"))
    assert asked(capsys, root, "--yes")["runs"] == []


def test_runs_in_the_trash_go_from_the_store_too_and_a_live_one_never(
    root: Path, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    store, ids = Store(root), {}
    for where in ("kept", "gone", "held", "fresh"):
        folder = make("a", 0.5, where)
        ids[where] = read_state(folder)["run_id"]
        deleted = {"kept": None, "fresh": 4e9}.get(where, 1.0)
        store.add(
            RunRecord(
                run_id=ids[where], folder=folder, name="a", task="t", pipeline="p", state="succeeded", recipe={},
                deleted_at=deleted,
            )
        )  # fmt: skip
    store.close()
    with lock(root / "held"):
        told = asked(capsys, root, "--yes", "--older-than", "1")
    assert [run["run_id"] for run in told["runs"]] == told["removed"] == [ids["gone"]]
    assert sorted(path.name for path in root.iterdir() if path.name != ".lessen") == ["fresh", "held", "kept"]
    store = Store(root)
    assert store.get(ids["gone"]) is None
    assert store.get(ids["held"]) is not None
    store.close()


def test_young_runs_stay(root: Path, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    make("a", 0.9, "best")
    make("a", 0.5, "old")
    make("a", 0.4, "young", finished="2999-01-01T00:00:00+00:00")
    told = asked(capsys, root, "--keep-best", "1", "--older-than", "2", "--yes")
    assert [Path(run["folder"]).name for run in told["runs"]] == ["old"]


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("n\n", True), ("", True)])
def test_it_asks(
    root: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, answer: str, left: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make("a", 0.9, "best")
    worse = make("a", 0.5, "worse")
    monkeypatch.setattr("sys.stdin", Typed(answer))
    assert lessen("gc", root, "--keep-best", "1") == 0
    assert "remove them?" in capsys.readouterr().err
    assert worse.is_dir() is left


def test_where_nobody_can_be_asked_nothing_goes(
    root: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a", 0.9, "best")
    worse = make("a", 0.5, "worse")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert lessen("gc", root, "--keep-best", "1") == 2
    assert "--yes" in capsys.readouterr().err
    assert worse.is_dir()


def test_nothing_goes_while_a_server_uses_the_folder(
    root: Path, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make("a", 0.9, "best")
    worse = make("a", 0.5, "worse")
    held = RootLock(root)
    held.take()
    assert lessen("gc", root, "--keep-best", "1", "--yes") == 6
    held.give_back()
    assert worse.is_dir()
    assert "another server" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--keep-best", "0"], ["--older-than", "-1"], ["--older-than", "nan"]])
def test_bounds_that_mean_nothing_are_refused(root: Path, make: Callable[..., Path], words: list[str]) -> None:
    make("a", 0.9, "best")
    assert lessen("gc", root, *words) == 2
