from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessen.errors import ModelError
from lessen.prune.masks import Masks, Plan, keep_global, keep_nm, keep_rows
from lessen.prune.schedule import share


def magnitude(name, weight):
    return weight.detach().abs()


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))


def weights(module):
    return {n: m.weight for n, m in module.named_modules() if isinstance(m, nn.Linear)}


def train(module, masks, steps, *, remask=True, **adamw):
    optimizer = torch.optim.AdamW(module.parameters(), **{"lr": 1e-2, "weight_decay": 0.1, **adamw})
    generator = torch.Generator().manual_seed(3)
    for step in range(1, steps + 1):
        x = torch.randn(32, 16, generator=generator)
        optimizer.zero_grad()
        (module(x) - x[:, :8].sin()).square().mean().backward()
        optimizer.step()
        if remask:
            masks.after_step(step, steps, 5)


def zeros(module):
    return sum(int((w == 0).sum()) for w in weights(module).values())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0, 2, width=16), min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_global_masks_remove_exactly_the_lowest_with_any_ties(rows, data):
    scores = [torch.tensor(r) for r in rows]
    total = sum(map(len, rows))
    remove = data.draw(st.integers(0, total))
    masks = keep_global(scores, remove)
    assert sum(int((~m).sum()) for m in masks) == remove
    flat, kept = torch.cat(scores), torch.cat(masks)
    if 0 < remove < total:
        assert flat[~kept].max() <= flat[kept].min()


@pytest.mark.slow
def test_global_masks_work_above_the_limit_of_torch_quantile():
    scores = torch.arange(17_000_000, dtype=torch.float32).remainder_(1000.0)
    mask = keep_global([scores], 8_500_001)[0]
    assert int((~mask).sum()) == 8_500_001


def test_row_masks_hit_a_total_that_the_rows_do_not_divide():
    mask = keep_rows(torch.rand(7, 9), 31)
    assert int((~mask).sum()) == 31
    assert set((~mask).sum(dim=1).tolist()) == {4, 5}


def test_row_masks_remove_the_same_number_in_every_row_with_ties():
    scores = torch.tensor([[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 9.0, 9.0]])
    mask = keep_rows(scores, 6)
    assert mask.sum(dim=1).tolist() == [2, 2, 2]
    assert mask[0].tolist() == [True, False, True, False]


@pytest.mark.parametrize(("keep", "group"), [(2, 4), (1, 4), (4, 8)])
def test_nm_masks_keep_exactly_n_of_every_m_neighbours_along_the_input(keep, group):
    torch.manual_seed(0)
    for shape in ((6, 16), (6, 16, 3, 3)):
        scores = torch.rand(shape)
        mask = keep_nm(scores, keep, group)
        blocks = mask.movedim(1, -1).reshape(-1, group)
        assert mask.shape == scores.shape
        assert set(blocks.sum(dim=1).tolist()) == {keep}
        values = scores.movedim(1, -1).reshape(-1, group)
        highest = values.sort(dim=1, descending=True).values[:, :keep].sum(dim=1)
        assert torch.allclose((values * blocks).sum(dim=1), highest)


def test_nm_refuses_an_input_dimension_that_is_not_a_multiple():
    with pytest.raises(ModelError, match="10 inputs are not a multiple of 4"):
        keep_nm(torch.rand(3, 10), 2, 4)


def test_scores_that_are_negative_or_not_finite_are_refused():
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="negative or not finite"):
            keep_global([torch.tensor([bad, 1.0])], 1)


PLANS = {
    "layer": Plan(frac=0.5),
    "all": Plan(frac=0.5, compare="all"),
    "row": Plan(frac=0.5, compare="row"),
    "2:4": Plan(frac=0.5, nm=(2, 4)),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_p7_masks_hold_through_adamw_with_momentum_and_weight_decay(plan):
    module = net()
    train(module, None, 20, remask=False)  # a warm optimizer would move masked weights
    masks = Masks(weights(module), plan, magnitude)
    before = zeros(module)
    assert before == (16 * 24 + 24 * 8) // 2
    train(module, masks, 15)
    assert zeros(module) == before
    for name, mask in masks.by_name().items():
        assert not weights(module)[name][~mask].any()


def test_p7_without_masking_after_each_step_the_zeros_are_lost():
    module = net()
    masks = Masks(weights(module), Plan(frac=0.5), magnitude)
    train(module, masks, 3, remask=False)
    assert zeros(module) < 0.2 * (16 * 24 + 24 * 8) / 2


@pytest.mark.parametrize("schedule", ["linear", "cubic", "exponential"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_growing_schedule_hits_its_target_exactly_at_its_end_and_never_gives_a_weight_back(plan, schedule):
    from dataclasses import replace

    module = net()
    grown = replace(plan, schedule=schedule, start_epoch=1, end_epoch=3, frequency=3)
    masks = Masks(weights(module), grown, magnitude)
    shapes = {n: w.shape for n, w in weights(module).items()}
    old = {n: m.clone() for n, m in masks.by_name().items()}
    for step in range(1, 21):
        with torch.no_grad():
            for w in weights(module).values():
                w.add_(torch.randn(w.shape) * 0.1)
        masks.after_step(step, 20, 5)
        new = masks.by_name()
        gone = sum(int((~m).sum()) for m in new.values())
        due = 0.0 if step < 8 else share(schedule, ((step - 5) // 3 * 3) / 10) if step < 15 else 1.0
        want = grown.target(shapes, due)
        assert gone == (want if isinstance(want, int) else sum(want.values())), step
        assert all(not bool((new[n] & ~old[n]).any()) for n in new)
        old = {n: m.clone() for n, m in new.items()}
    assert zeros(module) == (16 * 24 + 24 * 8) // 2


def test_masks_travel_in_a_state_dict_without_the_weights():
    module = net()
    masks = Masks(weights(module), Plan(frac=0.5), magnitude)
    state = masks.state_dict()
    assert {v.dtype for v in state.values()} == {torch.bool}
    assert not list(masks.parameters())
    other = Masks(weights(net(1)), Plan(frac=0.9, schedule="linear", end_epoch=1), magnitude)
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(masks.by_name().values(), other.by_name().values(), strict=True))


def test_rounding_of_targets_is_stated_per_comparison():
    shapes = {"a": (3, 7), "b": (2, 4)}
    assert Plan(frac=0.5).target(shapes) == {"a": 11, "b": 4}
    assert Plan(frac=0.5, compare="all").target(shapes) == 15
    assert Plan(frac=0.5, compare="row").target(shapes) == {"a": 11, "b": 4}
    assert Plan(frac=0.75, nm=(1, 4)).target({"b": (2, 4)}) == {"b": 6}
