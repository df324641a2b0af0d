"""Heads of language models: what stands between states and logits, and what is refused (R10, R30)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lessen.errors import ModelError
from lessen.models import language
from lessen.models.build import stock_class
from lessen.models.language import head, states, tokens_

SMALL = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 32, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 1,
}  # fmt: skip
GPT = {
    "vocab_size": 60,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
T5 = {
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_layers": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
CASES = {
    "t5": ("t5", T5),
    "t5 unscaled": ("t5", {**T5, "scale_decoder_outputs": False, "feed_forward_proj": "gated-gelu"}),
    "mt5": ("mt5", T5),
    "gpt2": ("gpt2", GPT),
    "llama": ("llama", SMALL),
    "llama tied": ("llama", {**SMALL, "tie_word_embeddings": True}),
    "granite": ("granite", {**SMALL, "logits_scaling": 8.0}),
    "cohere": ("cohere", {k: v for k, v in SMALL.items() if k != "head_dim"} | {"logit_scale": 0.25}),
    "gemma2": ("gemma2", {**SMALL, "final_logit_softcapping": 0.5, "sliding_window": 16}),
    "gptj with a bias": ("gptj", {**GPT, "rotary_dim": 4}),
}


def build(model_type, values):
    config = AutoConfig.for_model(model_type, **values)
    task = "seq2seq" if config.is_encoder_decoder else "causal-lm"
    torch.manual_seed(0)
    module = stock_class(task).from_config(config, attn_implementation="eager").float().eval()
    for value in module.parameters():
        value.data.add_(torch.randn_like(value), alpha=0.2)
    return module


def batch(module):
    ids = torch.arange(10).reshape(2, 5) + 3
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][1, 3:] = 0
    if module.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[0, 7, 8], [0, 9, 4]])
    return inputs


@pytest.mark.parametrize("name", CASES)
def test_the_head_of_the_states_gives_the_module_s_logits(name):
    module = build(*CASES[name])
    inputs = batch(module)
    with torch.inference_mode():
        want = module(**inputs).logits
        got = head(module).logits(states(module, inputs))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def test_what_stands_between_matters():
    """Else the test above would hold without it."""
    for name, field in (("t5", "scale"), ("granite", "scale"), ("cohere", "scale"), ("gemma2", "softcap")):
        module = build(*CASES[name])
        found = head(module)
        without = dataclasses.replace(found, **{field: 1.0 if field == "scale" else None})
        last = states(module, batch(module))
        assert not torch.allclose(found.logits(last), without.logits(last), rtol=0.05), name
    module = build(*CASES["gptj with a bias"])
    assert head(module).bias is module.lm_head.bias


def test_the_head_is_the_module_s_own_parameter():
    module = build(*CASES["gpt2"])
    assert head(module).weight is module.transformer.wte.weight
    head(module).logits(states(module, batch(module))).sum().backward()
    assert module.transformer.wte.weight.grad is not None


def test_states_need_no_second_pass_over_an_encoded_source():
    module = build(*CASES["t5"])
    inputs = batch(module)
    encoded = module.encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    given = {k: v for k, v in inputs.items() if k != "input_ids"} | {"encoder_outputs": encoded}
    assert torch.equal(states(module, given), states(module, inputs))
    mask = torch.ones(2, 3, dtype=torch.long)
    mask[0, 0] = 0
    masked = {**inputs, "decoder_attention_mask": mask}
    with torch.inference_mode():
        want = module(**masked).logits
        torch.testing.assert_close(head(module).logits(states(module, masked)), want)
    assert not torch.equal(states(module, masked), states(module, inputs))


@pytest.mark.parametrize("name", ["t5", "gpt2"])
def test_rows_beyond_the_tokenizer_are_never_likely_r30(kit, name):
    model = kit.tiny(name)
    words = model.processor.vocab_size
    model.module.resize_token_embeddings(words + 7)
    found = head(model)
    inputs = kit.inputs(model, 2)
    with torch.inference_mode():
        logits = found.logits(states(model.module, inputs))
        whole = model.module(**inputs).logits
    assert (found.vocab, logits.shape[-1]) == (words, words + 7)
    assert torch.isneginf(logits[..., words:]).all()
    assert torch.isfinite(whole[..., words:]).all()
    torch.testing.assert_close(logits[..., :words], whole[..., :words])
    assert head(model.module).vocab == words + 7


def test_a_transform_that_is_not_understood_is_refused_r10():
    module = build("hyperclovax", {**SMALL, "logits_scaling": 4.0})  # multiplies where Granite divides
    with pytest.raises(ModelError, match="the logits of hyperclovax cannot be computed"):
        head(module)
    assert not module.training
    module.train()
    with pytest.raises(ModelError):
        head(module)
    assert all(part.training for part in module.modules())


def test_a_head_that_is_no_linear_layer_is_refused():
    module = build(*CASES["gpt2"])
    module.lm_head = nn.Sequential(nn.Linear(32, 60))
    with pytest.raises(ModelError, match="Sequential where a Linear"):
        head(module)
    with pytest.raises(ModelError, match="NoneType"):
        head(nn.Linear(3, 3))


def test_architectures_of_families_are_not_tried_each_time(monkeypatch):
    monkeypatch.setattr(language, "_try", lambda *a: pytest.fail("a forward pass"))
    for name in ("t5", "mt5", "gpt2", "llama"):
        head(build(*CASES[name]))


def test_generation_settings_name_the_tokenizer_s_tokens(kit):
    model = kit.tiny("gpt2")
    settings = model.module.generation_config
    settings.pad_token_id, settings.eos_token_id = 99, 98
    tokens_(model.module, model.processor)
    assert (settings.pad_token_id, settings.eos_token_id, settings.decoder_start_token_id) == (0, 1, None)
    settings.eos_token_id = [7, 1]
    tokens_(model.module, model.processor)
    assert settings.eos_token_id == [7, 1]
    settings.eos_token_id = [7, 8]
    tokens_(model.module, model.processor)
    assert settings.eos_token_id == 1
    one = kit.tiny("t5")
    one.module.generation_config.decoder_start_token_id = None
    tokens_(one.module, one.processor)
    assert one.module.generation_config.decoder_start_token_id == 0


def test_every_family_s_module_is_the_stock_class():
    assert stock_class("causal-lm") is AutoModelForCausalLM


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_scores_are_the_loss_of_each_token_and_padding_rows_have_no_share(chunk):
    torch.manual_seed(0)
    head = language.Head(torch.randn(12, 5), torch.randn(12), 0.5, 3.0, 10)
    states, targets = torch.randn(7, 5), torch.randint(0, 10, (7,))
    logits = head.logits(states)[:, :10]
    targets[0] = logits[0].argmax()
    losses, hits = language.scores(states, head, targets, chunk)
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    assert hits.tolist() == (logits.argmax(dim=1) == targets).tolist()
    assert hits[0]
    assert [len(part) for part in language.scores(states[:0], head, targets[:0])] == [0, 0]
