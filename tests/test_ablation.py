"""The ablation keeps the whole recipe under every pipeline."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from lessen import ablation
from lessen.errors import RecipeError
from lessen.measure.metric import measured
from lessen.recipe import PIPELINES, Recipe, parse
from lessen.report import Report, Row
from lessen.stages import names

RUN = import_module("lessen.runner")


def test_every_variant_keeps_every_setting(tmp_path: Path) -> None:
    recipe = parse({
        "name": "a", "seed": 7, "output_dir": str(tmp_path), "data": {"fraction": 0.5, "folds": 3},
        "student": {"layers": 2}, "prune": {"remove_frac": 0.3}, "teacher": {"train": {"lr": 1e-3}},
    })  # fmt: skip
    found = ablation.variants(recipe)
    assert [v.pipeline for v in found] == list(PIPELINES)
    assert [v.output_dir for v in found] == [str(tmp_path / name) for name in PIPELINES]
    other = {"pipeline", "name", "output_dir"}
    assert all(v.model_dump(exclude=other) == recipe.model_dump(exclude=other) for v in found)


def test_a_variant_that_cannot_work_is_refused_before_any_starts() -> None:
    with pytest.raises(RecipeError, match="no pipeline 'kd'"):
        ablation.variants(Recipe(), ["baseline", "kd"])
    unused = parse({"pipeline": "baseline", "distill": {"alpha": 0}})
    with pytest.raises(RecipeError, match=r"distill\.alpha is 0"):
        ablation.variants(unused, ["baseline", "kd_only"])


def fake_run(recipe: Recipe, **_: Any) -> Report:
    """Write a folder per stage, as a run does, and report one artifact."""
    out = Path(str(recipe.output_dir))
    for index, stage in enumerate(names(recipe)):
        folder = out / "stages" / f"{index:02d}-{stage}"
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "made-by").write_text(recipe.pipeline)
    classes = [{"label": "no", "f1": 0.9}, {"label": "yes", "f1": 0.8}]
    size = {"f1_macro": measured(0.85, "share"), "sparsity": measured(0.5, "share")}
    large = {"file_bytes": measured(8_000_000, "bytes")}
    rows = [
        Row(stage="teacher", artifact="t", device="cpu", runtime="eager", metrics=large),
        Row(stage="quantize", artifact="q", device="cpu", runtime="onnx", facts={"per_class": classes},
            metrics=size | {"file_bytes": measured(2_000_000, "bytes")}),
    ]  # fmt: skip
    return Report(
        run_id="r", name=recipe.name, complete=True, created="", task=recipe.task, pipeline=recipe.pipeline,
        recipe={}, data={}, environment={}, rows=rows,
    )  # fmt: skip


def maker(root: Path, pipeline: str, stage: str) -> str:
    (folder,) = (root / pipeline / "stages").glob(f"*-{stage}")
    return (folder / "made-by").read_text()


def test_the_summary_has_the_predecessors_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUN, "run", fake_run)
    recipe = parse({"output_dir": str(tmp_path)})
    ablation.run(ablation.variants(recipe, ["baseline", "kd_quant"]), tmp_path)
    with (tmp_path / "ablation_summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["Pipeline", "F1 Macro", "F1 Binary", "Size (MB)", "Compression", "Sparsity"]
    assert list(rows[1].values()) == ["kd_quant", "0.85", "0.8", "2.0", "4.0", "0.5"]


def test_stages_that_variants_share_are_handed_on_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, "run", fake_run)
    ablation.run(ablation.variants(parse({"output_dir": str(tmp_path)})), tmp_path)
    assert maker(tmp_path, "kd_prune_quant", "teacher") == "baseline"
    assert maker(tmp_path, "kd_prune_quant", "distill") == "kd_only"
    assert maker(tmp_path, "kd_prune_quant", "prune") == "kd_prune"
    assert maker(tmp_path, "prune_quant", "prune") == "prune_only"
    assert maker(tmp_path, "kd_prune_quant", "quantize") == "kd_prune_quant"
