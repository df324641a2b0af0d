"""A script that speaks only what the predecessors' README says runs from start to report, for all four models.

Nothing here knows of run ids, tokens or /api/v1: plain `requests` and a plain Socket.IO client, against
`lessen serve --no-auth`, on the embedded data.
"""

from __future__ import annotations

import io
import json
import queue
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import socketio

from served import serving

pytestmark = pytest.mark.slow
MODELS = ("distillBert", "T5-small", "MobileNetV2", "ResNet-18")
EVENTS = ("training_progress", "training_metrics", "training_status", "training_error", "training_cancelled")
SECTIONS = {
    "model_performance", "teacher_vs_student", "knowledge_distillation_analysis", "pruning_analysis",
    "efficiency_improvements", "learning_outcomes",
}  # fmt: skip
PHASES = ["model_loading", "knowledge_distillation", "pruning", "evaluation", "completed"]
LIMIT_SECONDS = 600  # of one run; about 60 where nothing else uses the machine


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served"), "--no-auth") as server:
        yield server.url


class Listener:
    """What the predecessors' own page did: connect, listen, and keep what comes."""

    def __init__(self, url: str) -> None:
        self.heard: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.client = socketio.Client(reconnection_delay=1)
        for name in EVENTS:
            self.client.on(name, lambda data, name=name: self.heard.put((name, data)))
        self.client.connect(url)

    def until_completed(self) -> list[tuple[str, dict[str, Any]]]:
        end, seen = time.monotonic() + LIMIT_SECONDS, []
        while time.monotonic() < end:
            try:
                name, data = self.heard.get(timeout=1)
            except queue.Empty:
                continue
            seen.append((name, data))
            assert name not in ("training_error", "training_cancelled"), data
            if name == "training_progress" and data.get("status") == "completed":
                return seen
        pytest.fail(f"not completed in {LIMIT_SECONDS} s; the last news: {seen[-3:]}")
        return seen


@pytest.fixture(scope="module", params=MODELS)
def trained(url: str, request: pytest.FixtureRequest) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    listener = Listener(url)
    response = requests.post(f"{url}/train", json={"model_name": request.param}, timeout=30)
    assert response.ok, response.text
    assert response.json()["success"] is True
    seen = listener.until_completed()
    listener.client.disconnect()
    return url, request.param, seen


def test_progress_only_moves_forward_through_the_phases(trained: Any) -> None:
    _, _, seen = trained
    progress = [data["progress"] for name, data in seen if name == "training_progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    assert len(set(progress)) > 20
    phases = [data["phase"] for name, data in seen if name == "training_progress" and "phase" in data]
    assert list(dict.fromkeys(phases)) == [p for p in PHASES if p in phases]
    assert {"knowledge_distillation", "pruning", "evaluation"} <= set(phases)
    losses = [data["loss"] for name, data in seen if name == "training_progress" and data.get("loss") is not None]
    assert len(losses) > 10
    assert all(isinstance(loss, float) for loss in losses)


def test_the_six_sections_arrive(trained: Any) -> None:
    _, _, seen = trained
    told: dict[str, Any] = {}
    for name, data in seen:
        if name == "training_metrics":
            told |= {k: v for k, v in data.items() if k in SECTIONS}
    assert set(told) == SECTIONS
    accuracy = told["model_performance"]["metrics"]["accuracy"]["value"]
    assert 0 < accuracy <= 1


def test_the_numbers_can_be_fetched_and_are_numbers(trained: Any) -> None:
    url, model, _ = trained
    data = requests.get(f"{url}/matlab_metrics", timeout=30).json()
    assert data["success"]
    assert data["model_name"].lower().replace("-", "") == model.lower().replace("-", "")
    rows = data["matlab_data"]
    assert [r["metric"] for r in rows["effectiveness"]] == ["Accuracy", "Precision", "Recall", "F1-Score"]
    for row in [*rows["effectiveness"], *rows["efficiency"]]:
        assert isinstance(row["before"], int | float), row
        assert isinstance(row["after"], int | float), row
    size = next(r for r in rows["efficiency"] if r["metric"].startswith("Model Size"))
    assert size["after"] < size["before"]
    for answer in (
        requests.post(f"{url}/evaluate", timeout=30).json(), requests.get(f"{url}/evaluate", timeout=30).json(),
    ):  # fmt: skip
        assert [r["metric"] for r in answer["effectiveness"]] == ["Accuracy", "Precision", "Recall", "F1-Score"]
    previous = requests.get(f"{url}/get_previous_results", timeout=30).json()
    assert previous["success"]
    assert previous["results"]["model_trained"]


def test_the_page_and_the_report_say_that_it_was_trained_from_scratch(trained: Any) -> None:
    url, _, _ = trained
    run = requests.get(f"{url}/api/v1/runs/latest", timeout=30).json()
    assert "scratch" in run["note"]
    report = requests.get(f"{url}/api/v1/runs/latest/report", timeout=30).json()
    assert any("scratch" in warning["message"] for warning in report["warnings"])


def test_model_and_results_can_be_downloaded_and_hold_no_pickle(trained: Any) -> None:
    url, _, _ = trained
    response = requests.get(f"{url}/download", timeout=60)
    assert response.ok
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        names = archive.namelist()
        results = json.loads(archive.read("evaluation_results.json"))
    assert results
    assert any(name.endswith((".safetensors", ".onnx")) for name in names), names
    strange = {name for name in names if name.endswith((".pth", ".pt", ".bin", ".pkl"))}
    assert strange <= {"compressed_model/shared.bin"}  # raw numbers that both graphs of a T5 read, no pickle


def test_it_learned_something(trained: Any) -> None:
    """The final model beats always answering the most frequent class by far."""
    url, _, _ = trained
    report = requests.get(f"{url}/api/v1/runs/latest/report", timeout=30).json()
    shares = report["data"]["rows_per_class"]["test"]
    chance = max(shares.values()) / sum(shares.values())
    accuracy = report["rows"][-1]["metrics"]["accuracy"]["value"]
    assert accuracy > 2 * chance, (accuracy, chance)


def test_the_small_questions_are_answered(url: str) -> None:
    assert requests.post(f"{url}/test_model", json={"model_name": "MobileNetV2"}, timeout=120).json()["success"]
    assert requests.get(f"{url}/test_metrics", timeout=60).json()["success"]
    assert requests.get(f"{url}/metrics_explanations", timeout=30).json()["success"]
    assert requests.post(f"{url}/cancel_training", timeout=30).status_code in (200, 409)
    refused = requests.post(f"{url}/train", json={"model_name": "GPT-5"}, timeout=30)
    assert refused.status_code in (400, 422)
    assert refused.json()["success"] is False
    assert "distillBert" in refused.text
