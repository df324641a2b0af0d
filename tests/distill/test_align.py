"""Two tokenizers brought together by bytes: spans, vocabularies, and the loss between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lessen.data.sequences import IGNORE, Blocks, cut, pack
from lessen.distill.divergence import divergence
from lessen.distill.objectives import kl
from lessen.distill.tokens.align import align, aligned_loss, aligned_values, ended, sorted_distance
from lessen.distill.tokens.matches import match
from lessen.distill.tokens.words import byte_offsets, shared, token_bytes, vocabularies
from lessen.errors import ModelError
from lessen.models.language import Head
from lessen.processors import TextProcessor, train_bpe_processor, train_text_processor

TEXTS = ["the cat sat on the mat", "a cat and a hat", "ärger über das Café ☕ naïve", "die Katze saß"] * 3
SMALL = train_bpe_processor(TEXTS[:8], vocab_size=265, max_length=16)
LARGE = train_bpe_processor(TEXTS, vocab_size=295, max_length=16)


WORDS = {id(p): token_bytes(p) for p in (SMALL, LARGE)}


def offsets_of(processor, text):
    ids, _ = processor.tokens([text])[0]
    return byte_offsets(ids, WORDS.get(id(processor)) or token_bytes(processor), text)


def ends(*lengths):
    last = np.cumsum(lengths)
    return np.stack([last - lengths, last], axis=1)


def whole(spans, total, sides):
    """Check that spans cover every byte once and in order, and are cut wherever both sides are."""
    assert spans.bytes[:, 0].tolist() == [0, *spans.bytes[:-1, 1].tolist()] if total else len(spans) == 0
    assert (spans.bytes[:, 1] > spans.bytes[:, 0]).all()
    assert (spans.bytes[-1, 1] if len(spans) else 0) == total
    for tokens, offsets in zip((spans.teacher, spans.student), sides, strict=True):
        for (first, last), (start, end) in zip(tokens, spans.bytes, strict=True):
            assert offsets[first, 0] == start
            assert offsets[last - 1, 1] == end
        assert sorted(i for first, last in tokens for i in range(first, last)) == list(range(len(offsets)))
    common = set(sides[0][:, 1].tolist()) & set(sides[1][:, 1].tolist())
    assert common == set(spans.bytes[:, 1].tolist())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_spans_cover_all_bytes_of_any_text_once_and_in_order(text):
    sides = [offsets_of(LARGE, text), offsets_of(SMALL, text)]
    whole(align(*sides), len(text.encode()), sides)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_spans_cover_all_bytes_whatever_the_tokens(data):
    total = data.draw(st.integers(0, 30))
    sides = []
    for _ in range(2):
        inner = data.draw(st.sets(st.integers(1, max(total - 1, 1)), max_size=10)) if total > 1 else set()
        bounds = np.asarray(sorted({0, total, *inner}))
        sides.append(np.stack([bounds[:-1], bounds[1:]], axis=1))
    whole(align(*sides), total, sides)


def test_a_token_that_the_other_side_splits_makes_one_span():
    teacher, student = ends(3, 4, 2), ends(3, 1, 3, 2)
    spans = align(teacher, student)
    assert spans.bytes.tolist() == [[0, 3], [3, 7], [7, 9]]
    assert spans.teacher.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert spans.student.tolist() == [[0, 1], [1, 3], [3, 4]]
    assert spans.single.tolist() == [True, False, True]


def test_tokens_across_each_other_make_one_span_until_both_end():
    spans = align(ends(2, 3, 1), ends(1, 3, 2))
    assert spans.bytes.tolist() == [[0, 6]]
    assert not spans.single.any()


def test_special_tokens_are_in_no_span_and_shift_no_index():
    """R32: <s> of one side has no bytes."""
    teacher = np.asarray([[0, 0], [0, 3], [3, 5], [5, 5]])
    spans = align(teacher, ends(3, 2))
    assert spans.teacher.tolist() == [[1, 2], [2, 3]]
    assert spans.student.tolist() == [[0, 1], [1, 2]]


def test_r32_without_a_start_token_nothing_predicts_the_first_one():
    """R32: one side reads a start token, the other none: positions differ by one, the first span falls out."""
    spans = align(ends(3, 2, 4), ends(3, 2, 4))
    there, teacher, student = spans.positions(teacher_start=1, student_start=0)
    assert (there.tolist(), teacher.tolist(), student.tolist()) == ([1, 2], [1, 2], [0, 1])
    there, teacher, student = spans.positions()
    assert (there.tolist(), teacher.tolist(), student.tolist()) == ([0, 1, 2], [0, 1, 2], [0, 1, 2])
    _, teacher, student = spans.positions(teacher_start=2, student_start=1)
    assert (teacher.tolist(), student.tolist()) == ([1, 2, 3], [0, 1, 2])


def test_end_tokens_meet_as_one_more_byte():
    spans = align(ended(ends(3, 2)), ended(ends(5)))
    assert spans.bytes.tolist() == [[0, 5], [5, 6]]
    assert spans.single.tolist() == [False, True]
    assert align(ended(ends()), ended(ends())).bytes.tolist() == [[0, 1]]


def test_cut_texts_are_matched_as_far_as_both_go():
    assert align(ends(3, 2, 4), ends(3, 2), cut=True).bytes.tolist() == [[0, 3], [3, 5]]
    with pytest.raises(ModelError, match="cover 9 bytes, the student's 5"):
        align(ends(3, 2, 4), ends(3, 2))


@pytest.mark.parametrize("offsets", [[[1, 3]], [[0, 2], [3, 5]], [[0, 3], [2, 5]], [[0, 3], [3, 1]]])
def test_tokens_that_leave_bytes_out_or_cover_some_twice_are_refused(offsets):
    with pytest.raises(ModelError, match="do not cover the text once"):
        align(np.asarray(offsets), ends(5))


def test_letters_of_several_bytes_may_be_split():
    text = "é☕"
    sides = [offsets_of(SMALL, text), offsets_of(LARGE, text)]
    assert sides[0][-1, 1] == 5
    assert len(sides[0]) > 2


def sentencepiece(*, lower=False, prepend=True):
    """A Unigram tokenizer as Llama and T5 have: spaces as ▁, one before the text, bytes as fallback."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("▁the", -1.0), ("▁cat", -1.0), ("▁", -3.0), ("c", -4.0), ("at", -3.5)]
    vocab += [(f"<0x{b:02X}>", -9.0) for b in range(256)]
    made = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    scheme = "first" if prepend else "never"
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme, split=False)])
    if lower:
        made.normalizer = normalizers.Lowercase()
    made.add_special_tokens(["<pad>", "</s>"])
    return TextProcessor(made, {"pad_token": "<pad>", "eos_token": "</s>"}, 16, 0)


def test_sentencepiece_tokens_spell_the_text_without_the_space_before_it():
    made = sentencepiece()
    words = token_bytes(made)
    assert words[:7] == [None, None, b" the", b" cat", b" ", b"c", b"at"]
    assert words[7 + 0xC3] == b"\xc3"
    assert offsets_of(made, "the cat").tolist() == [[0, 3], [3, 7]]
    text = "the é cat"
    spans = align(offsets_of(SMALL, text), offsets_of(made, text))
    assert spans.bytes[-1, 1] == len(text.encode())


def test_of_two_tokens_with_the_same_bytes_one_is_shared():
    words = shared([b"a", b"b", b"a"], [b"a", b"c"])
    assert words.teacher.tolist() == [2]
    assert words.student.tolist() == [0]
    assert words.teacher_rest.tolist() == [0, 1]
    assert words.student_rest.tolist() == [1]


def test_end_tokens_are_shared_whatever_they_are_called():
    words = shared([None, b"a", None], [b"a", None], ends=(2, 1))
    assert words.pairs.tolist() == [1, 2]
    assert words.same(np.asarray([1, 0, 1]), np.asarray([2, 1, 1])).tolist() == [True, True, False]


def test_an_end_token_is_shared_with_nothing_else():
    """An ordinary token that is spelled as the other side's end token is not it."""
    words = shared([b"a", b"</s>"], [b"</s>", b"a", None], ends=(1, 2))
    assert words.pairs.tolist() == [-1, 0, 1]


def test_byte_level_tokens_are_read_as_bytes():
    words = token_bytes(LARGE)
    assert sorted(w for w in words if w is not None and len(w) == 1) == [bytes([b]) for b in range(256)]
    assert words[LARGE.eos_id] is None
    assert b" the" in words or b"the" in words
    both = vocabularies(LARGE, SMALL)
    assert len(both.student) >= 256
    for ours, theirs in zip(both.student.tolist(), both.teacher.tolist(), strict=True):
        assert token_bytes(SMALL)[ours] == words[theirs]


def test_what_cannot_work_is_refused():
    with pytest.raises(ModelError, match="same vocabulary"):
        vocabularies(SMALL, SMALL.cut_to(9))
    pieces = train_text_processor(TEXTS, vocab_size=60, max_length=16)
    with pytest.raises(ModelError, match="does not give the text back"):
        vocabularies(SMALL, pieces)
    with pytest.raises(ModelError, match="share no token"):
        shared([b"a", None], [b"b", None], ends=(1, 1))
    lower = sentencepiece(lower=True)
    with pytest.raises(ModelError, match="loses or normalizes"):
        offsets_of(lower, "the Cat")
    assert len(offsets_of(lower, "the cat")) == 2
    with pytest.raises(ModelError, match="do not spell the text"):
        byte_offsets(np.asarray([2]), [None, None, b"the"], "the cat")


def test_a_normalizer_that_folds_spaces_is_refused_where_it_does():
    made = sentencepiece()
    made.tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    assert len(offsets_of(made, "the cat"))
    with pytest.raises(ModelError, match="at byte"):
        offsets_of(made, "the  cat")


def logits(n, size, seed):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed)) * 3


ALL = torch.ones(6, dtype=torch.bool)
NONE = ~ALL


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_identical_tokenizers_give_exactly_the_ordinary_kl(temperature):
    """Value and gradient, also where the ids are in another order."""
    names = [bytes([65 + i]) for i in range(11)]
    order = np.random.default_rng(0).permutation(11)
    words = shared(names, [names[i] for i in order])
    teacher, student = logits(6, 11, 0), logits(6, 11, 1).requires_grad_()
    plain = kl.loss(student, teacher, torch.zeros(6), temperature=temperature, sigmoid=False)
    (want,) = torch.autograd.grad(plain.sum(), student)
    ours = student.detach()[:, order].requires_grad_()
    got = aligned_loss(
        (ours / temperature).log_softmax(1), (teacher / temperature).log_softmax(1), ALL, words, temperature=temperature
    )
    (grad,) = torch.autograd.grad(got.sum(), ours)
    assert torch.allclose(got, plain, atol=1e-6)
    assert torch.allclose(grad, want[:, order], atol=1e-6)
    same = shared(names, names)
    exactly = aligned_loss(student.detach().log_softmax(1), teacher.log_softmax(1), ALL, same)
    assert torch.equal(exactly, divergence(teacher.log_softmax(1), student.detach().log_softmax(1)))


def test_tokens_of_one_side_alone_are_one_bucket():
    words = shared([b"a", b"b", b"x", b"y"], [b"q", b"b", b"a"])
    p, q = torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.tensor([[0.5, 0.2, 0.3]])
    want = sum(a * np.log(a / b) for a, b in [(0.1, 0.3), (0.2, 0.2), (0.7, 0.5)])
    assert float(aligned_loss(q.log(), p.log(), ALL[:1], words)) == pytest.approx(want, abs=1e-6)


def test_a_student_without_other_tokens_learns_what_is_shared():
    """Its loss stays finite: mass that it can never have is left out."""
    words = shared([b"a", b"b", b"x"], [b"b", b"a"])
    p, q = torch.tensor([[0.1, 0.3, 0.6]]), torch.tensor([[0.5, 0.5]])
    want = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert float(aligned_loss(q.log(), p.log(), ALL[:1], words)) == pytest.approx(want, abs=1e-6)
    more = shared([b"b", b"a"], [b"a", b"b", b"x"])
    q = torch.tensor([[0.25, 0.25, 0.5]])
    want = 0.5 * np.log(0.5 / 0.25) * 2
    assert float(aligned_loss(q.log(), torch.tensor([[0.5, 0.5]]).log(), ALL[:1], more)) == pytest.approx(want)


def test_other_spans_compare_sorted_probabilities_padded_with_zeros():
    p, q = torch.tensor([[0.1, 0.2, 0.7]]), torch.tensor([[0.1, 0.5, 0.1, 0.3]])
    want = abs(0.7 - 0.5) + abs(0.2 - 0.3) + abs(0.1 - 0.1) + 0.1
    assert float(sorted_distance(q.log(), p.log())) == pytest.approx(want, abs=1e-6)
    assert float(sorted_distance(p.log()[:, [2, 0, 1]], p.log())) == 0
    words = shared([b"a", b"b", b"c"], [b"a", b"d", b"e", b"f"])
    assert float(aligned_loss(q.log(), p.log(), NONE[:1], words, temperature=3)) == pytest.approx(3 * want, abs=1e-6)


def test_spans_of_both_kinds_keep_their_places():
    words = shared([bytes([65 + i]) for i in range(9)], [bytes([67 + i]) for i in range(10)])
    p, q = logits(6, 9, 0).log_softmax(1), logits(6, 10, 1).log_softmax(1)
    exact = torch.tensor([True, False, False, True, True, False])
    got = aligned_loss(q, p, exact, words)
    for i in range(6):
        assert torch.allclose(got[i], aligned_loss(q[i : i + 1], p[i : i + 1], exact[i : i + 1], words)[0])
    assert (got > 0).all()


def test_chunks_change_neither_values_nor_gradients_and_bound_the_logits(monkeypatch):
    words = shared([bytes([65 + i]) for i in range(9)], [bytes([67 + i]) for i in range(10)])
    weight = logits(12, 5, 2).requires_grad_()
    heads = Head(weight, None, 1.0, None, 10), Head(logits(9, 4, 3), None, 1.0, 5.0, 9)
    states, theirs = logits(7, 5, 4).requires_grad_(), logits(7, 4, 5)
    exact = torch.tensor([True, False, True, True, False, False, True])
    sizes, plain = [], Head.logits
    monkeypatch.setattr(Head, "logits", lambda self, s: sizes.append(len(s)) or plain(self, s))
    found = []
    for chunk in (7, 3):
        sizes.clear()
        values = aligned_values(states, heads[0], theirs, heads[1], exact, words, temperature=2.0, chunk=chunk)
        found.append((values, *torch.autograd.grad(values.sum(), (states, weight))))
        assert max(sizes) == chunk
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert found[0][2][10:].abs().max() == 0  # padding rows of the head
    q = (heads[0].logits(states)[:, :10] / 2).log_softmax(1)
    p = (heads[1].logits(theirs) / 2).log_softmax(1)
    assert torch.allclose(found[0][0], aligned_loss(q, p, exact, words, temperature=2.0), atol=1e-6)
    empty = aligned_values(states[:0], heads[0], theirs[:0], heads[1], exact[:0], words)
    assert empty.shape == (0,)


def encoded(processor, texts, block=6, counted=None):
    """Blocks as the data part makes them: start token, text, end token."""
    pieces, document = [], []
    for number, text in enumerate(texts):
        ids, _ = processor.tokens([text])[0]
        tokens = np.concatenate([[processor.eos_id], ids, [processor.eos_id]]).astype(np.int32)
        mask = np.ones(len(tokens) - 1, dtype=bool) if counted is None else counted(len(tokens) - 1)
        found = cut(tokens, mask, block)
        pieces += found
        document += [number] * len(found)
    rows = pack([len(p) - 1 for p, _ in pieces], block)
    ids = np.asarray([f"{i:04x}" for i in range(len(pieces))])
    return Blocks(processor, [p for p, _ in pieces], [c for _, c in pieces], ids, np.asarray(document), rows, block)


def prefix(blocks, words, piece, position):
    """Return the bytes of a document that a position has read, pieces before it included."""
    same = [p for p in range(len(blocks.pieces)) if blocks.document[p] == blocks.document[piece] and p < piece]
    ids = [int(t) for p in same for t in blocks.pieces[p][1:]] + blocks.pieces[piece][1 : position + 1].tolist()
    return b"".join(words[t] or b"" for t in ids)


def test_matched_positions_have_read_the_same_bytes():
    """Whatever the pieces and the packing: same document, same bytes so far, on both sides."""
    texts = list(dict.fromkeys(TEXTS))
    student, teacher = encoded(SMALL, texts), encoded(LARGE, texts, block=5)
    found = match(student, teacher, texts)
    words = token_bytes(SMALL), token_bytes(LARGE)
    seen = 0
    for rows in ([0, 2, 1], list(range(len(student)))):
        got = found.of(np.asarray(rows))
        batch, told = student.batch(np.asarray(rows)), found.teacher.batch(got.pieces)
        for (row, at), (index, position), exact in zip(got.student, got.teacher, got.exact, strict=True):
            owned = student.rows[rows[row]]
            starts = np.cumsum([0, *(len(student.pieces[p]) - 1 for p in owned)])
            which = int(np.searchsorted(starts, at, side="right") - 1)
            piece, theirs = owned[which], int(got.pieces[index])
            assert student.document[piece] == teacher.document[theirs]
            assert prefix(student, words[0], piece, at - starts[which]) == prefix(teacher, words[1], theirs, position)
            tokens = int(batch["targets"][row, at]), int(told["targets"][index, position])
            assert exact == found.words.same(np.asarray(tokens[0]), np.asarray(tokens[1]))
            seen += 1
    assert seen > found.facts["spans"] > found.facts["exact"] > 0
    assert sum(len(s) for s in found.spans) == found.facts["spans"]


def test_every_end_token_is_matched():
    texts = list(dict.fromkeys(TEXTS))
    found = match(encoded(SMALL, texts, 64), encoded(LARGE, texts, 64), texts)
    got = found.of(np.arange(len(found.student)))
    targets = found.student.batch(np.arange(len(found.student)))["targets"]
    ends_at = [(r, c) for r, c in zip(*np.nonzero(targets == SMALL.eos_id), strict=True)]
    exact = [tuple(s) for s, e in zip(got.student.tolist(), got.exact, strict=True) if e]
    assert set(ends_at) <= set(exact)
    assert len(ends_at) == len(texts)


def test_only_supervised_positions_are_matched():
    texts = ["the cat sat on the mat"]
    student = encoded(SMALL, texts, 64, counted=lambda n: np.arange(n) >= 4)
    found = match(student, encoded(LARGE, texts, 64), texts)
    got = found.of(np.asarray([0]))
    targets = student.batch(np.asarray([0]))["targets"]
    assert len(got.exact)
    assert (targets[got.student[:, 0], got.student[:, 1]] != IGNORE).all()


def test_documents_with_pieces_left_out_are_refused():
    texts = ["the cat sat on the mat and the cat sat on the mat"]
    student = encoded(SMALL, texts, 4, counted=lambda n: np.arange(n) < 3)
    with pytest.raises(ModelError, match="not whole"):
        match(student, encoded(LARGE, texts, 64), texts)
