from __future__ import annotations

import numpy as np
import pytest
import torch

from lessen import plugins
from lessen.errors import ModelError
from lessen.loss import label_loss
from lessen.models.groups import groups
from lessen.prune.calibrate import calibration, input_norms
from lessen.prune.methods import magnitude, random, taylor, wanda
from lessen.prune.units import generator, needs, scorer, unit_scores
from lessen.recipe import Train

CPU = torch.device("cpu")
WHOLE = ("sparsegpt",)  # methods that work on whole matrices
METHODS = tuple(name for name in plugins.names("prune.methods") if name not in WHOLE)


def scores(name, m, data, seed=0):
    batches = calibration(data, 16, 0, CPU)
    return unit_scores(scorer(name), m.module, groups(m), batches, label_loss(m.info, Train(), None), seed)


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "mobilenet_v2"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_every_unit_of_every_family(method, family, model, items):
    m, data = model(family), items(family)
    got = scores(method, m, data)
    for group in groups(m):
        assert got[group.name].shape == (group.units,)
        assert np.isfinite(got[group.name]).all()
        assert (got[group.name] >= 0).all()
        assert len(set(got[group.name])) > 1
    again = scores(method, m, data)
    assert all(np.array_equal(got[n], again[n]) for n in got)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_states_what_it_needs_and_how_it_sums(method):
    file = scorer(method)
    assert set(file.NEEDS) <= {"norm", "gradient", "generator"}
    assert file.SIDE in ("producers", "consumers", "both", "units")
    assert file.NORM in (1, 2)
    assert file.saliency.__doc__


@pytest.mark.parametrize("method", WHOLE)
def test_a_method_that_changes_what_stays_scores_no_units_and_solves_a_matrix(method):
    file = scorer(method)
    assert file.SIDE == "matrix"
    assert file.NEEDS == ("hessian",)
    assert not hasattr(file, "saliency")
    weight = torch.arange(1.0, 33).reshape(4, 8)
    for remove, nm in ((10, None), (16, (2, 4))):
        new, mask = file.solve(weight, torch.eye(8), remove, nm)
        assert new.shape == mask.shape == weight.shape
        assert mask.dtype == torch.bool
        assert int((~mask).sum()) == remove
        assert torch.equal(new == 0, ~mask)
    assert torch.equal(weight, torch.arange(1.0, 33).reshape(4, 8))
    assert file.solve.__doc__


def test_magnitude_of_a_unit_is_the_l2_norm_of_what_makes_and_what_reads_it(model, items):
    m = model("bert")
    layer = m.module.bert.encoder.layer[0]
    got = scores("magnitude", m, items("bert"))["layer.0.ffn"]
    up, down = layer.intermediate.dense.weight, layer.output.dense.weight
    want = (up.square().sum(dim=1) + down.square().sum(dim=0)).sqrt()
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-6)


def test_r3_a_head_is_scored_on_its_own_contiguous_entries(model, items):
    m = model("bert")
    layer = m.module.bert.encoder.layer[1].attention
    with torch.no_grad():
        for part in (layer.self.query, layer.self.key, layer.self.value):
            part.weight[8:12] = 0  # all that makes head 2
        layer.output.dense.weight[:, 8:12] = 0
    got = scores("magnitude", m, items("bert"))["layer.1.heads"]
    assert got[2] == 0
    assert (np.delete(got, 2) > 0.1).all()


def test_wanda_of_a_unit_is_the_norm_of_its_column_times_the_norm_of_its_output(model, items):
    m, data = model("bert"), items("bert")
    name = "bert.encoder.layer.0.output.dense"
    norm = input_norms(m.module, [name], calibration(data, 16, 0, CPU))[name]
    want = m.module.get_submodule(name).weight.detach().double().norm(dim=0) * norm
    np.testing.assert_allclose(scores("wanda", m, data)["layer.0.ffn"], want.numpy(), rtol=1e-5)


def test_wanda_scores_a_weight_by_its_input_and_follows_the_groups_of_a_convolution():
    norm = torch.tensor([1.0, 10.0])
    assert wanda.saliency(torch.tensor([[3.0, -1.0], [-2.0, 0.5]]), norm=norm).tolist() == [[3, 10], [2, 5]]
    depthwise = torch.ones(2, 1, 3, 3)
    assert wanda.saliency(depthwise, norm=norm)[:, 0, 0, 0].tolist() == [1, 10]
    full = wanda.saliency(torch.ones(4, 2, 1, 1), norm=norm)
    assert full[0, :, 0, 0].tolist() == [1, 10]


def test_taylor_is_weight_times_gradient_in_absolute_value():
    got = taylor.saliency(torch.tensor([-2.0, 3.0]), gradient=torch.tensor([0.5, 0.1]))
    torch.testing.assert_close(got, torch.tensor([1.0, 0.3]))


def test_magnitude_ignores_the_sign():
    assert magnitude.saliency(torch.tensor([-2.0, 1.0])).tolist() == [2, 1]


def test_p12_random_is_seeded_by_layer_and_blind_to_the_weights(model, items):
    data = items("bert")
    a, b = scores("random", model("bert", 0), data, seed=1), scores("random", model("bert", 9), data, seed=1)
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert not np.array_equal(a["layer.0.ffn"], a["layer.1.ffn"])
    assert not np.array_equal(a["layer.0.ffn"], scores("random", model("bert"), data, seed=2)["layer.0.ffn"])
    draws = random.saliency(torch.empty(4000), generator=generator(0, "x"))
    assert 0.45 < float(draws.mean()) < 0.55


def test_a_method_that_asks_for_something_unknown_is_refused(model, items):
    class Method:
        __name__ = "hessian"
        NEEDS = ("hessian",)

    m = model("bert")
    with pytest.raises(ModelError, match="asks for 'hessian'"):
        needs(Method, m.module, [], calibration(items("bert"), 4, 0, CPU), label_loss(m.info, Train(), None), 0)
