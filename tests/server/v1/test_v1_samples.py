"""Test samples and what changed between two stages."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lessen.store import RunRecord

from .conftest import client_of, service_at

V1 = "/api/v1"
CLASSES: dict[str, Any] = {
    "schema_version": 1, "task": "image-classification", "labels": ["ant", "bee"], "multi_label": False,
    "ids": ["i0", "i1", "i2", "i3"], "previews": [None] * 4, "truth": [0, 1, 1, 0], "references": None,
    "images": "images/%06d.png",
    "stages": {
        "teacher": {"labels": [0, 1, 0, 0], "probabilities": [0.9, 0.8, 0.7, 0.6]},
        "prune": {"labels": [1, 1, 1, 0], "probabilities": [0.6, 0.8, 0.9, 0.6]},
    },
}  # fmt: skip
FLAGS = CLASSES | {
    "multi_label": True, "truth": [[1, 0], [1, 1], [0, 0], [0, 1]], "images": None,
    "stages": {
        "teacher": {"labels": [[1, 0], [1, 1], [0, 0], [1, 1]], "probabilities": [[0.9, 0.2]] * 4},
        "prune": {"labels": [[1, 1], [1, 1], [0, 0], [0, 1]], "probabilities": [[0.4, 0.6]] * 4},
    },
}  # fmt: skip
TEXTS = CLASSES | {
    "task": "seq2seq", "labels": [], "truth": None, "images": None, "previews": ["one", "two", "three", "four"],
    "references": ["eins", "zwei", "drei", "vier"],
    "stages": {"teacher": {"texts": ["eins", "zwei", "x"]}, "prune": {"texts": ["eins", "y", "drei"]}},
}  # fmt: skip
pytestmark = pytest.mark.slow


def test_the_answers_are_those_that_were_measured(client: TestClient, run: RunRecord) -> None:
    from lessen import report

    found = client.get(f"{V1}/runs/latest/samples?limit=200").json()
    rows = {row.stage: row for row in report.read(run.folder).rows}
    assert found["total"] == len(found["samples"]) == rows["teacher"].metrics["accuracy"].n
    for stage, row in rows.items():
        right = [s["predictions"][stage]["label"] == s["label"] for s in found["samples"]]
        assert sum(right) / len(right) == pytest.approx(row.value("accuracy"))
    assert found["candidate"] == "quantize"
    assert all(s["text"] and s["image_url"] is None for s in found["samples"])


def test_lost_and_won_are_those_of_the_paired_test(client: TestClient, run: RunRecord) -> None:
    from lessen import report

    tested = report.read(run.folder).comparison("teacher", "distill")
    assert tested is not None
    lost = client.get(f"{V1}/runs/latest/samples?candidate=distill&change=lost").json()
    won = client.get(f"{V1}/runs/latest/samples?candidate=distill&change=won").json()
    assert (lost["total"], won["total"]) == (tested.only_reference_right, tested.only_candidate_right)
    assert lost["total"] + won["total"] > 0
    changed = client.get(f"{V1}/runs/latest/samples?candidate=distill&change=changed").json()
    assert changed["total"] == round((1 - (tested.agreement or 0)) * tested.n)


def test_a_cell_of_the_confusion_matrix_opens_its_samples(client: TestClient, run: RunRecord) -> None:
    from lessen import report

    row = report.read(run.folder).row("quantize")
    assert row is not None
    labels = row.facts["labels"]
    for i, told in enumerate(row.facts["confusion"]):
        for k, count in enumerate(told):
            query = f"candidate=quantize&label={labels[i]}&predicted={labels[k]}"
            assert client.get(f"{V1}/runs/latest/samples?{query}").json()["total"] == count


def test_pages_do_not_overlap(client: TestClient) -> None:
    ids = [s["id"] for o in (0, 10, 20, 30, 40) for s in _page(client, o)]
    assert len(set(ids)) == len(ids) == client.get(f"{V1}/runs/latest/samples").json()["total"]


def _page(client: TestClient, offset: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{V1}/runs/latest/samples?limit=10&offset={offset}").json()["samples"]
    return found


@pytest.mark.parametrize(
    ("query", "status"),
    [("reference=nothing", 404), ("candidate=nothing", 404), ("label=nothing", 422), ("predicted=x", 422),
     ("change=gone", 422), ("limit=0", 422), ("limit=201", 422), ("offset=-1", 422)],
)  # fmt: skip
def test_what_does_not_exist_is_refused(client: TestClient, query: str, status: int) -> None:
    assert client.get(f"{V1}/runs/latest/samples?{query}").status_code == status


@pytest.fixture
def told(made: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    """A run whose predictions.json a test writes."""
    root = tmp_path / "runs"
    shutil.copytree(made, root / "one", symlinks=True)
    (root / "one" / "predictions.json").unlink()
    service = service_at(root)
    service.begin()
    try:
        end = time.monotonic() + 30
        while not service.store.list()[0]:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield client_of(service), root / "one"
    finally:
        service.end()


def test_runs_of_older_versions_say_why_there_are_none(told: tuple[TestClient, Path]) -> None:
    answer = told[0].get(f"{V1}/runs/latest/samples")
    assert answer.status_code == 409
    assert "run it again" in answer.json()["hint"]


def test_images_are_sent_where_they_are_kept(told: tuple[TestClient, Path]) -> None:
    from PIL import Image

    client, folder = told
    (folder / "predictions.json").write_text(json.dumps(CLASSES))
    (folder / "images").mkdir()
    Image.new("RGB", (4, 4), (200, 10, 10)).save(folder / "images" / "000001.png")
    (folder / "images" / "000002.png").symlink_to("/etc/hostname")
    samples = client.get(f"{V1}/runs/latest/samples").json()["samples"]
    assert samples[0]["image_url"] is None  # only the first of many are kept
    image = client.get(samples[1]["image_url"])
    assert image.headers["content-type"] == "image/png"
    assert image.content == (folder / "images" / "000001.png").read_bytes()
    for index in ("2", "3", "-1", "x", "..%2freport.json"):
        assert client.get(f"{V1}/runs/latest/samples/{index}/image").status_code in (404, 422)


@pytest.mark.parametrize(
    ("body", "query", "ids"),
    [
        (CLASSES, "change=lost", ["i0"]),
        (CLASSES, "change=won", ["i2"]),
        (CLASSES, "change=changed", ["i0", "i2"]),
        (CLASSES, "label=bee&predicted=bee", ["i1", "i2"]),
        (FLAGS, "change=lost", ["i0"]),
        (FLAGS, "change=won", ["i3"]),
        (FLAGS, "label=bee", ["i1", "i3"]),
        (FLAGS, "predicted=ant", ["i0", "i1"]),
        (TEXTS, "change=lost", ["i1"]),
        (TEXTS, "change=won", ["i2"]),
        (TEXTS, "change=all", ["i0", "i1", "i2", "i3"]),
    ],
)  # fmt: skip
def test_changes_of_each_kind_of_answer(
    told: tuple[TestClient, Path], body: dict[str, Any], query: str, ids: list[str]
) -> None:
    client, folder = told
    (folder / "predictions.json").write_text(json.dumps(body))
    found = client.get(f"{V1}/runs/latest/samples?{query}").json()
    assert [s["id"] for s in found["samples"]] == ids


def test_several_labels_and_texts_are_told_apart(told: tuple[TestClient, Path]) -> None:
    client, folder = told
    (folder / "predictions.json").write_text(json.dumps(FLAGS))
    first = client.get(f"{V1}/runs/latest/samples").json()["samples"][0]
    assert first["predictions"]["prune"] == {
        "label": "ant, bee", "probability": None, "probabilities": {"ant": 0.4, "bee": 0.6}, "text": None,
    }  # fmt: skip
    (folder / "predictions.json").write_text(json.dumps(TEXTS))
    last = client.get(f"{V1}/runs/latest/samples").json()["samples"][3]
    assert (last["reference"], last["predictions"]["prune"]["text"]) == ("vier", None)  # not generated for all
