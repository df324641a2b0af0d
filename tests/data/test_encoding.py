"""Texts as token ids: what each position predicts, what is counted, and what the cache may answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lessen import data, recipe
from lessen.data.encoding import document_bytes, prompts_of, sequences_of
from lessen.data.sequences import IGNORE, Blocks
from lessen.data.split import Split, Splits
from lessen.errors import DataError, ModelError, RecipeError
from lessen.processors import TextProcessor, train_bpe_processor

DOCUMENTS = ["the quick brown fox", "যদি দেখো আকাশ ভরা তারা", "a", "</s> is <pad>", "the fox\n\nthe fox " * 4]
PROCESSOR = train_bpe_processor(DOCUMENTS, vocab_size=290, max_length=64)
EOS = PROCESSOR.eos_id


def objects(values) -> np.ndarray:
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def split_of(inputs, labels=None, name="train") -> Split:
    ids = np.asarray([f"{i:016x}" for i in range(len(inputs))])
    return Split(name, ids, list(inputs), labels if labels is not None else objects([()] * len(inputs)))


def splits_of(split, task="causal-lm", labels=(), **settings) -> Splits:
    return Splits(task, labels, False, split, split, split, {}, "d", recipe.Data(**settings))


def blocks_of(split, processor=PROCESSOR, **settings) -> Blocks:
    return sequences_of(splits_of(split, **settings), "train", processor, None)


def predicted(blocks: Blocks) -> list[list[int]]:
    """Return, for each document, what its positions predict, in order, through `batch` alone."""
    out: dict[int, list[int]] = {}
    alone = blocks.alone()
    for row in range(len(alone)):
        targets = alone.batch(np.asarray([row]))["targets"][0]
        out.setdefault(int(alone.document[row]), []).extend(targets[targets != IGNORE].tolist())
    return [out[i] for i in sorted(out)]


def test_position_t_predicts_token_t_plus_one():
    """R11: the shift is made once. The start token is read and never predicted, the end token the other way round."""
    blocks = blocks_of(split_of(["abc"]), max_length=16)
    ids = PROCESSOR.tokens(["abc"])[0][0].tolist()
    batch = blocks.batch(np.asarray([0]))
    assert batch["input_ids"].tolist() == [[EOS, *ids]]
    assert batch["targets"].tolist() == [[*ids, EOS]]
    assert batch["position_ids"].tolist() == [list(range(len(ids) + 1))]


def test_a_begin_token_is_read_first_where_there_is_one():
    backend = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="b"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    processor = TextProcessor(backend, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}, 8, 1)
    batch = blocks_of(split_of(["a b"]), processor).batch(np.asarray([0]))
    assert batch["input_ids"].tolist() == [[0, 2, 3]]
    assert batch["targets"].tolist() == [[2, 3, 1]]


def test_the_end_token_stays_learned_where_it_is_also_the_padding():
    """R14: masks come from lengths, not from ids."""
    backend = Tokenizer(models.WordLevel({"</s>": 0, "a": 1, "b": 2}, unk_token="b"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    processor = TextProcessor(backend, {"eos_token": "</s>", "pad_token": "</s>"}, 8, 0)
    batch = blocks_of(split_of(["a", "b a b"]), processor, pack=False).batch(np.asarray([0, 1]))
    assert batch["targets"].tolist() == [[1, 0, IGNORE, IGNORE], [2, 1, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    pairs = sequences_of(
        splits_of(split_of(["a", "b a"], objects(["b", "a b a"])), "seq2seq"), "train", processor, None
    )
    batch = pairs.batch(np.asarray([0, 1]))
    assert batch["targets"].tolist() == [[2, 0, IGNORE, IGNORE], [1, 2, 1, 0]]
    assert batch["decoder_input_ids"].tolist() == [[0, 2, 0, 0], [0, 1, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]


@pytest.mark.slow
@given(st.integers(1, 40), st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6), st.booleans())
def test_every_token_of_a_document_is_predicted_exactly_once(block, texts, pack):
    blocks = blocks_of(split_of(texts), max_length=block, pack=pack)
    want = [[*ids.tolist(), EOS] for ids, _ in PROCESSOR.tokens(texts)]
    assert predicted(blocks) == want
    assert sorted(p for row in blocks.rows for p in row) == list(range(len(blocks.pieces)))
    assert blocks.lengths.max() <= block
    assert int(blocks.tokens.sum()) == sum(map(len, want))
    assert [PROCESSOR.decode(ids) for ids in want] == texts


@given(st.integers(2, 30), st.integers(1, 12))
def test_packed_rows_carry_exactly_the_pieces(block, count):
    """R17: a packed row is its pieces side by side, positions from 0, none attending to another."""
    blocks = blocks_of(split_of([f"{'word ' * (i % 5)}{i}" for i in range(count)]), max_length=block)
    batch, pad = blocks.batch(np.arange(len(blocks))), blocks.alone()
    masks = batch["attention_mask"]
    assert masks.ndim == (4 if any(len(row) > 1 for row in blocks.rows) else 2)
    for row, pieces in enumerate(blocks.rows):
        at = 0
        for piece in pieces:
            one = pad.batch(np.asarray([piece]))
            span = slice(at, at + one["input_ids"].shape[1])
            for name in ("input_ids", "position_ids", "targets"):
                np.testing.assert_array_equal(batch[name][row, span], one[name][0])
            if masks.ndim == 4:
                inside = masks[row, 0, span]
                np.testing.assert_array_equal(inside[:, span], np.tril(np.ones((span.stop - at,) * 2, dtype=bool)))
                assert int(inside.sum()) == int(inside[:, span].sum())
            at = span.stop
        assert (batch["targets"][row, at:] == IGNORE).all()


def test_short_documents_share_rows_only_where_packed():
    split = split_of(["a", "b", "c", "d"])
    assert len(blocks_of(split, max_length=8)) == 1
    assert len(blocks_of(split, max_length=8, pack=False)) == 4


def chat() -> Split:
    text = "User: hi\nAssistant: the fox\nUser: b\nAssistant: no\n"
    first, second = text.index(" the fox"), text.rindex(" no")
    spans = ((first, first + len(" the fox\n")), (second, len(text)))
    return split_of([text, "all of it"], objects([spans, ()]))


def test_only_the_answers_are_predicted_where_only_they_are_learned():
    answers, whole = predicted(blocks_of(chat(), max_length=7))
    assert PROCESSOR.decode(answers) == " the fox\n no\n"
    assert answers[-1] == EOS, "the document ends in an answer: so does learning"
    assert PROCESSOR.decode(whole) == "all of it"
    inner = split_of(["Q: a A: b. Q: c"], objects([((6, 10),)]))
    assert PROCESSOR.decode(predicted(blocks_of(inner))[0]) == ": b."
    assert EOS not in predicted(blocks_of(inner))[0], "the answer ends before the document does"


def test_a_prompt_alone_becomes_the_tokens_that_training_read():
    split = chat()
    (prompt, at), (second, other) = prompts_of(split, PROCESSOR, recipe.Data(max_length=60), 2)
    assert (at, other) == (0, 1)
    assert PROCESSOR.decode(prompt) == "User: hi\nAssistant:"
    read = blocks_of(split, max_length=60, pack=False).batch(np.asarray([0]))
    assert read["input_ids"][0, : len(prompt)].tolist() == prompt.tolist()
    assert read["targets"][0, : len(prompt) - 1].tolist() == [IGNORE] * (len(prompt) - 1)
    assert read["targets"][0, len(prompt) - 1] != IGNORE
    assert second.tolist() == [EOS, *PROCESSOR.tokens(["all of it"])[0][0][:2].tolist()]
    assert prompt.dtype == np.int32


def test_prompts_of_documents_leave_something_to_say():
    split = split_of(["a", "abcdefgh", "xyz"])
    settings = recipe.Data(max_length=60)
    assert [at for _, at in prompts_of(split, PROCESSOR, settings, 3)] == [1]
    assert [at for _, at in prompts_of(split, PROCESSOR, settings, 2)] == [1, 2]
    with pytest.raises(DataError, match="no document of train has more than 99 tokens"):
        prompts_of(split, PROCESSOR, settings, 99)
    cut = prompts_of(split, PROCESSOR, recipe.Data(max_length=4), 6)[0][0]
    assert cut.tolist() == PROCESSOR.tokens(["abcdefgh"])[0][0][2:6].tolist(), "the end is kept"


def test_sources_are_prompts_of_pairs():
    split = split_of(["the fox", "a"], objects(["x", "y"]))
    found = prompts_of(split, PROCESSOR, recipe.Data(max_length=3), 1)
    pairs = sequences_of(splits_of(split, "seq2seq", max_length=3), "train", PROCESSOR, None)
    assert [(ids.tolist(), at) for ids, at in found] == [(ids.tolist(), i) for i, ids in enumerate(pairs.sources)]


def test_sources_and_targets_end_in_the_end_token_and_keep_it_when_cut():
    split = split_of(["the fox " * 9, "a"], objects(["the fox " * 9, "b"]))
    pairs = sequences_of(splits_of(split, "seq2seq", max_length=5, max_target_length=4), "train", PROCESSOR, None)
    assert [len(x) for x in pairs.sources] == [5, 2]
    assert [len(x) for x in pairs.targets] == [4, 2]
    assert {int(x[-1]) for x in (*pairs.sources, *pairs.targets)} == {EOS}
    assert PROCESSOR.decode(pairs.targets[1]) == "b"
    assert pairs.labels.tolist() == [-1, -1]
    assert pairs.start_id == PROCESSOR.pad_id
    assert pairs.tokens.tolist() == [4, 2]
    given_start = sequences_of(splits_of(split, "seq2seq"), "train", PROCESSOR, None, start_id=7)
    assert given_start.batch(np.asarray([1]))["decoder_input_ids"][0, 0] == 7
    with pytest.raises(RecipeError, match="max_target_length is 1"):
        sequences_of(splits_of(split, "seq2seq", max_target_length=1), "train", PROCESSOR, None)


def test_targets_of_a_tokenizer_without_a_template_end_too():
    backend = Tokenizer(models.WordLevel({"</s>": 0, "a": 1, "b": 2}, unk_token="b"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    processor = TextProcessor(backend, {"eos_token": "</s>", "pad_token": "</s>"}, 8, 0)
    split = split_of(["a", "b"], objects(["a b a b", "a"]))
    pairs = sequences_of(splits_of(split, "seq2seq", max_target_length=3), "train", processor, None)
    assert [x.tolist() for x in pairs.targets] == [[1, 2, 0], [1, 0]]


def test_label_words_are_the_targets_of_classes(tmp_path):
    split = split_of(["good", "bad"], np.asarray([1, 0]))
    splits = splits_of(split, "seq2seq", ("no", "yes"))
    pairs = sequences_of(splits, "train", PROCESSOR, tmp_path)
    assert [PROCESSOR.decode(x) for x in pairs.targets] == ["yes", "no"]
    assert pairs.labels.tolist() == [1, 0]
    other = splits_of(split, "seq2seq", ("nein", "ja"))
    assert [PROCESSOR.decode(x) for x in sequences_of(other, "train", PROCESSOR, tmp_path).targets] == ["ja", "nein"]


def test_the_rows_are_cut_to_what_the_tokenizer_allows():
    short = PROCESSOR.cut_to(6)
    assert blocks_of(split_of(DOCUMENTS), short, max_length=99).block == 6
    assert blocks_of(split_of(DOCUMENTS), short, max_length=4).block == 4


@pytest.mark.parametrize("task", ["seq2seq", "causal-lm"])
def test_the_cache_answers_the_same_and_only_for_the_same(tmp_path, monkeypatch, task):
    def ids(text, **settings):
        labels = objects(["x"] if task == "seq2seq" else [settings.pop("spans", ())])
        made = sequences_of(splits_of(split_of([text], labels), task, **settings), "train", PROCESSOR, tmp_path)
        if task == "seq2seq":
            return [x.tolist() for x in (*made.sources, *made.targets)]
        return [x.tolist() for x in (*made.pieces, *made.counted)]

    first = ids("the quick fox", max_length=9)
    assert ids("the quick ox", max_length=9) != first, "the ids of the samples are the same"
    if task == "seq2seq":
        assert ids("the quick fox", max_length=4) != first
    else:
        assert ids("the quick fox", max_length=9, spans=((4, 9),)) != first
    monkeypatch.setattr(TextProcessor, "_encoded", None)  # from here on, only the disk can answer
    assert ids("the quick fox", max_length=9) == first


def test_a_damaged_cache_is_made_again(tmp_path):
    split = split_of(DOCUMENTS)
    first = sequences_of(splits_of(split), "train", PROCESSOR, tmp_path)
    (file,) = (tmp_path / "tokens").iterdir()
    file.write_bytes(file.read_bytes()[:50])
    again = sequences_of(splits_of(split), "train", PROCESSOR, tmp_path)
    assert [x.tolist() for x in again.pieces] == [x.tolist() for x in first.pieces]
    assert file.stat().st_size > 50


def test_pieces_are_known_by_their_content():
    first = blocks_of(split_of(["the fox", "a bird"]), max_length=20)
    turned = blocks_of(split_of(["a bird", "the fox"]), max_length=20)
    assert first.piece_ids.tolist() == turned.piece_ids.tolist()[::-1]
    learned = blocks_of(split_of(["the fox", "a bird"], objects([((3, 7),), ()])), max_length=20)
    assert learned.piece_ids[0] not in first.piece_ids, "other targets of the same text"
    assert learned.piece_ids[1] == first.piece_ids[1]


def test_parts_are_found_by_name_and_held_out_texts_too():
    held = split_of(["held out"], name="wiki")
    splits = splits_of(split_of(DOCUMENTS))
    splits = Splits(**{**vars(splits), "held_out": {"wiki": held}})
    for part in ("wiki", held):
        assert PROCESSOR.decode(predicted(sequences_of(splits, part, PROCESSOR, None))[0]) == "held out"
    with pytest.raises(DataError, match=r"no part 'wikis'; choose one of train, validation, test, wiki"):
        sequences_of(splits, "wikis", PROCESSOR, None)


def test_bytes_are_those_of_what_is_learned():
    split = split_of(["কখ", "কখ"], objects([(), ((1, 2),)]))
    assert document_bytes(split).tolist() == [6, 3]


def test_a_tokenizer_without_an_end_is_refused():
    bare = TextProcessor(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), {"pad_token": "a"}, 8, 0)
    for task, labels in (("causal-lm", objects([()])), ("seq2seq", objects(["a"]))):
        with pytest.raises(ModelError, match="no end token"):
            sequences_of(splits_of(split_of(["a"], labels), task), "train", bare, None)


def test_a_file_of_chats_becomes_rows_that_predict_its_answers(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"reply {i}"}]}
        for i in range(12)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = data.load(recipe.Data(path=str(tmp_path / "a.jsonl"), supervise="response"), "causal-lm", 0)
    said = {PROCESSOR.decode(ids) for ids in predicted(sequences_of(splits, "train", PROCESSOR, tmp_path))}
    assert said == {f" reply {x.split('q')[1].split()[0]}\n" for x in splits.train.inputs}
