"""Stored token targets: found by content, equal to live ones, never half there, never another teacher's."""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from lessen import context
from lessen.context import Context
from lessen.data.sequences import IGNORE, Blocks, Pairs, pack
from lessen.distill.tokens import cache as caches
from lessen.distill.tokens.cache import TokenCache, fingerprint, open_tokens
from lessen.distill.tokens.pieces import pieces_of
from lessen.distill.tokens.score import Keep, filled, keep, scorer, stored, teacher_targets
from lessen.distill.tokens.shards import Form, Scored, distance, joined, widened
from lessen.distill.tokens.targets import SparseTargets
from lessen.errors import ArtifactError, Cancelled, RecipeError, ResourceError, TrainingError
from lessen.models import language
from lessen.recipe import Distill
from lessen.runtime import Runtime

VOCAB, BLOCK, K = 60, 16, 5
CPU = Runtime(torch.device("cpu"), torch.float32)


class Tokenizer:
    pad_id, max_length, digest = 0, BLOCK, "p1"

    def collate(self, items, pad_to=None):
        width = max(map(len, items))
        ids, mask = np.zeros((2, len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            ids[row, : len(item)], mask[row, : len(item)] = item, 1
        return {"input_ids": ids, "attention_mask": mask}


def blocks(order=None, *, packed=True, processor=None, count=14):
    """Pieces of 2 to 16 positions, some of them prompts that are not supervised."""
    draw = np.random.default_rng(0)
    pieces = [draw.integers(1, VOCAB, 3 + (5 * i) % 15, dtype=np.int32) for i in range(count)]
    counted = [np.arange(len(p) - 1) >= (i % 3) * (len(p) > 4) for i, p in enumerate(pieces)]
    order = np.arange(count) if order is None else np.asarray(order)
    pieces, counted = [pieces[i] for i in order], [counted[i] for i in order]
    rows = pack([len(p) - 1 for p in pieces], BLOCK) if packed else [(i,) for i in range(len(order))]
    return Blocks(
        processor or Tokenizer(), pieces, counted, np.asarray([f"{i:08x}" for i in order]), order, rows, BLOCK
    )


def pairs():
    draw = np.random.default_rng(1)
    sources = [draw.integers(2, VOCAB, 3 + i % 4, dtype=np.int32) for i in range(9)]
    targets = [draw.integers(2, VOCAB, 2 + i % 5, dtype=np.int32) for i in range(9)]
    ids = np.asarray([f"{i:08x}" for i in range(9)])
    return Pairs(Tokenizer(), sources, targets, ids, np.full(9, -1), 0)


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=0.5)
    config._attn_implementation = "sdpa"
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def ctx(tmp_path):
    said = []
    return Context(out_dir=tmp_path, cache_dir=tmp_path, emit=said.append), said


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(caches, "SHARD_TOKENS", 40)
    monkeypatch.setattr(caches, "BATCH_TOKENS", 32)


TOP = Keep("top_k", K)
DRAWN = Keep("sampled", 12, seed=3)


def parts(data=None, teacher="t1", how=TOP, **more):
    return fingerprint(
        SimpleNamespace(digest=teacher), data or blocks(), torch.float32, vocab=VOCAB, kind=how.kind, size=how.size,
        seed=how.seed, **more,
    )  # fmt: skip


class Counted:
    """A score that notes what it is asked."""

    def __init__(self, score):
        self.score, self.asked, self.sizes = score, [], []

    def __call__(self, batch, pieces):
        self.asked += [name for name, _ in pieces]
        self.sizes.append(batch["input_ids"].size)
        return self.score(batch, pieces)


def teacher(gpt, how=TOP, chunk=7):
    return Counted(scorer(gpt, language.head(gpt), how, CPU, chunk=chunk))


def invented(batch, pieces):
    """A teacher without a model: k tokens after the one that is predicted."""
    said = batch["targets"][batch["targets"] != IGNORE]
    index = (said[:, None] + np.arange(K)) % VOCAB
    log_p = np.log(np.full(index.shape, 0.9 / K, dtype=np.float32))
    n = len(said)
    return Scored(index, log_p, np.log(np.full(n, 0.1, dtype=np.float32)), np.ones(n), np.full(n, 0.9))


def built(ctx, data, score, how=TOP, **more):
    cache = open_tokens(ctx.cache_dir, parts(data, how=how, **more), ctx)
    cache.fill(data, score, ctx)
    return cache


def live(gpt, data, rows, how=TOP):
    batch = {k: torch.from_numpy(v) for k, v in data.batch(np.asarray(rows)).items()}
    mask = batch.pop("targets") != IGNORE
    order = [p for r in rows for p in data.rows[r]]
    named = [(str(data.piece_ids[p]), int(data.counted[p].sum())) for p in order]
    with torch.no_grad():
        return teacher_targets(gpt, language.head(gpt), batch, mask, how, named)


def dense(targets):
    out = torch.zeros(len(targets), VOCAB)
    used = targets.index >= 0
    return out.scatter_add(1, targets.index.clamp_min(0), targets.log_p.exp().masked_fill(~used, 0.0))


def test_r28_stored_targets_are_the_live_ones_of_packed_rows_within_fp16(ctx, gpt):
    """R28: step 0 from the cache = step 0 live; |log p| is rounded by at most 2^-11 of itself."""
    ctx, _ = ctx
    data = blocks()
    cache = built(ctx, data, teacher(gpt))
    rows = [2, 0, 3]
    got, want = cache.targets(data, np.asarray(rows)), live(gpt, data, rows)
    assert len(got) == data.tokens[rows].sum()
    assert torch.equal(got.index, want.index)
    off = (got.log_p - want.log_p).abs()
    assert (off <= 2**-10 * want.log_p.abs() + 1e-3 * want.log_p.exp() + 1e-5).all()
    assert torch.allclose(got.tail.exp(), want.tail.exp(), atol=2e-3)
    assert torch.allclose(dense(got).sum(1) + got.tail.exp(), torch.ones(len(got)), atol=1e-6)


def test_r28_float32_storage_is_exact_to_the_order_of_sums(ctx, gpt):
    ctx, _ = ctx
    data = blocks()
    cache = built(ctx, data, teacher(gpt), exact=True)
    got, want = cache.targets(data, np.arange(len(data))), live(gpt, data, range(len(data)))
    assert torch.allclose(got.log_p, want.log_p, atol=1e-5)


def test_r22_order_packing_and_batch_sizes_move_nothing(ctx, gpt, monkeypatch):
    """R22: pieces are found by content; nothing is asked twice."""
    ctx, _ = ctx
    first = built(ctx, blocks(), teacher(gpt))
    order = np.random.default_rng(4).permutation(14)
    for other in (blocks(order), blocks(order, packed=False), blocks(order[:5])):
        asked = teacher(gpt)
        cache = built(ctx, other, asked)
        assert asked.asked == []
        for row, owned in enumerate(other.rows):
            got = cache.targets(other, np.asarray([row]))
            alone = blocks(packed=False)
            want = first.targets(alone, other.document[list(owned)])
            assert torch.equal(got.index, want.index)
            assert torch.equal(got.log_p, want.log_p)


def test_r22_a_piece_with_the_same_id_and_other_content_is_another(ctx):
    """R22: ids that do not tell contents apart give no wrong answer."""
    ctx, _ = ctx
    data = blocks()
    built(ctx, data, invented)
    masked = replace(data, counted=[c & (np.arange(len(c)) > 0) for c in data.counted])
    asked = Counted(invented)
    cache = built(ctx, masked, asked)
    assert len(asked.asked) == sum(not np.array_equal(a, b) for a, b in zip(data.counted, masked.counted, strict=True))
    assert len(cache.targets(masked, np.arange(len(masked)))) == masked.tokens.sum()


def test_r22_a_source_that_ends_earlier_is_another_pair():
    """R22: what is read and what is said are told apart."""
    ids, one, two = np.asarray(["a"]), np.asarray([5], dtype=np.int32), np.asarray([6, 7], dtype=np.int32)
    split = [
        Pairs(Tokenizer(), [source], [target], ids, np.zeros(1), start)
        for source, target, start in (
            (np.asarray([5, 6], dtype=np.int32), two[1:], 0),
            (one, two, 0),
            (one, two, 1),
        )
    ]
    assert len({pieces_of(data).keys[0] for data in split}) == 3


def test_the_teacher_reads_pieces_by_length_in_batches_of_bounded_size(ctx, gpt):
    ctx, _ = ctx
    asked, data = teacher(gpt), blocks()
    built(ctx, data, asked)
    length = dict(zip(data.piece_ids, (len(p) for p in data.pieces), strict=True))
    assert [length[i] for i in asked.asked] == sorted(length.values())
    assert max(asked.sizes) <= 32
    assert len(asked.sizes) > 3


def test_equal_pieces_are_read_once(ctx):
    ctx, _ = ctx
    data = blocks([3, 5, 3, 3])
    asked = Counted(invented)
    cache = built(ctx, data, asked)
    assert sorted(asked.asked) == [f"{i:08x}" for i in (3, 5)]
    assert len(cache.targets(data, np.arange(len(data)))) == data.tokens.sum()


def test_no_more_than_a_chunk_of_logits_exists(gpt, monkeypatch):
    """The head is applied in chunks of tokens."""
    sizes, plain = [], language.Head.logits
    monkeypatch.setattr(language.Head, "logits", lambda self, s: sizes.append(len(s)) or plain(self, s))
    data = blocks()
    teacher(gpt, chunk=7)(data.batch(np.arange(len(data))), [])
    assert max(sizes) == 7
    assert sum(sizes) == data.tokens.sum()


def test_pairs_come_in_the_order_of_their_targets(ctx):
    ctx, _ = ctx
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    t5 = T5ForConditionalGeneration(config).eval()
    data = pairs()
    cache = built(ctx, data, scorer(t5, language.head(t5), TOP, CPU))
    rows = np.asarray([7, 0, 4])
    batch = {k: torch.from_numpy(v) for k, v in data.batch(rows).items()}
    mask = batch.pop("targets") != IGNORE
    with torch.no_grad():
        want = teacher_targets(t5, language.head(t5), batch, mask, TOP)
    got = cache.targets(data, rows)
    assert torch.equal(got.index, want.index)
    assert torch.allclose(got.log_p, want.log_p, atol=1e-2)


def test_r27_draws_depend_on_the_text_and_the_seed_alone(ctx, gpt):
    """R27: batches and packing do not change what is drawn; another seed does."""
    ctx, _ = ctx
    data = blocks()
    cache = built(ctx, data, teacher(gpt, DRAWN), DRAWN)
    rows = list(range(len(data)))
    got, want = cache.targets(data, np.asarray(rows)), live(gpt, data, rows, DRAWN)
    assert got.tail is None
    assert torch.equal(dense(got) > 0, dense(want) > 0)
    assert torch.allclose(dense(got), dense(want), atol=2e-3)
    assert torch.allclose(dense(got).sum(1), torch.ones(len(got)), atol=1e-6)
    other = live(gpt, data, rows, replace(DRAWN, seed=4))
    assert not torch.equal(dense(other) > 0, dense(want) > 0)


def test_r27_positions_of_a_text_have_draws_of_their_own(gpt, monkeypatch):
    """R27: blocks of draws do not repeat each other."""
    monkeypatch.setattr("lessen.distill.tokens.score.DRAW_BLOCK", 2)
    data = Blocks(
        Tokenizer(),
        [np.full(9, 5, dtype=np.int32)],
        [np.ones(8, dtype=bool)],
        np.asarray(["a"]),
        np.zeros(1),
        [(0,)],
        8,
    )
    flat = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=8, n_layer=1, n_head=1, n_positions=16)).eval()
    drawn = dense(live(flat, data, [0], DRAWN))
    assert len({tuple(row.tolist()) for row in drawn}) == 8


def test_samples_take_only_the_room_they_need(ctx, gpt):
    """A position keeps as many tokens as were drawn, not the most that could be."""
    ctx, _ = ctx
    data = blocks()
    cache = built(ctx, data, teacher(gpt, DRAWN), DRAWN)
    kept = sum(len(cache._maps(f)["index"]) for f in cache._files)
    counts = (live(gpt, data, range(len(data)), DRAWN).index >= 0).sum()
    assert kept == counts < DRAWN.size * data.tokens.sum()


def test_r29_an_interrupted_build_goes_on_and_equals_the_uninterrupted(ctx, gpt, tmp_path):
    """R29: complete shards are kept; all bytes of the answers are the same."""
    ctx, _ = ctx
    data, calls = blocks(), []

    def stop():
        calls.append(1)
        if len(calls) > 4:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        built(replace(ctx, check=stop), data, teacher(gpt))
    cache = open_tokens(ctx.cache_dir, parts(), ctx)
    there = len(cache._keys)
    assert 0 < there < 14
    asked = teacher(gpt)
    assert cache.fill(data, asked, ctx) == 14 - there == len(asked.asked)
    whole = built(replace(ctx, cache_dir=tmp_path / "other"), data, teacher(gpt))
    rows = np.arange(len(data))
    assert torch.equal(cache.targets(data, rows).log_p, whole.targets(data, rows).log_p)
    assert {f.name for f in cache.path.iterdir()} == {f.name for f in whole.path.iterdir()}


def process(target, *given):
    child = multiprocessing.get_context("fork").Process(target=target, args=given)
    child.start()
    return child


def test_r29_two_processes_that_build_at_once_do_no_harm(ctx):
    """R29: both end well, and what is there is whole."""
    ctx, said = ctx
    quiet = replace(ctx, emit=lambda event: None)
    children = [process(built, quiet, blocks(order), invented) for order in (None, np.arange(14)[::-1])]
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0]
    asked = Counted(invented)
    cache = built(ctx, blocks(), asked)
    assert asked.asked == []
    assert not [e for e in said if e.kind == "Log"]
    assert cache.facts()["pieces"] == 14


def test_r29_processes_share_the_work(ctx):
    ctx, _ = ctx
    data, asked = blocks(), [Counted(invented), Counted(invented)]
    ranks = [open_tokens(ctx.cache_dir, parts(), ctx) for _ in range(2)]
    for rank, cache in enumerate(ranks):
        cache.fill(data, asked[rank], ctx, share=(rank, 2))
    assert sorted(asked[0].asked + asked[1].asked) == sorted(data.piece_ids)
    ranks[0].read(ctx)
    assert len(ranks[0].targets(data, np.arange(len(data)))) == data.tokens.sum()


@pytest.mark.parametrize("last", range(5, 11))
def test_r29_a_kill_in_the_middle_of_a_shard_leaves_no_half_of_it(last, ctx):
    """R29: whichever file was being written, what can be read is whole and the build goes on.

    Each file syncs twice, before and after it takes its name: the manifest, the note, then shards and their lists.
    """
    ctx, said = ctx

    def killed():
        seen = []

        def fsync(handle):
            seen.append(handle)
            if len(seen) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        context.os.fsync = fsync
        built(replace(ctx, emit=lambda event: None), blocks(), invented)

    child = process(killed)
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    cache = open_tokens(ctx.cache_dir, parts(), ctx)
    data = blocks()
    cache.fill(data, invented, ctx)
    assert not [e for e in said if e.kind == "Log"]
    assert len(cache.targets(data, np.arange(len(data)))) == data.tokens.sum()


def test_r29_a_damaged_shard_is_computed_again_with_a_warning(ctx):
    """R29: checksums; a flipped bit never becomes a target, and the bad file goes."""
    ctx, said = ctx
    cache = built(ctx, blocks(), invented)
    shard = sorted(cache.path.glob("*.safetensors"))[0]
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(bytes(raw))
    asked = Counted(invented)
    again = built(ctx, blocks(), asked)
    assert 0 < len(asked.asked) < 14
    assert [e for e in said if e.kind == "Log" and e.level == "warning" and "damaged" in e.message]
    said.clear()
    last = built(ctx, blocks(), Counted(invented))
    assert not [e for e in said if e.kind == "Log"]
    assert last.facts()["tokens"] == again.facts()["tokens"] == blocks().tokens.sum()


def test_r29_a_damaged_shard_goes_once_its_pieces_are_there_anew(ctx, monkeypatch):
    """R29: also where they now lie in shards of other names."""
    ctx, said = ctx
    cache = built(ctx, blocks(), invented)
    shard = sorted(cache.path.glob("*.safetensors"))[0]
    shard.write_bytes(b"half")
    monkeypatch.setattr(caches, "SHARD_TOKENS", 7)
    built(ctx, blocks(), invented)
    assert not shard.exists()
    assert not shard.with_suffix(".json").exists()
    said.clear()
    built(ctx, blocks(), invented)
    assert not [e for e in said if e.kind == "Log"]


def test_r29_what_killed_processes_left_goes_after_a_day(ctx):
    ctx, _ = ctx
    cache = built(ctx, blocks(), invented)
    old, new = cache.path / ".shard-a.safetensors.x1", cache.path / ".shard-b.safetensors.x2"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    built(ctx, blocks(), invented)
    assert not old.exists()
    assert new.exists()


def test_r29_only_safetensors_and_json_and_no_shard_is_read_whole(ctx):
    """R29: no pickle; tensors are views of mapped bytes."""
    ctx, _ = ctx
    cache = built(ctx, blocks(), invented)
    assert {f.suffix for f in cache.path.iterdir()} == {".safetensors", ".json"}
    base = cache._maps(cache._files[0])["index"]
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        ({"teacher": "t2"}, "teacher"),
        ({"how": replace(TOP, size=4)}, "k"),
        ({"how": DRAWN}, "targets, draws, seed, k"),
        ({"router": "all"}, "router"),
        ({"exact": True}, "values"),
    ],
)
def test_r23_a_cache_of_something_else_is_refused_by_name(theirs, named, ctx):
    """R23: a mismatch is an error that names what differs."""
    ctx, _ = ctx
    mine = built(ctx, blocks(), invented)
    with pytest.raises(ArtifactError) as caught:
        TokenCache(mine.path, parts(**theirs)).read(ctx)
    assert f"(differs in: {named})" in caught.value.message


def test_r23_every_part_of_the_fingerprint_counts(monkeypatch):
    """R23: teacher, processor, precision, longest piece, libraries."""
    other = Tokenizer()
    other.digest = "p2"
    made = [
        parts(),
        parts(teacher="t2"),
        parts(blocks(processor=other)),
        parts(replace(blocks(), block=8)),
        parts(pairs()),
    ]
    monkeypatch.setattr("lessen.distill.cache.version", lambda name: "0")
    digests = {context.digest(p) for p in [*made, parts()]}
    assert len(digests) == 6


def test_r23_data_of_another_tokenizer_are_refused(ctx):
    ctx, _ = ctx
    cache = built(ctx, blocks(), invented)
    other = Tokenizer()
    other.digest = "p2"
    with pytest.raises(ArtifactError, match="differs in: processor"):
        cache.targets(blocks(processor=other), np.arange(2))


def test_texts_that_are_not_there_are_refused(ctx):
    ctx, _ = ctx
    cache = built(ctx, blocks(range(3)), invented)
    with pytest.raises(ArtifactError, match="11 of 14 texts are not in"):
        cache.targets(blocks(packed=False), np.arange(14))


def test_r28_verify_scores_random_texts_again_and_finds_a_wrong_cache(ctx, gpt):
    """R28: cached and live agree, or the run stops; the largest difference is told."""
    ctx, _ = ctx
    data = blocks()
    for how in (TOP, DRAWN):
        cache, asked = built(ctx, data, teacher(gpt, how), how), teacher(gpt, how)
        found = cache.verify(data, asked, count=3)
        assert len(asked.asked) == 3
        assert 0 <= found.mean <= found.largest < 2e-3
        other = GPT2LMHeadModel(gpt.config).eval()
        with pytest.raises(ArtifactError, match="differs from the teacher: by"):
            cache.verify(data, teacher(other, how))


def test_distance_is_half_the_difference_of_probabilities():
    def of(index, p, tail):
        return torch.tensor([index]), torch.tensor([p]).log(), torch.tensor([tail]).log()

    kept = SparseTargets(*of([3, 1], [0.5, 0.3], 0.2))
    same = Scored(*(t.numpy() for t in of([1, 3], [0.3, 0.5], 0.2)), np.zeros(1), np.zeros(1))
    assert distance(kept, same) == pytest.approx([0], abs=1e-7)
    moved = Scored(*(t.numpy() for t in of([3, 1], [0.3, 0.5], 0.2)), np.zeros(1), np.zeros(1))
    assert distance(kept, moved) == pytest.approx([0.2])
    swapped = Scored(*(t.numpy() for t in of([3, 2], [0.5, 0.3], 0.2)), np.zeros(1), np.zeros(1))
    assert distance(kept, swapped) == pytest.approx([0], abs=1e-7)  # token 1 may have had 0.3 there too
    fewer = Scored(*(t.numpy() for t in of([3, 2], [0.7, 0.1], 0.2)), np.zeros(1), np.zeros(1))
    assert distance(kept, fewer) == pytest.approx([(0.2 + 0.2) / 2])


@pytest.mark.parametrize("how", [TOP, DRAWN])
def test_an_answer_that_is_not_finite_stops_and_is_never_stored(how, ctx, gpt):
    ctx, _ = ctx
    broken = GPT2LMHeadModel(gpt.config).eval()
    with torch.no_grad():
        broken.transformer.wte.weight[7] = torch.nan
    cache = open_tokens(ctx.cache_dir, parts(how=how), ctx)
    with pytest.raises(TrainingError, match="not finite for"):
        cache.fill(blocks(), teacher(broken, how), ctx)
    assert list(cache.path.glob("shard-*")) == []
    with pytest.raises(TrainingError, match="not finite"):
        live(broken, blocks(), [0, 1], how)


def test_storage_is_what_it_says(ctx):
    """Bytes a token, and how much less that is than fp16 logits of the vocabulary."""
    ctx, _ = ctx
    cache = built(ctx, blocks(), invented)
    facts, n = cache.facts(), int(blocks().tokens.sum())
    tensors = sum(sum(t.nbytes for t in cache._maps(f).values()) for f in cache._files)
    assert tensors == n * cache.form.bytes_per_token(K) == n * (4 * K + 8)
    assert facts["tokens"] == n
    assert facts["bytes"] == sum(f.stat().st_size for f in cache.path.glob("shard-*"))
    assert facts["dense_fp16_ratio"] == pytest.approx(2 * VOCAB / facts["bytes_per_token"])
    assert facts["kept_mean"] == pytest.approx(0.9)
    assert facts["entropy_mean"] == pytest.approx(1.0)


def test_entropy_and_kept_mass_of_positions(ctx, gpt):
    ctx, _ = ctx
    data = blocks()
    cache = built(ctx, data, teacher(gpt))
    batch = {k: torch.from_numpy(v) for k, v in data.batch(np.asarray([1])).items()}
    mask = batch.pop("targets") != IGNORE
    with torch.no_grad():
        p = gpt(**batch).logits[mask].softmax(-1)
    found = cache.positions(data, np.asarray([1]))
    assert np.allclose(found["entropy"], -(p * p.log()).sum(-1).numpy(), atol=2e-3)
    assert np.allclose(found["kept"], p.topk(K).values.sum(-1).numpy(), atol=1e-3)


@pytest.mark.parametrize(("vocab", "dtype"), [(65536, np.uint16), (65537, np.int32)])
def test_token_ids_are_as_wide_as_the_vocabulary_needs(vocab, dtype):
    form = Form(vocab, sampled=False)
    index = np.asarray([[0, 65535, 40000, -1]])
    log_p = np.asarray([[*np.log([0.5, 0.25, 0.125]), -np.inf]])
    tensors = joined([form.tensors(Scored(index, log_p, np.log(np.asarray([0.125])), np.ones(1), np.ones(1)))])
    assert tensors["index"].dtype == dtype
    got = widened(tensors)
    assert got.index.tolist() == index.tolist()
    assert torch.allclose(got.log_p, torch.from_numpy(log_p).float(), atol=1e-3)


def test_a_disk_without_room_is_told_before_the_teacher_reads(ctx, monkeypatch):
    ctx, _ = ctx
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    asked = Counted(invented)
    with pytest.raises(ResourceError, match="free"):
        built(ctx, blocks(), asked)
    assert asked.asked == []


def test_what_was_asked_for_is_noted_as_complete_or_not(ctx):
    ctx, _ = ctx

    def stop():
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        built(replace(ctx, check=stop), blocks(), invented)
    (note,) = open_tokens(ctx.cache_dir, parts(), ctx).path.glob("asked-*")
    assert json.loads(note.read_text()) == {"pieces": 14, "tokens": int(blocks().tokens.sum()), "complete": False}
    built(ctx, blocks(), invented)
    assert json.loads(note.read_text())["complete"]


def test_stored_fills_verifies_and_tells(ctx, gpt):
    """What the training stage calls."""
    ctx, said = ctx
    artifact = SimpleNamespace(digest="t1", path=ctx.out_dir, info=SimpleNamespace(source="scratch", family="gpt2"))
    opened = SimpleNamespace(module=gpt, processor=SimpleNamespace(vocab_size=VOCAB))
    cfg = Distill(top_k=K)
    cache, facts = stored(artifact, opened, blocks(), cfg, CPU, ctx)
    assert (facts["pieces_asked"], facts["pieces_computed"]) == (14, 14)
    assert facts["verified"]["largest"] < 2e-3
    again, facts = stored(artifact, opened, blocks(), cfg, CPU, ctx)
    assert facts["pieces_computed"] == 0
    assert again.path == cache.path
    assert "0 texts computed, 14 from the cache" in said[-1].message


def test_stored_takes_what_other_processes_computed(ctx, gpt):
    """Each computes its share; then all of them read everything."""
    ctx, _ = ctx
    data, asked = blocks(), teacher(gpt)
    other = open_tokens(ctx.cache_dir, parts(), ctx)

    def barrier(value):
        if other.missing(data).size == 14:
            other.fill(data, teacher(gpt), ctx, share=(1, 2))
        return value

    cache = open_tokens(ctx.cache_dir, parts(), ctx)
    facts = filled(cache, data, asked, SimpleNamespace(rank=0, world=2, least=barrier), ctx)
    assert facts["tokens"] == data.tokens.sum()
    assert len(cache.targets(data, np.arange(len(data)))) == data.tokens.sum()
    (note,) = cache.path.glob("asked-*")
    assert json.loads(note.read_text())["complete"]


def test_whole_distributions_are_not_stored():
    assert keep(Distill(targets="sampled", draws=9), 5) == Keep("sampled", 9, 5)
    assert keep(Distill(), 5) == Keep("top_k", 64)
    with pytest.raises(RecipeError, match="dense"):
        keep(Distill(targets="dense"), 0)
