from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lessen.errors import ModelError
from lessen.loss import label_loss
from lessen.prune.calibrate import (
    block_influence,
    calibration,
    gradients,
    input_norms,
    real,
    recalibrate_batchnorm_,
)
from lessen.recipe import Train

CPU = torch.device("cpu")
FFN = ("bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.output.dense")


def loss_of(model):
    return label_loss(model.info, Train(), None)


def test_r14_calibration_counts_its_samples_and_is_the_same_for_the_same_seed(items):
    data = items("bert", 48)
    batches = calibration(data, 20, 7, CPU, batch_size=8)
    rows = np.concatenate(batches.plan)
    assert batches.samples == len(set(rows)) == 20
    assert np.array_equal(rows, np.concatenate(calibration(data, 20, 7, CPU, batch_size=8).plan))
    assert not np.array_equal(rows, np.concatenate(calibration(data, 20, 8, CPU, batch_size=8).plan))
    assert calibration(data, 999, 7, CPU).samples == 48


def test_what_is_fitted_and_what_judges_it_do_not_overlap(items):
    fit, held = calibration(items("bert", 48), 48, 0, CPU, batch_size=4).parts()
    a, b = set(np.concatenate(fit.plan)), set(np.concatenate(held.plan))
    assert not a & b
    assert len(a | b) == 48


def test_padding_is_left_out_of_three_dimensional_inputs():
    x = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert real(x, {"attention_mask": mask}).tolist() == [[0, 1], [2, 3], [6, 7]]
    assert real(x[:, 0], {"attention_mask": mask}).shape == (2, 2)
    assert real(torch.zeros(2, 5, 3, 3), {}).shape == (18, 5)


def test_input_norms_do_not_depend_on_padding_or_batches(model, items):
    m, data = model("bert"), items("bert", 24)
    one = input_norms(m.module, FFN, calibration(data, 24, 0, CPU, batch_size=24))
    many = input_norms(m.module, FFN, calibration(data, 24, 0, CPU, batch_size=1))  # a batch of one has no padding
    assert one[FFN[0]].shape == (16,)
    for name in FFN:
        torch.testing.assert_close(one[name], many[name], rtol=1e-5, atol=1e-6)


def test_input_norms_are_l2_norms_over_all_tokens(model, items):
    m, data = model("bert"), items("bert", 6)
    name, rows = FFN[0], []
    handle = m.module.get_submodule(name).register_forward_pre_hook(lambda layer, args: rows.append(args[0][0]))
    with torch.no_grad():
        for i in range(6):
            m.module(**{k: torch.from_numpy(v) for k, v in data.batch(np.array([i])).items()})
    handle.remove()
    want = torch.cat(rows).double().norm(dim=0)
    torch.testing.assert_close(
        input_norms(m.module, [name], calibration(data, 6, 0, CPU))[name], want, rtol=1e-5, atol=0
    )


def test_a_layer_that_never_runs_is_named(model, items):
    m = model("bert")
    m.module.add_module("unused", nn.Linear(2, 2))
    with pytest.raises(ModelError, match="unused"):
        input_norms(m.module, ["unused"], calibration(items("bert"), 4, 0, CPU))


def test_gradients_are_means_of_absolute_values_not_absolute_means(model, items):
    m, data = model("bert"), items("bert", 8)
    batches = calibration(data, 8, 0, CPU, batch_size=2)
    weight = m.module.get_submodule(FFN[0]).weight
    each = []
    for inputs, labels in batches:
        value = loss_of(m)(m.module(**inputs).logits, labels).mean()
        each.append(torch.autograd.grad(value, weight)[0])
    got = gradients(m.module, [FFN[0]], batches, loss_of(m))[FFN[0]]
    torch.testing.assert_close(got, torch.stack(each).abs().mean(dim=0))
    assert float((got - torch.stack(each).mean(dim=0).abs()).max()) > 1e-6  # the signed mean cancels


@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_r14_measuring_leaves_weights_statistics_modes_gradients_and_random_numbers_alone(name, model, items):
    m, batches = model(name), calibration(items(name, 12), 12, 0, CPU, batch_size=4)
    m.module.train()
    frozen = next(m.module.parameters())
    frozen.requires_grad_(False)
    target = next(n for n, p in m.module.named_modules() if isinstance(p, nn.Conv2d | nn.Linear))
    state, modes, rng = (
        copy.deepcopy(m.module.state_dict()),
        [p.training for p in m.module.modules()],
        torch.get_rng_state(),
    )
    input_norms(m.module, [target], batches)
    gradients(m.module, [target], batches, loss_of(m))
    assert all(torch.equal(v, state[k]) for k, v in m.module.state_dict().items())
    assert modes == [p.training for p in m.module.modules()]
    assert torch.equal(rng, torch.get_rng_state())
    assert all(p.grad is None for p in m.module.parameters())
    assert not frozen.requires_grad


def test_p8_recalibrated_batchnorm_normalises_what_it_is_given(model, items):
    m, batches = model("resnet"), calibration(items("resnet", 32), 32, 0, CPU, batch_size=32)
    name, norm = next((n, p) for n, p in m.module.named_modules() if isinstance(p, nn.BatchNorm2d))
    conv = next(p for p in m.module.modules() if isinstance(p, nn.Conv2d))
    with torch.no_grad():
        conv.weight.mul_(7)
    seen = []
    assert recalibrate_batchnorm_(m.module, batches) == sum(isinstance(p, nn.BatchNorm2d) for p in m.module.modules())
    handle = norm.register_forward_hook(
        lambda layer, args, out: seen.append((out - layer.bias[:, None, None]) / layer.weight[:, None, None])
    )
    with torch.no_grad():
        for inputs, _ in batches:
            m.module(**inputs)
    handle.remove()
    values = torch.cat(seen).movedim(1, -1).reshape(-1, norm.num_features)
    assert name
    assert float(values.mean(dim=0).abs().max()) < 1e-4
    assert float((values.std(dim=0) - 1).abs().max()) < 1e-3
    assert norm.momentum == 0.1
    assert not m.module.training


def test_a_model_without_batchnorm_has_nothing_to_recalibrate(model, items):
    assert recalibrate_batchnorm_(model("bert").module, calibration(items("bert"), 4, 0, CPU)) == 0


def test_block_influence_is_zero_for_a_layer_that_changes_nothing(model, items):
    m = model("bert")
    layers = [f"bert.encoder.layer.{i}" for i in range(2)]

    class Nothing(nn.Module):
        def forward(self, hidden_states, *args, **kwargs):
            return hidden_states

    m.module.set_submodule(layers[1], Nothing())
    scores = block_influence(m.module, layers, calibration(items("bert"), 16, 0, CPU))
    assert scores[1] == pytest.approx(0, abs=1e-9)
    assert scores[0] > 1e-3
