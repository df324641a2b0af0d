import pytest
import torch

from lessen.distill.labels import columns
from lessen.errors import ModelError
from lessen.info import ModelInfo


def info(*labels, output="softmax", multi_label=False):
    return ModelInfo(
        family="bert", task="text-classification", source="here", labels=labels, output=output, multi_label=multi_label
    )


def test_r31_teacher_columns_are_permuted_by_name():
    """R31: label maps are compared by name, never by position."""
    order = columns(info("cat", "dog", "fox"), info("fox", "cat", "dog"))
    assert order(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[3.0, 1.0, 2.0]]


def test_r31_the_same_order_leaves_logits_alone():
    """R31."""
    z = torch.randn(3, 2)
    assert columns(info("a", "b"), info("a", "b"))(z) is z


def test_r31_multi_label_columns_are_permuted_too():
    """R31."""
    pair = [info(*names, output="sigmoid", multi_label=True) for names in (("x", "y"), ("y", "x"))]
    assert columns(*pair)(torch.tensor([[1.0, 2.0]])).tolist() == [[2.0, 1.0]]


def test_r31_one_logit_and_two_logits_are_converted_exactly_at_every_temperature():
    """R31: [0, z] for z, b − a for [a, b]; probabilities agree, in either direction and order."""
    one, two, swapped = info("no", "yes", output="sigmoid"), info("no", "yes"), info("yes", "no")
    z = torch.tensor([[2.0], [-0.5]])
    for temperature in (0.5, 1.0, 4.0):
        want = torch.sigmoid(z[:, 0] / temperature)
        torch.testing.assert_close(torch.softmax(columns(one, two)(z) / temperature, 1)[:, 1], want)
        torch.testing.assert_close(torch.softmax(columns(one, swapped)(z) / temperature, 1)[:, 0], want)
    wide = torch.tensor([[1.0, 3.0]])
    assert columns(two, one)(wide).tolist() == [[2.0]]
    assert columns(swapped, one)(wide).tolist() == [[-2.0]]
    reversed_one = info("yes", "no", output="sigmoid")
    assert columns(one, reversed_one)(z).tolist() == [[-2.0], [0.5]]


def test_r31_other_names_are_refused_and_named():
    """R31: nothing is reordered or guessed."""
    with pytest.raises(ModelError, match=r"cat, dog; wanted are cat, wolf"):
        columns(info("cat", "dog"), info("cat", "wolf"))


def test_r31_softmax_over_one_output_is_refused():
    """R31: its probability is constant and its divergence 0."""
    alone = info("yes")
    assert len(alone.labels) == 1
    with pytest.raises(ModelError, match="probability is 1"):
        columns(alone, alone)


def test_r31_multi_label_against_single_label_is_refused():
    """R31."""
    with pytest.raises(ModelError, match="any number of labels a row, the student one label"):
        columns(info("a", "b", output="sigmoid", multi_label=True), info("a", "b"))
