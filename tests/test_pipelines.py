"""Every pipeline from a CSV to a complete report, with a tiny model; what tools rely on in it."""

import hashlib
import json

import jsonschema
import pytest
import yaml

import animals
import lessen
from lessen.cli import main
from lessen.recipe import PIPELINES, parse
from lessen.report.schema import json_schema

pytestmark = pytest.mark.slow
STAGES = {
    "baseline": ["teacher", "runtime"],
    "kd_only": ["teacher", "runtime", "distill", "export"],
    "prune_only": ["teacher", "runtime", "prune", "export"],
    "quant_only": ["teacher", "runtime", "export", "quantize"],
    "kd_prune": ["teacher", "runtime", "distill", "prune", "export"],
    "kd_quant": ["teacher", "runtime", "distill", "export", "quantize"],
    "prune_quant": ["teacher", "runtime", "prune", "export", "quantize"],
    "kd_prune_quant": ["teacher", "runtime", "distill", "prune", "export", "quantize"],
}
PROMISED = (
    "accuracy", "f1_macro", "agreement_with_teacher", "parameters", "nonzero_parameters", "file_bytes",
    "file_bytes_compressed", "latency_p50_ms", "latency_p95_ms", "throughput_per_s", "peak_rss_bytes", "flops",
)  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return animals.table(tmp_path_factory.mktemp("data"))


def recipe(table, pipeline, **changes):
    return parse(animals.values(table, pipeline=pipeline, **changes))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_each_pipeline_ends_with_a_complete_report(table, tmp_path, pipeline):
    report = lessen.run(recipe(table, pipeline), out_dir=tmp_path / "run")
    assert report.complete
    assert [r.stage for r in report.rows] == STAGES[pipeline]
    assert report.teacher.value("f1_macro") > 0.8
    for row in report.rows:
        assert set(PROMISED) <= set(row.metrics)
        assert lessen.Artifact(tmp_path / "run" / row.artifact).verify() is None
        for name, metric in row.metrics.items():
            assert (metric.value is None) == (metric.kind == "not_available"), name
    if "prune" in pipeline:
        before = report.row("distill") or report.teacher
        assert report.row("prune").value("parameters") < before.value("parameters")
        assert report.row("prune").value("flops") < before.value("flops")
    if "quant" in pipeline:
        assert report.final.value("file_bytes") < 0.6 * report.row("export").value("file_bytes")
        assert report.final.value("parameters") == report.row("export").value("parameters")


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    """Run the whole pipeline with its controls and speed from the shell."""
    folder = tmp_path_factory.mktemp("whole")
    file = folder / "recipe.json"
    values = recipe(
        table,
        "kd_prune_quant",
        distill={"control": True, "train": animals.TRAIN},
        prune={"control": True, "calib_samples": 32, "recover": {**animals.TRAIN, "epochs": 1, "lr": 1e-3}},
        measure={"seconds": 0.05, "rounds": 2, "bootstrap": 50, "threads": 1},
    )
    file.with_suffix(".yaml").write_text(json.dumps(values.model_dump(mode="json")))
    code = main(["run", str(file.with_suffix(".yaml")), "--output_dir", str(folder / "run"), "--quiet", "--json"])
    return code, folder / "run"


def test_report_json_keeps_to_its_published_schema(finished):
    code, run = finished
    written = json.loads((run / "report.json").read_text())
    assert code == 0
    jsonschema.validate(written, json_schema())
    assert written["schema_version"]
    assert written["run_id"]
    assert written["complete"] is True


def test_every_promised_metric_is_measured_or_says_why_not(finished):
    _, run = finished
    rows = json.loads((run / "report.json").read_text())["rows"]
    assert [r["stage"] for r in rows] == [
        "teacher", "runtime", "control", "distill", "random", "prune", "export", "quantize",
    ]  # fmt: skip
    for row in rows:
        for name in PROMISED:
            metric = row["metrics"][name]
            assert set(metric) >= {"value", "unit", "kind", "n", "ci95", "spread", "reason"}
            if name != "latency_p95_ms" and not (row["stage"] == "teacher" and name == "agreement_with_teacher"):
                assert metric["value"] is not None, (row["stage"], name, metric["reason"])


def test_every_row_tells_how_long_each_call_took_and_how_sure_a_right_answer_was(finished):
    _, run = finished
    for row in json.loads((run / "report.json").read_text())["rows"]:
        latency, metrics = row["facts"]["latency"], row["metrics"]
        assert latency["1"]["n"] == metrics["latency_p50_ms"]["n"]
        assert latency["1"]["quantiles_ms"][50] == pytest.approx(metrics["latency_p50_ms"]["value"], abs=1e-5)
        assert len(latency) == 2
        bins = row["facts"]["reliability"]["bins"]
        assert sum(b["n"] for b in bins) == metrics["accuracy"]["n"]
        gap = sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["n"])
        wanted = metrics["expected_calibration_error"]
        assert gap / wanted["n"] == pytest.approx(wanted["value"], abs=1e-9)


def test_a_report_says_what_code_recipe_and_data_it_came_from(finished):
    _, run = finished
    report, state = (json.loads((run / name).read_text()) for name in ("report.json", "run.json"))
    told = report["environment"]
    assert told["recipe_digest"] == state["recipe_digest"]
    assert report["created"] <= told["finished"] <= state["finished"]
    page = (run / "report.html").read_text()
    for text in (told["recipe_digest"], report["data"]["digest"], told["finished"], "tokenizers"):
        assert text in page


def test_the_cards_of_what_ships_hold_what_was_measured_and_the_folders_stay_whole(finished):
    _, run = finished
    rows = {r["stage"]: r for r in json.loads((run / "report.json").read_text())["rows"]}
    for stage in ("runtime", "export", "quantize"):
        artifact = lessen.Artifact(run / rows[stage]["artifact"])
        text = (artifact.path / "README.md").read_text()
        (result,) = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"]
        scores = {m["type"]: m["value"] for m in result["metrics"]}
        assert scores["f1"] == pytest.approx(rows[stage]["metrics"]["f1_macro"]["value"], abs=1e-6)
        assert "| latency p50 |" in text
        assert artifact.manifest.files["README.md"] == hashlib.sha256(text.encode()).hexdigest()


def test_the_controls_have_the_shape_of_what_they_are_held_against(finished):
    _, run = finished
    rows = {r["stage"]: r["metrics"] for r in json.loads((run / "report.json").read_text())["rows"]}
    for control, stage in (("control", "distill"), ("random", "prune")):
        assert rows[control]["parameters"]["value"] == rows[stage]["parameters"]["value"]
        assert rows[control]["flops"]["value"] == rows[stage]["flops"]["value"]


def test_predict_answers_one_line_a_row_in_order_and_as_measured(finished, tmp_path, capsys):
    _, run = finished
    texts = ["bark fetch bone wag", "purr meow paw kitten", "bone", "kitten kitten kitten"]
    file = tmp_path / "new.csv"
    file.write_text("Comments\n" + "\n".join(texts) + "\n")
    capsys.readouterr()
    assert main(["predict", str(run / "final"), "--input", str(file)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["label"] for a in answers] == ["dog", "cat", "dog", "cat"]
    direct = lessen.load(run / "final").predict(texts)
    for line, answer in zip(answers, direct, strict=True):
        assert line["probabilities"] == pytest.approx(answer.probabilities, abs=1e-6)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_finished_run_is_reused_and_a_damaged_stage_made_again(finished, capsys):
    _, run = finished
    before = (run / "report.json").read_bytes()
    assert main(["resume", str(run), "--quiet"]) == 0
    assert (run / "report.json").read_bytes() == before
    weights = next(run.glob("stages/*-prune/model.safetensors"))
    good = weights.read_bytes()
    weights.write_bytes(good[:-8] + bytes(8))
    assert main(["resume", str(run), "--quiet"]) == 0
    assert weights.read_bytes() == good


def test_all_folds_are_run_and_their_mean_and_spread_reported(table, tmp_path):
    values = recipe(table, "kd_only").model_dump(mode="json")
    values["data"]["folds"] = 3
    report = lessen.run(values, out_dir=tmp_path / "run")
    single = [json.loads((tmp_path / "run" / f"fold-{i}" / "report.json").read_text()) for i in range(3)]
    tested = {r["data"]["digests"]["test"] for r in single}
    assert len(tested) == 3
    scores = [next(x for x in r["rows"] if x["stage"] == "distill")["metrics"]["f1_macro"]["value"] for r in single]
    mean = report.row("distill").metrics["f1_macro"]
    assert mean.value == pytest.approx(sum(scores) / len(scores))
    assert mean.spread == (pytest.approx(min(scores)), pytest.approx(max(scores)))
    assert mean.n == 3
    assert (tmp_path / "run" / report.row("distill").artifact / "lessen.json").is_file()
    lines = (tmp_path / "run" / "fold_summary.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 * len(report.rows)
