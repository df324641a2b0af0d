"""lessen cache: what is listed, what is refused, and what is built without training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from lessen import cli
from lessen.cli import cache as command
from lessen.context import Context, digest, file_digest
from lessen.data.sequences import IGNORE, Blocks, pack
from lessen.distill.tokens import cache as caches
from lessen.distill.tokens.cache import open_tokens
from lessen.distill.tokens.shards import Scored
from lessen.recipe import Recipe, parse
from lessen.runtime import Runtime

VOCAB, K = 50, 4
RECIPE = """
task: causal-lm
pipeline: kd_only
teacher: {model: TEACHER, train: null}
student: {model: teacher, layers: 1}
data: {path: corpus.txt}
distill: {top_k: 4}
device: cpu
output_dir: made
"""


def lessen(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def blocks() -> Blocks:
    draw = np.random.default_rng(0)
    pieces = [draw.integers(1, VOCAB, 4 + i, dtype=np.int32) for i in range(6)]
    rows = pack([len(p) - 1 for p in pieces], 12)
    tokenizer: Any = SimpleNamespace(pad_id=0, max_length=12, digest="p1")
    counted = [np.ones(len(p) - 1, dtype=bool) for p in pieces]
    return Blocks(tokenizer, pieces, counted, np.asarray([f"{i:04x}" for i in range(6)]), np.arange(6), rows, 12)


def score(batch: dict[str, Any], pieces: Any) -> Scored:
    said = batch["targets"][batch["targets"] != IGNORE]
    index = (said[:, None] + np.arange(K)) % VOCAB
    n = len(said)
    log_p = np.log(np.tile(np.asarray([0.5, 0.2, 0.08, 0.02], dtype=np.float32), (n, 1)))
    return Scored(index, log_p, np.log(np.full(n, 0.2, dtype=np.float32)), np.ones(n), np.full(n, 0.8))


def opened(folder: Path, **more: Any) -> tuple[caches.TokenCache, Context]:
    ctx = Context(out_dir=folder, cache_dir=folder)
    teacher: Any = SimpleNamespace(digest="t1" * 20)
    parts = caches.fingerprint(teacher, blocks(), torch.float32, vocab=VOCAB, kind="top_k", size=K, **more)
    return open_tokens(folder, parts, ctx, {"source": "scratch:tiny"}), ctx


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache_dir with one complete cache of 39 tokens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(caches, "SHARD_TOKENS", 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache, ctx = opened(tmp_path / "home" / "lessen")
    cache.fill(blocks(), score, ctx)
    return cache.path


def listed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert lessen("cache", "info", *words, "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["caches"]
    return found


def test_info_lists_what_is_kept(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = listed(capsys)
    tokens = int(blocks().tokens.sum())
    size = sum(f.stat().st_size for f in kept.glob("shard-*"))
    assert (row["folder"], row["teacher"], row["kind"]) == (str(kept), "scratch:tiny", "top_k 4")
    assert (row["rows"], row["tokens"], row["bytes"], row["state"]) == (6, tokens, size, "complete")
    assert row["bytes_per_token"] == pytest.approx(size / tokens)
    assert row["smaller_than_fp16"] == pytest.approx(2 * VOCAB * tokens / size)
    assert 0 <= row["age_seconds"] < 60
    assert listed(capsys, kept) == [{**row, "age_seconds": pytest.approx(row["age_seconds"], abs=60)}]
    assert lessen("cache", "info") == 0
    assert "complete" in capsys.readouterr().out


def test_info_tells_a_partial_build_and_lists_classification_caches(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = kept.parents[1]
    partial, _ = opened(root, exact=True)
    partial.note(blocks())
    plain = root / "teacher" / "abc"
    plain.mkdir(parents=True)
    (plain / "manifest.json").write_text(json.dumps({"of": {"teacher": "0123456789abcdef"}}))
    (plain / "shard-1.json").write_text(json.dumps({"ids": ["a", "b"]}))
    rows = {row["folder"]: row for row in listed(capsys, root)}
    assert rows[str(partial.path)]["state"] == "partial"
    assert rows[str(kept)]["state"] == "complete"
    more = replace(blocks(), piece_ids=np.asarray(list("abcdef")))
    opened(root)[0].note(more)
    assert listed(capsys, kept)[0]["state"] == "partial"  # one of two data sets is complete
    logits = rows[str(plain)]
    assert (logits["kind"], logits["rows"], logits["tokens"], logits["state"]) == ("logits", 2, None, None)
    assert logits["teacher"] == "0123456789ab"


def test_info_without_caches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, tmp_path) == []
    assert lessen("cache", "info", tmp_path / "absent") == 2


def test_verify_of_a_folder_checks_checksums(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("cache", "verify", kept) == 0
    assert "every checksum and value is right" in capsys.readouterr().out
    shard = next(iter(kept.glob("*.safetensors")))
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(bytes(raw))
    assert lessen("cache", "verify", kept) == 2
    assert shard.stem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("index", 60, "token 60 is beyond the vocabulary of 50"),
        ("index", 3, "twice"),
        ("log_p", -0.1, "add up to"),
        ("entropy", np.nan, "not finite"),
    ],
)
def test_verify_of_a_folder_checks_values(
    name: str, value: float, told: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = next(iter(kept.glob("*.safetensors")))
    tensors = {k: v.copy() for k, v in load_file(shard).items()}
    tensors[name][:] = value
    shard.write_bytes(save(tensors))
    body = json.loads(shard.with_suffix(".json").read_text())
    shard.with_suffix(".json").write_text(json.dumps({**body, "sha256": file_digest(shard)}))
    assert lessen("cache", "verify", kept) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["build"], "is given no recipe"),
        (["verify"], "is given no recipe"),
        (["verify", "r.yaml", "--count", "0"], "--count is 0"),
        (["build", "absent.yaml"], "no recipe at absent.yaml"),
        (["build", "r.yaml", "--task", "text-classification"], "task is text-classification"),
        (["build", "r.yaml", "--pipeline", "prune_only"], "has no distillation"),
        (["build", "r.yaml", "--distill.cache", "off"], "distill.cache is off"),
        (["build", "r.yaml", "--distill.targets", "dense"], "distill.targets is dense"),
        (["build", "r.yaml", "--distill.sequences", "student"], "distill.sequences is student"),
        (["build", "r.yaml", "--distill.router", "ka"], "need the running teacher"),
        (["verify", "."], "is not a cache"),
        (["clean"], "invalid choice: 'clean'"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_one_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = RECIPE.replace("distill: {top_k: 4}", "") if "text-classification" in words else RECIPE
    Path("r.yaml").write_text(text)
    assert lessen("cache", *words) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def asked(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build and verify over an invented teacher, in another cache_dir."""
    Path("r.yaml").write_text(RECIPE)

    def invented(recipe: Recipe, ctx: Context) -> Any:
        cache, _ = opened(Path("other"), seed=recipe.seed)
        return cache, score, blocks(), Runtime(torch.device("cpu"), torch.float32)

    monkeypatch.setattr(command, "_asked", invented)
    return Path("other")


def test_build_fills_and_says_what_a_token_takes(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lessen("cache", "build", "r.yaml", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["pieces_asked"], facts["pieces_computed"], facts["tokens"]) == (6, 6, int(blocks().tokens.sum()))
    assert facts["verified"]["largest"] < 1e-3
    assert lessen("cache", "build", "r.yaml") == 0
    assert "0 of 6 texts computed" in capsys.readouterr().out
    assert lessen("cache", "verify", "r.yaml", "--count", "2") == 0
    assert "differs from the teacher by 0.0" in capsys.readouterr().out


def test_verify_of_a_recipe_finds_what_is_missing_or_wrong(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lessen("cache", "verify", "r.yaml") == 2
    assert "lacks 6 of 6 texts" in capsys.readouterr().err
    assert lessen("cache", "build", "r.yaml") == 0
    plain = score

    def other(batch: dict[str, Any], pieces: Any) -> Scored:
        return plain(
            {**batch, "targets": np.where(batch["targets"] < 0, IGNORE, (batch["targets"] + 2) % VOCAB)}, pieces
        )

    monkeypatch.setitem(globals(), "score", other)
    assert lessen("cache", "verify", "r.yaml") == 2
    assert "differs from the teacher" in capsys.readouterr().err


def gpt(folder: Path, layers: int = 1) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB, n_embd=8, n_layer=layers, n_head=1, n_positions=16)
    return GPT2LMHeadModel(config)


def recipe_of(**changes: Any) -> Recipe:
    values = {
        "task": "causal-lm", "pipeline": "kd_only", "teacher": {"model": "scratch:gpt2-tiny", "train": None},
        "student": {"model": "teacher"}, "data": {"path": "corpus.txt"}, "output_dir": "made", **changes,
    }  # fmt: skip
    return parse(values)


def run_of(recipe: Recipe) -> Path:
    """Make the folder of a run whose teacher is there."""
    from lessen.artifact import Manifest, write
    from lessen.info import ModelInfo

    folder = Path("made")
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    info = ModelInfo(family="gpt2", task="causal-lm", source="scratch", labels=())
    write(
        folder / "stages" / "00-teacher", Manifest(runtime="eager", info=info, stage="teacher"),
        lambda path: (path / "config.json").write_text("{}") and None,
    )  # fmt: skip
    return folder


def teacher_of(recipe: Recipe) -> Any:
    splits: Any = SimpleNamespace(digest="d")
    return command.teacher_of(recipe, splits, Context(out_dir=Path("made"), cache_dir=Path("caches")))


def test_the_teacher_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of(teacher={"model": "scratch:gpt2-tiny"})
    with pytest.raises(command.RecipeError, match="trains its teacher, and made holds none"):
        teacher_of(recipe)
    run_of(recipe)
    assert teacher_of(recipe).path == Path("made/stages/00-teacher")
    assert teacher_of(recipe_of(teacher={"model": "scratch:gpt2-tiny"}, distill={"top_k": 3})).path.name == "00-teacher"
    with pytest.raises(command.RecipeError, match="differs in: seed, teacher"):
        teacher_of(recipe_of(seed=7))
    (Path("made") / "stages" / "00-teacher" / "config.json").write_text("{ }")
    with pytest.raises(command.ArtifactError, match="differs from its manifest"):
        teacher_of(recipe)


def test_a_teacher_taken_as_given_is_the_one_that_the_run_will_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digest stands in the fingerprint, so that a later run finds what was built."""
    from lessen import models
    from lessen.info import ModelInfo
    from lessen.processors import train_text_processor

    monkeypatch.chdir(tmp_path)
    info = ModelInfo(family="gpt2", task="causal-lm", source="local", labels=())
    processor = train_text_processor(["a b c d"], vocab_size=VOCAB, max_length=16)

    def fetch(*_: Any) -> models.Model:
        return models.Model(gpt(tmp_path), processor, info)

    monkeypatch.setattr(models, "fetch", fetch)
    found = teacher_of(recipe_of())
    assert found.path.parent == Path("caches/teachers")
    run = models.save(fetch(), Path("run"), stage="teacher", key=digest("k"), history=(), facts={"a": 1})
    assert found.digest == run.digest


def test_a_recipe_is_built_and_verified_from_its_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is replaced: data, tokenizer, teacher, cache. Packing is no part of the key, what is kept is."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = [" ".join(draw.choice(["a", "cat", "sat", "on", "the", "mat"], 9)) for _ in range(40)]
    Path("corpus.txt").write_text("\n".join(dict.fromkeys(lines)))
    shape = "{model: 'scratch:gpt2-tiny', train: null, vocab_size: 265, layers: 1, hidden_size: 16, heads: 1}"
    text = RECIPE.replace("{model: TEACHER, train: null}", shape).replace("corpus.txt", "corpus.txt, documents: line")
    Path("r.yaml").write_text(text + "cache_dir: caches\n")
    assert lessen("cache", "build", "r.yaml", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["pieces_computed"] == facts["pieces_asked"] > 20
    assert lessen("cache", "build", "r.yaml", "--data.pack", "false", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["pieces_computed"], again["folder"]) == (0, facts["folder"])
    assert lessen("cache", "verify", "r.yaml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["largest"] < 1e-3
    assert lessen("cache", "build", "r.yaml", "--distill.top_k", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] != facts["folder"]
