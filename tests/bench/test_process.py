"""The helper process: it may die, hang, swell or be idle; the server goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import tiny
from lessen.bench.opened import Opened
from lessen.errors import ArtifactError, DataError, RateError, ResourceError, UnknownNameError
from lessen.server.bench import Bench, BenchError, Limits

pytestmark = pytest.mark.slow


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def _gone(pid: int, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_there_is_no_process_before_the_first_request_and_one_after(bench: Bench) -> None:
    assert bench.pid is None
    assert bench.rss_bytes() is None
    found = bench.test_model("scratch:bert-mini", "text-classification")
    assert found["finite"]
    assert found["parameters"] * 4 == found["bytes"]
    assert found["output"] == [1, 2]
    first = bench.pid
    bench.test_model("scratch:t5-mini", "seq2seq")
    assert bench.pid == first is not None
    assert (bench.rss_bytes() or 0) > 50e6


def test_parameters_are_those_of_the_plan(bench: Bench) -> None:
    from lessen import models
    from lessen.recipe import parse

    for model, task in (
        ("scratch:distilbert-mini", "text-classification"),
        ("scratch:resnet-18", "image-classification"),
    ):
        recipe = parse({"task": task, "teacher": {"model": model}})
        found = bench.test_model(model, task)
        assert found["parameters"] == models.parameters(recipe, recipe.teacher)
        assert found["forward_ms"] > 0


def test_mistakes_come_back_as_what_they_are(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is no preset"):
        bench.test_model("scratch:nothing", "text-classification")
    with pytest.raises(ArtifactError, match="not a lessen model folder"):
        bench.ask("layers", folder=str(tmp_path), source=None)
    with pytest.raises(DataError, match="image 0 cannot be read"):
        bench.predict({"a": tmp_path}, images=["AAAA"])
    with pytest.raises(BenchError, match="predict failed: TypeError"):
        bench.ask("predict", nothing=1)
    with pytest.raises(Exception, match="cannot do 'rm'"):
        bench.ask("rm")
    assert bench.test_model("scratch:bert-mini", "text-classification")["finite"]  # and it still works


def test_a_process_that_dies_at_work_is_told_and_started_anew(bench: Bench) -> None:
    bench.test_model("scratch:bert-mini", "text-classification")
    first = bench.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)  # at work, as far as the server can see
    threading.Timer(0.3, os.kill, (first, signal.SIGKILL)).start()
    with pytest.raises(BenchError, match="was killed by signal 9 during test_model"):
        bench.test_model("scratch:bert-mini", "text-classification")
    assert bench.test_model("scratch:bert-mini", "text-classification")["finite"]
    assert bench.pid != first


def test_a_process_that_died_between_requests_is_started_anew(bench: Bench) -> None:
    bench.test_model("scratch:bert-mini", "text-classification")
    first = bench.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert _gone(first)
    assert bench.test_model("scratch:bert-mini", "text-classification")["finite"]


def test_a_request_that_hangs_is_ended_in_time(bench: Bench) -> None:
    bench.test_model("scratch:bert-mini", "text-classification")
    first = bench.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(BenchError, match=r"took longer than 0\.5 s"):
        bench.ask("test_model", timeout=0.5, model="scratch:bert-mini", task="text-classification", config={})
    assert time.monotonic() - began < 5
    assert _gone(first)


def test_a_process_that_swells_is_ended() -> None:
    bench = Bench(limits=Limits(memory_bytes=1_000_000))
    try:
        with pytest.raises(ResourceError, match=r"needed .* the helper process may have"):
            bench.test_model("scratch:bert-mini", "text-classification")
        assert bench.pid is None
    finally:
        bench.close()


def test_an_idle_process_ends_and_comes_back() -> None:
    bench = Bench(limits=Limits(idle_s=0.3))
    try:
        bench.ask("test_model", model="scratch:bert-mini", task="text-classification", config={})
        first = bench.pid
        assert first is not None
        assert _gone(first)
        assert bench.rss_bytes() is None
        assert bench.test_model("scratch:bert-mini", "text-classification")["finite"]
    finally:
        bench.close()


def test_too_many_requests_are_told_to_come_back() -> None:
    bench = Bench(limits=Limits(waiting=1))
    bench.test_model("scratch:bert-mini", "text-classification")
    pid = bench.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            bench.test_model("scratch:bert-mini", "text-classification")
        except BenchError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    with pytest.raises(RateError):
        bench.test_model("scratch:bert-mini", "text-classification")
    began = time.monotonic()
    bench.close()  # with a request at work
    assert time.monotonic() - began < 5
    thread.join(5)
    assert len(failed) == 1
    assert _gone(pid)
    with pytest.raises(BenchError, match="going down"):
        bench.test_model("scratch:bert-mini", "text-classification")


def test_the_process_does_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os\nfrom lessen.server.bench import Bench\nb = Bench()\n"
        "b.test_model('scratch:bert-mini', 'text-classification')\nprint(b.pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert _gone(int(done.stdout))


def test_models_used_longest_ago_are_closed_first(tmp_path: Path) -> None:
    folders = [tiny.save("bert", tmp_path / name, threshold=0.5 + i / 100).path for i, name in enumerate("abc")]
    opened = Opened(most=2)
    a, b = opened.get(folders[0]), opened.get(folders[1])
    assert opened.get(folders[0]) is a
    opened.get(folders[2])
    assert len(opened) == 2
    assert opened.get(folders[0]) is a
    assert opened.get(folders[1]) is not b


def test_layers_are_kept_by_digest_and_damaged_ones_are_made_again(tmp_path: Path) -> None:
    artifact = tiny.save("bert", tmp_path / "m")
    bench = Bench(tmp_path / "kept")
    try:
        found = bench.layers(artifact.path)
        (file,) = (tmp_path / "kept").iterdir()
        file.write_text("{")
        again = bench.layers(artifact.path)
        assert again["totals"]["parameters"] == found["totals"]["parameters"]
        assert bench.layers(artifact.path) == again
    finally:
        bench.close()
