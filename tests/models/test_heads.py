"""Pooling over real tokens, head widths, and what a model returns."""

from __future__ import annotations

import pytest
import torch

from lessen import plugins
from lessen.info import generates
from lessen.models.family import family
from lessen.models.heads import pool

FAMILIES = [n for n in plugins.names("models.families") if not generates(family(n).task)]
STATES = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [9.0, 9.0]], [[2.0, 2.0], [4.0, 4.0], [6.0, 6.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_pooling_reads_real_tokens_only():
    assert pool(STATES, MASK, "mean").tolist() == [[2.0, -3.0], [4.0, 4.0]]
    assert pool(STATES, MASK, "max").tolist() == [[3.0, -1.0], [6.0, 6.0]]
    assert pool(STATES, MASK, "cls").tolist() == [[1.0, -5.0], [2.0, 2.0]]
    assert pool(STATES, None, "mean")[0].tolist() == pytest.approx([13 / 3, 1.0])


def test_pooling_of_an_image_reads_all_positions():
    image = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert pool(image, None, "cls").tolist() == pool(image, None, "mean").tolist() == [[1.5, 5.5]]
    assert pool(image, None, "max").tolist() == [[3.0, 7.0]]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_padding_does_not_change_an_answer(kit, pooling):
    model = kit.tiny("bert", pooling=pooling, head_width=6)
    items = model.processor.encode(["the red box"])
    short = {k: torch.from_numpy(v) for k, v in model.processor.collate(items).items()}
    long = {k: torch.from_numpy(v) for k, v in model.processor.collate(items, pad_to=kit.LENGTH).items()}
    with torch.inference_mode():
        torch.testing.assert_close(model.module(**short).logits, model.module(**long).logits)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", [{}, {"pooling": "mean"}], ids=["stock", "pooled"])
def test_every_model_returns_logits_and_hidden_states(kit, name, head):
    model = kit.tiny(name, **head)
    out = model.module(**kit.inputs(model, 2), output_hidden_states=True)
    assert out.logits.shape == (2, 3)
    assert len(out.hidden_states) >= 3
    assert model.module.get_submodule(model.module.base_model_prefix) is model.module.base_model


def test_attentions_come_from_the_pooled_model_too(kit):
    for head in ({}, {"pooling": "mean"}):
        model = kit.tiny("electra", **head)
        model.module.base_model.set_attn_implementation("eager")
        out = model.module(**kit.inputs(model, 2), output_attentions=True)
        assert [a.shape[1] for a in out.attentions] == [4, 4, 4]


def test_a_head_width_makes_a_hidden_layer(kit):
    names = [type(m).__name__ for m in kit.tiny("bert", head_width=6).module.classifier]
    assert names == ["Linear", "ReLU", "Dropout", "Linear"]


@pytest.mark.parametrize(
    ("info", "outputs"),
    [
        ({"labels": ("no", "yes"), "output": "sigmoid"}, 1),
        ({"labels": ("a", "b", "c"), "output": "sigmoid", "multi_label": True}, 3),
        ({"labels": ("no", "yes")}, 2),
    ],
)
@pytest.mark.parametrize("head", [{}, {"head_width": 4}], ids=["stock", "pooled"])
def test_the_number_of_logits_follows_the_output(kit, info, outputs, head):
    assert kit.logits(kit.tiny("distilbert", **info, **head), 2).shape == (2, outputs)


def test_mobilenet_trains_with_statistics_of_more_than_the_last_batch(kit):
    momenta = {m.momentum for m in kit.tiny("mobilenet_v2").module.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert momenta == {0.1}
