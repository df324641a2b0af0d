"""What each layer alone would cost: the scores are those of a cut, and nothing is left changed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lessen.context import Context
from lessen.errors import Cancelled, RecipeError
from lessen.evaluate import evaluate, predict_logits
from lessen.models.groups import cut_, groups
from lessen.prune import sensitivity, sparse
from lessen.prune.calibrate import calibration
from lessen.prune.choose import best
from lessen.recipe import Prune, parse

CPU = torch.device("cpu")


def state(model):
    return {n: t.clone() for n, t in model.module.state_dict().items()}


def same(model, before):
    after = model.module.state_dict()
    return all(torch.equal(after[n], t) for n, t in before.items())


def layers_of(model):
    there, rng = groups(model), np.random.default_rng(0)
    scores = {g.name: rng.random(g.units) for g in there}
    return there, scores, sensitivity.of_groups(model.module, there, scores)


def decided(model, data):
    """Shift a model's answers so that no label always wins, in place."""
    head = [part for part in model.module.modules() if isinstance(part, torch.nn.Linear)][-1]
    head.bias.data.sub_(torch.from_numpy(predict_logits(model, data, CPU).mean(axis=0)))
    return model


@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_each_value_is_the_score_of_a_model_with_those_units_cut_out(family, model, items, tmp_path):
    data = items(family)
    one = decided(model(family), data)
    there, scores, found = layers_of(one)
    before, seen = state(one), []
    ctx = Context(out_dir=tmp_path, emit=seen.append, stage="prune")
    facts = sensitivity.measure(one, found, (0.5, 0.75), data, ctx)
    assert same(one, before)
    assert facts["baseline"] == evaluate(one, data, CPU).f1_macro
    assert (facts["metric"], facts["unit"], facts["n"], facts["shares"]) == ("f1_macro", "share", 48, [0.5, 0.75])
    assert len(facts["layers"]) == len(there)
    for group, row in zip(there, facts["layers"], strict=True):
        assert (row["kind"], row["units"]) == (group.kind, group.units)
        for share, value in zip((0.5, 0.75), row["values"], strict=True):
            small = decided(model(family), data)
            (here,) = [g for g in groups(small) if g.name == group.name]
            cut_(small, here, best(scores[group.name], group.units - max(1, round(share * group.units))))
            assert value == evaluate(small, data, CPU).f1_macro, (row["module"], share)
    assert len({v for row in facts["layers"] for v in row["values"]}) > 2
    assert [(e.step, e.total_steps) for e in seen] == [(i, 1 + 2 * len(there)) for i in range(1 + 2 * len(there))]
    assert facts == sensitivity.measure(one, found, (0.5, 0.75), data, ctx)
    json.dumps(facts, allow_nan=False)


def test_a_model_that_generates_is_measured_by_its_loss_per_token(speaker, tmp_path):
    one, data = speaker("gpt2")
    layers, before = layers_of(one)[2], state(one)
    facts = sensitivity.measure(one, layers[:2], (1.0,), data, Context(out_dir=tmp_path))
    assert (facts["metric"], facts["unit"]) == ("loss", "nats per token")
    assert facts["baseline"] == evaluate(one, data, CPU).loss
    assert all(row["values"][0] != facts["baseline"] for row in facts["layers"])
    assert same(one, before)


def test_layers_go_by_the_path_that_their_modules_share(model):
    paths = [(layer.module, layer.kind) for layer in layers_of(model("bert"))[2]]
    assert ("bert.encoder.layer.0.intermediate.dense", "ffn") in paths
    assert ("bert.encoder.layer.0.attention.self", "heads") in paths


def test_at_most_500_samples_are_read_evenly(model, items, tmp_path):
    one, data = model("bert"), items("bert", count=700)
    facts = sensitivity.measure(one, [], (0.5,), data, Context(out_dir=tmp_path))
    rows = np.linspace(0, 699, 500).round().astype(int)
    assert facts["n"] == 500
    assert facts["baseline"] == evaluate(one, sensitivity.Some(data, rows), CPU).f1_macro


def test_a_run_that_is_cancelled_leaves_the_weights_as_they_were(model, items, tmp_path):
    one = model("bert")
    found, before, asked = layers_of(one)[2], state(one), []

    def check():
        asked.append(same(one, before))
        if len(asked) == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        sensitivity.measure(one, found, (1.0,), items("bert"), Context(out_dir=tmp_path, check=check))
    assert asked == [True, False, False]  # asked while units are masked
    assert same(one, before)


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_single_weights_are_masked_as_the_masks_would(method, model, items, tmp_path):
    one, data = model("bert"), items("bert")
    cfg, batches = Prune(pattern="unstructured", method=method), calibration(data, 16, 0, CPU)
    chosen = sparse.choose_weights(one, cfg)
    found = sparse.layers(one, chosen, cfg, batches, 0)
    assert [layer.module for layer in found] == list(chosen.weights)
    assert {layer.kind for layer in found} == {"weights"}
    before = state(one)
    held, _ = sparse.masks(model("bert"), sparse.choose_weights(model("bert"), cfg), cfg, batches, 0)
    for layer in found:
        weight = chosen.weights[layer.module]
        with sensitivity.masked(one, layer, 0.5):
            assert torch.equal(weight != 0, held.by_name()[layer.module])
        assert same(one, before)
    facts = sensitivity.measure(one, found[:2], (0.9,), data, Context(out_dir=tmp_path))
    assert [len(row["values"]) for row in facts["layers"]] == [1, 1]


@pytest.mark.parametrize(
    ("prune", "why"),
    [
        ({"sensitivity": [0]}, "sensitivity"),
        ({"sensitivity": [1.5]}, "sensitivity"),
        ({"sensitivity": [0.5], "method": "sparsegpt", "pattern": "2:4"}, "ranks nothing"),
        ({"sensitivity": [0.5], "kinds": ["layers"]}, "whole layers only"),
    ],
)
def test_what_cannot_be_measured_is_refused_when_the_recipe_is_read(prune, why):
    with pytest.raises(RecipeError, match=r"prune\.sensitivity") as error:
        parse({"pipeline": "prune_only", "prune": prune})
    assert why in str(error.value)
