from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lessen.prune import sequential
from lessen.prune.calibrate import calibration, input_norms
from lessen.prune.masks import Plan, keep_global, keep_nm, keep_rows
from lessen.prune.methods import wanda
from lessen.prune.methods.sparsegpt import DAMPING, solve

CPU = torch.device("cpu")


def correlated(inputs=24, outputs=10, rows=400, seed=0):
    """Return (weight, rows of correlated inputs)."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs // 3, inputs, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, inputs // 3, generator=generator, dtype=torch.float64) @ mix
    x += 0.3 * torch.randn(rows, inputs, generator=generator, dtype=torch.float64)
    return torch.randn(outputs, inputs, generator=generator, dtype=torch.float64), x


def lost(new, weight, x):
    return float((x @ (new - weight).T).square().sum() / (x @ weight.T).square().sum())


def test_a_weight_that_goes_is_made_up_for_as_the_optimal_brain_surgeon_says():
    hessian = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    new, mask = solve(torch.tensor([[1.0, 3.0]]), hessian, 1)
    assert mask.tolist() == [[False, True]]
    # by hand: the change of w1 is -w0 [H^-1]_10 / [H^-1]_00 = w0 H_01 / H_11, with 1 % of 2 on the diagonal
    assert new[0].tolist() == pytest.approx([0.0, 3.0 + 1.0 * 1.0 / 2.02], abs=1e-6)


def test_later_columns_are_not_given_back_to_earlier_ones():
    new, mask = solve(torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 2.0]]), 1)
    assert mask.tolist() == [[True, False]]
    assert new[0].tolist() == [3.0, 0.0]


def test_the_second_of_three_changes_the_third_by_the_inverse_of_what_is_left():
    hessian = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, 1.0], [0.5, 1.0, 2.0]], dtype=torch.float64)
    new, mask = solve(torch.tensor([[5.0, 0.1, 4.0]], dtype=torch.float64), hessian, 1)
    assert mask.tolist() == [[True, False, True]]
    rest = torch.linalg.inv(hessian[1:, 1:] + DAMPING * hessian.diagonal().mean() * torch.eye(2, dtype=torch.float64))
    assert float(new[0, 2]) == pytest.approx(4.0 - 0.1 * float(rest[1, 0] / rest[0, 0]), rel=1e-12)


@pytest.mark.parametrize("nm", [None, (2, 4)])
def test_on_correlated_inputs_less_of_the_output_is_lost_than_by_magnitude_or_wanda(nm):
    weight, x = correlated()
    remove = weight.numel() // 2
    norm = x.norm(dim=0)
    scores = {"magnitude": weight.abs(), "wanda": wanda.saliency(weight, norm=norm)}
    masks = {
        "magnitude": keep_nm(scores["magnitude"], 2, 4) if nm else keep_global([scores["magnitude"]], remove)[0],
        "wanda": keep_nm(scores["wanda"], 2, 4) if nm else keep_rows(scores["wanda"], remove),
    }
    ours = lost(solve(weight, x.T @ x, remove, nm)[0], weight, x)
    for name, mask in masks.items():
        assert ours < 0.5 * lost(weight * mask, weight, x), name


@pytest.mark.parametrize("remove", [0, 1, 77, 120, 239, 240])
@pytest.mark.parametrize("block", [5, 7, 128])
def test_exactly_as_many_weights_go_as_asked_whatever_the_blocks(remove, block):
    weight, x = correlated()
    new, mask = solve(weight, x.T @ x, remove, block=block)
    assert int((~mask).sum()) == remove
    assert not new[~mask].any()
    assert torch.isfinite(new).all()


@pytest.mark.parametrize("nm", [(2, 4), (1, 4), (4, 8)])
def test_nm_is_valid_and_does_not_depend_on_how_updates_are_put_off(nm):
    weight, x = correlated()
    new, mask = solve(weight, x.T @ x, 0, nm, block=8)
    assert set(mask.reshape(-1, nm[1]).sum(dim=1).tolist()) == {nm[0]}
    other, same = solve(weight, x.T @ x, 0, nm, block=128)
    assert torch.equal(mask, same)
    torch.testing.assert_close(new, other, rtol=1e-9, atol=1e-12)


def test_inputs_that_never_were_active_go_first_and_without_any_input_the_small_weights_go():
    weight, x = correlated()
    x[:, 3] = 0
    _, mask = solve(weight, x.T @ x, 10, block=4 * 24)
    assert not mask[:, 3].any()
    new, mask = solve(weight, torch.zeros(24, 24), 120)
    assert torch.equal(mask, keep_global([weight.abs()], 120)[0])
    assert torch.equal(new, weight * mask)


@pytest.mark.parametrize("name", ["gpt2", "t5", "mixtral"])
def test_layers_are_pruned_on_what_the_pruned_layers_before_them_give(name, speaker):
    m, data = speaker(name)
    names = {
        "gpt2": ("transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_fc"),
        "t5": ("encoder.block.0.layer.1.DenseReluDense.wo", "decoder.block.0.layer.1.EncDecAttention.k"),
        "mixtral": ("model.layers.0.mlp.experts.down_proj", "model.layers.1.mlp.experts.gate_up_proj"),
    }[name]
    seen = []

    def solve(weight, hessian, remove, nm):
        seen.append(hessian.diagonal().sqrt())
        return torch.zeros_like(weight), torch.zeros_like(weight, dtype=torch.bool)

    from lessen.prune import tensors

    weights = {n: tensors.tensor(m.module, n) for n in reversed(names)}  # put in order by the forward pass
    batches = calibration(data, 8, 0, CPU, batch_size=3)
    before = input_norms(m.module, [names[1]], batches)[names[1]].reshape(-1, 32)
    masks, facts = sequential.prune_(m, weights, SimpleNamespace(solve=solve), Plan(frac=0.5), batches)
    after = input_norms(m.module, [names[1]], batches)[names[1]].reshape(-1, 32)  # the first is zero now
    got = torch.stack(seen[-len(after) :])
    torch.testing.assert_close(got, after, rtol=1e-5, atol=1e-6)
    assert float((got - before).abs().max()) > 0.01
    assert not any(mask.any() for mask in masks.values())
    assert all(row["rows"] == 0 or row["error"] == pytest.approx(1) for row in facts)
    assert [row["matrix"].partition("[")[0] for row in facts] == sorted(
        [row["matrix"].partition("[")[0] for row in facts], key=names.index
    )
    assert np.isfinite(got.numpy()).all()
