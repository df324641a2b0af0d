"""The predecessors' endpoints: their names and fields, numbers with units, and a reason wherever there is no number."""

from __future__ import annotations

import io
import itertools
import json
import math
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessen import report as reports
from lessen.artifact import Artifact
from lessen.errors import ModelError
from lessen.eventlog import EventLog
from lessen.events import RunStateChanged
from lessen.folder import EVENTS, prepare
from lessen.jobs import supervisor
from lessen.recipe import parse
from lessen.server.explanations import EXPLANATIONS
from lessen.server.visual import network
from lessen.store import RunRecord
from report.conftest import build
from report.runs_of_text import report_of

BLOCKS = {"effectiveness": 4, "efficiency": 3, "compression": 5, "complexity": 2}
NAMES = {
    "effectiveness": ["Accuracy", "Precision", "Recall", "F1-Score"],
    "efficiency": ["Latency (ms)", "RAM Usage (MB)", "Model Size (MB)"],
    "compression": ["Parameters Count", "Layers Count", "Compression Ratio", "Accuracy Drop (%)", "Size Reduction (%)"],
    "complexity": ["Time Complexity", "Space Complexity"],
}


@pytest.fixture
def add(client):
    """Put a run's folder below the root, and the run into the store."""
    service = client.app.state.service

    def one(run_id, report=None, *, state="succeeded", created="2026-01-01T00:00:00+00:00", model_name="ResNet-18"):
        folder = service.settings.root / run_id
        service.store.add(
            RunRecord(
                run_id=run_id, folder=folder, name=run_id, task="text-classification", pipeline="kd_prune_quant",
                state=state, recipe={}, origin="cli", model_name=model_name, created=created,
            )
        )  # fmt: skip
        prepare(folder, parse({"name": run_id}), run_id)
        with EventLog(folder / EVENTS) as log:
            log.append(RunStateChanged(state=state))
        if report is not None:
            reports.write(report.model_copy(update={"run_id": run_id}), folder)
        return folder

    return one


def artifact(folder, runtime="onnx", names=("model.onnx", "tokenizer.json")):
    """Write a model folder that nobody opens."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(name.encode() * 50)
    info = {"family": "bert", "task": "text-classification", "source": "test", "labels": ["a", "b"]}
    body = {"runtime": runtime, "info": info, "stage": "x", "files": dict.fromkeys(names, "0" * 64)}
    (folder / "lessen.json").write_text(json.dumps(body))
    return Artifact(folder).manifest


def test_the_server_runs(client_of):
    answer = client_of(token=False).get("/test")
    assert answer.status_code == 200
    assert answer.json()["status"] == "Server is running"


# train and cancel


@pytest.mark.parametrize("name", ["distillBert", "t5 small", "MOBILENETV2", "resnet-18", "DistilBERT"])
def test_training_starts_by_name_in_any_spelling(client, name):
    answer = client.post("/train", json={"model_name": name})
    assert answer.status_code == 200
    found = answer.json()
    assert found["success"] is True
    assert found["message"]
    run = client.get(f"/api/v1/runs/{found['run_id']}").json()
    assert (run["state"], run["model_name"]) == ("queued", found["model_name"])
    assert "scratch" in found["note"]


def test_settings_stand_beside_the_name(client):
    body = {
        "model_name": "ResNet-18",
        "prune.remove_frac": 0.25,
        "distill": {"temperature": 3},
        "seed": 5,
        "name": "mine",
    }
    run_id = client.post("/train", json=body).json()["run_id"]
    recipe = client.get(f"/api/v1/runs/{run_id}/recipe").json()["recipe"]
    assert (recipe["prune"]["remove_frac"], recipe["distill"]["temperature"], recipe["seed"]) == (0.25, 3, 5)
    assert recipe["name"] == "mine"
    assert recipe["teacher"]["model"] == "scratch:resnet-18"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model_name": "GPT-5"}, "distillBert, T5-small, MobileNetV2, ResNet-18"),
        ({"model_name": "ResNet-18", "prunee": 1}, "prunee is not a setting"),
        ({"model_name": "ResNet-18", "preset": "quick"}, "demo, balanced, thorough"),
        ({"model_name": "ResNet-18", "output_dir": "/etc"}, "output_dir"),
        ({"model_name": "ResNet-18", "prune.remove_frac": 7}, "prune.remove_frac"),
        ({"model_name": ["ResNet-18"]}, "model_name"),
        ({"model_name": ""}, "model_name"),
        ([], ""),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(client, body, said):
    answer = client.post("/train", json=body)
    assert answer.status_code == 422
    found = answer.json()
    assert found["success"] is False
    assert said in f"{found['error']} {found['hint']}"
    assert client.get("/api/v1/runs").json()["total"] == 0


def test_a_second_call_waits_and_cancelling_takes_the_first(client):
    first, second = (client.post("/train", json={"model_name": "ResNet-18"}).json() for _ in range(2))
    assert second["position"] > first["position"]
    stopped = client.post("/cancel_training").json()
    assert (stopped["success"], stopped["run_id"], stopped["state"]) == (True, first["run_id"], "cancelled")
    again = client.post("/cancel_training", json={"run_id": first["run_id"]}).json()
    assert again["success"] is True
    assert "already" in again["message"]
    assert client.post("/cancel_training", params={"run_id": second["run_id"]}).json()["state"] == "cancelled"
    nothing = client.post("/cancel_training").json()
    assert (nothing["success"], nothing["run_id"]) == (True, None)


@pytest.mark.parametrize("path", ["/train", "/api/v1/runs", "/api/v1/runs/{run_id}/resume"])
def test_a_full_queue_says_when_to_ask_again(client, monkeypatch, path):
    monkeypatch.setattr(supervisor, "QUEUE", 2)
    first, second, _ = (client.post("/train", json={"model_name": "ResNet-18"}).json().get("run_id") for _ in range(3))
    client.post(f"/api/v1/runs/{first}/cancel")
    assert client.post("/train", json={"model_name": "ResNet-18"}).status_code == 200  # there was room again
    refused = client.post(path.format(run_id=first), json=None if "resume" in path else {"model_name": "ResNet-18"})
    told = refused.json()
    assert refused.status_code == told["status"] == 429, told
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert int(refused.headers["Retry-After"]) == 60
    assert (told["type"], told["exit_code"]) == ("urn:lessen:queue-full", 6)
    assert "2 runs are waiting" in told["detail"]
    assert told.get("success") is (False if path == "/train" else None)
    assert client.get("/api/v1/runs").json()["total"] == 3
    assert client.get(f"/api/v1/runs/{second}").json()["state"] == "queued"


def test_a_run_that_is_not_there_is_a_404_everywhere(client):
    for method, path in (
        ("POST", "/cancel_training"), ("POST", "/evaluate"), ("GET", "/evaluate"), ("GET", "/get_previous_results"),
        ("GET", "/test_metrics"), ("POST", "/visualize"), ("GET", "/download"),
    ):  # fmt: skip
        answer = client.request(method, path, params={"run_id": "nobody"})
        assert answer.status_code == 404, path
        assert answer.json()["success"] is False
        assert "nobody" in answer.json()["error"]


# results


def test_untrained_there_are_no_numbers_but_reasons(client):
    for found in (client.post("/evaluate").json(), client.get("/evaluate").json()):
        assert {block: [line["metric"] for line in found[block]] for block in BLOCKS} == NAMES
        lines = [line for block in BLOCKS for line in found[block]]
        assert all(line["before"] is None and line["after"] is None for line in lines)
        assert all("trained" in line["reason"] and line["unit"] for line in lines)
        assert (found["run_id"], found["complete"]) == (None, False)
    previous = client.get("/get_previous_results").json()
    assert (previous["success"], previous["results"]) == (False, None)
    drawn = client.post("/visualize").json()
    assert (drawn["success"], drawn["data"]) == (False, {"nodes": [], "connections": []})
    assert drawn["hint"]
    refused = client.get("/download")
    assert refused.status_code == 409
    assert refused.json()["error"] == "Model is not trained yet. Please train the model first."
    tested = client.get("/test_metrics").json()
    assert (tested["success"], tested["test_metrics"]) == (True, None)


def test_before_and_after_are_the_reports_numbers(client, add):
    report = build()
    add("one", report)
    found = client.post("/evaluate", json={"run_id": "one"}).json()
    assert {block: [line["metric"] for line in found[block]] for block in BLOCKS} == NAMES
    teacher, final = report.teacher, report.final
    lines = {line["metric"]: line for block in BLOCKS for line in found[block]}
    for name, metric, times in (
        ("Accuracy", "accuracy", 100), ("F1-Score", "f1_macro", 100), ("Latency (ms)", "latency_p50_ms", 1),
        ("Model Size (MB)", "file_bytes", 1e-6), ("Parameters Count", "parameters", 1), ("Time Complexity", "flops", 1),
    ):  # fmt: skip
        assert lines[name]["before"] == pytest.approx(teacher.value(metric) * times), name
        assert lines[name]["after"] == pytest.approx(final.value(metric) * times), name
        assert lines[name]["reason"] is None
    assert lines["Accuracy"]["unit"] == "percent"
    assert found["complete"] is True


def test_what_was_not_measured_has_a_reason_and_no_number(client, add):
    add("untimed", build(timed=False))
    line = client.get("/evaluate", params={"run_id": "untimed"}).json()["efficiency"][0]
    assert (line["metric"], line["before"], line["after"]) == ("Latency (ms)", None, None)
    assert "interleaved" in line["reason"]
    results = client.get("/get_previous_results", params={"run_id": "untimed"}).json()["results"]
    assert results["student_metrics"]["latency_ms"] is None
    assert "interleaved" in results["student_metrics"]["reasons"]["latency_ms"]
    assert results["compression_results"]["latency_improvement_percent"] is None


def test_a_run_that_has_its_teacher_alone_is_not_sold_as_compressed(client, add):
    report = build(complete=False)
    add("early", report.model_copy(update={"rows": report.rows[:1]}), state="running")
    found = client.post("/evaluate", params={"run_id": "early"}).json()
    assert all(line["after"] is None for block in BLOCKS for line in found[block])
    assert "teacher alone" in found["effectiveness"][0]["reason"]
    assert (found["complete"], found["run_id"]) == (False, "early")


def test_previous_results_are_of_the_latest_run_that_succeeded(client, add):
    report = build()
    add("older", report, created="2026-01-01T00:00:00+00:00")
    add("newer", report, created="2026-01-02T00:00:00+00:00")
    add("newest", created="2026-01-03T00:00:00+00:00", state="failed")
    found = client.get("/get_previous_results").json()
    assert found["success"] is True
    results = found["results"]
    assert (results["run_id"], results["model_name"], results["model_trained"]) == ("newer", "ResNet-18", True)
    teacher, student = results["teacher_metrics"], results["student_metrics"]
    assert teacher["accuracy"] == pytest.approx(report.teacher.value("accuracy"))
    assert student["size_mb"] == pytest.approx(2.3)
    gained = results["compression_results"]
    assert gained["size_reduction_percent"] == pytest.approx((1 - 2.3 / 45.3) * 100)
    assert gained["params_reduction_percent"] == pytest.approx((1 - 1.7 / 11.2) * 100)
    assert gained["accuracy_impact_points"] == pytest.approx(-1.4)
    assert gained["latency_improvement_percent"] == pytest.approx((1 - 0.83 / 21.4) * 100)
    assert results["effectiveness_metrics"]["agreement_with_teacher"] == pytest.approx(0.93)


def test_results_are_there_as_soon_as_the_report_is_complete(client, add):
    add("older", build(), created="2026-01-01T00:00:00+00:00")
    add("leaving", build(), created="2026-01-02T00:00:00+00:00", state="running")  # its process has not ended yet
    add("working", build(complete=False), created="2026-01-03T00:00:00+00:00", state="running")
    results = client.get("/get_previous_results").json()["results"]
    assert (results["run_id"], results["model_trained"]) == ("leaving", True)
    assert client.get("/test_metrics").json()["run_id"] == "leaving"


@pytest.mark.parametrize("task", ["seq2seq", "causal-lm"])
def test_other_tasks_have_what_they_have(client, add, task):
    add("texts", report_of(task))
    found = client.get("/evaluate").json()
    assert all(isinstance(line["before"], int | float) for line in found["effectiveness"])
    results = client.get("/get_previous_results").json()["results"]
    assert results["student_metrics"]["precision"] is None
    assert results["student_metrics"]["reasons"]["precision"]


def test_no_number_is_text(client, add):
    add("one", build())
    for path in ("/evaluate", "/get_previous_results", "/test_metrics"):
        text = client.get(path).text
        assert '%"' not in text.replace("(%)", "")
        json.loads(text, parse_constant=pytest.fail)


# checks of the metrics


def _kept(folder, report, wrong=0):
    """Keep answers that give the report's numbers; `wrong` of them are changed."""
    truth = [i % 2 for i in range(100)]
    decided = [t if i % 10 else 1 - t for i, t in enumerate(truth)]
    for i in range(wrong):
        decided[i] = 1 - decided[i]
    body = {"labels": ["a", "b"], "multi_label": False, "truth": truth, "stages": {"teacher": {"labels": decided}}}
    (folder / "predictions.json").write_text(json.dumps(body))


@pytest.mark.parametrize(("wrong", "sound"), [(0, True), (1, False)])
def test_metrics_are_checked_against_the_stored_answers(client, add, wrong, sound):
    from sklearn.metrics import f1_score

    report = build()
    truth = [i % 2 for i in range(100)]
    decided = [t if i % 10 else 1 - t for i, t in enumerate(truth)]
    rows = [
        row.model_copy(update={"metrics": row.metrics | {
            "accuracy": row.metrics["accuracy"].model_copy(update={"value": 0.9, "n": 100}),
            "f1_macro": row.metrics["f1_macro"].model_copy(update={"value": f1_score(truth, decided, average="macro")}),
        }})
        for row in report.rows
    ]  # fmt: skip
    _kept(add("one", report.model_copy(update={"rows": rows})), report, wrong)
    found = client.get("/test_metrics").json()
    assert found["success"] is sound
    assert {check["metric"] for check in found["checks"]} == {"accuracy", "f1_macro"}
    assert found["test_metrics"]["detailed_metrics"]["effectiveness"]["accuracy"]["before"] == 0.9


# models


class Bench:
    """Stands where the helper process does, and notes what it is asked; see tests/bench for the process itself."""

    def __init__(self, broken=()):
        self.asked, self.broken = [], broken

    def test_model(self, model, task, config=None):
        self.asked.append((model, task))
        if model in self.broken:
            raise ModelError("no such layer", "update transformers")
        return {"architecture": "Net", "parameters": 5, "bytes": 20, "build_ms": 1.0, "forward_ms": 2.0,
                "output": [1, 2], "finite": model != "scratch:t5-small"}  # fmt: skip

    def close(self):
        pass


def test_a_model_is_built_and_a_failure_says_why(client):
    bench = client.app.state.service.bench = Bench(broken=("scratch:resnet-18",))
    found = client.post("/test_model", json={"model_name": "distilbert"}).json()
    assert (found["success"], found["model_name"], found["parameters"]) == (True, "distillBert", 5)
    assert bench.asked == [("scratch:distilbert-base", "text-classification")]
    broken = client.post("/test_model", json={"model_name": "resnet"}).json()
    assert (broken["success"], broken["error"], broken["hint"]) == (False, "no such layer", "update transformers")
    every = client.get("/verify_all_models").json()
    assert every["success"] is False
    assert [one["success"] for one in every["models"]] == [True, False, True, False]  # T5 answers with NaN
    assert client.post("/test_model", json={"model_name": "nobody"}).status_code == 422


@pytest.mark.slow
def test_all_four_models_can_be_built(client):
    found = client.get("/verify_all_models").json()
    assert found["success"] is True, found
    sizes = {one["model_name"]: one["parameters"] for one in found["models"]}
    assert sizes["ResNet-18"] == pytest.approx(11.2e6, rel=0.02)
    assert sizes["MobileNetV2"] == pytest.approx(2.2e6, rel=0.05)
    assert 40e6 < sizes["T5-small"] < 65e6
    assert 40e6 < sizes["distillBert"] < 70e6


@pytest.mark.slow
def test_a_models_real_layers_are_drawn(client, add):
    import tiny
    from lessen import models
    from lessen.models import groups

    folder = add("one", build())
    whole = tiny.save("distilbert", folder / "stages" / "00-teacher")
    cut = tiny.save("distilbert", folder / "stages" / "03-prune", cut=True)
    body = json.loads((cut.path / "lessen.json").read_text())
    left = body["info"]["widths"]
    body["facts"]["widths"] = [  # as the pruning stage writes them
        {
            "name": g.name,
            "kind": g.kind,
            "part": g.kind,
            "layer": 0,
            "before": g.units,
            "after": left.get(g.name, g.units),
        }
        for g in groups.groups(models.open_model(whole))
    ]
    (cut.path / "lessen.json").write_text(json.dumps(body))
    found = client.post("/visualize").json()
    assert (found["success"], found["stage"], found["stages"]) == (True, "prune", ["teacher", "prune"])
    nodes, links = found["data"]["nodes"], found["data"]["connections"]
    module = models.open_model(cut).module
    named = dict(module.named_modules())
    assert sum(node["parameters"] for node in nodes) == sum(p.numel() for p in module.parameters())
    for node in nodes:
        assert node["parameters"] == sum(p.numel() for p in named[node["id"]].parameters())
        assert node["kind"] == type(named[node["id"]]).__name__
    assert [(link["source"], link["target"]) for link in links] == [
        (a["id"], b["id"]) for a, b in itertools.pairwise(nodes)
    ]
    red = [node for node in nodes if node["color"] == "red"]
    assert {node["kind"] for node in red} == {"Linear"}
    assert all(node["units_after"] < node["units_before"] for node in red)
    uncut = client.post("/visualize", json={"stage": "teacher"}).json()["data"]["nodes"]
    assert not any(node["color"] == "red" for node in uncut)
    assert client.post("/visualize", json={"stage": "nobody"}).status_code == 404


def layer(name, parent, depth, parameters=10, **more):
    known = {
        "shape": None,
        "nonzero": parameters,
        "sparsity": 0.0,
        "bits": 32.0,
        "units_before": None,
        "units_after": None,
    }
    return {"id": name, "name": name, "kind": "Linear", "parent": parent, "depth": depth, "parameters": parameters,
            **known, **more}  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 30))
def test_a_drawing_holds_every_weight_once_and_is_not_too_large(blocks, inner):
    layers = [layer("model", None, 0, blocks * inner * 10)]
    for b in range(blocks):
        layers.append(layer(f"b{b}", "model", 1, inner * 10))
        layers += [layer(f"b{b}.{i}", f"b{b}", 2) for i in range(inner)]
    nodes = network(layers)["nodes"]
    assert sum(node["parameters"] for node in nodes) == blocks * inner * 10
    assert 1 <= len(nodes) <= 400
    assert len({(node["x"], node["y"]) for node in nodes}) == len(nodes)


def test_what_was_cut_is_red_and_fainter():
    layers = [layer("a", None, 0), layer("b", None, 0, units_before=8, units_after=2),
              layer("c", None, 0, shape=[2, 5], nonzero=5), layer("d", None, 0, nonzero=5),
              layer("e", None, 0)]  # fmt: skip
    nodes = network(layers)["nodes"]
    assert [node["color"] for node in nodes] == ["green", "red", "red", "yellow", "blue"]
    assert [node["opacity"] for node in nodes] == [1.0, 0.25, 0.5, 1.0, 1.0]


# download


def test_the_zip_holds_the_model_the_weights_and_the_results(client, add):
    folder = add("one", build())
    artifact(folder / "stages" / "03-prune", "eager", ("model.safetensors", "config.json"))
    artifact(folder / "stages" / "05-quantize")
    answer = client.get("/download")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert "compressed_model_and_results.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        results = json.loads(archive.read("evaluation_results.json"))
        assert archive.read("compressed_model.safetensors") == b"model.safetensors" * 50
        assert archive.read("compressed_model/model.onnx") == b"model.onnx" * 50
    assert names >= {"README.txt", "report.json", "report.html", "compressed_model/lessen.json"}
    assert not any(name.endswith((".pth", ".pt", ".bin", ".pkl")) for name in names)
    assert (results["run_id"], results["model_name"]) == ("one", "ResNet-18")
    assert results["metrics"]["effectiveness"][0]["before"] == pytest.approx(87.7)
    assert set(results["results"]) >= {"teacher_metrics", "student_metrics", "compression_results"}


def test_a_model_that_is_not_whole_is_not_sent(client, add):
    add("one", build())
    answer = client.get("/download")
    assert answer.status_code == 409
    assert answer.json()["success"] is False


def test_a_link_out_of_the_run_is_not_followed(client, add, tmp_path):
    folder = add("one", build())
    artifact(folder / "stages" / "05-quantize")
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (folder / "stages" / "05-quantize" / "tokenizer.json").unlink()
    (folder / "stages" / "05-quantize" / "tokenizer.json").symlink_to(secret)
    answer = client.get("/download")
    assert answer.status_code == 404
    assert b"mine" not in answer.content


# words


def test_every_metric_is_explained(client):
    found = client.get("/metrics_explanations").json()
    assert found["success"] is True
    wanted = {"f1_score", "accuracy", "precision", "recall", "inference_latency", "model_complexity", "parameter_count",
              "model_size", "flops", "size_reduction", "temperature", "alpha", "kl_divergence"}  # fmt: skip
    assert found["explanations"].keys() >= wanted
    for name, words in found["explanations"].items():
        assert set(words) == {"description", "formula", "range", "interpretation"}, name
        assert all(words.values()), name


def test_the_words_about_distilling_are_what_the_code_does():
    import torch

    from lessen.distill.objectives.kl import loss

    temperature, teacher, student = 3.0, [2.0, 0.5, -1.0], [1.0, 0.0, 0.5]

    def softened(logits):
        powers = [math.exp(x / temperature) for x in logits]
        return [x / sum(powers) for x in powers]

    pairs = zip(softened(teacher), softened(student), strict=True)
    by_hand = temperature**2 * sum(p * (math.log(p) - math.log(q)) for p, q in pairs)
    assert "alpha * T^2 * KL(teacher || student at temperature T)" in EXPLANATIONS["distillation_loss"]["formula"]
    assert "p * (log p - log q)" in EXPLANATIONS["kl_divergence"]["formula"]
    found = loss(
        torch.tensor([student]), torch.tensor([teacher]), torch.tensor([0]), temperature=temperature, sigmoid=False
    )
    assert found.item() == pytest.approx(by_hand, rel=1e-5)


def test_the_documentation_has_a_line_for_every_endpoint(client):
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "predecessor-server.md").read_text(encoding="utf-8")
    paths = client.get("/openapi.json").json()["paths"]
    ours = {
        f"`{method.upper()} {path}`"
        for path, item in paths.items()
        for method, operation in item.items()
        if "predecessor" in operation.get("tags", [])
    }
    assert len(ours) >= 13
    assert {one for one in ours if one not in text} == set()
