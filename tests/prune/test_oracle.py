from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lessen.errors import ModelError
from lessen.models.groups import cut_, drop_layers_, groups, layers
from lessen.prune import oracle

CPU = torch.device("cpu")


def cut_half(m, there, seed=0):
    rng = np.random.default_rng(seed)
    return {g.name: sorted(rng.permutation(g.units)[: max(1, g.units // 2)].tolist()) for g in there}


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "mobilenet_v2"])
def test_p1_r1_cutting_equals_masking_group_by_group_and_all_together(family, model, items):
    m, probes = model(family), oracle.probes(items(family), CPU)
    there = groups(m, streams=family == "resnet")
    kept = cut_half(m, there)
    for some in [[g] for g in there[:4]] + [there]:
        small = replace(m, module=copy.deepcopy(m.module))
        want = oracle.silenced_answers(m.module, some, kept, probes)
        for group in some:
            cut_(small, group, kept[group.name])
        assert oracle.check(want, oracle.answers(small.module, probes)) < 1e-10


def test_r1_probes_are_two_batch_sizes_and_have_padding(items):
    one, several = oracle.probes(items("bert"), CPU)
    assert len(one["input_ids"]) == 1
    assert len(several["input_ids"]) == 3
    assert not several["attention_mask"].all()


def test_r3_heads_cut_across_their_borders_are_caught(model, items):
    m, probes = model("bert"), oracle.probes(items("bert"), CPU)
    group = next(g for g in groups(m) if g.kind == "heads")
    kept = {group.name: [0, 2]}
    want = oracle.silenced_answers(m.module, [group], kept, probes)
    scrambled = replace(group, producers=tuple(replace(c, width=1) for c in group.producers), units=16)
    wrong = replace(m, module=copy.deepcopy(m.module))
    layer = wrong.module.bert.encoder.layer[0].attention
    index = [0, 2, 4, 6, 8, 10, 12, 14]  # eight entries of each projection, valid shapes, wrong heads
    with torch.no_grad():
        for part in (layer.self.query, layer.self.key, layer.self.value):
            part.weight, part.bias = torch.nn.Parameter(part.weight[index]), torch.nn.Parameter(part.bias[index])
        layer.output.dense.weight = torch.nn.Parameter(layer.output.dense.weight[:, index])
    layer.self.num_attention_heads, layer.self.all_head_size = 2, 8
    assert scrambled
    with pytest.raises(ModelError, match="differs from the masked one"):
        oracle.check(want, oracle.answers(wrong.module, probes))


def test_r2_the_reference_silences_readers_so_that_biases_do_not_leak(model, items):
    m, probes = model("bert"), oracle.probes(items("bert"), CPU)
    group = next(g for g in groups(m) if g.kind == "ffn")
    kept = {group.name: list(range(12))}
    want = oracle.silenced_answers(m.module, [group], kept, probes)
    leaky = copy.deepcopy(m.module)
    with torch.no_grad():
        leaky.bert.encoder.layer[0].intermediate.dense.weight[12:] = 0  # gelu(bias) still flows
    with pytest.raises(ModelError):
        oracle.check(want, oracle.answers(leaky, probes))


def test_an_answer_that_is_not_a_number_fails_the_check():
    with pytest.raises(ModelError):
        oracle.check([torch.ones(2)], [torch.tensor([1.0, float("nan")])])


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_dropping_a_layer_equals_passing_it_by(family, model, items):
    m, probes = model(family), oracle.probes(items(family), CPU)
    want = oracle.bypassed_answers(m.module, [layers(m)[0]], probes)
    small = replace(m, module=copy.deepcopy(m.module))
    drop_layers_(small, [1])
    assert oracle.check(want, oracle.answers(small.module, probes)) < 1e-10


def test_the_check_leaves_the_module_as_it_was(model, items):
    m, probes = model("resnet"), oracle.probes(items("resnet"), CPU)
    before = copy.deepcopy(m.module.state_dict())
    there = groups(m)
    oracle.silenced_answers(m.module, there, cut_half(m, there), probes)
    assert all(torch.equal(v, before[k]) for k, v in m.module.state_dict().items())
