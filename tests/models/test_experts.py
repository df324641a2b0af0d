"""Experts: observed, scored, removed, merged, and made one dense part; exact where the text says so."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lessen.errors import ModelError
from lessen.info import ModelInfo
from lessen.models import Model, mixture, moe
from lessen.models.dense import dense_from_experts
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups

BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "q_lora_rank": 10,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 8,
    "moe_intermediate_size": 24,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_hidden_layers": 3,
    "n_group": 1,
    "topk_group": 1,
}
SHAPES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 6, "tie_word_embeddings": True},
    "qwen2_moe": {"num_experts": 6, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {"num_experts": 6, "moe_intermediate_size": 24, "norm_topk_prob": True},
    "olmoe": {"num_experts": 6},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
}
NAMES = list(SHAPES)
EXACT = ["mixtral", "qwen3_moe", "deepseek_v3"]  # a token's weights do not depend on experts it is not sent to


def tiny(name: str, **more: Any) -> Model:
    """Build a tiny mixture whose states all have a positive first entry before each router."""
    config = AutoConfig.for_model(name, **{**BASE, **SHAPES[name], **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for part in module.modules():
            for tensor in part._parameters.values():
                if tensor is not None and tensor.ndim > 1:
                    tensor.data += 0.1 * torch.randn_like(tensor)
    with torch.no_grad():
        module.model.embed_tokens.weight[:, 0] = 4
        for layer in module.model.layers:  # nothing writes the first dimension of the stream
            layer.self_attn.o_proj.weight[0] = 0
            for leaf, tensor in layer.mlp.named_parameters():
                if "down_proj" in leaf:
                    tensor[..., 0, :] = 0
    family(name).mend_(module)
    return Model(module.eval(), SimpleNamespace(), ModelInfo(family=name, task="causal-lm", source="tiny", labels=()))


def routers(model: Model) -> list[Any]:
    return [part.gate for part in moe.blocks(model).values()]


def favour_(model: Model, values: dict[int, float]) -> None:
    """Add to the router logits of some experts, alike for every token and by far; the others differ by token."""
    with torch.no_grad():
        for router in routers(model):
            router.weight.copy_(torch.randn(router.weight.shape, generator=torch.Generator().manual_seed(5)))
            router.weight[:, 0] = 0
            for expert, value in values.items():
                router.weight[expert, 0] = value


def batches() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(2, 60, (4, 9), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(9) < torch.tensor([[9], [6], [3], [8]])).long()
    return [{"input_ids": ids[a : a + 2] * mask[a : a + 2], "attention_mask": mask[a : a + 2]} for a in (0, 2)]


def answers(model: Model) -> torch.Tensor:
    with torch.inference_mode():
        found = [model.module(**b).logits[b["attention_mask"].bool()] for b in batches()]
    return torch.cat(found)


def each(model: Model, value: Any) -> dict[int, Any]:
    """Return the same for every layer that has experts."""
    return {layer: copy.deepcopy(value) for layer in moe.blocks(model)}


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


def twins_(model: Model, groups_of: list[list[int]], rows: bool) -> None:
    """Make the experts of each group the same; the rows of their routers too."""
    with torch.no_grad():
        for part in moe.blocks(model).values():
            for first, *rest in groups_of:
                for other in rest:
                    part.experts.gate_up_proj[other] = part.experts.gate_up_proj[first]
                    part.experts.down_proj[other] = part.experts.down_proj[first]
                    if rows:
                        part.gate.weight[other] = part.gate.weight[first]


def test_a_dense_model_has_no_experts():
    config = AutoConfig.for_model("llama", **{k: v for k, v in BASE.items() if k != "num_experts_per_tok"})
    info = ModelInfo(family="llama", task="causal-lm", source="plain", labels=())
    with pytest.raises(ModelError, match=r"plain .* has no experts"):
        moe.blocks(Model(AutoModelForCausalLM.from_config(config), SimpleNamespace(), info))


@pytest.mark.parametrize("name", NAMES)
def test_usage_counts_real_tokens_only_and_leaves_no_trace(name):
    model = tiny(name)
    model.module.train()
    found = moe.observe(model, [{**b, "targets": b["input_ids"]} for b in batches()])
    assert model.module.training
    assert all(not r._forward_hooks for r in routers(model))
    assert sorted(found) == ([1, 2] if name.startswith("deepseek") else [0, 1])
    for part, u in zip(moe.blocks(model).values(), found.values(), strict=True):
        assert (u.tokens, int(u.counts.sum()), u.inputs.shape) == (26, 52, (26, 32))
        with torch.no_grad():
            logits, weights, chosen = part.gate(u.inputs)
        assert torch.allclose(logits.double().T @ logits.double(), u.gram, rtol=1e-4)
        for e in range(6):
            mine = (chosen == e) * weights
            assert float(u.gates[e]) == pytest.approx(float(mine.sum()), rel=1e-5)
            norm = moe.output(part.experts, e, u.inputs).detach().norm(dim=-1) * mine.sum(-1)
            assert float(u.outputs[e]) == pytest.approx(float(norm.sum()), rel=1e-4)
            assert float(moe.scores(u, "usage")[e]) == pytest.approx(float(mine.sum()) / 26, rel=1e-5)
            sent = max(int((chosen == e).sum()), 1)
            assert float(moe.scores(u, "reap")[e]) == pytest.approx(float(norm.sum()) / sent, rel=1e-4)
            assert float(moe.scores(u, "frequency")[e]) == pytest.approx(int((chosen == e).sum()) / 26)


def test_packed_rows_count_the_same_tokens():
    model = tiny("mixtral")
    ids = batches()[0]["input_ids"][:1]
    packed = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    packed[0, 0, :4, :4] = torch.tril(torch.ones(4, 4)).bool()
    packed[0, 0, 4:7, 4:7] = torch.tril(torch.ones(3, 3)).bool()
    packed[0, 0].fill_diagonal_(True)  # two positions of padding
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 0]])
    together = moe.observe(model, [{"input_ids": ids, "position_ids": places, "attention_mask": packed}])
    alone = moe.observe(model, [{"input_ids": ids[:, a:b]} for a, b in ((0, 4), (4, 7))])
    for layer, u in alone.items():
        assert together[layer].tokens == u.tokens == 7
        assert torch.equal(together[layer].counts, u.counts)
        assert torch.allclose(together[layer].gates, u.gates, rtol=1e-5)


def test_no_tokens_are_no_usage():
    with pytest.raises(ModelError, match="no real tokens"):
        moe.observe(tiny("mixtral"), [])


@pytest.mark.parametrize("name", EXACT)
def test_removing_experts_that_no_token_is_sent_to_changes_nothing(name):
    model = tiny(name)
    favour_(model, {1: -5.0, 4: -5.0})
    used = moe.observe(model, batches())
    assert all(u.counts[[1, 4]].sum() == 0 and (u.counts > 0).sum() >= 3 for u in used.values())
    before = answers(model)
    moe.prune_experts_(model, each(model, [5, 3, 2, 0]))
    assert error(before, answers(model)) < 1e-6
    assert {tuple(r.weight.shape) for r in routers(model)} == {(4, 32)}


def test_the_best_experts_are_those_of_largest_score_and_the_earlier_of_equals():
    model = tiny("mixtral")
    rows = {"gates": [1.0, 5, 2, 5, 0, 2], "counts": [9.0, 1, 8, 1, 7, 1], "outputs": [9.0, 1, 4, 3, 0, 2]}
    told = {name: torch.tensor(values) for name, values in rows.items()}
    used = {i: dataclasses.replace(u, **told) for i, u in moe.observe(model, batches()).items()}
    assert moe.best(used, 3, "usage")[1] == [1, 2, 3]
    assert moe.best(used, 3, "frequency")[0] == [0, 2, 4]
    assert moe.best(used, 2, "reap")[0] == [3, 5]
    with pytest.raises(ModelError, match="7 experts are to stay in layer 0; there are 6"):
        moe.best(used, 7, "usage")


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2", "qwen2_moe"])
def test_where_weights_are_not_normalised_what_goes_must_have_had_no_probability(name):
    likely, never = tiny(name), tiny(name)
    favour_(never, {1: -30.0, 4: -30.0})
    for model, exact in ((likely, False), (never, True)):
        keep = each(model, [0, 2, 3, 5])
        before = answers(model)
        moe.prune_experts_(model, keep)
        assert (error(before, answers(model)) < 1e-6) == exact


@pytest.mark.parametrize("name", NAMES)
def test_attributes_and_configuration_agree_after_removal(name):
    model = tiny(name)
    one = family(name)
    moe.prune_experts_(model, {i: [5, 3, 0] for i in moe.blocks(model)})
    config = model.module.config
    assert (getattr(config, one.experts.count), config.num_experts_per_tok) == (3, 2)
    rebuilt = type(model.module)(config)
    assert {n: t.shape for n, t in rebuilt.state_dict().items()} == {
        n: t.shape for n, t in model.module.state_dict().items()
    }
    for part in moe.blocks(model).values():
        assert part.gate.num_experts == part.experts.num_experts == 3
    assert getattr(model.module, "num_experts", 3) == 3
    assert one.shape(model.module)["experts"][-1] == 3
    if not name.startswith("deepseek"):
        assert model.module(**batches()[0], output_router_logits=True).aux_loss > 0
    rebuilt.load_state_dict(model.module.state_dict())
    fresh = Model(rebuilt.eval(), model.processor, model.info)
    assert error(answers(model), answers(fresh)) < 1e-5
    generated = [model.module.generate(**batches()[0], max_new_tokens=3, use_cache=c) for c in (True, False)]
    assert torch.equal(*generated)


@pytest.mark.parametrize("name", ["mixtral", "olmoe", "deepseek_v2"])
def test_fewer_experts_than_a_token_takes_make_it_take_fewer(name):
    model = tiny(name)
    moe.prune_experts_(model, each(model, [2]))
    assert model.module.config.num_experts_per_tok == 1
    assert all(r.top_k == 1 for r in routers(model))
    assert torch.isfinite(answers(model)).all()
    if name == "mixtral":
        assert model.module.num_experts_per_tok == 1
        assert {part.top_k for part in moe.blocks(model).values()} == {1}


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({0: [0, 1]}, r"layers given are \[0\]; experts are in \[0, 1\]"),
        ({0: [0, 1], 1: [2]}, "2 in layer 0, 1 in layer 1"),
        ({0: [0, 6], 1: [0, 1]}, r"layer 0: experts to keep are \[0, 6\]; there are 0..5"),
        ({0: [0, 0], 1: [0, 1]}, "once each"),
        ({0: [], 1: []}, "at least one"),
    ],
)
def test_an_impossible_choice_of_experts_is_refused_and_changes_nothing(keep, words):
    model = tiny("mixtral")
    before = answers(model)
    with pytest.raises(ModelError, match=words):
        moe.prune_experts_(model, keep)
    assert torch.equal(before, answers(model))


@pytest.mark.parametrize(
    ("name", "more"), [("deepseek_v3", {}), ("deepseek_v2", {"topk_method": "group_limited_greedy"})]
)
def test_groups_that_tokens_are_sent_to_first_stay_alike(name, more):
    model = tiny(name, n_group=2, topk_group=1, n_routed_experts=8, **more)
    favour_(model, {1: -5.0, 6: -5.0})
    used = moe.observe(model, batches())
    same = {i: dataclasses.replace(u, gates=u.gates + torch.arange(8) * 1e-9) for i, u in used.items()}  # no ties
    order = {i: [u.gates[half].argsort(descending=True) for half in (slice(4), slice(4, 8))] for i, u in same.items()}
    kept = {i: sorted([*first[:3].tolist(), *(second[:3] + 4).tolist()]) for i, (first, second) in order.items()}
    assert moe.best(same, 6, "usage") == kept
    with pytest.raises(ModelError, match="give a multiple of 2"):
        moe.best(used, 5, "usage")
    for keep in ([0, 2, 3, 4], *([[0, 4]] if name == "deepseek_v3" else [])):
        with pytest.raises(ModelError, match="routes by 2 groups of 4"):
            moe.prune_experts_(model, each(model, keep))
    with pytest.raises(ModelError, match="which merging mixes"):
        moe.merge_experts_(model, each(model, [[e] for e in range(8)]), {i: u.gates for i, u in used.items()})
    moe.prune_experts_(model, moe.best(used, 4, "usage"))
    assert torch.isfinite(answers(model)).all()


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe"])
def test_merging_equal_experts_changes_nothing_where_every_token_takes_all(name):
    model = tiny(name, num_experts_per_tok=6)
    pairs = [[0, 3], [1, 5], [2, 4]]
    twins_(model, pairs, rows=True)
    before = answers(model)
    weights = {i: torch.arange(6.0) for i in moe.blocks(model)}
    moe.merge_experts_(model, each(model, pairs), weights)
    assert error(before, answers(model)) < 1e-6
    assert model.module.config.num_experts_per_tok == 3


def test_merging_all_experts_that_are_equal_needs_no_equal_routers():
    model = tiny("mixtral", num_experts_per_tok=6)
    twins_(model, [list(range(6))], rows=False)
    before = answers(model)
    used = moe.observe(model, batches())
    moe.merge_experts_(model, each(model, [list(range(6))]), {i: u.gates for i, u in used.items()})
    assert error(before, answers(model)) < 1e-6


def test_merging_weighs_by_usage():
    model = tiny("mixtral")
    old = copy.deepcopy(moe.blocks(model)[1])
    weights = {i: torch.tensor([3.0, 1.0, 0.0, 0.0, 5.0, 1.0]) for i in (0, 1)}
    moe.merge_experts_(model, each(model, [[0, 1], [2, 3], [4], [5]]), weights)
    new = moe.blocks(model)[1]
    for leaf in ("gate_up_proj", "down_proj"):
        was, now = getattr(old.experts, leaf), getattr(new.experts, leaf)
        assert torch.allclose(now[0], 0.75 * was[0] + 0.25 * was[1], atol=1e-7)
        assert torch.allclose(now[1], 0.5 * was[2] + 0.5 * was[3], atol=1e-7)  # none of the two was used
        assert torch.equal(now[2], was[4])
    assert torch.allclose(new.gate.weight[0], 0.75 * old.gate.weight[0] + 0.25 * old.gate.weight[1], atol=1e-7)


def test_least_squares_brings_routing_nearer_to_the_summed_probabilities():
    found = [[0, 1, 2], [3], [4, 5]]
    misses = {}
    for fitted in (False, True):
        model = tiny("mixtral", num_experts_per_tok=6)
        used = moe.observe(model, batches())
        rows = [r.weight.detach().clone() for r in routers(model)]
        weights = {i: u.gates for i, u in used.items()}
        inputs = {i: u.inputs for i, u in used.items()} if fitted else None
        moe.merge_experts_(model, each(model, found), weights, inputs)
        total = 0.0
        for old, router, u in zip(rows, routers(model), used.values(), strict=True):
            router.weight.requires_grad_(False)
            want = torch.stack([(u.inputs @ old.T).softmax(-1)[:, g].sum(-1) for g in found], dim=1)
            total += float((want - (u.inputs @ router.weight.T).softmax(-1)).abs().mean())
        misses[fitted] = total
    assert misses[True] < 0.1 * misses[False]


@pytest.mark.parametrize("found", [[[0, 1], [2, 3]], [[0, 1, 2, 3, 4, 5], []], [[0, 1, 2], [2, 3, 4, 5]]])
def test_groups_must_hold_every_expert_once(found):
    model = tiny("mixtral")
    with pytest.raises(ModelError, match="hold each of 6 experts once"):
        moe.merge_experts_(model, each(model, found), each(model, torch.ones(6)))


def test_experts_join_the_used_one_that_their_router_is_most_like():
    model = tiny("mixtral")
    with torch.no_grad():
        for router in routers(model):
            router.weight[3] = router.weight[0] * 0.9
            router.weight[5] = router.weight[1] * 0.9
    gates = torch.tensor([9.0, 8, 7, 1, 6, 2])
    used = {i: dataclasses.replace(u, gates=gates) for i, u in moe.observe(model, batches()).items()}
    assert moe.similar(used, 4) == each(model, [[0, 3], [1, 5], [2], [4]])


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("how", ["top", "average", "concatenate"])
def test_a_dense_student_answers_like_a_teacher_that_always_takes_one_expert(name, how):
    model = tiny(name, num_experts_per_tok=1)
    favour_(model, {4: 9.0})
    used = moe.observe(model, batches())
    assert all(u.counts[4] == u.tokens for u in used.values())
    student = dense_from_experts(model, used, how, count=1 if how == "concatenate" else 2)
    assert (student.info.family, student.module.config.intermediate_size) == (
        {"mixtral": "mistral"}.get(name, "qwen3"),
        24,
    )
    assert error(answers(model), answers(student)) < 1e-5
    assert student.facts["experts_taken"] == {"0": [4], "1": [4]}


def test_a_dense_student_of_several_experts_is_their_weighted_sum():
    model = tiny("mixtral", num_hidden_layers=1)
    used = moe.observe(model, batches())
    student = dense_from_experts(model, used, "concatenate", count=3)
    assert student.module.config.intermediate_size == 72
    mean = used[0].gates / used[0].tokens
    part = moe.blocks(model)[0].experts
    taken = student.facts["experts_taken"]["0"]
    assert taken == torch.argsort(mean, descending=True)[:3].tolist()
    want = sum(float(mean[e]) * moe.output(part, e, used[0].inputs) for e in taken)
    assert torch.allclose(student.module.model.layers[0].mlp(used[0].inputs), want, atol=1e-5)
    average = dense_from_experts(model, used, "average").module.model.layers[0].mlp
    assert torch.allclose(
        average.up_proj.weight, torch.einsum("e,eij->ij", mean.float(), part.gate_up_proj[:, 24:]), atol=1e-6
    )


@pytest.mark.parametrize("how", ["top", "average"])
def test_a_dense_student_of_one_expert_has_the_mean_weight_of_a_token(how):
    model = tiny("qwen3_moe", norm_topk_prob=False, num_experts_per_tok=1)
    favour_(model, {4: 0.4})  # a weight below one
    used = moe.observe(model, batches())
    student = dense_from_experts(model, used, how)
    for u, part, layer in zip(used.values(), moe.blocks(model).values(), student.module.model.layers, strict=True):
        mean = u.gates / u.tokens
        assert 0.1 < float(mean.sum()) < 0.95
        if how == "top":
            want = float(mean.sum()) * part.experts.down_proj[int(mean.argmax())]
        else:
            want = torch.einsum("e,eij->ij", mean.float(), part.experts.down_proj)
        assert torch.allclose(layer.mlp.down_proj.weight, want, atol=1e-6)


def test_a_dense_student_keeps_the_heads_and_plain_layers_of_a_cut_teacher():
    model = tiny("qwen3_moe", num_hidden_layers=3, num_experts_per_tok=1, mlp_only_layers=[1], intermediate_size=40,
                 sliding_window=4, use_sliding_window=True)  # fmt: skip
    favour_(model, {4: 9.0})
    cut_(model, next(g for g in groups(model) if g.name == "layer.1.heads"), [1])
    cut_(model, next(g for g in groups(model) if g.name == "layer.2.experts.ffn"), range(7))
    student = dense_from_experts(model, moe.observe(model, batches()), "top")
    assert error(answers(model), answers(student)) < 1e-5
    assert student.info.widths == {"layer.0.ffn": 24, "layer.1.heads": 1, "layer.2.ffn": 7}


@pytest.mark.parametrize(
    ("name", "words"), [("olmoe", "norms run over all"), ("deepseek_v3", "latent"), ("qwen2_moe", "shared")]
)
def test_a_mixture_that_no_dense_family_fits_is_refused(name, words):
    model = tiny(name)
    with pytest.raises(ModelError, match=f"{name} has no dense student: .*{words}"):
        dense_from_experts(model, moe.observe(model, batches()), "top")


def test_usage_of_another_model_is_refused():
    model = tiny("mixtral")
    used = moe.observe(model, batches())
    drop_layers_(model, [1])
    with pytest.raises(ModelError, match=r"usage is of layers \[0, 1\]"):
        dense_from_experts(model, used, "top")
    with pytest.raises(ModelError, match="7 experts are to be joined; there are 6"):
        dense_from_experts(tiny("mixtral"), used, "concatenate", count=7)


def test_the_fused_kernel_and_the_plain_way_agree_and_each_is_used_where_it_can_be(monkeypatch):
    part = moe.blocks(tiny("mixtral"))[0].experts
    states = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    chosen = torch.tensor([[0, 3], [3, 1], [5, 0], [2, 3], [0, 1], [4, 5], [3, 0]])
    weights = torch.rand(7, 2, generator=torch.Generator().manual_seed(1))
    found = []
    for how in (mixture.compute, mixture.one_by_one):
        part.zero_grad()
        given = states.clone().requires_grad_()
        how(part, given, chosen, weights).pow(2).sum().backward()
        found.append([given.grad, part.gate_up_proj.grad, part.down_proj.grad, how(part, states, chosen, weights)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    calls: list[str] = []
    monkeypatch.setattr(mixture, "one_by_one", lambda *a: calls.append("plain"))
    mixture.compute(part, states, chosen, weights)
    assert calls == []
    part.gate_up_proj, part.down_proj = (nn.Parameter(p) for p in (part.gate_up_proj[:, :44], part.down_proj[..., :22]))
    mixture.compute(part, states, chosen, weights)
    mixture.compute(part.double(), states.double(), chosen, weights.double())
    assert calls == ["plain"] * 2
