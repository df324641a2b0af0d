"""Encoded splits, their cache, the plan of an epoch, and random views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessen.data import Split
from lessen.data.batches import class_weights, encode, plan
from lessen.data.images import Images
from lessen.data.views import view_of
from lessen.errors import RecipeError, ResourceError
from lessen.processors import ImageProcessor, train_text_processor

TEXTS = [f"word {'more ' * (i % 5)}number {i}" for i in range(20)]


@pytest.fixture(scope="module")
def texts() -> Split:
    return Split("train", np.array([f"{i:016x}" for i in range(20)]), TEXTS, np.arange(20) % 2)


@pytest.fixture(scope="module")
def processor():
    return train_text_processor(TEXTS, vocab_size=100, max_length=8)


@pytest.fixture(scope="module")
def images() -> Split:
    rng = np.random.default_rng(0)
    raw = [rng.integers(0, 256, (10, 10, 3), dtype=np.uint8) for _ in range(6)]
    ids = np.array([f"{i:016x}" for i in range(6)])
    return Split("train", ids, Images(raw, ["x"] * 6), np.arange(6) % 2)


class Counting:
    """Counts how often a processor encodes."""

    def __init__(self, inner) -> None:
        self.inner, self.encoded = inner, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def encode(self, inputs):
        self.encoded += len(inputs)
        return self.inner.encode(inputs)


@given(st.lists(st.integers(1, 60), max_size=300), st.integers(1, 9), st.integers(0, 3), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_plan_visits_every_row_once_in_full_batches(lengths, batch_size, epoch, buckets, shuffle):
    made = plan(np.array(lengths), batch_size, seed=1, epoch=epoch, buckets=buckets, shuffle=shuffle)
    visited = [int(row) for batch in made for row in batch]
    assert sorted(visited) == list(range(len(lengths)))
    assert len(made) == -(-len(lengths) // batch_size)
    assert sum(len(batch) != batch_size for batch in made) <= 1
    assert all(len(batch) for batch in made)


def _flat(made) -> list[int]:
    return [int(row) for batch in made for row in batch]


def test_a_plan_is_decided_by_seed_and_epoch():
    lengths = np.arange(100) % 17
    base = _flat(plan(lengths, 8, seed=1, epoch=0, buckets=True))
    assert base == _flat(plan(lengths, 8, seed=1, epoch=0, buckets=True))
    assert base != _flat(plan(lengths, 8, seed=2, epoch=0, buckets=True))
    assert base != _flat(plan(lengths, 8, seed=1, epoch=1, buckets=True))


def test_buckets_bring_similar_lengths_together_and_leave_the_order_of_batches_random():
    lengths = np.random.default_rng(0).integers(1, 100, 400)
    padding = {}
    for buckets in (True, False):
        made = plan(lengths, 8, seed=1, epoch=0, buckets=buckets)
        padding[buckets] = sum(int(lengths[b].max()) * len(b) - int(lengths[b].sum()) for b in made)
    assert padding[True] < padding[False] / 5
    longest = [int(lengths[b].max()) for b in plan(lengths, 8, seed=1, epoch=0, buckets=True)]
    assert longest != sorted(longest)


def test_without_shuffling_rows_come_in_order_or_by_length():
    lengths = np.array([5, 1, 3, 1])
    assert _flat(plan(lengths, 2, seed=0, epoch=0, buckets=False, shuffle=False)) == [0, 1, 2, 3]
    assert _flat(plan(lengths, 2, seed=0, epoch=0, buckets=True, shuffle=False)) == [1, 3, 2, 0]


def test_a_batch_holds_the_rows_asked_for(texts, processor):
    encoded = encode(texts, processor, None)
    batch = encoded.batch(np.array([3, 0]))
    want = processor.encode([TEXTS[3], TEXTS[0]])
    assert batch["input_ids"][0, : len(want[0])].tolist() == want[0].tolist()
    assert batch["input_ids"][1, : len(want[1])].tolist() == want[1].tolist()
    assert encoded.lengths.tolist() == [len(x) for x in processor.encode(TEXTS)]


def test_tokens_come_from_the_cache_the_second_time(texts, processor, tmp_path):
    counting = Counting(processor)
    first = encode(texts, counting, tmp_path)
    second = encode(texts, counting, tmp_path)
    assert counting.encoded == 20
    assert [x.tolist() for x in first.items] == [x.tolist() for x in second.items]
    assert [x.dtype for x in second.items] == [np.int32] * 20


def test_another_tokenizer_or_other_rows_are_another_entry(texts, processor, tmp_path):
    """R22: the cache of one data set and tokenizer never answers for another."""
    other = train_text_processor(TEXTS, vocab_size=100, max_length=5)
    encode(texts, processor, tmp_path)
    assert encode(texts, other, tmp_path).lengths.max() == 5
    encode(texts.take([1, 3, 4]), processor, tmp_path)
    reordered = texts.take([5, 2, 7])
    assert [x.tolist() for x in encode(reordered, processor, tmp_path).items] == [
        x.tolist() for x in processor.encode([TEXTS[i] for i in (5, 2, 7)])
    ]
    assert len(list(tmp_path.rglob("*.npz"))) == 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half of it", None])
def test_a_damaged_cache_is_made_again(texts, processor, tmp_path, damage):
    want = [x.tolist() for x in encode(texts, processor, tmp_path).items]
    (file,) = tmp_path.rglob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert [x.tolist() for x in encode(texts, processor, tmp_path).items] == want
    assert len(file.read_bytes()) == len(whole)


@pytest.mark.parametrize("keep", [0, 20, 150])
def test_a_damaged_cache_of_pixels_is_made_again(images, tmp_path, keep):
    processor = ImageProcessor(size=8)
    want = np.stack(encode(images, processor, tmp_path).items)
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:keep])
    np.testing.assert_array_equal(np.stack(encode(images, processor, tmp_path).items), want)


def test_a_pickle_in_the_cache_is_never_read(texts, processor, tmp_path):
    encode(texts, processor, tmp_path)
    (file,) = tmp_path.rglob("*.npz")
    with file.open("wb") as stream:
        np.savez(stream, ids=np.array([{"a": 1}], dtype=object), lengths=np.array([1]))
    assert encode(texts, processor, tmp_path).items[0].dtype == np.int32


def test_the_cache_leaves_no_temporary_file(texts, images, processor, tmp_path):
    encode(texts, processor, tmp_path)
    encode(images, ImageProcessor(size=8), tmp_path)
    names = [f.name for f in tmp_path.rglob("*") if f.is_file()]
    assert len(names) == 2
    assert not any(name.startswith(".") for name in names)


def test_a_cache_that_cannot_be_written_is_said(texts, images, processor, tmp_path):
    (tmp_path / "file").write_text("x")
    for split, one in ((texts, processor), (images, ImageProcessor(size=8))):
        with pytest.raises(ResourceError, match="cache"):
            encode(split, one, tmp_path / "file")


def test_cached_pixels_equal_live_ones_and_are_made_once(images, tmp_path, monkeypatch):
    monkeypatch.setattr("lessen.data.cache.STEP", 4)
    counting = Counting(ImageProcessor(size=8))
    live = encode(images, counting, None)
    counting.encoded = 0
    first, second = encode(images, counting, tmp_path), encode(images, counting, tmp_path)
    assert counting.encoded == 7, "six, and one to learn the shape"
    for a, b, c in zip(live.items, first.items, second.items, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_an_image_that_breaks_while_caching_leaves_nothing_behind(tmp_path):
    broken = Split(
        "train", np.array(["a", "b"]), Images([np.zeros((4, 4, 3), np.uint8), b"no"], ["x", "y.png"]), np.zeros(2)
    )
    with pytest.raises(Exception, match=r"y\.png"):
        encode(broken, ImageProcessor(size=4), tmp_path)
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


def test_two_tokenizers_over_one_split_see_the_same_samples(texts, processor, tmp_path):
    """R32: dual tokenisation is two Encoded over one Split; rows agree, templates and lengths are each one's own."""
    other = train_text_processor(TEXTS[:3], vocab_size=40, max_length=20)
    teacher, student = encode(texts, processor, tmp_path), encode(texts, other, tmp_path)
    assert teacher.ids.tolist() == student.ids.tolist() == texts.ids.tolist()
    assert teacher.batch(np.array([4]))["input_ids"].shape != student.batch(np.array([4]))["input_ids"].shape
    assert processor.tokenizer.decode(teacher.items[1].tolist()) == "word more number 1"


def test_a_view_is_replayed_by_its_seed_and_the_samples_id(images):
    """R24: the same (view, id) gives the same pixels, in any batch and process."""
    encoded = encode(images, ImageProcessor(size=8), None, "crop_flip")
    one = encoded.batch(np.array([0, 1, 2]), view=5)["pixel_values"]
    two = encoded.batch(np.array([2, 0]), view=5)["pixel_values"]
    np.testing.assert_array_equal(one[2], two[0])
    np.testing.assert_array_equal(one[0], two[1])
    views = {encoded.batch(np.array([0]), view=v)["pixel_values"].tobytes() for v in range(20)}
    assert len(views) > 5
    plain = encode(images, ImageProcessor(size=8), None)
    np.testing.assert_array_equal(
        plain.batch(np.array([0]), view=5)["pixel_values"], encoded.batch(np.array([0]))["pixel_values"]
    )


def test_samples_of_one_step_get_views_of_their_own():
    ramp = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8, 1).repeat(3, axis=2)
    assert len({view_of(ramp, 5, f"sample {i}", "crop").tobytes() for i in range(20)}) > 4


def test_models_of_different_input_sizes_see_the_same_part_of_an_image():
    """R24: the offsets are fractions of the side; a crop of a ramp moves by the same share at both sizes."""
    shifts = []
    for size in (32, 64):
        ramp = np.repeat(np.linspace(0, 255, size)[:, None, None], size, axis=1).repeat(3, axis=2).astype(np.uint8)
        middle = [float(view_of(ramp, v, "id", "crop")[size // 2, size // 2, 0]) for v in range(12)]
        shifts.append(middle)
    np.testing.assert_allclose(shifts[0], shifts[1], atol=8)
    assert np.ptp(shifts[0]) > 20


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from(["crop", "crop_flip"]))
@settings(max_examples=60, deadline=None)
def test_a_view_holds_only_pixels_of_the_image(size, view, augment):
    image = np.arange(size * size * 3, dtype=np.int64).reshape(size, size, 3).astype(np.uint8)
    seen = view_of(image, view, "sample", augment)
    assert seen.shape == image.shape
    assert seen.dtype == np.uint8
    pixels = {tuple(p) for p in image.reshape(-1, 3).tolist()}
    assert {tuple(p) for p in seen.reshape(-1, 3).tolist()} <= pixels


def test_crop_never_mirrors_and_crop_flip_mirrors_about_half(images):
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[:, :, 0] = np.arange(8) * 30
    rises = [view_of(image, v, "s", "crop")[4, 2, 0] < view_of(image, v, "s", "crop")[4, 5, 0] for v in range(40)]
    assert all(rises)
    both = [
        view_of(image, v, "s", "crop_flip")[4, 2, 0] < view_of(image, v, "s", "crop_flip")[4, 5, 0] for v in range(200)
    ]
    assert 70 < sum(both) < 130


def test_texts_have_no_views(texts, processor):
    with pytest.raises(RecipeError, match="no random views"):
        encode(texts, processor, None, "crop")


def test_weights_of_classes_are_inverse_frequencies_with_mean_one():
    labels = np.array([0, 0, 0, 1])
    weights = class_weights(labels, 2, multi_label=False)
    np.testing.assert_allclose(weights, [2 / 3, 2.0])
    assert weights.dtype == np.float32
    assert weights[labels].mean() == pytest.approx(1.0)


def test_weights_of_several_labels_are_negatives_per_positive():
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], dtype=np.float32)
    np.testing.assert_allclose(class_weights(labels, 2, multi_label=True), [3.0, 1.0])
