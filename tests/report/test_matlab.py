"""Column arrays for MATLAB: their names, their shapes, and that every number is the report's."""

import io
import json
import re

import numpy as np
import pytest
from scipy.io import loadmat

from lessen.measure.metric import measured, missing
from lessen.report.mat_file import ascii_of
from lessen.report.matlab import KEYWORDS, matlab_metrics, name_of, nothing_measured, to_mat

NAME = re.compile(r"^[a-z][a-z0-9_]{0,30}$")
ORDER = {
    "effectiveness": ["Accuracy", "Precision", "Recall", "F1-Score"],
    "efficiency": ["Latency (ms)", "RAM Usage (MB)", "Model Size (MB)"],
    "compression": [
        "Parameters Count", "Layers Count", "Compression Ratio", "Accuracy Drop (%)", "Size Reduction (%)",
    ],
    "complexity": ["Time Complexity", "Space Complexity"],
}  # fmt: skip
TASKS = ["text-classification", "causal-lm", "seq2seq"]


@pytest.fixture
def report_for(make_report, make_text_report):
    return lambda task: make_report() if task == "text-classification" else make_text_report(task)


def loaded(mapping):
    return loadmat(io.BytesIO(to_mat(mapping)), squeeze_me=True, struct_as_record=False)


def names(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


def lists(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from lists(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from lists(inner)


def test_the_predecessors_lines_stand_in_the_order_its_script_reads(make_report):
    blocks = matlab_metrics(make_report())["matlab_data"]
    assert {block: [line["metric"] for line in lines] for block, lines in blocks.items()} == ORDER
    fields = [list(line) for block in ("effectiveness", "efficiency", "compression") for line in blocks[block]]
    assert all(one == fields[0] for one in fields)
    assert fields[0][:5] == ["metric", "key", "before", "after", "unit"]


@pytest.mark.parametrize("task", TASKS)
def test_numbers_are_the_reports(report_for, task):
    report = report_for(task)
    found = matlab_metrics(report)
    assert found["stages"]["stage"] == [row.stage for row in report.rows]
    for name, metric in report.teacher.metrics.items():
        if metric.value is not None:
            assert found["stages"][name] == [row.value(name) for row in report.rows], name
            assert found["units"][name] == metric.unit
    final, first = report.final, found["matlab_data"]["effectiveness"][0]
    accuracy = "accuracy" if task == "text-classification" else "token_accuracy"
    assert (first["after"], first["unit"]) == (final.value(accuracy) * 100, "percent")
    size = found["matlab_data"]["efficiency"][2]
    assert (size["before"], size["after"]) == (
        report.teacher.value("file_bytes") / 1e6, final.value("file_bytes") / 1e6,
    )  # fmt: skip
    drop = found["matlab_data"]["compression"][3]["after"]
    assert drop == (report.teacher.value(accuracy) - final.value(accuracy)) * 100
    smaller = report.teacher.value("file_bytes") / final.value("file_bytes")
    assert found["summary"]["compression_ratio"] == smaller
    assert found["summary"]["size_reduction"] == pytest.approx(100 - 100 / smaller, abs=1e-9)


def test_intervals_are_columns_of_their_own(make_report):
    report = make_report()
    stages = matlab_metrics(report)["stages"]
    assert stages["ci_low"]["f1_macro"] == [row.metrics["f1_macro"].ci95[0] for row in report.rows]
    assert stages["spread_high"]["latency_p50_ms"] == [row.metrics["latency_p50_ms"].spread[1] for row in report.rows]


@pytest.mark.parametrize("task", TASKS)
def test_names_are_ones_that_matlab_keeps(report_for, task):
    bad = [name for name in names(matlab_metrics(report_for(task))) if not NAME.match(name) or name in KEYWORDS]
    assert bad == []


@pytest.mark.parametrize("task", TASKS)
def test_lists_decode_to_matrices_struct_arrays_or_cells_of_texts(report_for, task):
    """No list mixes kinds, no flag is a boolean, no struct array has uneven fields, no matrix is ragged."""
    for found in lists(matlab_metrics(report_for(task))):
        kinds = {type(v) for v in found}
        assert bool not in kinds
        if dict in kinds:
            assert kinds == {dict}
            assert len({tuple(v) for v in found}) == 1
        elif list in kinds:
            assert kinds == {list}
            assert len({len(v) for v in found}) == 1
        elif str in kinds:
            assert kinds == {str}
        elif found:
            assert kinds != {type(None)}, "a column of nulls only"


def test_flags_are_numbers(make_report):
    found = matlab_metrics(make_report(complete=False))
    flags = [found["complete"], found["score_lower_is_better"], found["history"][0]["stopped_early"]]
    assert [(type(flag), flag) for flag in flags] == [(int, 0)] * 3
    assert found["stages"]["is_final"] == [0, 0, 0, 0, 0, 0, 1]
    assert found["stages"]["is_main"] == [1, 0, 0, 1, 1, 0, 1]


def test_json_has_no_tokens_that_are_not_json(make_report):
    report = make_report(timed=False)
    text = json.dumps(matlab_metrics(report), allow_nan=False)
    found = json.loads(text)
    assert "latency_p50_ms" not in found["stages"], "a column without any number is left out"
    assert found["latency"] == {"stage": [], "role": [], "device": [], "runtime": []}
    assert found["matlab_data"]["efficiency"][0]["before"] is None
    assert {"stage": "teacher", "metric": "latency_p50_ms"}.items() <= next(
        one.items() for one in found["not_available"] if one["metric"] == "latency_p50_ms"
    )


def test_a_number_missing_for_one_stage_is_null_in_its_place(make_report):
    report = make_report()
    report.rows[2].metrics["flops"] = missing("FLOP", "the graph could not be counted")
    column = matlab_metrics(report)["stages"]["flops"]
    assert column[2] is None
    assert column[1] == report.rows[1].value("flops")
    assert np.isnan(loaded(matlab_metrics(report))["stages"].flops[2])


def test_long_and_odd_metric_names_stay_apart(make_report):
    report = make_report()
    long = "perplexity_a-very-long-name-of-a-text-"
    for end in ("one", "two"):
        report.rows[0].metrics[long + end] = measured(3.0 if end == "one" else 4.0, "perplexity")
    found = matlab_metrics(report)
    mine = [name for name in found["stages"] if name.startswith("perplexity_a")]
    assert sorted(found["stages"][name][0] for name in mine) == [3.0, 4.0]
    assert all(NAME.match(name) and found["units"][name] == "perplexity" for name in mine)


@pytest.mark.parametrize(
    ("text", "name"),
    [("size-mb", "size_mb"), ("end", "x_end"), ("_x", "x"), ("2nd", "x_2nd"), ("Latency (ms)", "latency_ms"),
     ("ক", "x"), ("a" * 40, "a" * 31)],
)  # fmt: skip
def test_field_names(text, name):
    assert name_of(text) == name
    assert name_of(text, [name]) != name


def test_trainings_have_equal_fields_and_columns_over_their_evaluations(make_report):
    report = make_report()
    history = matlab_metrics(report)["history"]
    assert [(one["stage"], one["training"]) for one in history] == [
        ("teacher", 1), ("control", 1), ("distill", 1), ("prune", 1),
    ]  # fmt: skip
    entries = report.row("distill").fits[0]["history"]
    assert history[2]["val_loss"] == [entry["val_loss"] for entry in entries]
    assert history[2]["step"] == [entry["step"] for entry in entries]
    assert len({tuple(one) for one in history}) == 1


def test_layers_by_stage_and_what_pruning_cut(make_report):
    report = make_report()
    cut = report.row("prune").facts["widths"]
    shapes = {"teacher": {"layer0.heads": 8, "layer1.heads": 8, "layer2.heads": 8}, "distill": {"layer0.heads": 4},
              "prune": {"layer0.heads": 2}}  # fmt: skip
    for stage, widths in shapes.items():
        report.row(stage).facts["shape"] = {"widths": widths}
    found = matlab_metrics(report)["layers"]
    assert found["stages"] == ["teacher", "distill", "prune"]
    line = found["name"].index("layer0.heads")
    assert found["units"][line] == [8, 4, 2]
    assert found["units"][found["name"].index("layer2.heads")] == [8, None, None]
    assert [found["units_after"][found["name"].index(w["name"])] for w in cut] == [w["after"] for w in cut]
    assert found["units_before"][found["name"].index("layer2.heads")] is None


def test_masks_of_unstructured_pruning(make_report):
    report = make_report()
    layers = [{"module": "a.b", "weights": 200, "masked": 100, "zeros": 101}]
    report.row("prune").facts["masks"] = {"layers": layers}
    found = matlab_metrics(report)["masks"]
    assert found == {"name": ["a.b"], "weights": [200], "masked": [100], "zeros": [101], "sparsity": [101 / 200]}


def test_confusion_counts_per_stage_and_a_reason_where_there_are_none(make_report, make_text_report):
    report = make_report()
    found = matlab_metrics(report)["confusion"]
    assert found["labels"] == report.teacher.facts["labels"]
    assert [m["stage"] for m in found["matrices"]] == [row.stage for row in report.rows]
    assert found["matrices"][-1]["counts"] == report.rows[-1].facts["confusion"]
    for row in report.rows:  # several labels a sample: a 2 x 2 matrix for each
        row.facts["confusion"] = [[[1, 2], [3, 4]]] * 6
    several = matlab_metrics(report)["confusion"]
    assert several["matrices"] == []
    assert "several labels" in several["reason"]
    assert "no single class" in matlab_metrics(make_text_report("causal-lm"))["confusion"]["reason"]


def test_bits_of_a_weight_follow_from_the_formats_counted(make_report):
    report = make_report()
    for row in report.rows:
        row.facts["weight_formats"] = {"fp32": 100}
    report.rows[-1].facts["weight_formats"] = {"int8": 300, "fp32": 100}
    assert matlab_metrics(report)["stages"]["bits_per_weight"] == [32.0] * 6 + [14.0]
    report.rows[-1].facts["weight_formats"] = {"ternary": 300}
    assert matlab_metrics(report)["stages"]["bits_per_weight"][-1] is None


def test_a_teacher_at_chance_has_no_retention(make_report):
    report = make_report()
    assert matlab_metrics(report)["summary"]["accuracy_retention"] == pytest.approx(
        report.final.value("accuracy") / report.teacher.value("accuracy") * 100
    )
    report.final.metrics["retention"] = missing("ratio", "the teacher is at chance")
    assert matlab_metrics(report)["summary"]["accuracy_retention"] is None


def test_times_of_another_device_make_no_speed_improvement(make_report):
    report = make_report()
    assert matlab_metrics(report)["summary"]["speed_improvement"] == pytest.approx((21.4 - 0.83) / 21.4 * 100)
    report.rows[-1].device = "cuda"
    summary = matlab_metrics(report)["summary"]
    assert summary["speed_improvement"] is None
    assert summary["speedup"] is None


def test_nothing_measured_has_every_key_and_no_numbers(make_report):
    report = make_report()
    full, empty = matlab_metrics(report), nothing_measured("no model yet")
    assert list(empty) == list(full)
    assert (empty["success"], empty["error"]) == (False, "no model yet")
    assert all(lines == [] for lines in empty["matlab_data"].values())
    assert list(empty["summary"]) == list(full["summary"])
    assert matlab_metrics(report.model_copy(update={"rows": []}))["success"] is False
    assert not loaded(empty)["success"]


def text_of(found):
    return str(found) if np.size(found) else ""


def same(value, matlab, where=""):
    """Assert that what a .mat file gives back is what went in."""
    if isinstance(value, dict):
        for key, inner in value.items():
            same(inner, getattr(matlab, key), f"{where}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, inner in enumerate(value):
            same(inner, np.atleast_1d(matlab)[i], f"{where}[{i}]")
    elif isinstance(value, list) and value and isinstance(value[0], str):
        assert [text_of(v) for v in np.atleast_1d(matlab)] == [ascii_of(v) for v in value], where
    elif isinstance(value, list):
        flat = [v for row in value for v in (row if isinstance(row, list) else [row])]
        expected = np.array([np.nan if v is None else v for v in flat], dtype=float)
        np.testing.assert_array_equal(np.asarray(matlab, dtype=float).ravel(), expected, where)
    elif isinstance(value, str):
        assert text_of(matlab) == ascii_of(value), where
    else:
        np.testing.assert_array_equal(float(matlab), np.nan if value is None else float(value), where)


@pytest.mark.parametrize("task", TASKS)
def test_a_mat_file_holds_the_same(report_for, task):
    mapping = matlab_metrics(report_for(task), model_name="DistilBERT")
    back = loaded(mapping)
    assert set(mapping) == {name for name in back if not name.startswith("__")}
    for key, value in mapping.items():
        same(value, back[key], key)


def test_labels_in_a_mat_file_are_ascii_and_stay_apart(make_report):
    report = make_report()
    labels = ["ঘৃণা", "প্রীতি", "Ärger", "naïve", "a−b", "plain"]
    for row in report.rows:
        row.facts["labels"] = labels
    mapping = matlab_metrics(report)
    assert mapping["confusion"]["labels"] == labels
    found = list(loaded(mapping)["confusion"].labels)
    assert all(text.isascii() for text in found)
    assert len(set(found)) == 6
    assert found[2:] == ["Arger", "naive", "a-b", "plain"]
    assert found[0].startswith("U+0998")


def test_lists_that_matlab_cannot_hold_are_refused():
    for wrong in ([1, "a"], [[1, 2], [3]], [{"a": 1}, {"b": 2}]):
        with pytest.raises(ValueError, match="for MATLAB"):
            to_mat({"x": wrong})
