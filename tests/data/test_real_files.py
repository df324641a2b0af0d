"""The real files that issues speak of; skipped where they are not beside the repository."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lessen import data, recipe
from lessen.data.clean import normal_form
from lessen.data.encoding import document_bytes, sequences_of
from lessen.data.sequences import IGNORE
from lessen.processors import train_bpe_processor, train_text_processor

HERE = Path(os.environ.get("LESSEN_TEST_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
TEXT, IMAGE = "text-classification", "image-classification"


def there(name: str) -> str:
    path = HERE / name
    if not path.exists():
        pytest.skip(f"{name} is not in {HERE}; set LESSEN_TEST_DATA to the folder that holds it")
    return str(path.resolve())


@pytest.mark.slow
def test_the_hate_speech_table_is_deduplicated_before_it_is_split():
    """16,407 rows, of which 618 repeat an earlier text (540 of them letter by letter); 33 texts contradict evenly."""
    splits = data.load(recipe.Data(path=there("hate-speech/HateSpeech.csv")), TEXT, 42)
    facts = splits.facts
    assert facts["columns"] == {"text": "Comments", "label": "HateSpeech"}
    assert (facts["rows_read"], facts["missing_dropped"]) == (16_407, 0)
    assert facts["duplicates_removed"] == 618
    assert (facts["conflicting_texts"], facts["conflicting_texts_dropped"]) == (37, 33)
    assert facts["rows_used"] == 15_756 == sum(facts["rows"].values())
    parts = [{normal_form(t) for t in s.inputs} for s in (splits.train, splits.validation, splits.test)]
    assert [len(p) for p in parts] == [len(s) for s in (splits.train, splits.validation, splits.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    shares = [facts["rows_per_class"][p]["1"] / facts["rows"][p] for p in ("train", "validation", "test")]
    assert max(shares) - min(shares) < 0.001


@pytest.mark.slow
def test_bengali_comments_survive_the_tokenizer():
    splits = data.load(recipe.Data(path=there("hate-speech/HateSpeech.csv"), fraction=0.2), TEXT, 42)
    processor = train_text_processor(splits.train.inputs, vocab_size=4000, max_length=64)
    ids = processor.encode(splits.test.inputs)
    unknown = sum(int((x == 1).sum()) for x in ids) / sum(map(len, ids))
    assert unknown < 0.002
    text = "যদি দেখো আকাশ ভরা"
    pieces = [processor.tokenizer.id_to_token(int(i)).removeprefix("##") for i in processor.encode([text])[0][1:-1]]
    assert "".join(pieces) == text.replace(" ", "")


def test_sst2_files_without_a_header_are_read_as_they_are():
    cfg = recipe.Data(path=there("sst2/train.tsv"), test_path=there("sst2/dev.tsv"))
    splits = data.load(cfg, TEXT, 0)
    assert splits.facts["rows_read"] == 6_920 + 872
    assert len(splits.test) == 872
    assert splits.labels == ("0", "1")
    assert "one long string of cliches" in splits.test.inputs
    assert data.load(cfg.model_copy(update={"text_column": "0", "label_column": "1"}), TEXT, 0).digest == splits.digest


@pytest.mark.slow
def test_the_cifar_sample_is_read_as_images():
    splits = data.load(recipe.Data(path=there("cifar10")), IMAGE, 0)
    assert len(splits.test) == 2_000
    assert len(splits.labels) == 10
    assert splits.labels[0] == "airplane"
    assert splits.train.inputs[0].shape == (32, 32, 3)
    assert set(Counter(splits.train.labels.tolist()).values()) == {900}


def test_multi30k_is_paired_line_by_line_and_disjoint_by_source():
    splits = data.load(recipe.Data(path=there("multi30k"), languages=("en", "de")), "seq2seq", 0)
    facts = splits.facts
    assert facts["files"] == {"test_2016_flickr": 1_000, "train": 29_000, "val": 1_014}
    assert (facts["rows_read"], facts["duplicates_removed"], facts["removed_from_train"]) == (31_014, 9, 1)
    assert facts["rows"] == {"train": 28_990, "validation": 1_014, "test": 1_000}
    sources = [{normal_form(x) for x in s.inputs} for s in (splits.train, splits.validation, splits.test)]
    assert len(set.union(*sources)) == sum(map(len, sources)) == 31_004
    at = splits.train.inputs.index("Two young, White males are outside near many bushes.")
    assert splits.train.labels[at] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."


def test_multi30k_becomes_tokens_and_back():
    cfg = recipe.Data(path=there("multi30k/val.en.gz"), languages=("en", "de"))
    splits = data.load(cfg, "seq2seq", 0)
    processor = train_bpe_processor([*splits.train.inputs, *splits.train.labels], vocab_size=600, max_length=128)
    pairs = sequences_of(splits, "test", processor, None)
    assert [processor.decode(ids) for ids in pairs.targets] == list(splits.test.labels)
    assert [processor.decode(ids) for ids in pairs.sources] == list(splits.test.inputs)


def test_sst2_is_put_into_words():
    cfg = recipe.Data(
        path=there("sst2/train.tsv"), test_path=there("sst2/dev.tsv"), label_words={"0": "terrible", "1": "great"}
    )
    splits = data.load(cfg, "seq2seq", 0)
    assert splits.labels == ("terrible", "great")
    assert len(splits.test) == 872
    assert splits.facts["rows_per_class"]["test"] == {"terrible": 428, "great": 444}
    at = list(splits.test.inputs).index("one long string of cliches")
    assert splits.labels[splits.test.labels[at]] == "terrible"


def test_wikitext_2_is_cut_at_its_headings_and_scored_whole():
    path = there("wikitext-2/valid.txt")
    splits = data.load(recipe.Data(path="pydocs", limit=40, held_out={"wikitext": path}), "causal-lm", 0)
    held = splits.held_out["wikitext"]
    assert len(held) == 60
    assert held.inputs[0].startswith(" = Homarus gammarus = \n")
    raw = Path(path).read_text(encoding="utf-8")
    assert "".join("".join(held.inputs).split()) == "".join(raw.split())
    assert splits.facts["bytes"]["wikitext"] == document_bytes(held).sum() <= len(raw.encode())
    few = held.take([0, 1, 2])
    processor = train_bpe_processor(few.inputs, vocab_size=400, max_length=256)
    blocks = sequences_of(splits, few, processor, None)
    targets = blocks.batch(np.arange(len(blocks)))["targets"]
    want = sum(len(ids) + 1 for ids, _ in processor.tokens(few.inputs))
    assert int((targets != IGNORE).sum()) == int(blocks.tokens.sum()) == want
    alone = sequences_of(data.load(recipe.Data(path=path), "causal-lm", 0), "test", processor, None)
    assert alone.block == 128
