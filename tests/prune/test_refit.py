from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lessen.models.groups import cut_, groups
from lessen.prune import refit
from lessen.prune.calibrate import calibration

CPU = torch.device("cpu")


class Wide(nn.Module):
    """Sixteen features of which the last eight are linear mixtures of the first eight and a constant."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 8)
        self.read = nn.Linear(16, 5)

    def forward(self, x, attention_mask=None):
        return self.read(torch.cat([x, self.mix(x)], dim=-1))


class Rows:
    """Tokens with padding that carries nonsense."""

    def __init__(self, count, length=6):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(count, length, 8, generator=generator).numpy()
        self.lengths = np.arange(count) % length + 1
        self.mask = (np.arange(length)[None] < self.lengths[:, None]).astype(np.int64)
        self.x[self.mask == 0] = 1e4
        self.labels = np.zeros(count, dtype=np.int64)

    def __len__(self):
        return len(self.x)

    def batch(self, rows, view=None):
        return {"x": self.x[rows], "attention_mask": self.mask[rows]}


def test_r15_features_that_the_kept_ones_can_express_are_replaced_without_loss_and_padding_is_ignored():
    torch.manual_seed(0)
    net, data = Wide(), Rows(160)
    want = net(torch.from_numpy(data.x))[torch.from_numpy(data.mask).bool()].detach()
    kept = list(range(8))
    (change,) = refit.solve(net, {"read": kept}, calibration(data, 160, 0, CPU, batch_size=16))
    assert change.error_before > 0.01
    assert change.error_after < 1e-6
    assert change.damping == min(refit.DAMPINGS)
    small = copy.deepcopy(net)
    small.read.weight = nn.Parameter(small.read.weight[:, :8].clone())
    small.mix = None
    refit.apply_(small, [change])
    got = small.read(torch.from_numpy(data.x))[torch.from_numpy(data.mask).bool()].detach()
    assert float((got - want).norm() / want.norm()) < 2e-3


def test_a_change_that_does_not_help_on_held_out_samples_is_not_made():
    torch.manual_seed(0)
    net, data = nn.Sequential(), Rows(4, length=1)
    net = Wide()
    with torch.no_grad():
        net.read.weight[:, 8:] = 0  # nothing is lost
    (change,) = refit.solve(net, {"read": list(range(8))}, calibration(data, 4, 0, CPU, batch_size=1))
    assert change.error_before == 0
    assert change.weight is None
    before = copy.deepcopy(net.state_dict())
    refit.apply_(net, [change])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "mobilenet_v2"])
def test_refitting_lowers_the_error_of_the_layers_and_of_the_model(family, model, items):
    m, data = model(family), items(family, 96)
    there = [g for g in groups(m) if g.kind in ("ffn", "heads", "channels")]
    kept = {g.name: list(range(0, g.units, 2)) for g in there}
    features = {
        c.module: [u * c.width + i for u in kept[g.name] for i in range(c.width)]
        for g in there
        for c in g.consumers
        if refit.refittable(m.module.get_submodule(c.module))
    }
    batches = calibration(data, 96, 0, CPU, batch_size=8)
    inputs = {k: torch.from_numpy(v) for k, v in data.batch(np.arange(32)).items()}
    with torch.no_grad():
        want = m.module(**inputs).logits
    changes = refit.solve(m.module, features, batches)
    assert changes
    assert all(c.error_after <= c.error_before for c in changes)
    assert sum(c.error_after < 0.9 * c.error_before for c in changes) >= len(changes) / 2
    small = replace(m, module=copy.deepcopy(m.module))
    for group in there:
        cut_(small, group, kept[group.name])
    with torch.no_grad():
        cut = float((small.module(**inputs).logits - want).norm())
        refit.apply_(small.module, changes)
        mended = float((small.module(**inputs).logits - want).norm())
    assert mended < cut


def test_only_layers_that_are_linear_in_a_feature_are_refitted():
    assert refit.refittable(nn.Linear(2, 2))
    assert refit.refittable(nn.Conv2d(4, 4, 1))
    assert not refit.refittable(nn.Conv2d(4, 4, 3))
    assert not refit.refittable(nn.Conv2d(4, 4, 1, groups=4))
