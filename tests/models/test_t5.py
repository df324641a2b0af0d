"""T5: heads with their position biases, stacks of unequal depth, embeddings that are not tied after all."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from lessen import models
from lessen.artifact import Artifact
from lessen.errors import ModelError
from lessen.models.build import config_of, info_of, module_of
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups, layers
from lessen.models.sources import shaped
from lessen.recipe import Data, ModelSpec


@pytest.fixture
def model(kit):
    made = kit.tiny("t5")
    for stack in (made.module.encoder, made.module.decoder):
        torch.nn.init.normal_(stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight, std=2.0)
    return made


def group(model, name):
    return next(g for g in groups(model) if g.name == name)


def table(model, stack="encoder"):
    return getattr(model.module, stack).block[0].layer[0].SelfAttention.relative_attention_bias.weight


def write(model, path):
    return models.save(model, path, stage="teacher", key="", history=(), facts={})


def fetch(path, kit, **spec):
    splits = SimpleNamespace(labels=(), multi_label=False, train=SimpleNamespace(inputs=kit.TEXTS, labels=kit.TEXTS))
    return models.fetch(ModelSpec(model=str(path), **spec), splits, Data(max_length=kit.LENGTH), "seq2seq", 1)


def test_a_head_of_self_attention_goes_from_all_blocks_with_its_bias(model):
    before = table(model).detach().clone()
    query = [b.layer[0].SelfAttention.q.weight.detach().clone() for b in model.module.encoder.block]
    cut_(model, group(model, "encoder.heads"), [0, 3])
    assert torch.equal(table(model), before[:, [0, 3]])
    for block, old in zip(model.module.encoder.block, query, strict=True):
        assert torch.equal(block.layer[0].SelfAttention.q.weight, old.reshape(4, 8, 32)[[0, 3]].reshape(16, 32))
    assert table(model, "decoder").shape[1] == 4
    assert model.info.widths == {"encoder.heads": 2}
    assert model.module.config.num_heads == 4


def test_equal_head_counts_everywhere_stand_in_the_configuration(model):
    for one in [g for g in groups(model) if g.kind == "heads"]:
        cut_(model, one, [1, 3])
    assert model.module.config.num_heads == model.module.encoder.config.num_heads == 2
    assert model.info.widths == {}
    assert models.is_stock(model)


def test_blocks_with_unequal_cross_heads_run_train_and_reopen(kit, model, tmp_path):
    whole = kit.logits(model, 2)
    cut_(model, group(model, "decoder.layer.0.cross"), [2])
    cut_(model, group(model, "decoder.layer.1.cross"), [0, 1, 3])
    assert not torch.allclose(kit.logits(model, 2), whole)
    again = models.open_model(write(copy.deepcopy(model), tmp_path / "a"))
    assert torch.equal(kit.logits(again, 3), kit.logits(model, 3))
    model.module.train()
    model.module(**kit.inputs(model, 2)).logits.sum().backward()
    assert all(p.grad is not None for p in model.module.parameters())


def test_the_stock_module_runs_as_it_is_where_cross_heads_agree(model):
    hooks = lambda: [len(m._forward_pre_hooks) for m in model.module.modules() if hasattr(m, "n_heads")]  # noqa: E731
    assert sum(hooks()) == 0
    cut_(model, group(model, "decoder.layer.0.cross"), [0, 1])
    assert sum(hooks()) == 3
    seen = []
    handle = model.module.decoder.block[1].layer[1].EncDecAttention.register_forward_pre_hook(lambda *a: seen.append(1))
    for i in (1, 2):
        cut_(model, group(model, f"decoder.layer.{i}.cross"), [0, 1])
    assert sum(hooks()) == 1  # another's hook stays
    handle.remove()
    assert sum(hooks()) == 0


def test_the_bias_moves_to_the_new_first_block(kit, model):
    encoder, decoder = table(model), table(model, "decoder")
    drop_layers_(model, [2, 4, 5])
    assert table(model) is encoder
    assert table(model, "decoder") is decoder
    for stack, count in ((model.module.encoder, 1), (model.module.decoder, 2)):
        parts = [block.layer[0].SelfAttention for block in stack.block]
        assert [p.has_relative_attention_bias for p in parts] == [i == 0 for i in range(count)]
        assert [hasattr(p, "relative_attention_bias") for p in parts] == [i == 0 for i in range(count)]
        assert [p.layer_idx for p in parts] == list(range(count))
        assert stack.config.num_layers == count
    config = model.module.config
    assert (config.num_layers, config.num_decoder_layers) == (1, 2)
    assert [b.layer[1].EncDecAttention.layer_idx for b in model.module.decoder.block] == [0, 1]
    assert torch.isfinite(kit.logits(model, 2)).all()


def test_stacks_of_unequal_depth_reopen_in_transformers(kit, model, tmp_path):
    from transformers import AutoModelForSeq2SeqLM

    drop_layers_(model, [1, 3, 4, 5])
    assert models.is_stock(model)
    path = write(model, tmp_path / "a").path
    stock = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    with torch.inference_mode():
        assert torch.equal(stock(**kit.inputs(model, 2)).logits, kit.logits(model, 2))


def test_a_stack_keeps_at_least_one_block(kit, model):
    before = kit.logits(model, 2)
    for keep in ([0, 1, 2], [3, 4, 5]):
        with pytest.raises(ModelError, match="no block of the"):
            drop_layers_(model, keep)
    assert torch.equal(kit.logits(model, 2), before)


def test_dropping_a_block_renames_the_widths_of_those_after_it(model):
    cut_(model, group(model, "decoder.layer.2.ffn"), range(9))
    cut_(model, group(model, "encoder.layer.1.ffn"), range(7))
    drop_layers_(model, [1, 2, 3, 5])
    assert model.info.widths == {"decoder.layer.1.ffn": 9, "encoder.layer.0.ffn": 7}


def test_layers_count_the_encoder_s_blocks_first(model):
    assert layers(model)[2:4] == ["encoder.block.2", "decoder.block.0"]
    assert {g.name: g.layer for g in groups(model) if g.layer == 4} == {
        "decoder.layer.1.cross": 4,
        "decoder.layer.1.ffn": 4,
    }


def test_gated_units_take_both_of_their_rows(kit):
    gated = kit.tiny("t5", shape={**kit.SHAPES["t5"], "feed_forward_proj": "gated-gelu"})
    dense = gated.module.decoder.block[1].layer[2].DenseReluDense
    before = {n: p.detach().clone() for n, p in dense.named_parameters()}
    cut_(gated, group(gated, "decoder.layer.1.ffn"), [5, 8])
    for name in ("wi_0.weight", "wi_1.weight"):
        assert torch.equal(dense.get_parameter(name), before[name][[5, 8]])
    assert torch.equal(dense.wo.weight, before["wo.weight"][:, [5, 8]])


@pytest.fixture(params=["t5", "mt5"])
def untied(kit, request, tmp_path):
    """A folder of transformers whose last layer is not the embeddings, as those of T5 1.1, FLAN-T5 and mT5."""
    spec = ModelSpec(model="tiny")
    info = info_of(spec, family("t5"), (), False)
    values = family("t5").scratch(dict(kit.SHAPES["t5"]), kit.bpe_processor())
    if request.param == "t5":
        values["scale_decoder_outputs"] = False
    module = module_of(config_of(request.param, values, info), info)
    module.lm_head.weight = torch.nn.Parameter(torch.randn(values["vocab_size"], 32))
    path = tmp_path / "untied"
    module.save_pretrained(path)
    kit.bpe_processor().save(path)
    return path, module.eval()


def test_a_last_layer_of_its_own_stays_so_when_fetched_saved_and_reopened(kit, untied, tmp_path):
    path, module = untied
    got = fetch(path, kit)
    want = kit.logits(got, 2)
    with torch.inference_mode():
        assert torch.equal(module(**kit.inputs(got, 2)).logits, want)
    folder = write(got, tmp_path / "a").path
    assert {"lm_head.weight", "shared.weight"} < set(load_file(folder / "model.safetensors"))
    assert "encoder.embed_tokens.weight" not in load_file(folder / "model.safetensors")
    again = models.open_model(Artifact(folder))
    assert again.module.lm_head.weight is not again.module.shared.weight
    assert again.module.encoder.embed_tokens.weight is again.module.shared.weight
    assert torch.equal(kit.logits(again, 2), want)
    stock = type(module).from_pretrained(folder).eval()
    with torch.inference_mode():
        assert torch.equal(stock(**kit.inputs(got, 2)).logits, want)


def test_a_student_of_it_has_one_too(kit, untied):
    path, _ = untied
    teacher = fetch(path, kit)
    splits = SimpleNamespace(labels=(), multi_label=False)
    got = models.student(ModelSpec(model="teacher", layers=3), teacher, splits, Data(max_length=12), "seq2seq", 1)
    assert torch.equal(kit.logits(got, 2), kit.logits(teacher, 2))
    assert got.module.lm_head.weight is not got.module.shared.weight
    assert got.facts["not_copied"] == []


def test_a_decoder_from_scratch_starts_with_padding(kit, model):
    config = model.module.config
    assert (config.decoder_start_token_id, config.pad_token_id, config.eos_token_id) == (0, 0, 1)
    target = torch.tensor([[7, 8, 1]])
    inputs = {k: v[:1] for k, v in kit.inputs(model, 1).items()}
    given = model.module(**{**inputs, "decoder_input_ids": torch.tensor([[0, 7, 8]])}).logits
    del inputs["decoder_input_ids"]
    assert torch.equal(model.module(**inputs, labels=target).logits, given)


def build(spec):
    one = family("t5")
    from lessen.models import presets

    preset, info = presets.find(spec.model), info_of(spec, one, (), False)
    with torch.device("meta"):
        return module_of(config_of("t5", shaped(preset, spec, one, info), info), info).config


def test_decoder_layers_follow_unless_the_configuration_says_otherwise():
    config = build(ModelSpec(model="scratch:t5-small", layers=2))
    assert (config.num_layers, config.num_decoder_layers, config.d_model) == (2, 2, 512)
    config = build(ModelSpec(model="scratch:t5-small", layers=4, config={"num_decoder_layers": 1}))
    assert (config.num_layers, config.num_decoder_layers) == (4, 1)
    config = build(ModelSpec(model="scratch:t5-small", hidden_size=256))
    assert (config.num_layers, config.num_heads, config.d_kv, config.d_ff) == (6, 4, 64, 1024)
    config = build(ModelSpec(model="scratch:t5-small", heads=5))  # heads have a width of their own
    assert (config.num_heads, config.d_kv, config.d_model) == (5, 64, 512)
    assert not build(ModelSpec(model="scratch:t5-tiny", config={"scale_decoder_outputs": False})).scale_decoder_outputs
