from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lessen import models
from lessen.models.groups import groups
from lessen.prune import prune, tensors
from lessen.recipe import Distill, Prune, Train

RECOVER = Train(epochs=1, lr=1e-3, batch_size=8, precision="fp32", checkpoint_seconds=0)
FAMILIES = ("t5", "gpt2", "llama", "mixtral", "qwen3_moe")


def run(speaking, name, out, **settings):
    source, splits, ctx = speaking(name)
    cfg = Prune(**{"calib_samples": 16, "recover": None, **settings})
    return prune(source, cfg, Distill(), splits, ctx, out=out, key="key")


def weights_of(artifact):
    return load_file(artifact.path / "model.safetensors")


@pytest.mark.parametrize("name", [*FAMILIES[:2], *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES[2:])])
def test_a_model_that_generates_is_cut_recovers_from_the_unpruned_one_and_reopens(name, speaking, tmp_path):
    small = run(speaking, name, tmp_path / "small", recover=RECOVER)
    before, after = models.open_model(speaking(name)[0]), models.open_model(small)
    was = {g.name: g.units for g in groups(before)}
    assert all(g.units == max(1, was[g.name] // 2) for g in groups(after))
    assert all(torch.equal(v, after.module.state_dict()[k]) for k, v in weights_of(small).items())
    facts = small.manifest.facts
    for row in facts["achieved"].values():
        assert row["before"] > row["after"] > 0
        assert row["of"]
    (done,) = facts["rounds"]
    assert done["oracle_error"] <= done["oracle_tolerance"]
    assert done["calibration_samples"] == 16
    assert done["recovery"]["from"] == "unpruned"
    assert np.isfinite(done["recovery"]["fit"]["history"][-1]["loss_soft"])
    assert done["refit"]
    moe = [n for n in was if "experts" in n]
    assert len(done["refit_skipped"]) == len(moe)
    assert all(r["error_after"] <= r["error_before"] for r in done["refit"])
    json.dumps(facts)


def test_least_squares_brings_the_answers_of_gpt2_closer_to_those_of_the_unpruned_model(speaking, tmp_path):
    source = speaking("gpt2")[0]
    ids = {"input_ids": torch.arange(40).reshape(2, 20) + 10}

    def answers(artifact):
        with torch.no_grad():
            return models.open_model(artifact).module(**ids).logits

    want = answers(source)
    far, near = (
        float((answers(run(speaking, "gpt2", tmp_path / str(refit), refit=refit)) - want).norm())
        for refit in (False, True)
    )
    assert near < 0.8 * far


@pytest.mark.parametrize("name", ["t5", pytest.param("mixtral", marks=pytest.mark.slow)])
@pytest.mark.parametrize("of", ["parameters", "flops"])
def test_budgets_hold_for_sequence_models(name, of, speaking, tmp_path):
    small = run(speaking, name, tmp_path / "small", of=of, remove_frac=0.2, method="taylor", refit=False)
    assert 0.2 <= small.manifest.facts["achieved"][of]["fraction"] < 0.32


def test_whole_blocks_of_t5_are_dropped_and_one_stays_in_each_stack(speaking, tmp_path):
    small = run(speaking, "t5", tmp_path / "small", kinds=("layers",), remove_frac=0.75)
    depth = small.manifest.facts["rounds"][0]["depth"]
    assert depth["before"] == 4
    assert depth["after"] == 2
    assert sum(i < 2 for i in depth["kept"]) == 1
    config = models.open_model(small).module.config
    assert (config.num_layers, config.num_decoder_layers) == (1, 1)


MASKED = {
    "t5 sparsegpt": ("t5", {"method": "sparsegpt", "pattern": "2:4"}),
    "gpt2 wanda": ("gpt2", {"method": "wanda", "pattern": "unstructured", "remove_frac": 0.6}),
    "mixtral sparsegpt": ("mixtral", {"method": "sparsegpt", "pattern": "unstructured", "remove_frac": 0.3}),
    "qwen3_moe wanda": ("qwen3_moe", {"method": "wanda", "pattern": "1:4"}),
    "gpt2 taylor": ("gpt2", {"method": "taylor", "pattern": "unstructured", "scope": "global"}),
}
FAST = ("t5 sparsegpt", "gpt2 wanda", "mixtral sparsegpt")


@pytest.mark.parametrize(
    ("name", "settings"),
    [pytest.param(*v, id=k, marks=() if k in FAST else pytest.mark.slow) for k, v in MASKED.items()],
)
def test_masks_hold_through_recovery_matrix_by_matrix(name, settings, speaking, tmp_path):
    small = run(speaking, name, tmp_path / "small", recover=RECOVER, **settings)
    facts, module = small.manifest.facts, models.open_model(small).module
    ratio = [int(n) for n in settings["pattern"].split(":")] if ":" in settings["pattern"] else None
    frac = 1 - ratio[0] / ratio[1] if ratio else settings.get("remove_frac", 0.5)
    for row in facts["masks"]["layers"]:
        weight, how = tensors.tensor(module, row["module"]).detach(), tensors.layout(module, row["module"])
        assert row["zeros"] == int((weight == 0).sum()) >= row["masked"]
        for matrix in tensors.matrices(weight, how):
            gone = matrix == 0
            if ratio:
                assert int((~gone).reshape(-1, ratio[1]).sum(dim=1).max()) <= ratio[0]
            elif settings["method"] == "wanda":
                assert set(gone.sum(dim=1).tolist()) <= {int(frac * gone.shape[1]), int(frac * gone.shape[1]) + 1}
            elif settings.get("scope") != "global":
                assert int(gone.sum()) == int(frac * gone.numel() + 0.5)
    total = facts["masks"]["weights"]
    assert facts["masks"]["masked"] == pytest.approx(frac * total, abs=len(facts["masks"]["layers"]) * 4)
    named = {row["module"] for row in facts["masks"]["layers"]}
    assert not any(n.endswith((".gate", ".router", "shared_expert_gate")) for n in named)
    if name in ("t5", "gpt2"):
        assert facts["refused"] == {"lm_head": "shared with an embedding"}
    if name == "mixtral":
        assert {"model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"} <= named
    if settings["method"] == "sparsegpt":
        assert all(0 <= row["error"] < 1 for row in facts["matrices"] if row["rows"])
    json.dumps(facts)


def test_what_chooses_among_experts_is_refused():
    from torch import nn

    block = nn.Module()
    block.experts, block.shared_expert_gate, block.up_proj = nn.Module(), nn.Linear(4, 1), nn.Linear(4, 4)
    model = nn.Module()
    model.mlp = block
    assert tensors.is_router(model, "mlp.shared_expert_gate")
    assert not tensors.is_router(model, "mlp.up_proj")


def test_sparsegpt_loses_less_of_the_answers_than_magnitude(speaking, tmp_path):
    source = speaking("gpt2")[0]
    ids = {"input_ids": torch.arange(40).reshape(2, 20) + 10}

    def answers(artifact):
        with torch.no_grad():
            return models.open_model(artifact).module(**ids).logits

    want = answers(source)
    ours, theirs = (
        float((answers(run(speaking, "gpt2", tmp_path / m, method=m, pattern="2:4")) - want).norm())
        for m in ("sparsegpt", "magnitude")
    )
    assert ours < theirs
