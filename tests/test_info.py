import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lessen.info import ModelInfo


def info(**changes):
    values = {"family": "bert", "task": "text-classification", "source": "test", "labels": ("no", "yes")}
    return ModelInfo(**{**values, **changes})


@given(arrays(np.float32, (3, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax_probabilities_are_a_distribution_whatever_the_logits(logits):
    p = info(labels=("a", "b", "c", "d")).probabilities(logits)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert (p.argmax(axis=1) == logits.argmax(axis=1)).all() or np.unique(logits).size < logits.size


def test_one_logit_equals_two_logits_with_zero_for_the_negative():
    z = np.array([[-2.0], [0.0], [3.0]], dtype=np.float32)
    two = np.concatenate([np.zeros_like(z), z], axis=1)
    one = info(output="sigmoid").probabilities(z)
    np.testing.assert_allclose(one, info().probabilities(two), atol=1e-6)


def test_the_threshold_moves_binary_decisions():
    p = np.array([[0.55, 0.45], [0.2, 0.8]], dtype=np.float32)
    assert info().decide(p).tolist() == [0, 1]
    assert info(threshold=0.4).decide(p).tolist() == [1, 1]


def test_the_threshold_does_not_touch_three_labels():
    p = np.array([[0.3, 0.36, 0.34]], dtype=np.float32)
    assert info(labels=("a", "b", "c"), threshold=0.9).decide(p).tolist() == [1]


def test_multi_label_decides_each_label_by_itself():
    model = info(output="sigmoid", multi_label=True, labels=("a", "b", "c"))
    p = model.probabilities(np.array([[4.0, -4.0, 0.1]], dtype=np.float32))
    assert model.decide(p).tolist() == [[1, 0, 1]]
    assert model.logits == 3


def test_unknown_fields_of_a_manifest_are_refused():
    with pytest.raises(ValueError, match="surprise"):
        info(surprise=1)
