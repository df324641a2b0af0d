from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lessen.models.groups import cut_, groups
from lessen.prune.cost import costs, flops, parameters


def sample(data):
    return {k: torch.from_numpy(v) for k, v in data.batch(np.array([1])).items()}


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "mobilenet_v2"])
def test_predicted_costs_are_those_of_the_cut_model(family, model, items):
    m, inputs = model(family), sample(items(family))
    there = groups(m, streams=family == "resnet")
    table = costs(m, there, inputs)
    assert table.parameters({}) == parameters(m.module)
    assert table.flops({}) == flops(m.module, inputs)
    rng = np.random.default_rng(0)
    small = replace(m, module=copy.deepcopy(m.module))
    kept = {g.name: int(rng.integers(1, g.units + 1)) for g in there}
    for group in there:
        cut_(small, group, range(kept[group.name]))
    assert table.parameters(kept) == parameters(small.module)
    assert table.flops(kept) == pytest.approx(flops(small.module, inputs), rel=1e-12)


def test_r11_flops_of_an_encoder_match_the_formula(model, items):
    m, inputs = model("bert"), sample(items("bert"))
    length, hidden, ffn, layers, labels = inputs["input_ids"].shape[1], 16, 24, 2, 3
    linear = 2 * length * (4 * hidden * hidden + 2 * hidden * ffn)
    products = 2 * 2 * length * length * hidden
    head = 2 * (hidden * hidden + hidden * labels)
    assert flops(m.module, inputs) == layers * (linear + products) + head
