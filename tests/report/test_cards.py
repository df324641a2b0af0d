from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lessen.artifact import Artifact, Manifest, write
from lessen.errors import ArtifactError
from lessen.export import card
from lessen.info import ModelInfo
from lessen.models import hub
from lessen.report import complete_cards
from lessen.report.files import complete
from lessen.report.rows import Report

FACTS = {"max_abs_difference": {"batch 1": 1e-6}, "tolerance": 1e-4}


def exported(folder: Path, stage: str = "export", form: str = "onnx", **info: Any) -> Artifact:
    values = {"family": "bert", "task": "text-classification", "source": "teacher", "labels": ("a`|b", "c"), **info}
    manifest = Manifest(
        runtime="onnx", info=ModelInfo(**values), stage=stage, history=({"stage": "teacher"}, {"stage": stage}),
        facts={"format": form, **FACTS},
    )  # fmt: skip

    def fill(aside: Path) -> None:
        (aside / "model.onnx").write_bytes(b"weights")
        card.write(aside, manifest)

    return write(folder, manifest, fill)


def run_of(report: Report, folder: Path, **changes: Any) -> Report:
    """Return a report whose export lies in a folder, with another recipe."""
    recipe = {**report.recipe, **changes}
    rows = [r.model_copy(update={"artifact": f"stages/{r.stage}/onnx"}) for r in report.rows]
    return complete(report.model_copy(update={"rows": rows, "recipe": recipe}))


def front(text: str) -> dict[str, Any]:
    values = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(values, dict)
    return values


def test_a_card_without_a_report_says_where_the_numbers_will_stand(tmp_path: Path) -> None:
    text = (exported(tmp_path / "onnx").path / "README.md").read_text()
    assert front(text)["license"] == "unknown"
    assert "base_model" not in front(text)
    assert "model-index" not in front(text)
    assert "Not known here: the teacher's licence applies." in text
    assert "stand in the `report.json`" in text
    assert "| labels | `a'\\|b`, `c` |" in text


def test_the_report_completes_the_card_and_the_folder_stays_whole(tmp_path: Path, make_report: Callable) -> None:
    made = make_report().model_copy(update={"name": "a: [b] <i>\n---"})
    before = exported(tmp_path / "stages" / "export" / "onnx")
    key = before.digest
    assert complete_cards(run_of(made, tmp_path), tmp_path) == [before.path]
    text = (before.path / "README.md").read_text()
    values = front(text)
    assert values["pipeline_tag"] == "text-classification"
    (result,) = values["model-index"][0]["results"]
    assert values["model-index"][0]["name"] == "a: [b] <i>\n---"
    assert result["metrics"][1] == {"type": "f1", "value": 0.858, "name": "macro-F1"}
    assert result["dataset"] == {"name": "x.csv", "type": "other", "split": "test"}
    assert "base_model" not in values  # the teacher was made from scratch
    assert "None was given: the teacher began with random weights." in text
    assert "\\<i\\>" in text
    assert "| macro-F1 | 0.8580 [0.8420, 0.8730] | 0.8710 |" in text
    assert "| latency p50 | 1.31 ms | 21.4 ms |" in text
    assert "by A. Person" in text
    assert "report.json" not in text
    after = Artifact(before.path)
    after.verify()
    assert after.digest == key  # no later stage need be made again
    assert after.manifest.files["README.md"] != before.manifest.files["README.md"]
    complete_cards(run_of(made, tmp_path), tmp_path)
    assert (before.path / "README.md").read_text() == text


def test_a_form_without_a_row_has_the_quality_of_its_source_and_no_speed(tmp_path: Path, make_report: Callable) -> None:
    other = exported(tmp_path / "stages" / "export" / "huggingface", form="huggingface")
    complete_cards(run_of(make_report(), tmp_path), tmp_path)
    text = (other.path / "README.md").read_text()
    assert "Measured on the prune stage that this was written from" in text
    assert "| macro-F1 | 0.8580" in text
    assert "latency" not in text.split("## What the run showed")[0]


def test_the_hub_ids_of_teacher_and_data_are_named_with_the_teachers_own_licence(
    tmp_path: Path, make_report: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "snapshot"
    there.mkdir()
    monkeypatch.setattr(hub, "on_disk", lambda name: there if name == "org/teacher" else None)
    made = make_report()
    changes = {"teacher": {"model": "org/teacher"}, "data": {"path": "org/data"}}
    found = run_of(made.model_copy(update={"data": {**made.data, "source": "hub"}}), tmp_path, **changes)
    place = exported(tmp_path / "stages" / "export" / "onnx").path
    complete_cards(found, tmp_path)
    text = (place / "README.md").read_text()
    assert (front(text)["base_model"], front(text)["license"]) == ("org/teacher", "unknown")
    assert front(text)["datasets"] == ["org/data"]
    assert "the teacher's licence applies; see https://huggingface.co/org/teacher." in text
    (there / "README.md").write_text("---\nlicense: apache-2.0\ntags: [a]\n---\n# T\n", encoding="utf-8")
    complete_cards(found, tmp_path)
    text = (place / "README.md").read_text()
    assert front(text)["license"] == "apache-2.0"
    assert "`apache-2.0`, as the teacher's own card says" in text


@pytest.mark.parametrize(
    "text", ["", "# no front", "---\nlicense: [a\n---\n", "---\nlicense: {a: 1}\n---\n", "---\n- 1\n---\n"]
)
def test_a_card_that_gives_no_licence_gives_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert hub.licence(str(tmp_path)) is None


def test_a_folder_is_no_hub_id_and_its_place_is_not_told(tmp_path: Path, make_report: Callable) -> None:
    teacher = tmp_path / "home" / "somebody" / "my-model"
    teacher.mkdir(parents=True)
    place = exported(tmp_path / "stages" / "export" / "onnx").path
    complete_cards(run_of(make_report(), tmp_path, teacher={"model": str(teacher)}), tmp_path)
    text = (place / "README.md").read_text()
    assert "base_model" not in front(text)
    assert "see where `my-model` came from" in text
    assert "somebody" not in text


@pytest.mark.parametrize(("task", "name"), [("causal-lm", "text-generation"), ("seq2seq", "text2text-generation")])
def test_the_card_of_a_model_that_generates_has_the_hubs_task_and_scores(
    tmp_path: Path, make_text_report: Callable, task: str, name: str
) -> None:
    found = complete(make_text_report(task))
    final = found.final
    assert final is not None
    place = exported(tmp_path / "stages" / "x", stage=final.stage, task=task, labels=()).path
    rows = [r.model_copy(update={"artifact": "stages/x"}) if r is final else r for r in found.rows]
    complete_cards(found.model_copy(update={"rows": rows}), tmp_path)
    values = front((place / "README.md").read_text())
    assert values["pipeline_tag"] == name
    kinds = {m["type"] for m in values["model-index"][0]["results"][0]["metrics"]}
    assert ("perplexity" if task == "causal-lm" else "bleu") in kinds


def test_only_the_card_may_differ_from_the_manifest(tmp_path: Path) -> None:
    made = exported(tmp_path / "onnx")
    (made.path / "README.md").write_text("my own words", encoding="utf-8")
    made.verify()
    (made.path / "model.onnx").write_bytes(b"changed")
    with pytest.raises(ArtifactError, match=re.escape("model.onnx differs")):
        made.verify()
    (made.path / "README.md").unlink()
    with pytest.raises(ArtifactError, match=re.escape("README.md is missing")):
        made.verify()
