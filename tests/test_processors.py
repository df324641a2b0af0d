"""Processors: what they keep of a text, what they cut, and that their folders reopen to the same ids and pixels."""

from __future__ import annotations

import functools
import io
import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from lessen.errors import ArtifactError, DataError, ModelError, RecipeError
from lessen.processors import (
    ImageProcessor,
    TextProcessor,
    load_processor,
    text_processor_from_hub,
    train_bpe_processor,
    train_text_processor,
)

BENGALI = "যদি দেখো আকাশ ভরা তারা বুঝে নিও"
TEXTS = [
    BENGALI,
    "Le café est très près, naïve façade",
    "the quick brown fox",
    "the lazy dog sleeps",
    "আকাশ ভরা সূর্য তারা",
] * 4


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return train_text_processor(TEXTS, vocab_size=300, max_length=12)


@pytest.mark.parametrize("text", [BENGALI, "café très près naïve façade"])
def test_accents_and_bengali_vowel_signs_survive(text):
    long = train_text_processor(TEXTS, vocab_size=300, max_length=100)
    pieces = [long.tokenizer.id_to_token(int(i)).removeprefix("##") for i in long.encode([text])[0][1:-1]]
    assert "".join(pieces) == text.replace(" ", "")


def test_composed_and_decomposed_accents_are_the_same_tokens(processor):
    composed, decomposed = processor.encode(["café", "cafe\u0301"])
    assert composed.tolist() == decomposed.tolist()
    assert composed.tolist() != processor.encode(["cafe"])[0].tolist()


def test_joiners_inside_bengali_words_are_not_dropped():
    with_joiner, without = "র\u200dযাম", "রযাম"
    made = train_text_processor([with_joiner, without] * 3, vocab_size=100, max_length=20)
    assert made.encode([with_joiner])[0].tolist() != made.encode([without])[0].tolist()


def test_truncation_keeps_the_final_special_token(processor):
    ids = processor.encode(["the quick brown fox " * 50])[0]
    assert len(ids) == 12
    assert processor.tokenizer.id_to_token(int(ids[0])) == "[CLS]"
    assert processor.tokenizer.id_to_token(int(ids[-1])) == "[SEP]"


def test_special_tokens_have_their_stated_ids(processor):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert [processor.tokenizer.token_to_id(name) for name in names] == [0, 1, 2, 3, 4]
    assert processor.pad_id == 0
    assert processor.encode([""])[0].tolist() == [2, 3]


def test_the_vocabulary_has_the_size_asked_for_and_ids_stay_inside(processor):
    assert processor.vocab_size <= 300
    small = train_text_processor(TEXTS, vocab_size=60, max_length=12)
    assert small.vocab_size == 60
    assert max(int(ids.max()) for ids in small.encode(TEXTS)) < 60


def test_training_gives_the_same_tokenizer_whatever_the_order_of_the_texts(processor):
    again = train_text_processor(TEXTS[::-1], vocab_size=300, max_length=12)
    assert again.digest == processor.digest


def test_training_gives_the_same_tokenizer_in_another_process(processor):
    """The library's own WordPiece trainer does not: it numbers pieces in the order of a randomly seeded hash map."""
    code = (
        "import json, sys; from lessen.processors import train_text_processor;"
        "print(train_text_processor(json.loads(sys.stdin.read()), vocab_size=300, max_length=12).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == processor.digest


def test_frequent_words_become_single_tokens():
    made = train_text_processor(["library function returns array"] * 10, vocab_size=200, max_length=20)
    assert len(made.encode(["library function"])[0]) == 4


def test_unknown_characters_become_the_unknown_token(processor):
    assert 1 in processor.encode(["漢字"])[0].tolist()


def test_the_digest_changes_with_what_changes_the_ids(processor):
    longer = train_text_processor(TEXTS, vocab_size=300, max_length=13)
    other = train_text_processor([*TEXTS, "entirely different words " * 3] * 2, vocab_size=300, max_length=12)
    assert len({processor.digest, longer.digest, other.digest}) == 3


def test_collate_masks_by_length_and_not_by_id(processor):
    """R14: a real token whose id equals the padding id stays visible."""
    batch = processor.collate([np.array([2, 0, 3], dtype=np.int32), np.array([2, 3], dtype=np.int32)], pad_to=5)
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert batch["input_ids"].dtype == np.int64
    assert tuple(batch) == processor.input_names


def test_collate_refuses_a_width_that_would_cut(processor):
    with pytest.raises(DataError, match="pad_to is 2"):
        processor.collate([np.array([2, 5, 3], dtype=np.int32)], pad_to=2)


def test_offsets_point_into_the_text_as_it_was_given(processor):
    text = "The  QUICK fox"
    spans = processor.offsets([text])[0]
    ids = processor.encode([text])[0]
    assert len(spans) == len(ids)
    assert spans[0].tolist() == spans[-1].tolist() == [0, 0]
    rebuilt = "".join(text[a:b] for a, b in spans[1:-1])
    assert rebuilt == "TheQUICKfox"


def test_a_length_without_room_for_text_is_refused():
    with pytest.raises(RecipeError, match="max_length is 2"):
        train_text_processor(TEXTS, vocab_size=300, max_length=2)


def test_an_input_that_is_no_text_is_refused(processor):
    with pytest.raises(DataError, match="input 2 is int"):
        processor.encode(["a", 3])


def test_a_saved_folder_reopens_to_the_same_ids(processor, tmp_path):
    processor.save(tmp_path)
    again = load_processor(tmp_path)
    assert again.digest == processor.digest
    assert [x.tolist() for x in again.encode(TEXTS)] == [x.tolist() for x in processor.encode(TEXTS)]


@pytest.mark.parametrize("model_type", [None, "bert", "distilbert", "electra", "roberta"])
def test_transformers_reads_the_saved_folder_to_equal_ids(processor, tmp_path, model_type):
    from transformers import AutoTokenizer

    processor.save(tmp_path)
    if model_type:  # as in a model's folder, where a class of its own might rebuild the tokenizer
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    probes = [BENGALI, "CAFÉ naïve", "the fox, (quick)!", "", "the " * 40]
    want = processor.encode(probes)
    assert theirs(probes, truncation=True)["input_ids"] == [x.tolist() for x in want]
    padded = theirs(probes, truncation=True, padding=True, return_tensors="np")
    ours = processor.collate(want)
    np.testing.assert_array_equal(padded["input_ids"], ours["input_ids"])
    np.testing.assert_array_equal(padded["attention_mask"], ours["attention_mask"])
    assert theirs.mask_token_id == 4


def test_a_tokenizer_of_transformers_keeps_its_ids_through_our_folder(tmp_path):
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(
        models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>"
    )
    ours = text_processor_from_hub(theirs, 5)
    assert ours.pad_id == 1
    assert ours.encode(["a b a b a b"])[0].tolist() == [0, 4, 5, 4, 2]
    ours.save(tmp_path)
    assert load_processor(tmp_path).digest == ours.digest
    assert theirs("a b")["input_ids"] == [0, 4, 5, 2], "the tokenizer that was given is untouched"


def test_a_tokenizer_without_padding_is_refused():
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")))
    with pytest.raises(ModelError, match="no padding token"):
        text_processor_from_hub(theirs, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.json": "{"}, "tokenizer.json"),
        ({"tokenizer_config.json": "[]"}, "cannot be read"),
        ({"tokenizer_config.json": '{"pad_token": "[PAD]", "model_max_length": 1e30}'}, "model_max_length"),
        ({"tokenizer_config.json": '{"pad_token": "<none>", "model_max_length": 8}'}, "no padding token"),
    ],
)
def test_a_damaged_folder_is_named(processor, tmp_path, change, message):
    processor.save(tmp_path)
    for name, content in change.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ArtifactError, match=message):
        load_processor(tmp_path)


def test_a_folder_without_a_processor_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"neither tokenizer\.json"):
        load_processor(tmp_path)


def test_processors_and_data_import_no_torch():
    code = (
        "import sys, pathlib, tempfile; from lessen import data, recipe, processors; from lessen.data import batches;"
        "p = processors.train_text_processor(['a b c'] * 3, vocab_size=30, max_length=8);"
        "d = pathlib.Path(tempfile.mkdtemp()); p.save(d); processors.load_processor(d);"
        "f = d / 'a.csv'; f.write_text('text,label\\n' + ''.join(f't{i},{i % 2}\\n' for i in range(20)));"
        "s = data.load(recipe.Data(path=str(f)), 'text-classification', 0); batches.encode(s.train, p, d);"
        "assert 'torch' not in sys.modules, 'torch'; assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


UNICODE = [BENGALI, "র\u200dযাম", "cafe\u0301", "\x00\ufeff \n\t", "🎉👩‍👩‍👧", "</s> <pad>", "  two  spaces "]


@pytest.fixture(scope="module")
def bpe() -> TextProcessor:
    return train_bpe_processor(TEXTS, vocab_size=300, max_length=12)


@given(st.text(max_size=40))
def test_byte_pairs_lose_nothing_of_any_text(text):
    processor = _trained()
    ids, offsets = processor.tokens([text])[0]
    assert processor.decode(ids) == text
    assert len(offsets) == len(ids)
    assert ids.size == 0 or (ids.min() > 2 and ids.max() < processor.vocab_size)


@functools.cache
def _trained() -> TextProcessor:
    return train_bpe_processor(TEXTS, vocab_size=300, max_length=12)


@pytest.mark.parametrize("text", UNICODE)
def test_odd_texts_survive_byte_pairs_and_the_folder(bpe, tmp_path, text):
    bpe.save(tmp_path)
    for processor in (bpe, load_processor(tmp_path)):
        assert processor.decode(processor.tokens([text])[0][0]) == text
        long = processor.cut_to(200).encode([text])[0]
        assert processor.decode(long) == text
        assert int(long[-1]) == processor.eos_id


def test_byte_pairs_have_their_special_tokens_and_cut_before_the_end_token(bpe):
    assert [bpe.tokenizer.token_to_id(name) for name in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    assert (bpe.pad_id, bpe.eos_id, bpe.bos_id) == (0, 1, None)
    ids = bpe.encode(["the quick brown fox " * 9, ""])
    assert (len(ids[0]), int(ids[0][-1]), ids[1].tolist()) == (12, 1, [1])
    assert len(bpe.tokens(["the quick brown fox " * 9])[0][0]) > 12, "whole"
    assert bpe.vocab_size <= 300


def test_a_text_that_spells_a_special_token_is_read_as_text(bpe):
    """Else a document could end itself, and its text would be lost."""
    ids = bpe.tokens(["a </s> b"])[0][0]
    assert bpe.eos_id not in ids.tolist()


def test_byte_pairs_are_the_same_whatever_the_order_of_the_texts(bpe):
    """Ties are many here: pairs of equal counts must be merged in an order that the texts' order does not decide."""
    texts = [f"{a}{b}{c}" for a in "abcdef" for b in "ghijkl" for c in "mnopqr"]
    want = train_bpe_processor(texts, vocab_size=290, max_length=12).digest
    for seed in range(3):
        mixed = random.Random(seed).sample(texts, len(texts))
        assert train_bpe_processor(mixed, vocab_size=290, max_length=12).digest == want
    code = (
        "import json, sys; from lessen.processors import train_bpe_processor;"
        "print(train_bpe_processor(json.loads(sys.stdin.read()), vocab_size=290, max_length=12).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == want


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(RecipeError, match=r"vocab_size is 258; .* take 259"):
        train_bpe_processor(TEXTS, vocab_size=258, max_length=12)


@pytest.mark.parametrize(
    "model_type", [None, "t5", "gpt2", "llama", "mistral", "qwen3", "qwen2_moe", "olmoe", "deepseek_v3", "qwen2"]
)
def test_transformers_reads_byte_pairs_to_equal_ids(bpe, tmp_path, model_type):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    bpe.save(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    # of qwen2 alone, transformers rebuilds its own tokenizer (NFC, other word bounds) whatever the folder says
    reader = PreTrainedTokenizerFast if model_type == "qwen2" else AutoTokenizer
    theirs = reader.from_pretrained(tmp_path, local_files_only=True)
    assert theirs(UNICODE, truncation=True)["input_ids"] == [x.tolist() for x in bpe.encode(UNICODE)]
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.model_max_length) == (0, 1, 12)
    assert text_processor_from_hub(theirs, 12).encode(UNICODE)[5].tolist() == bpe.encode(UNICODE)[5].tolist()


def _gpt2(tmp_path):
    from transformers import GPT2TokenizerFast

    vocabulary = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3, "\u0120": 4}
    backend = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return GPT2TokenizerFast(tokenizer_object=backend)


def test_a_tokenizer_with_an_end_but_no_padding_pads_with_the_end(tmp_path):
    theirs = _gpt2(tmp_path)
    assert theirs.pad_token_id is None
    ours = text_processor_from_hub(theirs, 8)
    assert (ours.pad_id, ours.eos_id, ours.bos_id) == (0, 0, 0)
    assert ours.encode(["ab a"])[0].tolist() == [3, 4, 1]
    ours.save(tmp_path)
    again = load_processor(tmp_path)
    assert again.digest == ours.digest
    assert (again.pad_id, again.eos_id, again.bos_id) == (0, 0, 0)
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert (read.pad_token_id, read.eos_token_id) == (0, 0)
    assert read("ab a")["input_ids"] == [3, 4, 1]


def test_a_unigram_tokenizer_with_an_end_token_is_served(tmp_path):
    from tokenizers import decoders
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [*special, ("\u2581", -2.0), ("\u2581a", -1.0), ("b", -1.5), ("a", -3.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    ours = text_processor_from_hub(theirs, 8)
    assert (ours.pad_id, ours.eos_id, ours.bos_id) == (0, 1, None)
    assert ours.encode(["ab a"])[0].tolist() == [4, 5, 4, 1]
    ids, offsets = ours.tokens(["ab a"])[0]
    assert ids.tolist() == [4, 5, 4]
    assert offsets[1].tolist() == [1, 2]
    assert ours.decode([4, 5, 4, 1, 0]) == "ab a"
    ours.save(tmp_path)
    assert load_processor(tmp_path).encode(["ab a"])[0].tolist() == [4, 5, 4, 1]
    assert AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)("ab a")["input_ids"] == [4, 5, 4, 1]


def test_a_special_token_written_as_an_object_is_understood(bpe, tmp_path):
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["eos_token"] = {"content": "</s>", "__type": "AddedToken"}
    path.write_text(json.dumps(config))
    assert load_processor(tmp_path).eos_id == 1


def test_another_end_token_is_another_processor(bpe):
    other = TextProcessor(bpe.tokenizer, {**bpe.config, "eos_token": "<unk>"}, bpe.max_length, bpe.pad_id)
    assert other.digest != bpe.digest
    assert bpe.cut_to(9).digest != bpe.digest
    assert bpe.cut_to(12) is bpe


def _photo(height: int, width: int) -> np.ndarray:
    down, right = np.mgrid[0:height, 0:width]
    return np.stack([down * 255 // height, right * 255 // width, (down + right) % 256], axis=2).astype(np.uint8)


def test_images_are_resized_and_normalised():
    processor = ImageProcessor(size=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 2.0))
    image = np.full((8, 8, 3), 255, dtype=np.uint8)
    items = processor.encode([image])
    assert items[0].shape == (4, 4, 3)
    assert items[0].dtype == np.uint8
    batch = processor.collate(items)["pixel_values"]
    assert batch.shape == (1, 3, 4, 4)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0, :, 0, 0], [1.0, 1.5, 0.5])


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = _photo(8, 8)
    np.testing.assert_array_equal(ImageProcessor(size=8).encode([image])[0], image)


def test_files_bytes_and_pixels_of_one_image_are_the_same_input(tmp_path):
    image = _photo(9, 9)
    Image.fromarray(image).save(tmp_path / "a.png")
    processor = ImageProcessor(size=6)
    items = processor.encode([image, tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), str(tmp_path / "a.png")])
    for item in items[1:]:
        np.testing.assert_array_equal(item, items[0])


def test_grey_models_get_one_channel():
    processor = ImageProcessor(size=4, channels=1, mean=(0.0,), std=(1.0,))
    assert processor.collate(processor.encode([_photo(5, 5)]))["pixel_values"].shape == (1, 1, 4, 4)


def test_the_centre_is_cut_out_where_the_shorter_side_is_given():
    image = np.zeros((8, 16, 3), dtype=np.uint8)
    image[:, 6:10] = 255
    cut = ImageProcessor(size=4, shorter=8).encode([image])[0]
    assert cut.min() == 255, "only the middle is seen"
    assert ImageProcessor(size=4).encode([image])[0].min() == 0


@pytest.mark.parametrize("settings", [{}, {"shorter": 9}, {"resample": "bicubic"}])
def test_an_image_processor_reopens_equal(tmp_path, settings):
    processor = ImageProcessor(size=8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), **settings)
    processor.save(tmp_path)
    again = load_processor(tmp_path)
    assert again == processor
    assert again.digest == processor.digest
    assert again.digest != ImageProcessor(size=9, **settings).digest


@pytest.mark.parametrize("settings", [{}, {"shorter": 28}])
def test_the_image_processor_of_transformers_reads_our_folder_to_the_same_pixels(tmp_path, settings):
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    processor = ImageProcessor(size=24, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), **settings)
    processor.save(tmp_path)
    theirs = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True, backend="pil")
    image = _photo(40, 52)
    want = theirs(Image.fromarray(image), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(processor.collate(processor.encode([image]))["pixel_values"], want, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "size", "shorter"),
    [
        ({"size": 224}, 224, None),
        ({"size": {"height": 32, "width": 32}}, 32, None),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 256),  # ResNet
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, 384, None),  # ConvNeXT from this size on
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            224,
            256,
        ),
    ],
)
def test_sizes_of_pretrained_models_are_understood(tmp_path, values, size, shorter):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": 3, **values}))
    processor = load_processor(tmp_path)
    assert (processor.size, processor.shorter, processor.resample) == (size, shorter, "bicubic")


def test_images_that_cannot_be_served_are_named():
    deep = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(deep, format="PNG")
    processor = ImageProcessor(size=4)
    with pytest.raises(DataError, match="more than 8 bits"):
        processor.encode([deep.getvalue()])
    with pytest.raises(DataError, match="broken image"):
        processor.encode([b"no image"])
    with pytest.raises(DataError, match="float64"):
        processor.encode([np.zeros((4, 4, 3))])


def test_means_that_do_not_fit_the_channels_are_refused():
    with pytest.raises(RecipeError, match="1 channels"):
        ImageProcessor(size=4, channels=1)
