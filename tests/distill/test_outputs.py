import pytest
import torch
from torch import nn

from lessen.distill.outputs import Frozen, answer, hidden_layers, recorded_attention
from lessen.errors import ModelError


def test_recorded_attention_changes_no_answer_and_is_gone_afterwards(bert, texts):
    model, batch = bert(), texts()
    want = model(**batch).logits
    before = model.config._attn_implementation
    out = answer(model, batch, ("attentions", "hidden"))
    torch.testing.assert_close(out.logits, want)
    assert model.config._attn_implementation == before
    torch.testing.assert_close(model(**batch).logits, want, rtol=0, atol=0)


def test_recorded_attention_equals_transformers_own_maps(bert, texts):
    model, batch = bert(), texts()
    got = answer(model, batch, ("attentions",)).attentions
    model.set_attn_implementation("eager")
    want = model(**batch, output_attentions=True).attentions
    assert sorted(got) == [1, 2]
    for layer, log_p in got.items():
        torch.testing.assert_close(log_p.exp(), want[layer - 1], rtol=1e-4, atol=1e-6)


def test_recorded_attention_is_a_distribution_while_dropout_is_on(bert, texts):
    """What transformers returns then has holes and does not add up to 1."""
    model = bert(dropout=0.5).train()
    got = answer(model, texts(), ("attentions",)).attentions[1]
    torch.testing.assert_close(got.exp().sum(-1), torch.ones(3, 2, 7))
    assert got.requires_grad


def test_attention_is_put_back_when_the_model_fails(bert):
    model = bert()
    before = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), recorded_attention(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == before


def test_layers_count_from_one_and_zero_is_what_enters_the_first(bert, texts):
    model, batch = bert(), texts()
    out = answer(model, batch, ("hidden",), {"hidden": {0, 2}})
    states = model(**batch, output_hidden_states=True).hidden_states
    assert sorted(out.hidden) == [0, 2]
    torch.testing.assert_close(out.hidden[0], states[0])
    torch.testing.assert_close(out.hidden[2], states[2])


def test_stages_of_a_convolutional_network_are_the_last_maps_of_each_resolution():
    maps = [torch.full((1, c, s, s), float(i)) for i, (c, s) in enumerate([(4, 16), (8, 16), (8, 8), (8, 8), (9, 4)])]
    stages = hidden_layers(maps)
    assert {k: float(v.mean()) for k, v in stages.items()} == {0: 0.0, 1: 1.0, 2: 3.0, 3: 4.0}


def test_a_model_without_attention_says_so(resnet):
    with pytest.raises(ModelError, match="attentions"):
        answer(resnet(), {"pixel_values": torch.randn(2, 3, 32, 32)}, ("attentions",))


def test_r18_the_teacher_stays_in_eval_mode_without_gradient_and_in_no_parent(bert, texts, cpu):
    """R18: eval after .train() on a parent or on the module itself; no gradient; no state of it in a parent."""
    module, batch = bert(dropout=0.5), texts()
    frozen = Frozen(module, cpu)
    parent = nn.Module()
    parent.teacher = frozen
    parent.train()
    assert list(parent.parameters()) == []
    assert parent.state_dict() == {}
    module.train()
    first, second = frozen(batch).logits, frozen(batch).logits
    assert not module.training
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not any(p.requires_grad for p in module.parameters())
    assert not first.requires_grad


def test_r18_what_the_teacher_says_can_be_used_in_a_students_backward_pass(bert, texts, cpu):
    """R18: answers leave inference mode as plain tensors."""
    out = Frozen(bert(), cpu)(texts(), ("attentions", "hidden"))
    weight = torch.ones((), requires_grad=True)
    total = (weight * out.logits).sum() + (weight * out.hidden[1]).sum() + (weight * out.attentions[1].exp()).sum()
    total.backward()
    assert torch.isfinite(weight.grad)


def test_r20_batch_norm_of_the_teacher_neither_moves_nor_looks_at_the_batch(resnet, cpu):
    """R20: running statistics are used and left alone."""
    module = resnet()
    frozen = Frozen(module, cpu)
    module.train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x = torch.randn(4, 3, 32, 32)
    together, alone = frozen({"pixel_values": x}).logits, frozen({"pixel_values": x[:1]}).logits
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
