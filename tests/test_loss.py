import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional

from lessen.info import ModelInfo
from lessen.loss import label_loss, sigmoid_loss, softmax_loss
from lessen.recipe import Train

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]])
LABELS = torch.tensor([0, 2])


def info(**changes):
    values = {"family": "bert", "task": "text-classification", "source": "test", "labels": ("a", "b", "c")}
    return ModelInfo(**{**values, **changes})


def test_cross_entropy_equals_scikit_learns():
    p = torch.softmax(LOGITS.double(), dim=1).numpy()
    assert float(softmax_loss(LOGITS, LABELS).mean()) == pytest.approx(log_loss(LABELS, p, labels=[0, 1, 2]), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_smoothing_and_weights_equal_pytorchs(smoothing):
    got = softmax_loss(LOGITS, LABELS, smoothing=smoothing)
    want = functional.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(got, want)
    weights = torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(
        softmax_loss(LOGITS, LABELS, weights=weights), softmax_loss(LOGITS, LABELS) * weights[LABELS]
    )


def test_focal_loss_shrinks_what_is_already_right_and_is_cross_entropy_at_gamma_zero():
    plain, focal = softmax_loss(LOGITS, LABELS), softmax_loss(LOGITS, LABELS, gamma=2.0)
    p = torch.softmax(LOGITS, dim=1).gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(focal, plain * (1 - p) ** 2)
    torch.testing.assert_close(softmax_loss(LOGITS, LABELS, gamma=0.0), plain)


def test_one_logit_weighs_positives_by_the_ratio_of_the_class_weights():
    logits, labels = torch.tensor([[0.3], [-1.2]]), torch.tensor([1, 0])
    loss = label_loss(info(labels=("no", "yes"), output="sigmoid"), Train(), torch.tensor([0.5, 1.5]))
    want = functional.binary_cross_entropy_with_logits(
        logits[:, 0], labels.float(), pos_weight=torch.tensor(3.0), reduction="none"
    )
    torch.testing.assert_close(loss(logits, labels), want)


def test_multi_label_loss_is_the_mean_over_labels_so_that_it_does_not_grow_with_their_number():
    logits, targets = torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    loss = label_loss(info(output="sigmoid", multi_label=True), Train(), None)
    torch.testing.assert_close(loss(logits, targets), torch.full((2,), float(np.log(2))))


def test_the_loss_is_computed_in_fp32_from_bf16_logits():
    assert softmax_loss(LOGITS.bfloat16(), LABELS).dtype == torch.float32
    assert sigmoid_loss(LOGITS.bfloat16(), torch.ones_like(LOGITS)).dtype == torch.float32
