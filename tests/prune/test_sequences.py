from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from lessen.data.rows import rows_of
from lessen.data.sequences import IGNORE
from lessen.errors import ModelError
from lessen.loss import label_loss
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups, layers
from lessen.prune import oracle, refit
from lessen.prune.calibrate import alone, batch_of, block_influence, calibration, gradients, input_norms, real
from lessen.prune.cost import costs, flops, parameters
from lessen.prune.units import scorer, unit_scores
from lessen.recipe import Train

CPU = torch.device("cpu")
FAMILIES = ("t5", "gpt2", "llama", "mixtral", "qwen3_moe")
EXPERTS = "model.layers.1.mlp.experts"


def example(m):
    inputs = family(m.info.family).example(m.module, 2, 7)
    if "decoder_input_ids" in inputs:
        inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :4]
    return inputs


def draw(there, seed=0):
    rng = np.random.default_rng(seed)
    return {g.name: sorted(rng.permutation(g.units)[: rng.integers(1, g.units)].tolist()) for g in there}


def test_a_layer_reads_the_tokens_of_its_side_even_where_both_are_equally_long():
    x = torch.arange(12.0).reshape(2, 3, 2)
    source, target = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[1, 0, 0], [1, 1, 0]])
    inputs = {"attention_mask": source, "decoder_attention_mask": target}
    decoder = "decoder.block.0.layer.1.EncDecAttention"
    for name in ("encoder.block.0.layer.0.SelfAttention.q", f"{decoder}.k", f"{decoder}.v", "encoder.block.0"):
        assert real(x, inputs, name).tolist() == x[source.bool()].tolist()
    for name in (f"{decoder}.q", f"{decoder}.o", "decoder.block.0.layer.0.SelfAttention.k", "lm_head"):
        assert real(x, inputs, name).tolist() == x[target.bool()].tolist()
    with pytest.raises(ModelError, match="neither"):
        real(x[:, :2], inputs, "lm_head")


def test_tokens_in_one_long_row_are_told_from_padding_too():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert real(torch.arange(6.0)[:, None], {"attention_mask": mask}).flatten().tolist() == [0, 1, 3]


def test_calibration_reads_pieces_one_to_a_row_and_gives_what_each_position_predicts(speaking):
    source, splits, _ = speaking("gpt2")
    packed = rows_of(splits, "train", source.processor, None)
    data = alone(packed)
    assert len(data) > len(packed)
    batches = calibration(data, 8, 0, CPU, batch_size=4)
    for inputs, targets in batches:
        assert inputs["attention_mask"].dim() == 2
        assert "targets" not in inputs
        assert targets.shape == inputs["input_ids"].shape
        assert bool((targets[:, :-1][targets[:, :-1] != IGNORE] >= 0).all())
    source, splits, _ = speaking("t5")
    inputs, targets = batch_of(alone(rows_of(splits, "train", source.processor, None)), np.arange(3), CPU)
    assert torch.equal(inputs["decoder_attention_mask"].bool(), targets != IGNORE)
    assert not inputs["decoder_attention_mask"].all()


def test_a_batch_of_sequences_is_bounded_by_its_tokens(speaker, monkeypatch):
    from lessen.prune import calibrate

    _, data = speaker("t5")
    monkeypatch.setattr(calibrate, "TOKENS", 3 * int(data.lengths.max()))
    assert max(map(len, calibration(data, 24, 0, CPU).plan)) == 3


READ = {
    "t5": (
        "encoder.block.1.layer.1.DenseReluDense.wo",
        "decoder.block.0.layer.1.EncDecAttention.k",
        "decoder.block.1.layer.1.EncDecAttention.o",
        "decoder.block.1.layer.2.DenseReluDense.wi",
    ),
    "gpt2": ("transformer.h.1.attn.c_attn", "transformer.h.0.mlp.c_proj"),
    "mixtral": (f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj", "model.layers.0.self_attn.o_proj"),
}


@pytest.mark.parametrize("name", READ)
def test_input_norms_of_sequences_do_not_depend_on_padding_or_batches(name, speaker):
    m, data = speaker(name)
    one = input_norms(m.module, READ[name], calibration(data, 24, 0, CPU, batch_size=24))
    many = input_norms(m.module, READ[name], calibration(data, 24, 0, CPU, batch_size=1))
    for layer in READ[name]:
        torch.testing.assert_close(one[layer], many[layer], rtol=1e-4, atol=1e-6)
        assert float(one[layer].max()) > 0


def test_an_expert_reads_the_tokens_that_were_sent_to_it(speaker):
    m, data = speaker("mixtral")
    batches, seen = calibration(data, 6, 0, CPU), []
    experts = m.module.get_submodule(EXPERTS)
    handle = experts.register_forward_pre_hook(lambda part, args: seen.append(args))
    norms = input_norms(m.module, READ["mixtral"][:2], batches)
    handle.remove()
    squares, inner = torch.zeros(4, 32), torch.zeros(4, 32)
    for (states, chosen, _), (inputs, _) in zip(seen, batches, strict=True):
        for token in inputs["attention_mask"].flatten().nonzero()[:, 0].tolist():
            for e in chosen[token].tolist():
                squares[e] += states[token].square()
                gate, up = (experts.gate_up_proj[e] @ states[token]).detach().chunk(2)
                inner[e] += (functional.silu(gate) * up).square()
    torch.testing.assert_close(norms[f"{EXPERTS}.gate_up_proj"].float(), squares.sqrt(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norms[f"{EXPERTS}.down_proj"].float(), inner.sqrt(), rtol=1e-4, atol=1e-5)


def test_the_label_loss_of_a_model_that_generates_is_that_of_its_supervised_tokens(speaker):
    m, _ = speaker("gpt2")
    logits = torch.randn(2, 3, 5, requires_grad=True)
    targets = torch.tensor([[1, IGNORE, 4], [IGNORE, IGNORE, 0]])
    got = label_loss(m.info, Train(), None)(logits, targets)
    want = -logits.log_softmax(-1)
    torch.testing.assert_close(got, torch.stack([want[0, 0, 1], want[0, 2, 4], want[1, 2, 0]]))
    got.sum().backward()
    assert logits.grad.abs().sum(-1).bool().tolist() == [[True, False, True], [False, False, True]]


@pytest.mark.parametrize("name", FAMILIES)
def test_p1_cutting_a_sequence_model_equals_silencing_what_reads_the_units(name, speaker):
    m, data = speaker(name)
    probes, there = oracle.probes(data, CPU), groups(m)
    whole, kept = oracle.answers(m.module, probes), draw(there)
    for some in [*([g] for g in there), there]:
        small = replace(m, module=copy.deepcopy(m.module))
        want = oracle.silenced_answers(m.module, some, kept, probes)
        with pytest.raises(ModelError):  # what is silenced had been heard
            oracle.check(whole, want)
        for group in some:
            cut_(small, group, kept[group.name])
        assert oracle.check(want, oracle.answers(small.module, probes)) < 1e-10


@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_r1_a_wrong_unit_is_caught(name, speaker):
    m, data = speaker(name)
    probes = oracle.probes(data, CPU)
    for group in groups(m):
        want = oracle.silenced_answers(m.module, [group], {group.name: [1]}, probes)
        small = replace(m, module=copy.deepcopy(m.module))
        cut_(small, group, [0])
        with pytest.raises(ModelError, match="differs from the masked one"):
            oracle.check(want, oracle.answers(small.module, probes))


@pytest.mark.parametrize("name", FAMILIES)
def test_predicted_costs_of_a_sequence_model_are_those_of_the_cut_one(name, speaker):
    m, _ = speaker(name)
    inputs, there = example(m), groups(m)
    table, kept = costs(m, there, inputs), {n: len(k) for n, k in draw(there).items()}
    assert table.flops({}) == flops(m.module, inputs)
    small = replace(m, module=copy.deepcopy(m.module))
    for group in there:
        cut_(small, group, range(kept[group.name]))
    assert table.parameters(kept) == parameters(small.module)
    assert table.flops(kept) == pytest.approx(flops(small.module, inputs), rel=1e-12)


def test_r11_flops_of_a_mixture_count_the_experts_that_a_token_passes_whichever_they_are(speaker):
    m, _ = speaker("mixtral")
    tokens, hidden, ffn, top, experts, vocab = 14, 32, 32, 2, 4, m.module.config.vocab_size
    attention = 2 * tokens * hidden * (32 + 16 + 16 + 32) + 2 * 2 * 2 * 7 * 7 * hidden
    layer = attention + 2 * tokens * (hidden * experts + top * 3 * hidden * ffn)
    inputs = example(m)
    rotary = 2 * 2 * 4 * 7  # angles
    assert flops(m.module, inputs) in (
        2 * layer + 2 * tokens * hidden * vocab + extra for extra in (0, rotary, rotary // 2)
    )
    before = flops(m.module, inputs)
    with torch.no_grad():
        m.module.get_submodule("model.layers.0.mlp.gate").weight[0] += 10  # sends tokens elsewhere
    assert flops(m.module, inputs) == before


@pytest.mark.parametrize("method", ["magnitude", "wanda", "taylor", "random"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_scores_every_unit_of_sequence_models(name, method, speaker):
    m, data = speaker(name)
    batches, loss = calibration(data, 8, 0, CPU), label_loss(m.info, Train(), None)
    got = unit_scores(scorer(method), m.module, groups(m), batches, loss, 0)
    for group in groups(m):
        assert got[group.name].shape == (group.units,)
        assert np.isfinite(got[group.name]).all()
        assert len(set(got[group.name])) > 1


def test_a_head_of_gpt2_is_scored_on_its_three_runs_and_what_reads_it(speaker):
    m, data = speaker("gpt2")
    attention = m.module.transformer.h[0].attn
    batches, loss = calibration(data, 8, 0, CPU), label_loss(m.info, Train(), None)
    got = unit_scores(scorer("magnitude"), m.module, groups(m), batches, loss, 0)["layer.0.heads"]
    made, read = attention.c_attn.weight.detach(), attention.c_proj.weight.detach()
    q, k, v = (part.reshape(32, 4, 8).square().sum(dim=(0, 2)) for part in made.chunk(3, dim=1))
    want = (q + k + v + read.reshape(4, 8, 32).square().sum(dim=(1, 2))).sqrt()
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


def test_wanda_reads_the_inputs_of_a_conv1d_and_of_each_expert(speaker):
    m, data = speaker("gpt2")
    batches, loss = calibration(data, 8, 0, CPU), label_loss(m.info, Train(), None)
    name = "transformer.h.1.mlp.c_proj"
    norm = input_norms(m.module, [name], batches)[name]
    want = m.module.get_submodule(name).weight.detach().double().norm(dim=1) * norm
    got = unit_scores(scorer("wanda"), m.module, groups(m), batches, loss, 0)["layer.1.ffn"]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)
    m, data = speaker("mixtral")
    batches = calibration(data, 8, 0, CPU)
    norm = input_norms(m.module, [f"{EXPERTS}.down_proj"], batches)[f"{EXPERTS}.down_proj"]
    down = m.module.get_submodule(EXPERTS).down_proj.detach().double()
    want = (down.square().sum(dim=1) * norm.square()).sum(dim=0).sqrt()
    got = unit_scores(scorer("wanda"), m.module, groups(m), batches, loss, 0)["layer.1.experts.ffn"]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)


def test_gradients_are_of_the_supervised_tokens_alone(speaker):
    m, data = speaker("t5")
    name, batches = "decoder.block.0.layer.2.DenseReluDense.wo", calibration(data, 6, 0, CPU, batch_size=6)
    ((inputs, targets),) = list(batches)
    logits = m.module(**inputs).logits
    value = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    (want,) = torch.autograd.grad(value, m.module.get_submodule(name).weight)
    got = gradients(m.module, [name], batches, label_loss(m.info, Train(), None))[name]
    torch.testing.assert_close(got, want.abs(), rtol=1e-4, atol=1e-7)


def test_features_that_a_conv1d_can_do_without_are_replaced_without_loss():
    torch.manual_seed(0)

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.read = torch.nn.Linear(8, 8), Conv1D(5, 16)

        def forward(self, x, attention_mask=None):
            return self.read(torch.cat([x, self.mix(x)], dim=-1))

    class Rows:
        def __init__(self):
            self.x = np.random.default_rng(0).standard_normal((160, 6, 8)).astype(np.float32)
            self.lengths, self.labels = np.full(160, 6), np.zeros(160, dtype=np.int64)

        def __len__(self):
            return 160

        def batch(self, rows, view=None):
            return {"x": self.x[rows]}

    net, data, kept = Wide(), Rows(), list(range(8))
    torch.nn.init.normal_(net.read.weight)
    want = net(torch.from_numpy(data.x)).detach()
    (change,) = refit.solve(net, {"read": kept}, calibration(data, 160, 0, CPU, batch_size=16))
    assert change.error_before > 0.01
    assert change.error_after < 1e-6
    small = Conv1D(5, 8)
    small.weight.data, small.bias.data = net.read.weight[:8].detach().clone(), net.read.bias.detach().clone()
    net.read = small
    refit.apply_(net, [change])
    got = small(torch.from_numpy(data.x)).detach()
    assert float((got - want).norm() / want.norm()) < 2e-3


def test_dropping_blocks_of_either_stack_equals_passing_them_by(speaker):
    m, data = speaker("t5")
    probes, paths = oracle.probes(data, CPU), layers(m)
    for gone in ([0], [1], [2], [3], [0, 2], [1, 3]):
        want = oracle.bypassed_answers(m.module, [paths[i] for i in gone], probes)
        small = replace(m, module=copy.deepcopy(m.module))
        drop_layers_(small, [i for i in range(4) if i not in gone])
        assert oracle.check(want, oracle.answers(small.module, probes)) < 1e-10


@pytest.mark.parametrize("name", ["t5", "gpt2", "mixtral"])
def test_block_influence_of_sequences_does_not_see_padding(name, speaker):
    m, data = speaker(name)
    one = block_influence(m.module, layers(m), calibration(data, 24, 0, CPU, batch_size=24))
    many = block_influence(m.module, layers(m), calibration(data, 24, 0, CPU, batch_size=1))
    np.testing.assert_allclose(one, many, rtol=1e-4)
    assert (one > 0).all()
