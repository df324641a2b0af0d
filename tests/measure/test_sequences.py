"""A model of sequences measured from end to end, by sessions that need no weights."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sacrebleu

from lessen.context import Context
from lessen.measure import answering, sequences
from lessen.measure.baseline import score_baseline
from lessen.measure.paired import compare_said
from lessen.measure.versus import compare_pairs
from lessen.processors import train_bpe_processor
from lessen.recipe import Data, Measure
from measure.speakers import Bigram, Copier, artifact, objects, splits

WORDS = ["sun", "moon", "star", "rain", "wind", "leaf", "root", "seed", "rock", "sand", "fire", "snow", "lake", "road"]
QUICK = Measure(bootstrap=40, max_new_tokens=24, generate=12, batch_size=4)


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(5, 9))) for _ in range(n)]


PROCESSOR = train_bpe_processor(sentences(60), vocab_size=290, max_length=48)
VOCAB = PROCESSOR.vocab_size


def context(path: Path) -> Context:
    return Context(out_dir=path, cache_dir=path / "cache", seed=0)


def test_a_translation_is_scored_by_likelihood_and_by_what_is_generated(tmp_path: Path) -> None:
    texts = sentences(20)
    data = splits("seq2seq", texts, objects(texts))
    good, bad = (artifact(Copier(VOCAB, wrong=w), PROCESSOR, "seq2seq") for w in (0, 7))
    metrics, teacher = sequences.quality_of(good, data, None, QUICK, context(tmp_path), train=True)
    assert metrics["bleu"].value == pytest.approx(100)
    assert metrics["exact_match"].value == 1.0
    assert metrics["bleu"].n == 12
    assert metrics["token_accuracy"].value == 1.0
    one = math.log(math.exp(6) + VOCAB - 1) - 6
    assert metrics["nll_per_token"].value == pytest.approx(one, rel=1e-5)
    assert metrics["train_perplexity"].value == pytest.approx(math.exp(one), rel=1e-5)
    assert metrics["bits_per_byte"].value == pytest.approx(
        teacher.scored.nll.sum() / math.log(2) / sum(len(t) for t in texts)
    )
    assert metrics["kl_to_teacher"].reason == "this is the teacher"
    assert teacher.facts["examples"][0]["generated"] == texts[0]
    assert "tok:13a" in teacher.facts["signatures"]["bleu"]
    metrics, student = sequences.quality_of(bad, data, teacher, QUICK, context(tmp_path))
    assert metrics["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(list(student.hypotheses), [texts[:12]]).score)
    assert (metrics["bleu"].value or 0) < 90
    assert metrics["token_agreement"].value == pytest.approx(metrics["token_accuracy"].value, abs=0.05)
    assert metrics["agreement_with_teacher"] == metrics["token_agreement"]
    assert (metrics["kl_to_teacher"].value or 0) > 0.1
    assert metrics["bleu_change"].value == pytest.approx((metrics["bleu"].value or 0) - 100)
    assert metrics["retention"].value == pytest.approx((metrics["bleu"].value or 0) / 100)
    assert (metrics["perplexity_ratio"].value or 0) > 1
    found = compare_pairs(data.test.labels, {"teacher": teacher, "distill": student}, [("teacher", "distill")])
    assert [(c.metric, c.verdict) for c in found] == [("bleu", "worse"), ("nll_per_token", "worse")]


def test_generated_texts_keep_the_order_of_their_sources(tmp_path: Path) -> None:
    texts = sorted(sentences(12, 5), key=len, reverse=True)
    data = splits("seq2seq", texts, objects(texts))
    session = Copier(VOCAB)
    _, said = sequences.quality_of(artifact(session, PROCESSOR, "seq2seq"), data, None, QUICK, context(tmp_path))
    assert list(said.hypotheses) == texts


def test_label_words_are_decided_by_likelihood_and_scored_as_classes(tmp_path: Path) -> None:
    words = ("rain", "snow", "fire")
    truth = np.arange(15) % 3
    data = splits("seq2seq", [words[k] for k in truth], truth.astype(np.int64), words)
    right = artifact(Copier(VOCAB), PROCESSOR, "seq2seq", words)
    metrics, teacher = sequences.quality_of(right, data, None, QUICK, context(tmp_path), train=True)
    assert metrics["accuracy"].value == 1.0
    assert metrics["f1_macro"].value == 1.0
    assert metrics["no_label_share"].value == 0.0
    assert metrics["train_f1_macro"].value == 1.0
    assert "bleu" not in metrics
    assert teacher.facts["confusion"] == [[5, 0, 0], [0, 5, 0], [0, 0, 5]]
    # it answers with its source, and the source is the word of another class, or of none
    wrong = splits("seq2seq", [(*words[1:], "lake sand")[k] for k in truth], truth.astype(np.int64), words)
    metrics, student = sequences.quality_of(right, wrong, teacher, QUICK, context(tmp_path))
    assert (metrics["accuracy"].value or 0) <= 1 / 3
    assert metrics["no_label_share"].value == pytest.approx(1 / 3)
    assert metrics["exact_match"].value == 0.0
    assert metrics["agreement_with_teacher"].value != metrics["token_agreement"].value
    first = compare_said(truth, teacher, student, names=("teacher", "distill"), bootstrap=50)[0]
    assert (first.metric, first.verdict) == ("f1_macro", "worse")


def language(n: int = 20, seed: int = 0, held_out: bool = True) -> object:
    texts = sentences(n, seed)
    everything = objects([()] * n)
    more = {"held_out": {"wiki-text": splits("causal-lm", sentences(5, 9), objects([()] * 5)).test}}
    return splits("causal-lm", texts, everything, **(more if held_out else {}))


def uniform(vocab: int = VOCAB) -> Bigram:
    return Bigram(np.zeros((vocab, vocab)))


def test_a_language_model_is_scored_on_test_and_held_out_texts(tmp_path: Path) -> None:
    data = language()
    sharp = np.zeros((VOCAB, VOCAB))
    sharp[:, :3] = -8.0  # special tokens are rare
    model = artifact(Bigram(sharp), PROCESSOR, "causal-lm")
    _, teacher = sequences.quality_of(artifact(uniform(), PROCESSOR, "causal-lm"), data, None, QUICK, context(tmp_path))
    metrics, _ = sequences.quality_of(model, data, teacher, QUICK, context(tmp_path), train=True)
    tokens = sum(len(ids) for (ids,) in [(t,) for t, _ in PROCESSOR.tokens(list(data.test.inputs))]) + len(data.test)
    assert metrics["tokens_scored"].value == tokens
    assert metrics["perplexity"].n == 20
    assert teacher.scored.nll.sum() == pytest.approx(tokens * math.log(VOCAB))
    assert metrics["perplexity_wiki_text"].n == 5
    assert metrics["bits_per_byte_wiki_text"].value is not None
    assert metrics["train_nll_per_token"].ci95 is None
    p, q = 1 / VOCAB, np.exp(sharp[0]) / np.exp(sharp[0]).sum()
    assert metrics["kl_to_teacher"].value == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-5)
    assert metrics["kl_to_teacher"].n == 12  # measure.generate documents
    assert "bleu" not in metrics


def test_models_of_different_tokenizers_meet_in_bytes_only(tmp_path: Path) -> None:
    data = language(held_out=False)
    other = train_bpe_processor(sentences(60, 3), vocab_size=270, max_length=48)
    _, teacher = sequences.quality_of(artifact(uniform(), PROCESSOR, "causal-lm"), data, None, QUICK, context(tmp_path))
    session = uniform(other.vocab_size)
    metrics, said = sequences.quality_of(artifact(session, other, "causal-lm"), data, teacher, QUICK, context(tmp_path))
    for name in ("token_agreement", "kl_to_teacher", "perplexity_ratio"):
        assert "tokenizers differ" in (metrics[name].reason or ""), name
    assert [c.metric for c in compare_said(None, teacher, said, names=("a", "b"))] == ["bits_per_byte"]


def test_the_baseline_of_a_language_model_counts_the_teachers_tokens(tmp_path: Path) -> None:
    data = language(60)
    metrics, facts = score_baseline(data, QUICK, 0, PROCESSOR)
    assert 2 < (metrics["perplexity"].value or 0) < VOCAB / 4  # it is tested on what it counted
    assert metrics["tokens_scored"].value == sum(len(t) + 1 for t, _ in PROCESSOR.tokens(list(data.test.inputs)))
    assert (metrics["perplexity_wiki_text"].value or 0) > (metrics["perplexity"].value or 0)
    assert "Kneser-Ney" in facts["method"]


def test_the_baseline_of_a_translation_copies_the_source_without_its_prefix() -> None:
    targets = sentences(15)
    data = splits("seq2seq", [f"say: {t}" for t in targets], objects(targets))
    with_prefix = SimpleNamespace(**{**vars(data), "settings": Data(prefix="say: ")})
    metrics, facts = score_baseline(with_prefix, QUICK)
    assert metrics["bleu"].value == pytest.approx(100)
    assert metrics["bleu"].n == 12
    assert facts["method"] == "the source, copied"


def test_every_language_model_is_timed_on_prompts_of_one_length(tmp_path: Path) -> None:
    data = language(30).test
    for name, positions in (("long", 4096), ("short", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"n_positions": {positions}}}', encoding="utf-8")
    made = [artifact(uniform(), PROCESSOR, "causal-lm") for _ in range(2)]
    made[0].path, made[1].path = tmp_path / "long", tmp_path / "short"
    assert answering.shape(made[:1], QUICK) == answering.Shape(32, 24)
    asked = answering.shape(made, QUICK)
    assert asked == answering.Shape(10, 10)  # prompt and answer fit the shortest context
    probe = answering.probe(data, made[0], 4, asked)
    assert {b["input_ids"].shape for b in probe.batches} == {(4, 10)}
    assert all((b["input_ids"][:, 0] == PROCESSOR.eos_id).all() for b in probe.batches)
    assert len({b["input_ids"].tobytes() for b in probe.batches}) == len(probe.batches)


def test_times_of_tokens_are_the_first_and_the_further_ones() -> None:
    calls = [[[10.0, 2.0, 2.0, 2.0]] * 6, [[10.0, 4.0, 4.0, 4.0]] * 6]
    found = answering.summarise({1: calls, 4: calls}, 4, 4, None)
    assert found["first_token_ms"].value == 10.0
    assert found["token_ms"].value == 3.0
    assert found["token_ms"].n == 36
    assert found["token_ms"].spread == pytest.approx((2.2, 3.8))
    assert found["tokens_per_s"].value == pytest.approx(4 * 12 / (16 * 6 + 22 * 6) * 1e3)
    assert found["batch_tokens_per_s"].value == pytest.approx(4 * (found["tokens_per_s"].value or 0))
    assert found["token_p95_ms"].value is None  # 36 tokens are too few
    assert answering.summarise({}, 4, 4, "it died")["token_ms"].reason == "it died"
