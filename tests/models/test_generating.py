"""Models that generate: exact cuts, tied weights, reopening, students, and where they come from (P1 to P5, Q9)."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file

from lessen import models
from lessen.artifact import Artifact
from lessen.models.build import stock_class
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups, layers, mask_
from lessen.models.shape import count

KINDS = ["t5", "t5-gated", "gpt2"]


@pytest.fixture(params=KINDS)
def model(kit, request):
    return kit.language(request.param)


def write(model, path):
    return models.save(model, path, stage="teacher", key="", history=(), facts={})


def said(model, **how):
    """Generate five tokens for three prompts, the shorter ones padded on the left."""
    inputs = dict(models.example(model, 3, 6))
    inputs.pop("decoder_input_ids", None)
    if model.info.task == "causal-lm":
        inputs["attention_mask"][0, :2] = 0
    return model.module.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False, **how).tolist()


@pytest.mark.slow
def test_each_group_cut_alone_equals_masking_it(kit, model):
    before = kit.logits(model, 3)
    for group in groups(model):
        slim, reference = copy.deepcopy(model), copy.deepcopy(model)
        drop = [u for u in range(group.units) if u % 3 == 1]
        cut_(slim, group, [u for u in range(group.units) if u not in drop])
        mask_(reference, group, drop)
        want = kit.logits(reference, 3)
        torch.testing.assert_close(kit.logits(slim, 3), want, rtol=0, atol=1e-5 * float(want.abs().max()))
        assert not torch.allclose(want, before, rtol=1e-5, atol=1e-5), group.name  # else the group says nothing
        assert count(slim.module) < count(model.module)


def test_cutting_all_groups_unevenly_equals_masking_also_when_cut_twice(kit, model):
    for _ in range(2):
        reference = copy.deepcopy(model)
        for i, group in enumerate(groups(model)):
            keep = [u for u in range(group.units) if u % (2 + i % 3) != 1]
            mask_(reference, group, set(range(group.units)) - set(keep))
            cut_(model, group, keep)
        for batch in (1, 3):
            want = kit.logits(reference, batch)
            torch.testing.assert_close(kit.logits(model, batch), want, rtol=0, atol=1e-5 * float(want.abs().max()))
    assert model.info.widths


def test_the_configuration_alone_gives_the_units_of_a_whole_model(model):
    assert family(model.info.family).units(model.module.config) == {g.name: g.units for g in groups(model)}


def test_attributes_agree_with_the_weights_after_a_cut_p3(kit, model):
    kit.uneven(model)
    for path, part in model.module.named_modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, torch.nn.Linear):
            assert weight.shape == (part.out_features, part.in_features), path
        elif type(part).__name__ == "Conv1D":
            assert weight.shape == (part.nx, part.nf), path
            assert part.bias.shape == (part.nf,)
        elif isinstance(part, torch.nn.Embedding):
            assert weight.shape == (part.num_embeddings, part.embedding_dim), path
        if hasattr(part, "n_heads"):
            assert part.n_heads * part.key_value_proj_dim == part.inner_dim == len(part.q.weight)
        if hasattr(part, "split_size"):
            assert part.num_heads * part.head_dim == part.split_size == len(part.c_proj.weight)
    stated = family(model.info.family).units(model.module.config) | model.info.widths
    assert stated == {g.name: g.units for g in groups(model)}


def test_a_uniform_feed_forward_width_stands_in_the_configuration_alone(model):
    for group in groups(model):
        if group.kind == "ffn":
            cut_(model, group, range(16))
    config = model.module.config
    assert (config.d_ff if model.info.task == "seq2seq" else config.n_inner) == 16
    assert model.info.widths == {}
    assert models.is_stock(model)


@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
def test_a_saved_model_reopens_bit_equal_and_tied(kit, tmp_path, model, pruned):
    if pruned:
        kit.uneven(model)
        drop_layers_(model, [0, 2, 4, 5] if model.info.task == "seq2seq" else [1, 2])
    artifact = write(model, tmp_path / "a")
    again = models.open_model(Artifact(artifact.path))
    mine, theirs = model.module.state_dict(), again.module.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert torch.equal(kit.logits(again, 3), kit.logits(model, 3))
    assert again.info == model.info
    assert kit.tied(again)
    assert kit.tied(model)
    assert said(again) == said(model)
    if pruned:
        kit.uneven(again)
        third = models.open_model(write(again, tmp_path / "b"))
        assert third.info.widths != model.info.widths
        assert torch.equal(kit.logits(third, 2), kit.logits(again, 2))


def test_tied_weights_are_stored_once_q9(tmp_path, model):
    path = write(model, tmp_path / "a").path
    stored = load_file(path / "model.safetensors")
    size = count(model.module)
    assert sum(t.numel() for t in stored.values()) == size
    assert (path / "model.safetensors").stat().st_size < 4 * size + 8 * (
        len(json.dumps(list(stored))) + 100 * len(stored)
    )
    assert len({t.data_ptr() for t in stored.values()}) == len(stored)
    assert "lm_head.weight" not in stored


def test_a_stock_folder_loads_in_transformers_and_answers_alike(kit, tmp_path, model):
    for group in groups(model):
        if group.kind == "ffn" or model.info.task == "seq2seq":  # T5's configuration can say equal head counts too
            cut_(model, group, range(3 if group.kind == "heads" else 16))
    assert models.is_stock(model)
    path = write(model, tmp_path / "a").path
    stock, report = stock_class(model.info.task).from_pretrained(path, output_loading_info=True)
    assert not any(report.values())
    assert type(stock) is type(model.module)
    with torch.inference_mode():
        got = stock.eval()(**kit.inputs(model, 3)).logits
    assert torch.equal(got, kit.logits(model, 3))
    assert stock.lm_head.weight is stock.get_input_embeddings().weight
    settings = stock.generation_config
    assert (settings.pad_token_id, settings.eos_token_id) == (0, 1)
    assert settings.decoder_start_token_id == (0 if model.info.task == "seq2seq" else None)


def test_a_ragged_folder_does_not_claim_to_be_stock(kit, tmp_path, model):
    kit.uneven(model)
    path = write(model, tmp_path / "a").path
    assert not Artifact(path).manifest.facts["model"]["stock"]
    assert json.loads((path / "config.json").read_text()).get("architectures") is None
    assert Artifact(path).info.widths == model.info.widths != {}


def test_half_precision_stays_tied(tmp_path, kit):
    model = kit.language("gpt2")
    model.module.to(torch.bfloat16)
    again = models.open_model(write(model, tmp_path / "a"))
    assert kit.tied(again)
    assert {p.dtype for p in again.module.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
def test_generating_with_a_cache_equals_generating_without(kit, model, pruned):
    if pruned:
        kit.uneven(model)
        drop_layers_(model, [1, 2, 4, 5] if model.info.task == "seq2seq" else [1, 2])
    for part in model.module.parameters():
        part.data.mul_(2)  # answers of small weights repeat themselves
    assert said(model, use_cache=True) == said(model, use_cache=False)
    assert said(model, use_cache=True, num_beams=3) == said(model, use_cache=False, num_beams=3)
    assert len({tuple(row[-5:]) for row in said(model)}) > 1


@pytest.mark.parametrize("length", [1, 5])
def test_an_example_is_what_the_module_takes(model, length):
    inputs = models.example(model, 2, length)
    assert model.module(**inputs).logits.shape == (2, length, model.module.config.vocab_size)
    assert model.module(**models.example(model)).logits.shape[1] == model.processor.max_length


def test_a_description_counts_shared_tables_once(kit, model):
    facts = models.describe(model)
    table = model.module.get_input_embeddings().weight.numel()
    tables = table if model.info.task == "seq2seq" else table + kit.LENGTH * 32
    assert facts["parameters"] == len(torch.nn.utils.parameters_to_vector(model.module.parameters()))
    assert facts["embedding_frac"] == pytest.approx(tables / facts["parameters"])
    assert facts["layers"] == len(layers(model)) == len(facts["heads"]) == len(facts["intermediate_size"])
    assert facts["widths"] == {g.name: g.units for g in groups(model)}


@pytest.mark.parametrize("keep", [[1, 2], [0]])
def test_dropping_layers_of_a_stack_equals_skipping_them(kit, model, keep):
    reference = copy.deepcopy(model)
    two = model.info.task == "seq2seq"
    everything = [*keep, *(3 + k for k in keep)] if two else keep
    for i, path in enumerate(layers(reference)):
        if i not in everything:
            _skip_(reference.module.get_submodule(path))
    drop_layers_(model, everything)
    torch.testing.assert_close(kit.logits(model, 3), kit.logits(reference, 3), rtol=1e-5, atol=1e-5)
    assert len(layers(model)) == len(everything)
    assert family(model.info.family).units(model.module.config) == {g.name: g.units for g in groups(model)}


def _skip_(block):
    """Let a block pass on its input; of T5 the bias that its self-attention would make still goes to the next."""
    for name, part in block.named_modules():
        if name.endswith((".o", ".wo", ".c_proj")):
            part.weight.data.zero_()
            if getattr(part, "bias", None) is not None:
                part.bias.data.zero_()
