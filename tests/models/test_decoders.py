"""Decoders and mixtures of experts: cuts are exact and agree with attributes, configuration and the cache."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lessen.errors import ModelError
from lessen.info import ModelInfo
from lessen.models import Model, open_model, save
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups, layers, mask_

BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    "num_attention_heads": 4,
    "kv_lora_rank": 12,
    "q_lora_rank": 10,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 8,
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.5,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 6, "sliding_window": 5},
    "qwen2": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"head_dim": 6, "tie_word_embeddings": True},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 32, "mlp_only_layers": [1]},
    "qwen3_moe": {**EXPERTS, "head_dim": 6, "decoder_sparse_step": 2, "norm_topk_prob": True},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0.5},
    "deepseek_v2": {**LATENT, "q_lora_rank": None},
    "deepseek_v3": LATENT,
}
NAMES = list(SHAPES)
CUT = [n for n in NAMES if n != "olmoe"]


def tiny(name: str, **more: Any) -> Model:
    """Build a tiny model with weights that spread and biases that are not 0."""
    latent = {"num_key_value_heads": None} if name.startswith("deepseek") else {}
    config = AutoConfig.for_model(name, **{**BASE, **latent, **SHAPES[name], **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point() and tensor.shape != module.model.rotary_emb.inv_freq.shape:
                tensor.data += (0.2 if tensor.ndim == 1 else 0.1) * torch.randn_like(tensor)
    family(name).mend_(module)
    info = ModelInfo(family=name, task="causal-lm", source="tiny", labels=())
    return Model(module.eval(), SimpleNamespace(), info)


def inputs(batch: int) -> dict[str, torch.Tensor]:
    """Return token ids padded on the right."""
    ids = torch.randint(2, 60, (batch, 9), generator=torch.Generator().manual_seed(batch))
    mask = (torch.arange(9) < torch.tensor([[9], [6], [3]])[:batch]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def answers(model: Model, batch: int = 3) -> torch.Tensor:
    """Return the logits of real tokens."""
    given = inputs(batch)
    with torch.inference_mode():
        return model.module(**given).logits[given["attention_mask"].bool()].clone()


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * float(a.abs().max())


def kept(units: int) -> list[int]:
    return [u for u in range(units) if u % 4 != 1] if units > 2 else [units - 1]


def cut_all_(model: Model, keep: dict[str, int]) -> None:
    """Keep the last units of every group, as many as told by the end of its name."""
    for group in groups(model):
        count = keep.get(group.name.split(".", 2)[2], group.units)
        cut_(model, group, range(group.units - count, group.units))


def generated(model: Model, cache: bool) -> list[list[int]]:
    """Return greedy continuations of prompts that are padded on the left."""
    given = {k: v.flip(1) for k, v in inputs(2).items()}
    made = model.module.generate(**given, max_new_tokens=5, do_sample=False, use_cache=cache, eos_token_id=None)
    return made[:, 9:].tolist()


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_cutting_every_group_equals_masking_it_also_when_cut_twice(name):
    model = tiny(name)
    for _ in range(2):
        reference = copy.deepcopy(model)
        for group in groups(model):
            keep = kept(group.units)
            mask_(reference, group, set(range(group.units)) - set(keep))
            before = shapes(model.module)
            cut_(model, group, keep)
            assert shapes(model.module) != before
        assert close(answers(reference, 1), answers(model, 1))
        assert close(answers(reference), answers(model))


@pytest.mark.parametrize("name", NAMES)
def test_masking_a_unit_changes_the_answers(name):
    model = tiny(name)
    before = answers(model)
    for group in groups(model):
        reference = copy.deepcopy(model)
        mask_(reference, group, range(1, group.units))
        assert not close(before, answers(reference)), group.name


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_model_answers_in_double_precision_too(name):
    """The check behind every cut of the prune stage runs in float64."""
    model = tiny(name)
    for group in groups(model):
        cut_(model, group, kept(group.units))
    single = answers(model)
    model.module.double()
    assert close(single, answers(model).float())


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_alone_gives_the_units_of_a_whole_model(name):
    model = tiny(name)
    found = groups(model)
    assert family(name).units(model.module.config) == {g.name: g.units for g in found}
    kinds = {g.name.split(".", 2)[2] for g in found}
    assert ("heads" in kinds) == (name != "olmoe")
    assert ("experts.ffn" in kinds) == (family(name).experts is not None)
    assert ("shared.ffn" in kinds) == (name in ("qwen2_moe", "deepseek_v2", "deepseek_v3"))
    assert ("ffn" in kinds) == (name not in ("mixtral", "olmoe"))


@pytest.mark.parametrize("name", NAMES)
def test_equal_widths_stand_in_the_configuration_alone_and_transformers_loads_them(name, tmp_path):
    model = tiny(name)
    cut_all_(model, {"heads": 2, "ffn": 24, "experts.ffn": 8, "shared.ffn": 16})
    assert model.info.widths == {}
    config = model.module.config
    assert shapes(type(model.module)(config)) == shapes(model.module)
    stated = family(name).units(config)
    assert stated == {g.name: g.units for g in groups(model)}
    assert set(stated.values()) <= {2, 24, 8, 16}
    model.module.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    assert type(loaded) is type(model.module)
    loaded = Model(loaded, model.processor, model.info)
    assert close(answers(model), answers(loaded))


@pytest.mark.parametrize("name", NAMES)
def test_attributes_agree_with_the_weights_after_a_cut(name):
    model = tiny(name)
    for group in groups(model):
        cut_(model, group, kept(group.units))
    size = model.module.config.hidden_size
    for path, part in model.module.named_modules():
        if isinstance(part, torch.nn.Linear):
            assert part.weight.shape == (part.out_features, part.in_features), path
        if hasattr(part, "gate_up_proj"):
            assert part.gate_up_proj.shape == (part.num_experts, 2 * part.intermediate_dim, size), path
            assert part.down_proj.shape == (part.num_experts, size, part.intermediate_dim), path
        if hasattr(part, "gate_proj"):
            assert part.intermediate_size == part.down_proj.in_features, path
        if hasattr(part, "num_key_value_groups"):
            heads = part.o_proj.in_features // getattr(part, "v_head_dim", getattr(part, "head_dim", 0))
            assert part.num_key_value_groups == (1 if name.startswith("deepseek") else 2)
            assert getattr(part, "num_heads", heads) == heads
            if hasattr(part, "k_proj"):
                assert part.k_proj.out_features * 2 == part.q_proj.out_features == heads * part.head_dim
    stated = family(name).units(model.module.config) | model.info.widths
    assert stated == {g.name: g.units for g in groups(model)}


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_different_widths_are_told_apart(name):
    model = tiny(name)
    whole = family(name).units(model.module.config)
    last = len(layers(model)) - 1
    now = {}
    for group in groups(model):
        if group.layer == last:
            cut_(model, group, range(group.units - 1))
            now[group.name] = group.units - 1
    assert {**whole, **now} == {g.name: g.units for g in groups(model)}
    assert any(n in model.info.widths for n in now)
    assert family(name).units(model.module.config) | model.info.widths == {g.name: g.units for g in groups(model)}


def test_llama_states_only_head_counts_that_its_configuration_takes():
    model = tiny("llama")
    cut_all_(model, {"heads": 3})  # 6 query heads do not divide a hidden size of 32
    assert model.info.widths == {f"layer.{i}.heads": 3 for i in range(3)}
    config = AutoConfig.for_model(**model.module.config.to_dict())
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (8, 4, 4)
    free = tiny("qwen2")
    cut_all_(free, {"heads": 3})
    config = AutoConfig.for_model(**free.module.config.to_dict())
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (6, 3, 4)


def test_shared_and_routed_experts_stay_apart_where_one_field_gives_both():
    model = tiny("deepseek_v3")
    cut_all_(model, {"experts.ffn": 8})  # the shared part keeps 48 = 6 x 8
    config = model.module.config
    assert (config.moe_intermediate_size, config.n_shared_experts, model.info.widths) == (8, 6, {})
    odd = tiny("deepseek_v3")
    cut_all_(odd, {"experts.ffn": 7})
    assert odd.module.config.moe_intermediate_size == 24
    assert odd.info.widths == {"layer.1.experts.ffn": 7, "layer.2.experts.ffn": 7}


def test_a_query_reads_the_key_that_it_read():
    model = tiny("mistral")
    before = copy.deepcopy(model.module.model.layers[0].self_attn)
    cut_(model, next(g for g in groups(model) if g.name == "layer.0.heads"), [2])
    after = model.module.model.layers[0].self_attn
    assert torch.equal(after.k_proj.weight, before.k_proj.weight[12:18])
    assert torch.equal(after.q_proj.weight, before.q_proj.weight[24:36])  # query heads 4 and 5
    assert torch.equal(after.o_proj.weight, before.o_proj.weight[:, 24:36])


@pytest.mark.parametrize("name", NAMES)
def test_generating_with_a_cache_equals_generating_without_after_every_cut(name):
    model = tiny(name)
    for group in groups(model)[-3:]:
        cut_(model, group, kept(group.units))
    whole = generated(model, cache=True)
    assert whole == generated(model, cache=False)
    drop_layers_(model, [0, 2])
    short = generated(model, cache=True)
    assert short == generated(model, cache=False)
    assert short != whole


@pytest.mark.parametrize("name", NAMES)
def test_dropping_a_layer_equals_skipping_it_and_keeps_the_kind_of_the_others(name):
    model = tiny(name)
    for gone in (1, 0):
        reference = copy.deepcopy(model)
        reference.module.get_submodule(layers(reference)[gone]).forward = lambda hidden, *a, **k: hidden
        drop_layers_(model, [i for i in range(len(layers(model))) if i != gone])
        assert close(answers(reference), answers(model))
        assert family(name).units(model.module.config) == {g.name: g.units for g in groups(model)}
        assert [p.self_attn.layer_idx for p in model.module.model.layers] == list(range(len(layers(model))))
    rebuilt = type(model.module)(model.module.config)
    assert shapes(rebuilt) == shapes(model.module)
    assert rebuilt.config.to_dict() == model.module.config.to_dict()
    window = getattr(model.module.model.layers[0].self_attn, "sliding_window", None)
    assert getattr(rebuilt.model.layers[0].self_attn, "sliding_window", None) == window


def test_layers_with_experts_in_turn_are_listed_once_one_is_dropped():
    model = tiny("qwen3_moe", num_hidden_layers=4)  # experts in layers 1 and 3
    drop_layers_(model, [1, 2, 3])
    assert (model.module.config.decoder_sparse_step, model.module.config.mlp_only_layers) == (1, [1])
    assert shapes(type(model.module)(model.module.config)) == shapes(model.module)


def test_dropping_a_layer_renames_the_widths_of_those_after_it():
    model = tiny("mixtral")
    cut_(model, next(g for g in groups(model) if g.name == "layer.2.experts.ffn"), range(8))
    drop_layers_(model, [0, 2])
    assert model.info.widths == {"layer.1.experts.ffn": 8}


def test_tied_embeddings_stay_one():
    model = tiny("qwen3")
    drop_layers_(model, [0, 2])
    for group in groups(model):
        cut_(model, group, kept(group.units))
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    assert family("qwen3").embeddings(model.module) == 60 * 32


@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_shape_builds_and_keeps_heads_and_ratio(name):
    model = tiny(name)
    one, old = family(name), model.module.config
    half = AutoConfig.for_model(name, **{**BASE, **SHAPES[name], **one.scale(old, {})})
    assert half.num_hidden_layers == 1
    narrow = AutoConfig.for_model(name, **{**BASE, **SHAPES[name], **one.scale(old, {"hidden_size": 16, "layers": 2})})
    module = AutoModelForCausalLM.from_config(narrow)
    assert len(one.layers(module)) == 2
    stated = {g.name: g.units for g in one.groups(module)}
    assert stated == one.units(narrow)
    shape, full = one.shape(module), one.shape(model.module)
    assert shape["hidden_size"] == 16
    assert shape["head_dim"] == full["head_dim"]
    assert shape["heads"] == [h // 2 for h in full["heads"][:2]]
    assert shape["key_value_heads"] == [h // 2 for h in full["key_value_heads"][:2]]
    # Every second layer has experts: of layers 0 and 2, that are taken, the kinds stay.
    assert shape["intermediate_size"][-1] == full["intermediate_size"][-1] // 2


def test_layers_that_are_taken_keep_their_kind():
    old = tiny("qwen3_moe", num_hidden_layers=4).module.config  # experts in layers 1 and 3
    assert family("qwen3_moe").scale(old, {"layers": 2})["mlp_only_layers"] == []
    assert family("qwen3_moe").scale(old, {"layers": 2})["num_experts"] == 4
    assert family("qwen3_moe").scale(old, {"layers": 3})["mlp_only_layers"] == [0, 1]  # taken are 0, 2 and 3
    windows = tiny("qwen2", num_hidden_layers=4).module.config
    assert family("qwen2").scale(windows, {"layers": 2})["layer_types"] == ["sliding_attention"] * 2
    assert len(family("qwen2").scale(windows, {"layers": 6})["layer_types"]) == 6


def test_wanted_heads_are_query_heads_of_the_same_size():
    old = tiny("mistral").module.config
    found = family("mistral").scale(old, {"heads": 4})
    assert (found["num_attention_heads"], found["num_key_value_heads"], found["head_dim"]) == (4, 2, 6)
    assert found["hidden_size"] == 32


class Words:
    """What scratch reads of a processor."""

    vocab_size, max_length = 50, 20

    def __init__(self, pad_id: int, tokens: dict[str, int], config: dict[str, str]) -> None:
        self.pad_id, self.config = pad_id, config
        self.tokenizer = SimpleNamespace(token_to_id=tokens.get)


def test_from_scratch_takes_the_tokens_of_the_processor():
    one = family("llama")
    words = Words(0, {"</s>": 1, "<s>": 2}, {"eos_token": "</s>", "bos_token": "<s>"})
    made = one.scratch({"hidden_size": 32}, words)
    ids = (made["pad_token_id"], made["eos_token_id"], made["bos_token_id"])
    assert (ids, made["vocab_size"], made["max_position_embeddings"]) == ((0, 1, 2), 50, 20)
    assert one.scratch({"max_position_embeddings": 90}, words)["max_position_embeddings"] == 90
    with pytest.raises(ModelError, match="max_position_embeddings is 8"):
        one.scratch({"max_position_embeddings": 8}, words)


def test_an_end_token_that_pads_keeps_learning():
    """transformers gives the embedding of pad_token_id no gradient; documents start with the end token."""
    made = family("llama").scratch(dict(BASE), Words(1, {"</s>": 1}, {"eos_token": "</s>"}))
    assert made["pad_token_id"] is None
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **made))
    module(input_ids=torch.tensor([[1, 4]])).logits.sum().backward()
    assert module.model.embed_tokens.weight.grad[1].abs().sum() > 0


@pytest.mark.parametrize("name", ["llama", "deepseek_v3"])
def test_the_example_and_the_shape_fit_the_model(name):
    model = tiny(name)
    one = family(name)
    given = one.example(model.module, 2, 7)
    assert model.module(**given).logits.shape == (2, 7, 60)
    assert int(given["input_ids"].max()) < 60
    assert one.longest(model.module.config) == 64
    shape = one.shape(model.module)
    assert shape["layers"] == len(shape["heads"]) == 3
    assert shape.get("experts") == {"llama": None, "deepseek_v3": [0, 4, 4]}[name]
    assert shape["intermediate_size"] == {"llama": [40, 40, 40], "deepseek_v3": [40, 24, 24]}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_model_reopens_bit_for_bit_and_can_be_cut_again(kit, tmp_path, name):
    given = {k: v for k, v in {**BASE, **SHAPES[name]}.items() if not k.endswith("_token_id") and k != "vocab_size"}
    if name.startswith("deepseek"):
        given["num_key_value_heads"] = given["num_attention_heads"]
    model = kit.tiny(name, shape=given)
    for step, keep in enumerate(([0, 2], [0])):
        for group in groups(model):
            cut_(model, group, kept(group.units) if group.layer != 1 else range(1, group.units))
        drop_layers_(model, keep)
        artifact = save(model, tmp_path / str(step), stage="prune", key="", history=(), facts={})
        opened = open_model(artifact)
        assert opened.info == model.info
        saved, now = opened.module.config.to_dict(), model.module.config.to_dict()
        assert {k for k in now if saved[k] != now[k]} <= {"architectures", "_name_or_path"}
        there, here = opened.module.state_dict(), model.module.state_dict()
        assert list(there) == list(here)
        assert all(torch.equal(there[n], here[n]) for n in here)
        inputs = family(name).example(model.module, 2, 6)
        with torch.inference_mode():
            assert torch.equal(opened.module(**inputs).logits, model.module(**inputs).logits)
        model = opened
