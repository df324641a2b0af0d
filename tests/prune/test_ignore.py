"""prune.ignore: what it names keeps all units and weights; the share is taken of the rest."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lessen.context import Context
from lessen.errors import RecipeError
from lessen.models.groups import groups, layers
from lessen.prune import depth, oracle, sparse, structured
from lessen.prune.calibrate import batch_of, calibration
from lessen.recipe import Prune

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench(items):
    def get(name):
        data = items(name)
        sample, _ = batch_of(data, np.array([0]), CPU)
        return structured.Bench(calibration(data, 32, 0, CPU), oracle.probes(data, CPU), sample)

    return get


def cut(model, cfg, bench, tmp_path):
    ignored = structured.ignored_modules(model, cfg)
    base = structured.whole(model, cfg, bench, ignored)
    _, kept = structured.cut_units_(model, cfg, 0.5, base, bench, Context(out_dir=tmp_path), ignored=ignored)
    return ignored, kept


def weights(model, modules):
    return {n: p.detach().clone() for n, p in model.module.named_parameters() if n.rpartition(".")[0] in modules}


@pytest.mark.parametrize(
    ("family", "pattern", "scope"),
    [
        ("bert", "bert.encoder.layer.0", "per_layer"),
        ("bert", "*.layer.1.*.query", "global"),
        ("resnet", "*.stages.1.layers.0*", "per_layer"),
    ],
)
def test_ignored_modules_are_bit_for_bit_as_before_and_the_others_are_cut(
    family, pattern, scope, model, bench, tmp_path
):
    one = model(family)
    cfg = Prune(ignore=(pattern,), scope=scope)
    was = {g.name: g for g in groups(one)}
    before = weights(one, structured.ignored_modules(one, cfg))
    ignored, kept = cut(one, cfg, bench(family), tmp_path)
    after = weights(one, ignored)
    assert before.keys() == after.keys()
    assert all(torch.equal(w, after[n]) for n, w in before.items())
    for group in groups(one):
        whole = structured.touches(was[group.name], ignored)
        assert (group.units == was[group.name].units) == whole, group.name
        assert (group.name in kept) == (not whole)
    assert kept


def test_a_module_that_only_reads_units_keeps_them_all(model):
    one = model("bert")
    cfg = Prune(ignore=("bert.encoder.layer.0.output.dense",))
    ignored = structured.ignored_modules(one, cfg)
    (alone,) = structured.left_alone(one, cfg, ignored)
    assert (alone.layer, alone.kind) == (0, "ffn")
    assert alone.name not in [g.name for g in structured.allowed(one, cfg, ignored)]


def test_a_group_that_couples_several_modules_stays_whole_where_one_of_them_is_ignored(model, bench, tmp_path):
    one = model("resnet")
    cfg = Prune(kinds=("streams",), ignore=("*.stages.1.layers.1.layer.1.convolution",))
    streams = [g for g in groups(one, streams=True) if g.part == "stream"]
    stay = {g.name for g in streams if structured.touches(g, structured.ignored_modules(one, cfg))}
    assert stay
    assert stay < {g.name for g in streams}
    _, kept = cut(one, cfg, bench("resnet"), tmp_path)
    now = {g.name: g.units for g in groups(one, streams=True)}
    for group in streams:
        assert (now[group.name] == group.units) == (group.name in stay)
        assert (group.name in kept) == (group.name not in stay)


def test_the_layer_that_holds_an_ignored_module_is_not_dropped_and_names_follow_the_layers(model, bench):
    one = model("bert", num_hidden_layers=4)
    cfg = Prune(kinds=("layers",), ignore=("bert.encoder.layer.2.output.dense",))
    ignored = structured.ignored_modules(one, cfg)
    weight = one.module.get_submodule("bert.encoder.layer.2.output.dense").weight.detach().clone()
    scores = []
    for index in range(4):  # whichever layer matters least
        trial = copy.deepcopy(one)
        before = layers(trial)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(depth, "block_influence", lambda *a, i=index: np.where(np.arange(4) == i, 0.0, 1.0))
            facts = depth.drop_(trial, cfg, bench("bert"), 0, ignored)
        (name,) = depth.renumbered(ignored, before, layers(trial), facts["kept"])
        assert torch.equal(trial.module.get_submodule(name).weight, weight)
        scores.append(facts["kept"])
    assert all(2 in kept and len(kept) == 2 for kept in scores)
    assert len(set(map(tuple, scores))) > 1


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_ignored_weights_are_not_masked_and_the_share_is_of_the_others(pattern, model, items):
    one = model("bert")
    cfg = Prune(pattern=pattern, ignore=("*.layer.0.*", "classifier"), recover=None)
    chosen = sparse.choose_weights(one, cfg)
    left = {name for name, why in chosen.refused.items() if why == sparse.IGNORED}
    assert "classifier" in left
    assert sum(".layer.0." in name for name in left) == 6
    assert f"without the {len(left)} that prune.ignore leaves alone" in chosen.denominator
    before = {n: one.module.get_submodule(n).weight.detach().clone() for n in left}
    held, _ = sparse.masks(one, chosen, cfg, calibration(items("bert"), 32, 0, CPU), 0)
    assert all(torch.equal(one.module.get_submodule(n).weight, w) for n, w in before.items())
    totals = sparse.counts(one.module, held.by_name(), held.plan)
    assert totals["masked"] == totals["weights"] // 2 == sum(w.numel() for w in chosen.weights.values()) // 2


def test_ignoring_all_that_can_be_masked_is_an_error(model):
    with pytest.raises(RecipeError, match=r"prune.ignore \* leaves no weight to prune"):
        sparse.choose_weights(model("bert"), Prune(pattern="unstructured", ignore=("*",)))
