from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lessen.context import Context
from lessen.errors import Cancelled
from lessen.measure import inputs, speed
from lessen.measure.process import WorkerError, WorkerProcess
from lessen.measure.speed import Timing, distribution, measure_speed, summarise
from lessen.recipe import Measure

QUICK = Measure(seconds=0.02, rounds=2, batch_size=4, threads=1, bootstrap=10)


def timing(ms: list[list[float]], *, error: str | None = None) -> Timing:
    return Timing(
        wall_ms={1: ms, 4: [[4 * t for t in r] for r in ms]}, cpu_ms={1: [m[0] for m in ms], 4: [m[0] for m in ms]},
        foreign=[0.0] * len(ms), lengths={1: 12, 4: 12}, opened={"open_seconds": 0.1, "first_call_ms": 5.0,
        "import_rss_bytes": 1e7}, memory={"peak_rss_bytes": 2e7}, error=error,
    )  # fmt: skip


def test_the_ratio_is_taken_within_each_round() -> None:
    # the machine is twice as slow in round 2: the ratio is 4 in both rounds
    found = summarise(timing([[1.0] * 30, [2.0] * 30]), timing([[4.0] * 30, [8.0] * 30]), QUICK)
    assert found["speedup"].value == pytest.approx(4)
    assert found["speedup"].spread == pytest.approx((4, 4))
    assert found["speedup"].n == 2


def test_a_percentile_needs_enough_calls() -> None:
    found = summarise(timing([[1.0] * 15, [1.0] * 15]), timing([[1.0] * 15, [1.0] * 15]), QUICK)
    assert found["latency_p50_ms"].value == 1.0
    assert found["latency_p99_ms"].value is None
    assert "30 calls were timed" in (found["latency_p99_ms"].reason or "")
    many = timing([[1.0] * 600, [1.0] * 600])
    assert summarise(many, many, QUICK)["latency_p99_ms"].value == 1.0


def test_the_distribution_holds_every_percent_of_all_rounds_by_batch_size() -> None:
    found = distribution(timing([[1.0] * 10 + [3.0] * 10, [2.0] * 20]))["latency"]
    assert list(found) == ["1", "4"]
    assert [found[size]["n"] for size in found] == [40, 40]
    one = found["1"]["quantiles_ms"]
    assert len(one) == 101
    assert one == sorted(one)
    assert (one[0], one[20], one[50], one[80], one[100]) == (1.0, 1.0, 2.0, 3.0, 3.0)
    assert found["4"]["quantiles_ms"] == [4 * ms for ms in one]
    assert distribution(timing([[1.0]], error="it died")) == {}
    assert distribution(Timing()) == {}


def test_slower_is_reported_as_slower() -> None:
    found = summarise(timing([[40.0] * 30] * 2), timing([[4.0] * 30] * 2), QUICK)
    assert found["speedup"].value == pytest.approx(0.1)


def test_without_a_timed_baseline_there_is_no_ratio() -> None:
    found = summarise(timing([[1.0] * 30]), timing([[1.0]], error="it died"), QUICK)
    assert found["latency_p50_ms"].value == 1.0
    assert found["speedup"].value is None
    assert "it died" in (found["speedup"].reason or "")


def test_before_the_end_every_speed_has_a_reason() -> None:
    assert all(m.value is None and m.reason == speed.LATER for m in speed.not_yet().values())


def test_speed_switched_off_says_so(tmp_path: Path, make_artifact: Callable, make_texts: Callable) -> None:
    off = QUICK.model_copy(update={"speed": False})
    found = measure_speed({"a": make_artifact(tmp_path / "a")}, make_texts(), off, Context(out_dir=tmp_path))
    assert found["a"].metrics["latency_p50_ms"].reason == "measure.speed is off"
    assert found["a"].facts == {}


def test_models_are_timed_on_real_samples_of_median_length(
    tmp_path: Path, make_artifact: Callable, make_texts: Callable
) -> None:
    test = make_texts(300)
    processor = make_artifact(tmp_path / "a").processor
    made = inputs.probe(test, processor, 4)
    chosen = inputs.typical_rows(test)
    middle = np.median([len(t) for t in test.inputs])
    left_out = [abs(len(t) - middle) for i, t in enumerate(test.inputs) if i not in chosen]
    assert max(abs(len(test.inputs[i]) - middle) for i in chosen) <= min(left_out)
    assert {b["input_ids"].shape for b in made.batches} == {(4, made.length)}
    inputs.save([made], tmp_path / "p.npz")
    back = inputs.load(tmp_path / "p.npz")[4]
    assert all(np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(back, made.batches, strict=True))


def test_importing_the_worker_imports_no_torch() -> None:
    code = "import sys, lessen.measure.worker, lessen.report, lessen.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_artifacts_are_timed_each_in_a_fresh_process_without_torch(
    tmp_path: Path, make_artifact: Callable, make_texts: Callable
) -> None:
    good = {name: make_artifact(tmp_path / name) for name in ("teacher", "small")}
    artifacts = {**good, "broken": make_artifact(tmp_path / "broken", break_file=True)}
    said: list[object] = []
    found = measure_speed(artifacts, make_texts(), QUICK, Context(out_dir=tmp_path, emit=said.append))
    for name in good:
        metrics, facts = found[name]
        p50, peak = metrics["latency_p50_ms"], metrics["peak_rss_bytes"]
        assert p50.value is not None
        assert (p50.n or 0) >= speed.MIN_CALLS
        assert (peak.value or 0) > (metrics["import_rss_bytes"].value or 0) * 0.9 > 1e6
        assert (peak.value or 0) < 250e6  # torch alone takes more
        assert facts["latency"]["1"]["n"] == p50.n
        assert facts["latency"]["1"]["quantiles_ms"][50] == pytest.approx(p50.value, abs=1e-5)
    assert found["teacher"].metrics["speedup"].value == 1.0
    broken = found["broken"]
    assert broken.metrics["latency_p50_ms"].value is None
    assert broken.metrics["peak_rss_bytes"].reason is not None
    assert "cannot be opened" in (broken.metrics["latency_p50_ms"].reason or "")
    assert broken.facts == {}
    assert any("broken could not be timed" in getattr(event, "message", "") for event in said)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_from_one_that_answers(tmp_path: Path) -> None:
    with WorkerProcess(threads=1) as worker:
        with pytest.raises(WorkerError, match="unknown request"):
            worker.ask("dance")
        assert worker.ask("memory")["torch_imported"] is False
        worker._process.kill()
        with pytest.raises(WorkerError, match="killed by signal 9 during memory"):
            worker.ask("memory")
    assert worker._process.returncode is not None


@pytest.mark.slow
def test_a_cancelled_measurement_leaves_no_process(
    tmp_path: Path, make_artifact: Callable, make_texts: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[WorkerProcess] = []

    class Watched(WorkerProcess):
        def __init__(self, threads: int) -> None:
            super().__init__(threads)
            made.append(self)

    def stop() -> None:
        raise Cancelled("stopped")

    monkeypatch.setattr(speed, "WorkerProcess", Watched)
    with pytest.raises(Cancelled):
        measure_speed({"a": make_artifact(tmp_path / "a")}, make_texts(), QUICK, Context(out_dir=tmp_path, check=stop))
    assert [w._process.poll() is not None for w in made] == [True]
