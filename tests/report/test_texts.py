"""Reports of language models and of translation: the same forms, headed by another number."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from lessen import report
from lessen.measure.metric import Comparison
from lessen.report import schema
from lessen.report.charts import figures
from lessen.report.files import complete
from lessen.report.headline import change, headline, percent
from lessen.report.html import columns, tiles
from lessen.report.numbers import lower_is_better, title
from lessen.report.terminal import cells_of, table

TASKS = ("causal-lm", "seq2seq")


def told(made: report.Report, stage: str, subject: str) -> object:
    return next(v for v in complete(made).verdicts if (v.stage, v.subject) == (stage, subject))


@pytest.mark.parametrize("task", TASKS)
def test_every_form_of_the_report_is_written(task: str, tmp_path: Path, make_text_report: Callable) -> None:
    made = report.write(make_text_report(task), tmp_path)
    jsonschema.validate(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")), schema.json_schema())
    assert report.read(tmp_path) == made
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = {"causal-lm": ("perplexity", "bits a byte", "perplexity, wikitext", "first token"), "seq2seq": ("BLEU",)}
    for text in shown[task]:
        assert text in page
    body = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    for wrong in ("macro-F1", "None", "nan", "undefined"):
        assert wrong not in body, wrong
    assert "<i>" not in re.findall(r"teacher (\S+)</td>", page)[:1]
    assert table(made).row_count == 6
    assert len(cells_of(made, made.rows[0])) == len(table(made).columns)


@pytest.mark.parametrize("task", TASKS)
def test_tables_carry_the_scores_of_texts_after_the_predecessors_columns(
    task: str, tmp_path: Path, make_text_report: Callable
) -> None:
    report.write(make_text_report(task), tmp_path)
    (line,) = csv.DictReader((tmp_path / "results_after_kd.csv").read_text(encoding="utf-8").splitlines())
    assert list(line)[:5] == ["stage", "size_mb", "params_M", "sparsity_%", "acc_exact"]
    assert line["f1_macro"] == ""
    name = {"causal-lm": "perplexity", "seq2seq": "bleu"}[task]
    assert float(line[name]) == pytest.approx({"causal-lm": 33.115, "seq2seq": 24.0}[task], abs=1e-3)


def test_a_higher_perplexity_is_a_loss_and_a_lower_one_a_gain(make_text_report: Callable) -> None:
    made = make_text_report("causal-lm")
    worse = told(made, "distill", "quality")
    assert worse.outcome == "made worse"
    assert "lowered quality: +0.3000 nats a token (perplexity +35.0 %) against teacher [+0.2900, +0.3100]" in worse.text
    helped = told(made, "distill", "distillation")
    assert helped.outcome == "helped"
    assert "beat the same student trained on labels: −0.4000 nats a token (perplexity −33.0 %)" in helped.text
    assert "McNemar" not in worse.text + helped.text
    assert told(made, "teacher", "quality").outcome == "helped"  # 24.5 against the trigrams' 81.5


def test_a_teacher_above_the_baselines_perplexity_is_said_to_be_worse(make_text_report: Callable) -> None:
    made = make_text_report("causal-lm")
    made.baseline.metrics["perplexity"] = made.baseline.metrics["perplexity"].model_copy(
        update={"value": 10.0, "ci95": (9.0, 11.0)}
    )
    found = told(made, "teacher", "quality")
    assert found.outcome == "made worse"
    assert found.text.startswith("The teacher's perplexity is 24.53; a simple baseline (trigrams) has 10.00.")


def test_gates_know_that_a_lower_perplexity_is_better(make_text_report: Callable) -> None:
    made = make_text_report("causal-lm")  # 24.5 -> 35.2
    gates = report.check(made, {"max_drop": {"ppl": 12}, "at_most": {"perplexity": 40, "perplexity_wikitext": 40}})
    assert [g.passed for g in gates[1:]] == [True, True, False]
    (_, gate) = report.check(made, {"max_drop": {"perplexity": 5}})
    assert not gate.passed
    assert gate.text == "perplexity rose by 10.63, more than 5.00"
    (_, gain) = report.check(made, {"stage": "teacher", "max_drop": {"perplexity": 0}})
    assert gain.passed
    (_, bleu) = report.check(make_text_report("seq2seq"), {"max_drop": {"bleu": 4}})
    assert bleu.text == "BLEU fell by 5.10, more than 4.00"


def test_the_head_is_the_tasks_own(make_text_report: Callable, make_report: Callable) -> None:
    assert headline(make_text_report("causal-lm")).metric == "perplexity"
    assert headline(make_text_report("seq2seq")).metric == "bleu"
    assert headline(make_report()).metric == "f1_macro"
    words = make_report().model_copy(update={"task": "seq2seq"})
    assert headline(words).metric == "f1_macro"  # classification put into words
    assert "token_ms" in columns(words)
    tile = tiles(complete(make_text_report("causal-lm")))[2]
    assert (tile["name"], tile["value"]) == ("perplexity", "+43.3 %")
    assert tile["note"] == "95 % [+41.9 %, +44.8 %] · worse"


def test_a_mixture_of_experts_shows_its_active_parameters(make_text_report: Callable) -> None:
    from lessen.measure.metric import derived

    made = make_text_report("causal-lm")
    assert "active_parameters" not in columns(made)
    made.rows[0].metrics["active_parameters"] = derived(3_000_000, "count", "experts")
    assert "active_parameters" in columns(made)


def test_pictures_of_a_language_model_are_of_perplexity(make_text_report: Callable) -> None:
    made = complete(make_text_report("causal-lm"))
    drawn = {f.title: f for f in figures(made)}
    assert "Perplexity, stage by stage" in drawn
    assert drawn["Perplexity, stage by stage"].picture.count("<rect") == 6  # the baseline's too
    assert drawn["Quality against size"].note.startswith("Lower left")
    assert "nats a token" in drawn["Loss while training: teacher"].picture
    other = {f.title: f for f in figures(complete(make_text_report("seq2seq")))}
    assert other["Quality against size"].note.startswith("Upper left")
    assert "Perplexity, stage by stage" not in other


def test_runs_of_different_tasks_stand_side_by_side(make_text_report: Callable, make_report: Callable) -> None:
    found = report.compare([make_text_report("causal-lm"), make_report()])
    assert [set(r) == set(found["columns"]) for r in found["rows"]] == [True, True]
    assert found["rows"][0]["perplexity"] == pytest.approx(35.163, abs=1e-3)
    assert found["rows"][0]["f1_macro"] is None
    assert found["rows"][1]["perplexity"] is None


def test_an_older_comparison_of_macro_f1_is_read() -> None:
    values = {"reference": "a", "candidate": "b", "n": 9, "agreement": 1.0, "f1_macro_change": -0.1,
              "ci95": (-0.2, -0.05), "only_reference_right": 1, "only_candidate_right": 0, "mcnemar_p": 1.0,
              "verdict": "worse"}  # fmt: skip
    found = Comparison.model_validate(values)
    assert (found.metric, found.change) == ("f1_macro", -0.1)
    assert change(found) == "−10.00 points macro-F1"


def test_names_and_directions_of_metrics_of_held_out_texts() -> None:
    assert title("bits_per_byte_wiki_text") == "bits a byte, wiki_text"
    assert lower_is_better("perplexity_wikitext")
    assert lower_is_better("kl_to_teacher")
    assert not lower_is_better("bleu")
    assert not lower_is_better("whatever")
    assert percent(0.0) == "+0.0 %"
    assert percent(1e4) == "+inf %"
