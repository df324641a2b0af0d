"""Cutting units: exact, and in step with attributes and configuration (P1, P3 to P5, R1 to R8)."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lessen import plugins
from lessen.errors import ModelError
from lessen.info import generates
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, droppable, groups, layers, mask_

FAMILIES = [n for n in plugins.names("models.families") if not generates(family(n).task)]
HEADS = [{"pooling": "cls", "head_width": None}, {"pooling": "mean", "head_width": 6}]
BOTTLENECK = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1], "layer_type": "bottleneck"}


def close(a, b):
    return float((a - b).abs().max()) <= 1e-5 * float(a.abs().max())


def kept(units):
    return [u for u in range(units) if u % 3 != 1] if units > 2 else [units - 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", HEADS, ids=["stock", "pooled"])
def test_cutting_every_group_equals_masking_it_also_when_cut_twice(kit, name, head):
    model = kit.tiny(name, **head)
    for _ in range(2):  # the second round cuts a model that is cut already
        reference = copy.deepcopy(model)
        for group in groups(model, streams=True):
            keep = kept(group.units)
            mask_(reference, group, set(range(group.units)) - set(keep))
            before = {n: p.shape for n, p in model.module.named_parameters()}
            cut_(model, group, keep)
            assert len(keep) == group.units or {n: p.shape for n, p in model.module.named_parameters()} != before
        for batch in (1, 3):
            assert close(kit.logits(reference, batch), kit.logits(model, batch))


def test_cutting_a_bottleneck_resnet_with_a_stem_of_its_own_equals_masking(kit):
    model = kit.tiny("resnet", shape={**BOTTLENECK, "embedding_size": 12})
    names = [g.name for g in groups(model, streams=True)]
    assert "stream.stem" in names
    assert "stage.0.block.0.conv.1" in names
    for group in groups(model, streams=True):
        reference = copy.deepcopy(model)
        mask_(reference, group, [0, 2])
        cut_(model, group, [u for u in range(group.units) if u not in (0, 2)])
        assert close(kit.logits(reference, 2), kit.logits(model, 2)), group.name


@pytest.mark.parametrize("name", FAMILIES)
def test_masking_a_unit_changes_the_answers(kit, name):
    """Else the tests above would hold for groups that name columns without a use."""
    model = kit.tiny(name)
    before = kit.logits(model, 2)
    found = groups(model, streams=True)
    for group in found if len(found) < 20 else found[::3]:
        reference = copy.deepcopy(model)
        mask_(reference, group, range(group.units - 1))
        assert not close(before, kit.logits(reference, 2)), group.name


@pytest.mark.parametrize("name", FAMILIES)
def test_the_configuration_alone_gives_the_units_of_a_whole_model(kit, name):
    model = kit.tiny(name)
    assert family(name).units(model.module.config) == {g.name: g.units for g in groups(model, streams=True)}


@pytest.mark.parametrize("shape", [BOTTLENECK, {**BOTTLENECK, "downsample_in_first_stage": True, "embedding_size": 16}])
def test_the_configuration_of_other_resnets_gives_their_units(kit, shape):
    model = kit.tiny("resnet", shape=shape)
    assert family("resnet").units(model.module.config) == {g.name: g.units for g in groups(model, streams=True)}


def test_a_mobilenet_with_another_stem_and_stride_has_its_groups(kit):
    model = kit.tiny(
        "mobilenet_v2", shape={"depth_multiplier": 0.3, "first_layer_is_expansion": False, "output_stride": 8}
    )
    found = groups(model, streams=True)
    assert family("mobilenet_v2").units(model.module.config) == {g.name: g.units for g in found}
    assert {"stem.first", "stem.expand"} < {g.name for g in found}
    for group in (g for g in found if g.name.startswith("stem")):
        reference = copy.deepcopy(model)
        mask_(reference, group, [1])
        cut_(model, group, [u for u in range(group.units) if u != 1])
        assert close(kit.logits(reference, 2), kit.logits(model, 2))


@pytest.mark.parametrize("name", FAMILIES)
def test_attributes_and_configuration_agree_with_the_weights_after_a_cut(kit, name):
    model = kit.tiny(name)
    for group in groups(model, streams=True):
        cut_(model, group, kept(group.units))
    for path, part in model.module.named_modules():
        if isinstance(part, nn.Linear):
            assert part.weight.shape == (part.out_features, part.in_features), path
        elif isinstance(part, nn.Conv2d):
            assert part.weight.shape[:2] == (part.out_channels, part.in_channels // part.groups), path
            assert part.groups in (1, part.in_channels), path
        elif isinstance(part, nn.BatchNorm2d):
            assert {len(t) for t in (part.weight, part.bias, part.running_mean, part.running_var)} == {
                part.num_features
            }
        if hasattr(part, "attention_head_size") and hasattr(part, "all_head_size"):
            assert part.all_head_size == part.num_attention_heads * part.attention_head_size == len(part.query.weight)
        elif hasattr(part, "attention_head_size"):
            assert part.n_heads * part.attention_head_size == len(part.q_lin.weight)
    stated = family(name).units(model.module.config) | model.info.widths
    assert stated == {g.name: g.units for g in groups(model, streams=True)}


def test_a_feed_forward_width_that_all_layers_share_stands_in_the_configuration_alone(kit):
    model = kit.tiny("bert")
    for group in groups(model):
        if group.kind == "ffn":
            cut_(model, group, range(16))
    assert model.module.config.intermediate_size == 16
    assert model.info.widths == {}
    cut_(model, next(g for g in groups(model) if g.kind == "ffn"), range(8))
    assert model.module.config.intermediate_size == 16
    assert model.info.widths == {"layer.0.ffn": 8}


def test_uniform_channels_stand_in_the_configuration_of_convolutional_networks(kit):
    net = kit.tiny("resnet")
    for group in groups(net, streams=True):
        cut_(net, group, range(group.units // 2))
    assert (net.module.config.hidden_sizes, net.module.config.embedding_size) == ([4, 8], 4)
    assert net.info.widths == {}
    mobile = kit.tiny("mobilenet_v2", shape={"depth_multiplier": 1.0})
    for group in groups(mobile):
        if group.name.startswith("layer"):
            cut_(mobile, group, range(group.units // 2))
    assert mobile.module.config.expand_ratio == 3.0
    assert mobile.info.widths == {}


def test_a_stem_as_wide_as_the_first_stage_does_not_lose_its_shortcut(kit):
    model = kit.tiny("resnet", shape={**kit.SHAPES["resnet"], "embedding_size": 12})
    for group in groups(model, streams=True):
        if group.name in ("stream.stem", "stream.0") or group.name.startswith("stage.0"):
            cut_(model, group, range(6))
    stated = family("resnet").units(model.module.config) | model.info.widths
    assert stated == {g.name: g.units for g in groups(model, streams=True)}


@pytest.mark.parametrize("name", FAMILIES)
def test_residual_streams_are_left_out_unless_asked_for(kit, name):
    model = kit.tiny(name)
    assert all(g.part != "stream" for g in groups(model))
    has = any(g.part == "stream" for g in groups(model, streams=True))
    assert has == (model.info.task == "image-classification")


@pytest.mark.parametrize("keep", [[], [0, 0], [-1], [99]])
def test_an_impossible_choice_of_units_is_refused_and_changes_nothing(kit, keep):
    model = kit.tiny("bert")
    before = kit.logits(model, 2)
    with pytest.raises(ModelError, match=r"layer\.0\.heads"):
        cut_(model, groups(model)[0], keep)
    assert torch.equal(before, kit.logits(model, 2))


def test_a_group_from_before_a_cut_is_refused(kit):
    model = kit.tiny("bert")
    stale = groups(model)[1]
    cut_(model, stale, range(10))
    with pytest.raises(ModelError, match="call groups"):
        cut_(model, stale, range(5))


def test_tied_parameters_stay_one(kit):
    model = kit.tiny("bert")
    first, second = (model.module.get_submodule(p) for p in layers(model)[:2])
    second.intermediate.dense.weight = first.intermediate.dense.weight
    slim = next(g for g in groups(model) if g.name == "layer.0.ffn")
    slim = type(slim)(**{**vars(slim), "producers": slim.producers[:1], "consumers": ()})
    from lessen.models.groups import slice_

    slice_(model.module, slim, range(8))
    assert second.intermediate.dense.weight is first.intermediate.dense.weight


@pytest.mark.parametrize("name", [n for n in FAMILIES if n != "mobilenet_v2"])
def test_dropping_a_layer_equals_skipping_it(kit, name):
    model = kit.tiny(name)
    gone = droppable(model)[-1]
    reference = copy.deepcopy(model)
    skip = reference.module.get_submodule(layers(reference)[gone])
    skip.forward = lambda hidden, *a, **k: hidden
    keep = [i for i in range(len(layers(model))) if i != gone]
    drop_layers_(model, keep)
    assert len(layers(model)) == len(keep)
    assert close(kit.logits(reference, 2), kit.logits(model, 2))
    assert family(name).units(model.module.config) == {g.name: g.units for g in groups(model, streams=True)}


def test_dropping_a_layer_renames_the_widths_of_those_after_it(kit):
    model = kit.tiny("bert")
    cut_(model, next(g for g in groups(model) if g.name == "layer.2.heads"), [0])
    drop_layers_(model, [0, 2])
    assert model.info.widths == {"layer.1.heads": 1}
    assert [layer.attention.self.layer_idx for layer in model.module.bert.encoder.layer] == [0, 1]


def test_layers_that_change_the_shape_must_stay(kit):
    net = kit.tiny("resnet")
    with pytest.raises(ModelError, match=r"layers \[2\]"):
        drop_layers_(net, [0, 1, 3])
    with pytest.raises(ModelError, match="stage 0"):
        drop_layers_(net, [2, 3])
    with pytest.raises(ModelError, match="must stay"):
        drop_layers_(kit.tiny("mobilenet_v2"), [0])
    with pytest.raises(ModelError, match="at least one"):
        drop_layers_(kit.tiny("bert"), [])


@pytest.mark.parametrize("name", FAMILIES)
def test_kept_units_round_to_a_share_of_the_width(kit, name):
    for group in groups(kit.tiny(name), streams=True):
        assert group.multiple == 1 or group.units >= 8 * group.multiple
