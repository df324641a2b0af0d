"""Every stage asked the same question."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import lessen
from lessen.server.bench import Bench
from lessen.store import RunRecord
from tiny import save

V1 = "/api/v1"
TEXTS = ["Return the mean of an array.", "Read a CSV file into a data frame.", "গড় ফেরত দাও"]
pytestmark = pytest.mark.slow


def test_stages_answer_as_they_do_by_themselves(client: TestClient, run: RunRecord) -> None:
    found = client.post(f"{V1}/predictions", json={"inputs": TEXTS}).json()
    assert found["run_id"] == run.run_id
    assert [s["stage"] for s in found["stages"]] == ["teacher", "runtime", "distill", "prune", "export", "quantize"]
    for stage in found["stages"]:
        folder = next(run.folder.glob(f"stages/*-{stage['stage']}"))
        model = lessen.load(folder if (folder / "lessen.json").is_file() else folder / "onnx")
        wanted = [model.predict([text])[0] for text in TEXTS]
        assert stage["error"] is None
        assert [a["label"] for a in stage["answers"]] == [a.label for a in wanted]
        for ours, theirs in zip(stage["answers"], wanted, strict=True):
            assert ours["probabilities"] == pytest.approx(theirs.probabilities, abs=1e-5)
            assert ours["latency_ms"] > 0
    labels = {s["stage"]: [a["label"] for a in s["answers"]] for s in found["stages"]}
    for stage, share in found["agreement"].items():
        same = [a == b for a, b in zip(labels[stage], labels["teacher"], strict=True)]
        assert share == sum(same) / len(same)
    assert found["agreement"]["teacher"] == found["agreement"]["runtime"] == 1.0


def test_only_the_stages_that_are_named_answer(client: TestClient) -> None:
    body = {"inputs": TEXTS[:1], "stages": ["prune", "distill"]}
    found = client.post(f"{V1}/predictions", json=body).json()
    assert [s["stage"] for s in found["stages"]] == ["prune", "distill"]
    assert found["agreement"] == {"prune": None, "distill": None}  # the teacher was not asked


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422), ({"inputs": []}, 422), ({"inputs": ["a"] * 33}, 422), ({"inputs": ["a"], "images": ["b"]}, 422),
        ({"inputs": ["a" * 20_001]}, 422), ({"inputs": [1]}, 422), ({"inputs": ["a"], "stages": ["nothing"]}, 404),
        ({"inputs": ["a"], "stages": ["../x"]}, 422), ({"inputs": ["a"], "run_id": "nobody"}, 404),
        ({"images": ["no base64!"]}, 422), ({"images": [base64.b64encode(b"GIF89a").decode()]}, 422),
        ({"inputs": ["a"], "else": 1}, 422),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_asked_are_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    answer = client.post(f"{V1}/predictions", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_image_asked_of_a_text_model_is_told_stage_by_stage(client: TestClient) -> None:
    found = client.post(f"{V1}/predictions", json={"images": [_png(8)], "stages": ["teacher"]}).json()
    assert "takes no images" in found["stages"][0]["error"]
    assert found["stages"][0]["answers"] == []
    assert found["agreement"]["teacher"] is None


def test_a_damaged_stage_says_so_and_the_others_answer(client: TestClient, run: RunRecord) -> None:
    file = run.folder / "stages/02-distill/model.safetensors"
    raw = file.read_bytes()
    manifest = run.folder / "stages/02-distill/lessen.json"
    text = manifest.read_text()
    try:
        file.write_bytes(raw[:-4] + b"\0\0\0\0")
        manifest.write_text(text.replace('"threshold": 0.5', '"threshold": 0.50001'))  # not the one that is open
        found = client.post(f"{V1}/predictions", json={"inputs": TEXTS[:1], "stages": ["distill", "prune"]}).json()
    finally:
        file.write_bytes(raw)
        manifest.write_text(text)
    assert "differs from its manifest" in found["stages"][0]["error"]
    assert found["stages"][1]["error"] is None


def test_images_are_answered_like_their_pixels(tmp_path: Path) -> None:
    artifact = save("resnet", tmp_path / "model")
    shutil.copytree(artifact.path, tmp_path / "again")
    bench = Bench()
    try:
        found = bench.predict({"teacher": artifact.path}, images=[_png(40), f"data:image/png;base64,{_png(40)}"])
    finally:
        bench.close()
    (stage,) = found["stages"]
    (wanted,) = lessen.load(artifact.path).predict([_pixels(40)])
    assert stage["error"] is None
    assert [a["label"] for a in stage["answers"]] == [wanted.label] * 2
    assert stage["answers"][0]["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)


def _pixels(side: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)


def _png(side: int) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(_pixels(side)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()
