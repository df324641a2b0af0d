"""The predecessor's language-model commands, run as their users run them."""

import json
from pathlib import Path

import pytest

from lessen import data
from lessen.cli import main
from lessen.recipe import Data, Recipe, parse
from lessen.report import read
from lessen.runner import run

pytestmark = pytest.mark.slow
SETTINGS = ["--block_size", "32", "--grad_accum_steps", "2", "--train_steps", "4", "--eval_steps", "2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return a folder with a corpus, a trained dense teacher, a trained mixture of experts, and a student."""
    root = tmp_path_factory.mktemp("sar")
    documents = data.load(Data(source="pydocs", limit=220), "causal-lm", 0).train.inputs
    lines = [" ".join(text.split())[:400] for text in documents]
    (root / "corpus.txt").write_text("\n\n".join(lines), encoding="utf-8")
    for name, student in (("gpt2", "scratch:gpt2-tiny"), ("mixtral", "scratch:llama-tiny")):
        report = run(recipe(root, f"scratch:{name}-tiny", student), out_dir=root / f"{name}-run")
        for row, where in (("teacher", name), ("distill", f"{name}-student")):
            (root / where).symlink_to(root / f"{name}-run" / report.row(row).artifact, target_is_directory=True)
    return root


def recipe(root: Path, teacher: str, student: str) -> Recipe:
    train = {"epochs": 10, "batch_size": 8, "lr": 5e-3, "precision": "fp32"}
    return parse(
        {
            "task": "causal-lm", "pipeline": "kd_only", "export": {"formats": []}, "cache_dir": str(root / "cache"),
            "data": {"path": str(root / "corpus.txt"), "max_length": 96},
            "teacher": {"model": teacher, "vocab_size": 280, "train": train},
            "student": {"model": student, "layers": 1},
            "distill": {"train": {**train, "epochs": 1}, "teacher_margin": 0.0},
            "measure": {"speed": False, "baseline": False, "generate": 2, "bootstrap": 10},
        }
    )  # fmt: skip


def sar(world: Path, teacher: str, *more: str) -> int:
    where = ["--teacher_model", str(world / teacher), "--student_model", str(world / f"{teacher}-student")]
    texts = ["--dataset_name", str(world / "corpus.txt"), "--cache_dir", str(world / "cache")]
    return main(["sar", *where, *texts, *SETTINGS, *more])


def distilled(folder: Path) -> dict:
    row = read(folder).row("distill")
    assert row is not None
    return row.facts["distill"] | {"fit": row.facts["fit"]}


def test_a_mixture_of_experts_teaches_and_its_routers_learn(world, tmp_path, capsys):
    assert sar(world, "mixtral", "--router_lr", "1e-2", "--output_dir", str(tmp_path / "run")) == 0
    said = capsys.readouterr().err
    assert "the teacher has 4 experts a layer: its routers learn (router: sar)" in said
    assert "2 routers of 4 experts" in said
    found = distilled(tmp_path / "run")
    assert found["routers"]["updates"] == found["fit"]["best"]["step"], "those of the step that was kept"
    assert all(moved > 0 for moved in found["routers"]["moved"].values())
    assert found["fit"]["steps"] == 4
    assert [entry["step"] for entry in found["fit"]["history"]] == [2, 4]
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert any(e["kind"] == "Progress" and e["stage"] == "distill" and e["loss"] for e in events), "a JSON-lines log"


def test_a_dense_teacher_is_told_that_there_is_no_router_to_train(world, tmp_path, capsys):
    half = ["--model_dtype", "float16", "--student_lr", "5e-6", "--gradient_checkpointing", "--offload_teacher_to_cpu"]
    assert sar(world, "gpt2", *half, "--output_dir", str(tmp_path / "run")) == 0
    assert "SAR is not active, this is ordinary distillation" in capsys.readouterr().err
    assert distilled(tmp_path / "run")["teacher_answers"]["from"] == "cache"


def test_a_router_method_for_a_dense_teacher_is_refused_with_a_sentence(world, tmp_path, capsys):
    assert sar(world, "gpt2", "--router", "sar", "--output_dir", str(tmp_path / "run")) != 0
    assert "has no routers" in capsys.readouterr().err


def test_the_students_own_texts_are_learned_on(world, tmp_path):
    assert sar(world, "mixtral", "--on_policy", "--block_size", "96", "--output_dir", str(tmp_path / "run")) == 0
    found = distilled(tmp_path / "run")
    assert found["sequences"] == "student"
    assert found["own_texts"]["steps"] == 4
