from __future__ import annotations

from collections.abc import Callable

from lessen.report.files import complete
from lessen.report.rows import Report, Verdict


def told(report: Report, stage: str, subject: str) -> Verdict:
    return next(v for v in complete(report).verdicts if (v.stage, v.subject) == (stage, subject))


def test_a_stage_that_lowered_quality_is_said_to_have(make_report: Callable, make_comparison: Callable) -> None:
    made = make_report()
    made.comparisons[2] = make_comparison("distill", "prune", -0.05)
    found = told(made, "prune", "quality")
    assert found.outcome == "made worse"
    assert "Pruning lowered quality: −5.00 points macro-F1 against distill" in found.text


def test_a_change_within_noise_is_no_detectable_change(make_report: Callable) -> None:
    found = told(make_report(), "quantize", "quality")
    assert found.outcome == "no detectable change"
    assert "no detectable change to quality" in found.text


def test_a_larger_and_slower_model_is_said_to_be(make_report: Callable, make_row: Callable) -> None:
    made = make_report()
    made.rows[3] = make_row("distill", 0.866, 13_500_000, 54_000_000, 30.0, source="teacher")
    assert told(made, "distill", "size").text == "Distillation made the files larger: 45.3 MB to 54.0 MB."
    found = told(made, "distill", "speed")
    assert found.outcome == "made worse"
    assert "1.40 times slower" in found.text


def test_quantization_that_is_slower_than_its_runtimes_fp32_made_things_worse(
    make_report: Callable, make_row: Callable
) -> None:
    made = make_report()
    made.rows[-1] = make_row("quantize", 0.857, 1_700_000, 2_300_000, 2.1, runtime="onnx", source="prune")
    found = told(made, "quantize", "speed")
    assert found.outcome == "made worse"
    assert "against export" in found.text  # not against the eager model, whose runtime is slower anyway


def test_zeros_that_bring_no_speed_and_no_bytes_are_said_to(make_report: Callable, make_row: Callable) -> None:
    from lessen.measure.metric import derived

    made = make_report()
    row = make_row("prune", 0.86, 2_100_000, 8_800_000, 3.92, source="distill")
    row.metrics["sparsity"] = derived(0.5, "share", "zeros")
    made.rows[4] = row
    assert "50% of the weights are zero, which takes as many bytes" in told(made, "prune", "size").text
    found = told(made, "prune", "speed")
    assert found.outcome == "no detectable change"
    assert "Zeroed weights are still multiplied" in found.text


def test_without_a_control_it_is_not_claimed_that_distilling_helped(make_report: Callable) -> None:
    made = make_report()
    assert told(made, "distill", "distillation").outcome == "helped"
    made.comparisons.pop()
    found = told(made, "distill", "distillation")
    assert found.outcome == "unknown"
    assert "was not trained without them" in found.text


def test_distilling_that_did_not_beat_the_control_is_said_so(make_report: Callable, make_comparison: Callable) -> None:
    made = make_report()
    made.comparisons[-1] = make_comparison("control", "distill", 0.001)
    assert "no detectable gain over the same student trained on labels" in told(made, "distill", "distillation").text


def test_a_teacher_below_the_simple_model_is_said_to_be(make_report: Callable, make_row: Callable) -> None:
    made = make_report()
    made.rows[0] = make_row("teacher", 0.70, 11_200_000, 45_300_000, 21.4, agree=None)
    found = told(made, "teacher", "quality")
    assert found.outcome == "made worse"
    assert "worse than the simple model" in found.text


def test_the_result_names_what_was_lost(make_report: Callable) -> None:
    found = told(make_report(), "quantize", "result")
    assert found.outcome == "mixed"
    assert found.text.startswith("Against the teacher, the final model is 19.7 times smaller, 25.8 times faster")
    assert found.text.endswith("−1.40 points macro-F1 (worse).")


def test_a_disturbed_timing_is_doubted_and_cpu_time_stated(make_report: Callable) -> None:
    from lessen.measure.metric import measured

    made = make_report()
    made.rows[-1].metrics.update(foreign_load=measured(0.4, "share"), cpu_speedup=measured(12.0, "ratio"))
    found = told(made, "quantize", "result")
    assert found.text.endswith(
        "Other processes used 40% of the machine while it was timed; in CPU time it takes 12.0 times less."
    )


def test_the_runtimes_gain_is_not_counted_as_compression(make_report: Callable) -> None:
    steps = complete(make_report()).attribution
    assert [s.name for s in steps] == [
        "teacher, eager fp32", "teacher, onnx fp32", "compressed (prune), onnx fp32", "compressed, onnx int8",
    ]  # fmt: skip
    assert [round(s.gain or 0, 2) for s in steps] == [0, 1.51, 10.84, 1.58]
    assert round(steps[-1].total or 0, 1) == 25.8


def test_a_step_that_was_not_measured_is_a_hole_not_a_guess(make_report: Callable) -> None:
    made = make_report()
    rows = [r for r in made.rows if r.stage != "export"]
    steps = complete(made.model_copy(update={"rows": rows})).attribution
    assert steps[2].latency_p50_ms is None
    assert steps[2].reason == "the compressed model was not exported to onnx in fp32"
    assert steps[3].gain is None
    assert steps[3].total is not None


def test_sources_are_found_by_the_order_of_stages(make_report: Callable) -> None:
    made = make_report()
    rows = [
        r.model_copy(update={"source": None}) if r.stage in ("prune", "export", "quantize") else r for r in made.rows
    ]
    linked = complete(made.model_copy(update={"rows": rows}))
    assert [linked.row(s).source for s in ("prune", "export", "quantize")] == ["distill", "prune", "prune"]
