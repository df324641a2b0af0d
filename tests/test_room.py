"""No run begins on a disk that it would fill, wherever it is started."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lessen import data, plan
from lessen.cli import main
from lessen.errors import LessenError, ResourceError
from lessen.jobs import worker
from lessen.recipe import parse
from lessen.runner import run

RECIPE = {
    "name": "large",
    "pipeline": "baseline",
    "data": {"source": "docstrings", "limit": 40},
    "teacher": {"model": "scratch:bert-tiny", "vocab_size": 300},
}


class Reached(LessenError):
    """The run began."""


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Bytes that are free on every disk; the first thing that a run does is to raise Reached."""

    def load(*given: object) -> None:
        raise Reached("data")

    room = [1e15]
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=room[0]))
    monkeypatch.setattr(data, "load", load)
    return room


@pytest.mark.parametrize(("bytes_free", "needed", "there", "fits"), [
    (200, 100, 0, True), (199, 100, 0, False), (199, 100, 10, True), (10, 100, 100, True), (0, None, 0, True),
])  # fmt: skip
def test_a_run_needs_twice_the_room_that_it_is_estimated_to_write(
    tmp_path: Path, free: list[float], bytes_free: float, needed: float | None, there: int, fits: bool
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "weights").write_bytes(b"x" * there)
    free[0] = bytes_free
    if fits:
        plan.require_room(tmp_path, needed)
        return
    with pytest.raises(ResourceError, match="the disk is too full") as caught:
        plan.require_room(tmp_path, needed)
    assert (caught.value.kind, caught.value.exit_code) == ("disk_full", 7)
    assert f"are free in {tmp_path.parent}" in caught.value.message


@pytest.mark.parametrize("more", [{}, {"folds": 3}, {"folds": 3, "fold": 1}])
def test_lessen_run_refuses_and_leaves_nothing_behind(tmp_path: Path, free: list[float], more: dict[str, int]) -> None:
    recipe = parse({**RECIPE, "data": {**RECIPE["data"], **more}})  # type: ignore[dict-item]
    needed = plan.disk(recipe).value
    assert needed is not None
    free[0] = 2 * needed - 1
    with pytest.raises(ResourceError, match="the disk is too full"):
        run(recipe, out_dir=tmp_path / "a" / "run")
    assert not (tmp_path / "a").exists()
    free[0] = 2 * needed
    with pytest.raises(Reached):
        run(recipe, out_dir=tmp_path / "a" / "run")


def test_all_folds_are_counted_and_one_fold_once() -> None:
    def of(**more: int) -> float | None:
        return plan.disk(parse({**RECIPE, "data": {**RECIPE["data"], **more}})).value  # type: ignore[dict-item]

    one = of()
    assert one is not None
    assert of(folds=3) == 3 * one
    assert of(folds=3, fold=2) == one


def test_a_shell_is_told_in_one_line_with_exit_code_7(
    tmp_path: Path, free: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(RECIPE))
    free[0] = 1000
    assert main(["run", str(file), "--output_dir", str(tmp_path / "run"), "--json"]) == 7
    out, err = capsys.readouterr()
    assert err.startswith("error: the disk is too full for this run: 0 MB are free in")
    assert json.loads(out)["exit_code"] == 7
    assert not (tmp_path / "run").exists()


def test_a_worker_is_refused_in_the_same_words(tmp_path: Path, free: list[float]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(parse(RECIPE).model_dump_json())
    free[0] = 1000
    with pytest.raises(ResourceError, match="the disk is too full for this run: 0 MB are free in"):
        worker.carry_out(folder, lambda: None)
    assert [file.name for file in folder.iterdir()] == ["recipe.json"]
