"""GPT-2: fused and transposed projections, scores divided by layer numbers, packed rows."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lessen import models
from lessen.data.sequences import Blocks, pack
from lessen.models.build import config_of, info_of, module_of
from lessen.models.cut import Cut, entries
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups
from lessen.models.narrow import norms
from lessen.models.sources import shaped
from lessen.recipe import ModelSpec


def write(model, path):
    return models.save(model, path, stage="teacher", key="", history=(), facts={})


def test_entries_of_blocks_are_taken_block_by_block():
    assert entries(Cut("m", "weight", 1, width=2, blocks=3), [2, 0], 3) == [4, 5, 0, 1, 10, 11, 6, 7, 16, 17, 12, 13]
    assert entries(Cut("m", "weight", 0), [1, 4], 9) == [1, 4]


def test_a_head_takes_its_queries_keys_and_values(kit):
    model = kit.tiny("gpt2")
    attention = model.module.transformer.h[1].attn
    weight, bias = attention.c_attn.weight.detach().clone(), attention.c_attn.bias.detach().clone()
    out = attention.c_proj.weight.detach().clone()
    cut_(model, next(g for g in groups(model) if g.name == "layer.1.heads"), [1, 3])
    assert torch.equal(attention.c_attn.weight, weight.reshape(32, 3, 4, 8)[:, :, [1, 3]].reshape(32, 48))
    assert torch.equal(attention.c_attn.bias, bias.reshape(3, 4, 8)[:, [1, 3]].reshape(48))
    assert torch.equal(attention.c_proj.weight, out.reshape(4, 8, 32)[[1, 3]].reshape(16, 32))
    assert (attention.num_heads, attention.split_size, attention.head_dim) == (2, 16, 8)
    assert model.info.widths == {"layer.1.heads": 2}
    assert model.module.config.n_head == 4


def test_the_norm_of_a_head_counts_its_queries_keys_values_and_output(kit):
    model = kit.tiny("gpt2")
    attention = model.module.transformer.h[0].attn
    fused, out = attention.c_attn.weight.detach().double(), attention.c_proj.weight.detach().double()
    want = fused.reshape(32, 3, 4, 8).pow(2).sum((0, 1, 3)) + out.reshape(4, 8, 32).pow(2).sum((1, 2))
    torch.testing.assert_close(norms(model.module, groups(model)[0]), want)


def test_equal_head_counts_cannot_stand_in_the_configuration(kit):
    model = kit.tiny("gpt2")
    for group in groups(model):
        if group.kind == "heads":
            cut_(model, group, [0, 1])
    assert model.info.widths == {f"layer.{i}.heads": 2 for i in range(3)}
    assert not models.is_stock(model)


def test_a_feed_forward_width_that_is_not_given_is_four_times_the_hidden(kit):
    model = kit.tiny("gpt2", shape={**kit.SHAPES["gpt2"], "n_inner": None})
    assert models.describe(model)["intermediate_size"] == [128] * 3
    cut_(model, groups(model)[0], [0])
    assert model.module.config.n_inner is None
    assert model.info.widths == {"layer.0.heads": 1}


def test_layer_numbers_in_the_scores_are_made_up_for(kit, tmp_path):
    model = kit.tiny("gpt2", shape={**kit.SHAPES["gpt2"], "scale_attn_by_inverse_layer_idx": True})
    for layer in model.module.transformer.h:
        layer.attn.c_attn.weight.data.mul_(8)  # scores that matter
    reference = copy.deepcopy(model)
    for part in (reference.module.transformer.h[i] for i in (0, 1)):
        for linear in (part.attn.c_proj, part.mlp.c_proj):
            linear.weight.data.zero_()
            linear.bias.data.zero_()
    drop_layers_(model, [2])
    torch.testing.assert_close(kit.logits(model, 3), kit.logits(reference, 3), rtol=1e-5, atol=1e-5)
    again = models.open_model(write(model, tmp_path / "a"))
    torch.testing.assert_close(kit.logits(again, 3), kit.logits(model, 3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cut", [False, True])
def test_packed_pieces_answer_as_each_alone(kit, cut):
    model = kit.tiny("gpt2")
    if cut:
        cut_(model, groups(model)[0], [1])
        cut_(model, groups(model)[2], [0, 2, 3])
    rng = np.random.default_rng(0)
    pieces = [rng.integers(3, 80, n).astype(np.int32) for n in (4, 7, 3, 6, 5)]
    counted = [np.ones(len(p) - 1, dtype=bool) for p in pieces]
    rows = pack([len(p) - 1 for p in pieces], 11)
    ids = np.arange(len(pieces)).astype(str)
    blocks = Blocks(model.processor, pieces, counted, ids, np.arange(len(pieces)), rows, 11)
    assert any(len(row) > 1 for row in rows)
    answers = []
    for some in (blocks, blocks.alone()):
        batch = {k: torch.from_numpy(v) for k, v in some.batch(np.arange(len(some))).items()}
        batch.pop("targets")
        with torch.inference_mode():
            logits = model.module(**batch).logits
        flat = {}
        for at, row in enumerate(some.rows):
            start = 0
            for piece in row:
                flat[piece] = logits[at, start : start + len(pieces[piece]) - 1]
                start += len(pieces[piece]) - 1
        answers.append(flat)
    for piece, alone in answers[1].items():
        torch.testing.assert_close(answers[0][piece], alone, rtol=1e-5, atol=1e-5)


def test_a_shape_keeps_the_size_of_a_head():
    from lessen.models import presets

    spec = ModelSpec(model="scratch:gpt2", hidden_size=384, layers=3)
    one, preset = family("gpt2"), presets.find("gpt2")
    info = info_of(spec, one, (), False)
    with torch.device("meta"):
        config = module_of(config_of("gpt2", shaped(preset, spec, one, info), info), info).config
    assert (config.n_layer, config.n_embd, config.n_head, config.n_inner) == (3, 384, 6, 1536)
