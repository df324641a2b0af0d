from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from lessen import report
from lessen.errors import ArtifactError
from lessen.report import schema
from lessen.report.rows import Report
from lessen.report.tables import safe

HSF = [
    "stage",
    "size_mb",
    "params_M",
    "sparsity_%",
    "acc_exact",
    "f1_macro",
    "f1_weighted",
    "precision",
    "recall",
    "hamming",
    "latency_ms",
    "throughput",
    "compression",
    "speedup",
    "priority_f1",
    "best_epoch",
    "val_loss",
    "best_threshold",
    "train_acc",
    "train_prec_hate",
    "train_rec_hate",
    "train_f1_hate",
    "train_prec_non",
    "train_rec_non",
    "train_f1_non",
    "train_f1_macro",
    "train_roc_auc",
    "train_loss",
]
SECTIONS = {
    "model_performance": {"title", "description", "metrics"},
    "teacher_vs_student": {"title", "description", "comparison"},
    "knowledge_distillation_analysis": {"title", "description", "process", "effects", "educational_insight"},
    "pruning_analysis": {"title", "description", "pruning_details", "impact_analysis", "educational_insight"},
    "efficiency_improvements": {"title", "description", "improvements"},
    "learning_outcomes": {"title", "description", "concepts"},
}

VERSUS = {"teacher", "student", "difference", "explanation"}
REDUCED = {"before", "after", "reduction", "benefit"}
CONCEPT = {"definition", "benefits", "tradeoffs"}
INNER = {  # of the predecessor's sections, down to its last keys
    "model_performance": {
        "metrics": {
            "accuracy", "precision", "recall", "f1_score", "size_mb", "latency_ms", "num_params", "flops",
        },
    },
    "teacher_vs_student": {
        "comparison": {
            "accuracy": VERSUS, "f1_score": VERSUS, "model_size": VERSUS, "inference_speed": VERSUS,
            "computational_complexity": VERSUS,
        },
    },
    "knowledge_distillation_analysis": {
        "process": {"temperature_used", "distillation_loss", "training_steps", "convergence"},
        "effects": {"knowledge_transfer", "regularization", "efficiency_gain"},
    },
    "pruning_analysis": {
        "pruning_details": {"pruning_ratio", "pruning_method", "layers_affected", "sparsity_introduced"},
        "impact_analysis": {"parameter_reduction", "memory_savings", "speed_improvement", "accuracy_tradeoff"},
    },
    "efficiency_improvements": {
        "improvements": {
            "storage": REDUCED, "speed": {"before", "after", "improvement", "benefit"}, "parameters": REDUCED,
            "flops": REDUCED,
        },
    },
    "learning_outcomes": {
        "concepts": {
            "knowledge_distillation": CONCEPT, "model_pruning": CONCEPT, "efficiency_vs_accuracy": CONCEPT,
            "quantization": CONCEPT,  # ours
        },
    },
}  # fmt: skip
HSF_RECORD = [
    "stage", "model_size_mb", "num_parameters", "trainable_parameters", "sparsity_percent", "accuracy_exact",
    "accuracy_per_label", "f1_macro", "f1_weighted", "f1_micro", "precision_macro", "recall_macro", "hamming_loss",
    "per_label_f1", "per_label_precision", "per_label_recall", "per_label_accuracy", "roc_auc_macro",
    "roc_auc_per_label", "inference_latency_mean_ms", "inference_latency_p50_ms", "inference_latency_p95_ms",
    "inference_latency_p99_ms", "throughput_samples_per_sec", "peak_memory_mb", "size_compression_ratio",
    "speedup_ratio", "priority_weighted_f1", "best_epoch", "val_loss", "best_threshold", "train_acc",
    "train_prec_hate", "train_rec_hate", "train_f1_hate", "train_prec_non", "train_rec_non", "train_f1_non",
    "train_f1_macro", "train_roc_auc", "train_loss", "config",
]  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_published_schema_is_up_to_date() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()


@pytest.mark.parametrize("timed", [True, False])
def test_a_written_report_keeps_the_schema_and_reads_back(tmp_path: Path, make_report: Callable, timed: bool) -> None:
    written = report.write(make_report(timed=timed, complete=timed), tmp_path)
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())
    jsonschema.validate(values, schema.json_schema())
    assert report.read(tmp_path) == written
    assert report.write(written, tmp_path) == written  # writing again changes nothing


def test_latency_before_the_end_is_null_with_its_reason(tmp_path: Path, make_report: Callable) -> None:
    report.write(make_report(timed=False, complete=False), tmp_path)
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    latency = rows[0]["metrics"]["latency_p50_ms"]
    assert (latency["value"], latency["reason"]) == (None, "measured at the end, interleaved")
    assert "not complete yet" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_with_nan_is_refused(make_report: Callable) -> None:
    values = make_report().model_dump_json().replace('"seconds":null', '"seconds":NaN', 1)
    with pytest.raises(ValidationError):
        Report.model_validate_json(values)


def test_a_damaged_report_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no report at"):
        report.read(tmp_path)
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not a report"):
        report.read(tmp_path)


def test_csvs_have_the_predecessors_names_and_columns_in_order(tmp_path: Path, make_report: Callable) -> None:
    made = make_report()
    made.recipe["legacy"] = {"author_name": "=HYPERLINK(1)", "batch": 32, "pipeline": "kd_prune_quant"}
    report.write(made, tmp_path)
    for name, stage in (("baseline", "teacher"), ("after_kd", "distill"), ("after_pruning", "prune"),
                        ("after_quantization", "quantize")):  # fmt: skip
        (line,) = read(tmp_path / f"results_{name}.csv")
        assert list(line)[: len(HSF)] == HSF
        assert line["stage"] == name
        assert float(line["size_mb"]) == pytest.approx((made.row(stage).value("file_bytes")) / 1e6)
        assert line["arg_author_name"] == "'=HYPERLINK(1)"
        assert line["arg_batch"] == "32"
        assert list(line)[-3:] == ["arg_author_name", "arg_batch", "arg_pipeline"]
    final = read(tmp_path / "results_final.csv")
    assert [r["stage"] for r in final] == ["baseline", "after_kd", "after_pruning", "after_quantization"]
    assert [r["stage"] for r in read(tmp_path / "results_all.csv")][1:3] == ["runtime", "control"]
    assert float(final[-1]["compression"]) == pytest.approx(45.3 / 2.3)
    for line in final:
        for key in HSF[1:]:
            assert line[key] == "" or float(line[key]) is not None
    records = json.loads((tmp_path / "results_final.json").read_text(encoding="utf-8"))
    assert records[0]["inference_latency_p50_ms"] == 21.4
    assert records[0]["num_parameters"] == 11_200_000


def test_speedup_across_devices_is_empty(tmp_path: Path, make_report: Callable) -> None:
    made = make_report()
    made.rows[0] = made.rows[0].model_copy(update={"device": "cuda:0"})
    report.write(made, tmp_path)
    assert read(tmp_path / "results_after_kd.csv")[0]["speedup"] == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert safe(text) == f"'{text}"
    assert safe(-1.5) == -1.5


def test_the_six_sections_carry_numbers_with_units(tmp_path: Path, make_report: Callable) -> None:
    written = report.write(make_report(), tmp_path)
    assert {k: set(v) for k, v in written.sections.items()} == SECTIONS
    metrics = written.sections["model_performance"]["metrics"]
    assert metrics["size_mb"] == {"value": 2.3, "unit": "MB"}
    assert list(metrics) == [
        "accuracy",
        "precision",
        "recall",
        "f1_score",
        "size_mb",
        "latency_ms",
        "num_params",
        "flops",
    ]
    assert written.sections["pruning_analysis"]["pruning_details"]["layers_affected"]["value"] == 4
    reduction = written.sections["efficiency_improvements"]["improvements"]["storage"]["reduction"]
    assert reduction == {"value": pytest.approx((1 - 2.3 / 45.3) * 100), "unit": "percent"}


def test_the_six_sections_keep_the_predecessors_inner_keys(tmp_path: Path, make_report: Callable) -> None:
    report.write(make_report(), tmp_path)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["sections"]
    for section, parts in INNER.items():
        for part, keys in parts.items():
            found = written[section][part]
            assert set(found) == set(keys), (section, part)
            for key, inner in keys.items() if isinstance(keys, dict) else ():
                assert set(found[key]) == inner, (section, part, key)
    process = written["knowledge_distillation_analysis"]["process"]
    assert process["temperature_used"] == {"value": 2.0, "unit": ""}
    impact = written["pruning_analysis"]["impact_analysis"]
    assert set(impact["memory_savings"]) == set(impact["accuracy_tradeoff"]) == {"value", "unit"}


def test_json_records_have_the_predecessors_keys_in_order(tmp_path: Path, make_report: Callable) -> None:
    made = make_report()
    report.write(made, tmp_path)
    records = json.loads((tmp_path / "results_final.json").read_text(encoding="utf-8"))
    assert [r["stage"] for r in records] == ["baseline", "after_kd", "after_pruning", "after_quantization"]
    for stage, one in zip(("teacher", "distill", "prune", "quantize"), records, strict=True):
        assert list(one) == HSF_RECORD
        assert json.loads((tmp_path / f"results_{one['stage']}.json").read_text(encoding="utf-8")) == one
        row = made.row(stage)
        assert one["model_size_mb"] == pytest.approx(row.value("file_bytes") / 1e6)
        assert one["peak_memory_mb"] == pytest.approx(row.value("peak_rss_bytes") / 1e6)
        labels = [c["label"] for c in row.facts["per_class"]]
        scores = ("per_label_f1", "per_label_precision", "per_label_recall", "per_label_accuracy", "accuracy_per_label")
        for name in (*scores, "roc_auc_per_label"):
            assert list(one[name]) == labels, name
            assert all(isinstance(value, float) for value in one[name].values()), name
        assert one["config"] == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["recipe"]


def test_growth_is_a_negative_reduction(tmp_path: Path, make_report: Callable, make_row: Callable) -> None:
    made = make_report()
    made.rows[-1] = make_row("quantize", 0.86, 1_700_000, 90_600_000, 42.8, runtime="onnx", source="prune")
    improvements = report.write(made, tmp_path).sections["efficiency_improvements"]["improvements"]
    assert improvements["storage"]["reduction"]["value"] == pytest.approx(-100)
    assert improvements["speed"]["improvement"]["value"] == pytest.approx(-100)


class Tags(HTMLParser):
    """Collects what a page would load, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "data")]
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_escapes_what_it_is_given(tmp_path: Path, make_report: Callable) -> None:
    made = make_report().model_copy(update={"name": "<script>alert(1)</script>"})
    made.rows[0].facts["labels"][0] = '"><img src=x onerror=alert(1)>'
    report.write(made, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.loads == []
    assert not {"script", "img", "link", "iframe"} & tags.seen
    assert not re.search(r"url\(|@import|http", page.split("</style>")[0])
    assert len(page.encode()) < 2_000_000
    for text in ("Student performance", "Teacher and student", "Distillation analysis", "Pruning analysis",
                 "Efficiency improvements", "Learning outcomes", "prefers-color-scheme", "@media print"):  # fmt: skip
        assert text in page
    assert page.count("<svg") >= 9


def test_a_report_without_any_row_can_be_written(tmp_path: Path, make_report: Callable) -> None:
    empty = make_report().model_copy(update={"rows": [], "comparisons": [], "baseline": None, "complete": False})
    report.write(empty, tmp_path)
    assert "Nothing has been measured yet" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("count", range(1, 8))
def test_a_report_can_be_written_after_every_stage(tmp_path: Path, make_report: Callable, count: int) -> None:
    full = make_report(timed=False, complete=False)
    report.write(full.model_copy(update={"rows": full.rows[:count], "comparisons": []}), tmp_path)
    assert len(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]) == count


def test_detailed_metrics_keep_the_predecessors_keys_with_numbers(make_report: Callable) -> None:
    found = report.detailed_metrics(make_report())
    assert set(found["effectiveness"]) == {"accuracy", "precision", "recall", "f1_score"}
    assert found["effectiveness"]["f1_score"] == {
        "before": 0.871,
        "after": 0.857,
        "drop_percent": pytest.approx(1.607, abs=1e-3),
    }
    assert set(found["efficiency"]["latency_ms"]) == {"before", "after", "improvement_percent"}
    assert set(found["efficiency"]) == {"latency_ms", "ram_usage_mb", "model_size_mb"}
    assert found["compression"]["layers_count"]["reduction_percent"] == 0  # four before, four after: not "minus two"
    assert found["compression"]["accuracy_drop_percent"]["value"] == pytest.approx(1.4)
    untimed = report.detailed_metrics(make_report(timed=False))
    assert untimed["efficiency"]["latency_ms"] == {"before": None, "after": None, "improvement_percent": None}
