import numpy as np
import pytest

import tiny
from lessen.export.parity import compare, shapes
from lessen.info import ModelInfo
from lessen.processors import ImageProcessor, train_text_processor


def info(**more):
    given = {"family": "bert", "task": "text-classification", "source": "test", "labels": ("a", "b", "c"), **more}
    return ModelInfo(**given)


def test_equal_logits_differ_by_nothing():
    logits = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    found = compare(logits, logits, info())
    assert found["max_abs_difference"] == found["logit_mse"] == found["kl_nats"] == 0
    assert found["agreement"] == 1


def test_kl_is_that_of_the_textbook():
    want, got = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    two = info(labels=("a", "b"))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert compare(want, got, two)["kl_nats"] == pytest.approx(expected)
    one = info(labels=("a", "b"), output="sigmoid")
    logit = lambda p: np.array([[np.log(p / (1 - p))]])  # noqa: E731
    assert compare(logit(0.5), logit(0.1), one)["kl_nats"] == pytest.approx(expected)


def test_kl_survives_logits_that_saturate():
    far = np.array([[400.0, -400.0, 0.0]])
    assert compare(far, -far, info())["kl_nats"] == pytest.approx(800)


def test_agreement_follows_the_threshold():
    two = info(labels=("a", "b"), threshold=0.9)
    want, got = np.array([[0.0, 1.0], [0.0, 5.0]]), np.array([[0.0, 2.0], [0.0, 1.0]])
    assert compare(want, got, two)["agreement"] == 0.5


@pytest.mark.parametrize("given", [True, False])
def test_texts_are_compared_alone_at_an_odd_length_and_padded(given):
    processor = train_text_processor(tiny.texts(100), vocab_size=200, max_length=tiny.MAX_LENGTH)
    batches = list(shapes(processor, tiny.splits("text") if given else None).values())
    sizes = [b["input_ids"].shape for b in batches]
    assert [s[0] for s in sizes] == [1, 3, 8]
    assert sizes[1][1] % 2 == 1
    assert max(s[1] for s in sizes) <= processor.max_length
    assert batches[0]["attention_mask"].all()
    assert not batches[1]["attention_mask"].all()
    assert not batches[2]["attention_mask"].all()
    assert all(b["input_ids"].max() < processor.vocab_size for b in batches)


@pytest.mark.parametrize("given", [True, False])
def test_images_are_compared_alone_and_in_batches(given):
    batches = shapes(ImageProcessor(tiny.SIDE, 1, (0.5,), (0.5,)), tiny.splits("image") if given else None)
    assert [b["pixel_values"].shape for b in batches.values()] == [(n, 1, tiny.SIDE, tiny.SIDE) for n in (1, 3, 8)]
