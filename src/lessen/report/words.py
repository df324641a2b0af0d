"""What a run showed, in words. A stage that did not help, or made things worse, is said so."""

from __future__ import annotations

from lessen.measure.metric import Comparison
from lessen.report.headline import change, headline, interval
from lessen.report.numbers import number, significant
from lessen.report.rows import Report, Row, Verdict

NAMES = {
    "teacher": "The teacher", "distill": "Distillation", "prune": "Pruning", "quantize": "Quantization",
    "export": "The export", "runtime": "The deploy runtime", "control": "The control", "random": "Random pruning",
}  # fmt: skip
LOADED = 0.05  # share of the machine that others may use before the clock on the wall is doubted
SAME = 0.02  # sizes and times within 2 % count as equal where there is no spread to judge by


def verdicts(report: Report) -> list[Verdict]:
    """Return what each stage did to quality, size and speed, the controls' verdicts, and the result."""
    out = _teacher(report)
    for row in report.rows:
        source = report.row(row.source) if row.source else None
        if row.role == "main" and row.stage != "teacher" and source is not None:
            out += [_quality(report, source, row), _size(source, row), _speed(report, row)]
    out += [v for v in (_runtime(report), _distilled(report), _pruned(report), _result(report)) if v]
    return out


def _teacher(report: Report) -> list[Verdict]:
    teacher, simple, head = report.teacher, report.baseline, headline(report)
    ours, theirs = (row.value(head.metric) if row else None for row in (teacher, simple))
    if simple is None or ours is None or theirs is None:
        return []
    metric = simple.metrics[head.metric]
    low, high = metric.ci95 or (theirs, theirs)
    shown = [number(v, metric.unit) for v in (ours, theirs)]
    method = simple.facts.get("method", "")
    text = f"The teacher's {head.title} is {shown[0]}; a simple baseline ({method}) has {shown[1]}."
    if ours > high if head.lower_is_better else ours < low:
        return [_v("teacher", "quality", "made worse", text + " The teacher is worse than the simple model.")]
    if low <= ours <= high:
        return [_v("teacher", "quality", "no detectable change", text + " That is no detectable gain.")]
    return [_v("teacher", "quality", "helped", text)]


def _quality(report: Report, source: Row, row: Row) -> Verdict:
    name = NAMES.get(row.stage, row.stage)
    found = report.comparison(source.stage, row.stage) or report.comparison("teacher", row.stage)
    if found is None:
        return _v(row.stage, "quality", "unknown", f"{name}: quality was not compared with {source.stage}.")
    return _v(row.stage, "quality", _outcome(found), f"{name} {_change(found)}")


def _change(found: Comparison) -> str:
    detail = f"{change(found)} against {found.reference} {interval(found)}, n\u00a0=\u00a0{found.n}{_mcnemar(found)}"
    if found.verdict == "better":
        return f"raised quality: {detail}."
    if found.verdict == "worse":
        return f"lowered quality: {detail}."
    return f"made no detectable change to quality: {detail}."


def _mcnemar(found: Comparison) -> str:
    return "" if found.mcnemar_p is None else f", McNemar p\u00a0=\u00a0{found.mcnemar_p:.2g}"


def _outcome(found: Comparison) -> str:
    return {"better": "helped", "worse": "made worse"}.get(found.verdict, "no detectable change")


def _size(source: Row, row: Row) -> Verdict:
    name = NAMES.get(row.stage, row.stage)
    before, after = source.value("file_bytes"), row.value("file_bytes")
    if not before or not after:
        return _v(row.stage, "size", "unknown", f"{name}: the size of the files is not known.")
    sizes = f"{number(before, 'bytes')} to {number(after, 'bytes')}"
    if after < before * (1 - SAME):
        return _v(
            row.stage, "size", "helped", f"{name} made the files {significant(before / after)} times smaller: {sizes}."
        )
    if after > before * (1 + SAME):
        return _v(row.stage, "size", "made worse", f"{name} made the files larger: {sizes}.")
    zeros = row.value("sparsity") or 0.0
    more = (
        f" {zeros:.0%} of the weights are zero, which takes as many bytes as any other number." if zeros > 0.05 else ""
    )
    return _v(row.stage, "size", "no detectable change", f"{name} did not make the files smaller: {sizes}.{more}")


def _speed(report: Report, row: Row) -> Verdict:
    name = NAMES.get(row.stage, row.stage)
    fair = _same_runtime(report, row)
    if fair is None:
        return _v(row.stage, "speed", "unknown", f"{name}: no model without it was timed in the {row.runtime} runtime.")
    outcome, ratio = faster(fair, row)
    if ratio is None:
        reason = row.metrics["latency_p50_ms"].reason if "latency_p50_ms" in row.metrics else "not measured"
        return _v(row.stage, "speed", "unknown", f"{name}: latency is not known ({reason}).")
    times = f"{_ms(fair)} to {_ms(row)} (p50, batch 1, {row.runtime}, against {fair.stage})"
    if outcome == "helped":
        return _v(row.stage, "speed", outcome, f"{name} made answers {significant(ratio)} times faster: {times}.")
    if outcome == "made worse":
        return _v(row.stage, "speed", outcome, f"{name} made answers {significant(1 / ratio)} times slower: {times}.")
    zeros = row.value("sparsity") or 0.0
    more = " Zeroed weights are still multiplied." if row.stage == "prune" and zeros > 0.05 else ""
    return _v(row.stage, "speed", outcome, f"{name} gave no detectable change in speed: {times}.{more}")


def faster(before: Row, after: Row) -> tuple[str, float | None]:
    """Return the outcome and the ratio of p50 latencies; overlapping spreads over rounds are no detectable change.

    Against the model that ratios were taken to while timing, it is the median of the ratios within rounds.
    """
    a, b = before.metrics.get("latency_p50_ms"), after.metrics.get("latency_p50_ms")
    if a is None or b is None or not a.value or not b.value or before.device != after.device:
        return "unknown", None
    paired = after.metrics.get("speedup")
    if before.value("speedup") == 1 and paired is not None and paired.value and paired.spread:
        if paired.spread[0] <= 1 <= paired.spread[1]:
            return "no detectable change", float(paired.value)
        return ("helped" if paired.value > 1 else "made worse"), float(paired.value)
    ratio = a.value / b.value
    first, second = (m.spread or (v * (1 - SAME), v * (1 + SAME)) for m, v in ((a, a.value), (b, b.value)))
    if first[0] <= second[1] and second[0] <= first[1]:
        return "no detectable change", ratio
    return ("helped" if ratio > 1 else "made worse"), ratio


def _same_runtime(report: Report, row: Row) -> Row | None:
    """Return the row to hold a stage's speed against: its source, in the same runtime."""
    for candidate in report.rows:
        source_itself = candidate.stage == row.source
        source_deployed = candidate.source == row.source and candidate.role in ("export", "reference")
        if (source_itself or source_deployed) and candidate.runtime == row.runtime and candidate is not row:
            return candidate
    return None


def _runtime(report: Report) -> Verdict | None:
    row, teacher = report.row("runtime"), report.teacher
    if row is None or teacher is None:
        return None
    outcome, ratio = faster(teacher, row)
    if ratio is None:
        return None
    text = f"The {row.runtime} runtime alone, nothing compressed, makes the teacher {significant(ratio)} times as fast"
    return _v(
        "runtime", "runtime", outcome, f"{text}: {_ms(teacher)} to {_ms(row)}. That is not counted as compression."
    )


def _distilled(report: Report) -> Verdict | None:
    if report.row("distill") is None:
        return None
    found = report.comparison("control", "distill")
    if found is None:
        text = "Whether the teacher's answers helped is not known: the same student was not trained without them."
        return _v("distill", "distillation", "unknown", text)
    return _v(
        "distill", "distillation", _outcome(found), _held(found, "Distilling", "the same student trained on labels")
    )


def _pruned(report: Report) -> Verdict | None:
    found = report.comparison("random", "prune")
    if found is None:
        return None
    return _v("prune", "pruning", _outcome(found), _held(found, "Choosing units", "pruning the same share at random"))


def _held(found: Comparison, what: str, against: str) -> str:
    detail = f"{change(found)} {interval(found)}{_mcnemar(found)}"
    if found.verdict == "better":
        return f"{what} beat {against}: {detail}."
    if found.verdict == "worse":
        return f"{what} was worse than {against}: {detail}."
    return f"{what} showed no detectable gain over {against}: {detail}."


def _result(report: Report) -> Verdict | None:
    teacher, final = report.teacher, report.final
    if teacher is None or final is None or final is teacher:
        return None
    parts, signs = [], []
    sizes = teacher.value("file_bytes"), final.value("file_bytes")
    if sizes[0] and sizes[1]:
        parts.append(f"{significant(sizes[0] / sizes[1])} times {'smaller' if sizes[1] < sizes[0] else 'the size'}")
        signs.append(sizes[1] < sizes[0])
    outcome, ratio = faster(teacher, final)
    if ratio is not None and outcome != "no detectable change":
        word = "faster" if ratio > 1 else "slower"
        parts.append(f"{significant(max(ratio, 1 / ratio))} times {word}")
        signs.append(ratio > 1)
    found = report.comparison("teacher", final.stage)
    if found is not None:
        parts.append(f"{change(found)} ({found.verdict})")
        signs.append(found.verdict != "worse")
    if not parts:
        return None
    whole = "helped" if all(signs) else "mixed" if any(signs) else "made worse"
    text = f"Against the teacher, the final model is {', '.join(parts)}.{_doubt(final)}"
    return _v(final.stage, "result", whole, text)


def _doubt(row: Row) -> str:
    """Return a remark where other processes disturbed the timing: CPU time is hardly touched by them."""
    load, by_cpu = row.value("foreign_load"), row.value("cpu_speedup")
    if load is None or by_cpu is None or load <= LOADED:
        return ""
    how = f"{significant(max(by_cpu, 1 / by_cpu))} times {'less' if by_cpu >= 1 else 'more'}"
    return f" Other processes used {load:.0%} of the machine while it was timed; in CPU time it takes {how}."


def _ms(row: Row) -> str:
    return number(row.value("latency_p50_ms") or 0.0, "ms")


def _v(stage: str, subject: str, outcome: str, text: str) -> Verdict:
    return Verdict.model_validate({"stage": stage, "subject": subject, "outcome": outcome, "text": text})
