"""Layers and histograms over HTTP, held against the report and the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from lessen import report
from lessen.server.service import Service
from lessen.store import RunRecord

V1 = "/api/v1"
QUERY = "bert.encoder.layer.0.attention.self.query"
pytestmark = pytest.mark.slow


def layers(client: TestClient, stage: str, against: str = "") -> dict[str, Any]:
    found: dict[str, Any] = client.get(
        f"{V1}/runs/latest/layers", params={"stage": stage, **({"against": against} if against else {})}
    ).json()
    return found


@pytest.mark.parametrize("stage", ["teacher", "runtime", "distill", "prune", "export", "quantize"])
def test_totals_are_those_of_the_report(client: TestClient, run: RunRecord, stage: str) -> None:
    row = report.read(run.folder).row(stage)
    assert row is not None
    found = layers(client, stage)
    totals = found["totals"]
    assert totals["parameters"] == row.value("parameters")
    assert totals["nonzero"] == row.value("nonzero_parameters")
    assert totals["sparsity"] == pytest.approx(row.value("sparsity"))
    assert totals["flops"] == row.value("flops")
    assert totals["bytes"] <= (row.value("file_bytes") or 0)
    assert found["stages"] == [r.stage for r in report.read(run.folder).rows]


@pytest.mark.parametrize("stage", ["prune", "quantize"])
def test_every_parent_adds_up_its_children(client: TestClient, stage: str) -> None:
    rows = {row["id"]: row for row in layers(client, stage)["layers"]}
    for row in rows.values():
        children = [r for r in rows.values() if r["parent"] == row["id"]]
        if children and row["kind"] not in ("BertEmbeddings",):
            assert sum(c["parameters"] for c in children) == row["parameters"], row["id"]
            assert sum(c["bytes"] for c in children) == row["bytes"]
        assert row["depth"] == (0 if row["parent"] is None else rows[row["parent"]]["depth"] + 1)


def test_repeated_blocks_fold_and_others_do_not(client: TestClient) -> None:
    rows = {row["id"]: row for row in layers(client, "teacher")["layers"]}
    first, second = rows["bert.encoder.layer.0"], rows["bert.encoder.layer.1"]
    assert first["fold"] == second["fold"]
    assert first["fold"] != rows["bert.embeddings"]["fold"]
    assert rows[f"{QUERY}"]["fold"] != rows["bert.encoder.layer.0.intermediate.dense"]["fold"]


def test_what_was_cut_stands_beside_what_is_left(client: TestClient) -> None:
    found = layers(client, "prune", "distill")
    rows = {row["id"]: row for row in found["layers"]}
    held = {row["id"]: row for row in found["against_layers"]}
    assert (rows[QUERY]["units_before"], rows[QUERY]["units_after"]) == (4, 2)
    assert rows[QUERY]["shape"] == [16, 32]
    assert held[QUERY]["shape"] == [32, 32]
    assert (held[QUERY]["units_before"], held[QUERY]["units_after"]) == (4, 4)
    dense = "bert.encoder.layer.0.intermediate.dense"
    assert rows[dense]["units_after"] == rows[dense]["shape"][0] == rows[dense]["units_before"] // 2
    assert rows[dense]["flops"] * 2 == held[dense]["flops"]


def test_shares_of_the_time_are_shares_of_the_whole(client: TestClient) -> None:
    found = layers(client, "distill")
    rows = {row["id"]: row for row in found["layers"]}
    assert rows["model"]["latency_share"] == 1.0
    assert all(0 < r["latency_share"] <= 1 for r in rows.values() if r["latency_share"] is not None)
    assert rows["bert.encoder"]["latency_share"] > rows[QUERY]["latency_share"]
    onnx = layers(client, "quantize")
    assert {row["latency_share"] for row in onnx["layers"]} == {None}
    assert next(c for c in onnx["columns"] if c["key"] == "latency_share")["reason"]


def test_the_rounding_error_is_that_of_the_weights(client: TestClient, run: RunRecord) -> None:
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import load_file

    rows = {row["id"]: row for row in layers(client, "quantize")["layers"]}
    name = "bert.embeddings.word_embeddings"
    source = load_file(run.folder / "stages/03-prune/model.safetensors")[f"{name}.weight"]
    graph = onnx.load(str(run.folder / "stages/05-quantize/model.onnx")).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    stem = f"module.{name}.weight"
    codes, scale, zero = (tensors[f"{stem}_{end}"] for end in ("quantized", "scale", "zero_point"))
    values = (codes.astype(np.float64) - zero) * scale
    assert rows[name]["error"] == pytest.approx(np.square(values - source).mean(), rel=1e-3)
    assert rows[name]["nonzero"] == np.count_nonzero(codes != zero)
    assert rows[name]["bits"] == 8
    assert rows[QUERY]["error"] > 0  # a matrix that the exporter renamed and transposed is found all the same
    assert {r["error"] for r in layers(client, "export")["layers"] if r["error"] is not None} == {0.0}


def test_trees_are_counted_once_and_kept(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layers(client, "quantize", "export")
    monkeypatch.setattr(service.bench, "ask", lambda *_, **__: pytest.fail("it was asked again"))
    assert layers(client, "quantize", "export") == first
    assert list((Path(service.store.root) / ".lessen" / "layers").glob("*.json"))


def test_a_histogram_counts_every_weight_of_a_layer(client: TestClient, run: RunRecord) -> None:
    from safetensors.numpy import load_file

    found = client.get(f"{V1}/runs/latest/layers/{QUERY}/histogram?stage=prune&bins=20&against=distill").json()
    ours = load_file(run.folder / "stages/03-prune/model.safetensors")[f"{QUERY}.weight"]
    before = load_file(run.folder / "stages/02-distill/model.safetensors")[f"{QUERY}.weight"]
    edges = np.array(found["edges"])
    assert found["counts"] == np.histogram(ours, edges)[0].tolist()
    assert found["against_counts"] == np.histogram(before, edges)[0].tolist()
    assert sum(found["counts"]) == found["n"] == ours.size
    assert sum(found["against_counts"]) == before.size
    assert (found["min"], found["max"]) == (float(ours.min()), float(ours.max()))
    assert found["quant"] is None
    assert found["units"] == "heads"
    assert sorted(found["kept"] + found["removed"]) == [0, 1, 2, 3]
    assert len(found["kept"]) == 2


def test_a_quantized_layer_shows_its_grid(client: TestClient) -> None:
    found = client.get(f"{V1}/runs/latest/layers/{QUERY}/histogram?stage=quantize&bins=8").json()
    quant = found["quant"]
    assert (quant["bits"], len(quant["grid"])) == (8, 256)
    steps = np.diff(quant["grid"])
    assert np.allclose(steps, quant["scale"], rtol=1e-4)
    assert quant["scales"] == 16  # one a channel
    assert 0 < quant["error_mean_square"] < quant["scale"] ** 2
    assert found["kept"] is not None  # what was cut before it was quantized


def test_the_whole_model_and_a_block_have_histograms_too(client: TestClient) -> None:
    whole = client.get(f"{V1}/runs/latest/layers/model/histogram?stage=distill").json()
    block = client.get(f"{V1}/runs/latest/layers/bert.encoder.layer.0/histogram?stage=distill").json()
    norm = client.get(f"{V1}/runs/latest/layers/bert.embeddings.LayerNorm/histogram?stage=distill").json()
    assert whole["n"] > block["n"] > norm["n"] == 64


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("layers?stage=nothing", 404), ("layers?against=nothing", 404), ("layers/nothing/histogram", 404),
        ("layers/bert.embeddings.dropout/histogram", 404), ("layers/model/histogram?bins=3", 422),
        ("layers/model/histogram?bins=401", 422), ("layers/model/histogram?stage=../teacher", 404),
        ("layers/..%2f..%2frun.json/histogram", 404),
    ],
)  # fmt: skip
def test_layers_that_do_not_exist_are_problems(client: TestClient, path: str, status: int) -> None:
    answer = client.get(f"{V1}/runs/latest/{path}")
    assert answer.status_code == status
    assert answer.json()["detail"]
