"""Routers found by what they do; which experts speak; routers that learn, and nothing else of the teacher."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from lessen.data.sequences import IGNORE
from lessen.distill.moe import Sar, SarSide, describe, fingerprint, routed, routers, routing
from lessen.distill.moe.sar import uneven
from lessen.distill.sequences import SequenceTeaching
from lessen.distill.sides import AfterStep, Live
from lessen.errors import ModelError, RecipeError, TrainingError
from lessen.models import language, mixture
from lessen.recipe import Distill, Moe
from lessen.runtime import Runtime
from lessen.terms import Batch

CPU = Runtime(torch.device("cpu"), torch.float32)
N = 6
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
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "q_lora_rank": 10,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 8,
    "moe_intermediate_size": 24,
    "n_routed_experts": N,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_hidden_layers": 3,
    "n_group": 1,
    "topk_group": 1,
}
# The width of a shared expert equals the number of experts: its gate_proj has a router's shape.
CHANGEABLE: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": N},
    "qwen2_moe": {"num_experts": N, "moe_intermediate_size": 24, "shared_expert_intermediate_size": N},
    "qwen3_moe": {"num_experts": N, "moe_intermediate_size": 24, "norm_topk_prob": True, "head_dim": 6},
    "olmoe": {"num_experts": N},
    "deepseek_v2": {**LATENT, "routed_scaling_factor": 2.5},
    "granitemoe": {"num_local_experts": N},
}
FIXED: dict[str, dict[str, Any]] = {
    "deepseek_v3": LATENT,
    "phimoe": {"num_local_experts": N},
    "jetmoe": {"num_local_experts": N, "kv_channels": 8},
}


def tiny(name: str, seed: int = 0, **more: Any) -> Any:
    """Build a tiny language model whose routers differ between tokens."""
    config = AutoConfig.for_model(name, **{**BASE, **{**CHANGEABLE, **FIXED}.get(name, {}), **more})
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.15 * torch.randn_like(parameter))
    return module.eval()


def model(module: nn.Module) -> Any:
    """Return what stands for a Model: its tokenizer has 60 tokens."""
    return SimpleNamespace(module=module, processor=SimpleNamespace(vocab_size=60))


def batch(seed: int = 0, rows: int = 3, width: int = 9) -> Batch:
    ids = torch.randint(3, 60, (rows, width), generator=torch.Generator().manual_seed(seed))
    lengths = torch.arange(rows)[:, None] % 3
    mask = (torch.arange(width) < width - 2 * lengths).long()
    labels = torch.where((mask == 1) & (torch.arange(width) > 2), ids.roll(-1, 1), IGNORE)
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    return Batch(inputs, labels, np.arange(rows), 0, None, float((labels != IGNORE).sum()))


def states(module: nn.Module, given: Batch) -> torch.Tensor:
    with torch.no_grad():
        return language.states(module, given.inputs)


def blocks(module: nn.Module) -> list[tuple[Any, Any]]:
    """Return (router, experts) by their attributes: what the tests know, the code does not."""
    found = []
    for part in module.modules():
        if isinstance(getattr(part, "experts", None), nn.Module):
            router = getattr(part, "gate", None) or getattr(part, "router", None)
            if router is not None:
                found.append((router, part.experts))
    return found


@pytest.mark.parametrize("name", [*CHANGEABLE, *FIXED])
def test_routers_are_found_with_their_count_and_shape(name):
    module = tiny(name).train()
    before = torch.get_rng_state()
    found = routers(module)
    assert module.training
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    layers = [1, 2] if name.startswith("deepseek") else [0, 0, 1, 1] if name == "jetmoe" else [0, 1]
    assert [r.layer for r in found] == layers
    assert [r.path for r in found if "proj" in r.path or "shared" in r.path] == []
    assert {(r.experts, r.top_k, r.shape) for r in found} == {(N, 2, (N, 32))}
    assert {tuple(p.shape) for r in found for p in r.parameters.values()} == {(N, 32)}
    assert describe(found) == f"{len(layers)} routers of 6 experts, [6, 32] each, top-2"
    if name != "jetmoe":
        assert [r.module for r in found] == [router for router, _ in blocks(module)]


def test_the_description_tells_different_routers_apart():
    found = routers(tiny("mixtral", num_local_experts=4))
    more = [*found, replace(found[0], experts=8, shape=(8, 32), top_k=1)]
    assert describe(more) == "2 routers of 4 experts, [4, 32] each, top-2; 1 router of 8 experts, [8, 32], top-1"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_dense_model_has_none_though_it_has_a_gate_proj(name):
    module = tiny(name, intermediate_size=N)
    assert name == "gpt2" or tuple(module.model.layers[0].mlp.gate_proj.weight.shape) == (N, 32)
    with pytest.raises(ModelError, match=rf"{name} has no routers.*; use router: null"):
        routers(module)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("how", ["all", "ka"])
def test_what_is_no_softmax_of_logits_is_refused(name, how):
    module = tiny(name)
    with pytest.raises(ModelError, match=r"router .*; use router: frozen"), routing(module, how):
        pass
    with routing(module, "frozen"):
        assert torch.isfinite(states(module, batch())).all()


def test_switch_routers_are_found_and_refused():
    config = AutoConfig.for_model(
        "switch_transformers", d_model=32, d_kv=8, d_ff=24, num_layers=2, num_heads=4, num_experts=N, vocab_size=60,
        num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, expert_capacity=4, decoder_start_token_id=0,
    )  # fmt: skip
    found = routers(AutoModelForSeq2SeqLM.from_config(config))
    assert describe(found) == "2 routers of 6 experts, [6, 32] each, top-1"
    assert all("does not answer" in str(r.refusal) for r in found)


def test_router_factors_are_measured():
    assert {(r.normalized, round(r.scale, 5)) for r in routers(tiny("deepseek_v2"))} == {(False, 2.5)}
    assert {(r.normalized, r.scale) for r in routers(tiny("mixtral"))} == {(True, 1.0)}
    assert {(r.normalized, r.scale) for r in routers(tiny("qwen2_moe"))} == {(False, 1.0)}


def recorded(module: Any, given: Batch) -> list[tuple[torch.Tensor, ...]]:
    """Return (states, weights, chosen, output) of each experts module in one pass."""
    seen: list[Any] = []
    handles = [
        experts.register_forward_hook(lambda part, args, out: seen.append((args[0], args[2], args[1], out)))
        for _, experts in blocks(module)
    ]
    with torch.no_grad():
        module(**given.inputs)
    for handle in handles:
        handle.remove()
    return seen


def expert(experts: Any, index: int, x: torch.Tensor) -> torch.Tensor:
    gate, up = (x @ experts.gate_up_proj[index].T).chunk(2, dim=-1)
    return (experts.act_fn(gate) * up) @ experts.down_proj[index].T


@pytest.mark.parametrize("name", CHANGEABLE)
def test_all_experts_speak_as_a_dense_mixture_by_hand(name):
    module = tiny(name)
    scale = 2.5 if name == "deepseek_v2" else 1.0
    with routing(module, "all"):
        seen = recorded(module, batch())
    assert len(seen) == 2
    for (router, experts), (x, _, chosen, out) in zip(blocks(module), seen, strict=True):
        p = scale * (x @ router.weight.T).softmax(dim=-1)
        by_hand = sum(p[:, e, None] * expert(experts, e, x) for e in range(N))
        assert chosen.shape == (27, N)
        assert torch.allclose(out, by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CHANGEABLE)
def test_ka_without_draws_is_the_top_n_minus_1_by_hand(name):
    module = tiny(name)
    scale = 2.5 if name == "deepseek_v2" else 1.0
    with routing(module, "ka", sample_frac=0.0):
        seen = recorded(module, batch())
    for (router, experts), (x, _, _, out) in zip(blocks(module), seen, strict=True):
        h = x @ router.weight.T
        masked = h.masked_fill(h == h.min(dim=1, keepdim=True).values, -torch.inf)
        p = scale * masked.softmax(dim=-1)
        by_hand = sum(p[:, e, None] * expert(experts, e, x) for e in range(N))
        assert torch.allclose(out, by_hand, rtol=1e-4, atol=1e-5)


def answered(logits: list[float], how: Any, tokens: int, sample_frac: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and experts of tokens whose first router has these logits."""
    module = tiny("mixtral", num_local_experts=len(logits))
    found = routers(module)[:1]
    x = torch.zeros(tokens, 32)
    x[:, 0] = 1
    with torch.no_grad():
        found[0].module.weight[:, 0] = torch.tensor(logits)
        with routing(module, how, sample_frac=sample_frac, found=found):
            _, weights, chosen = found[0].module(x)
    return weights, chosen


def test_ka_draws_sets_as_often_as_sampling_without_replacement():
    p = torch.tensor([0.5, 0.3, 0.2])
    torch.manual_seed(0)
    weights, chosen = answered(p.log().tolist(), "ka", 40_000, 1.0)
    missing = 3 - chosen.sum(dim=1)
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(weights)))
    for e in range(3):
        a, b = (i for i in range(3) if i != e)
        want = float(p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]))
        assert float((missing == e).float().mean()) == pytest.approx(want, abs=4 * math.sqrt(want * (1 - want) / 4e4))
    rows = missing == 0  # experts 1 and 2 speak, as their logits say
    assert torch.allclose(weights[rows].sort(dim=1).values, torch.tensor([[0.4, 0.6]]))


def test_ka_draws_for_the_share_of_tokens_asked_for():
    torch.manual_seed(0)
    _, chosen = answered([0.0, 0.0, 0.0, -1e-3], "ka", 20_000, 0.2)
    top = (chosen.sum(dim=1) == 3).float().mean()  # 0 + 1 + 2
    assert float(top) == pytest.approx(0.8 + 0.2 / 4, abs=0.012)


def test_draws_follow_the_seed_and_differ_by_token_layer_and_pass():
    module, given = tiny("mixtral"), batch()
    found = routers(module)

    def passed(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        with routing(module, "ka", sample_frac=1.0, found=found):
            return [chosen.sum(dim=1) for _ in range(2) for _, _, chosen, _ in recorded(module, given)]

    first, again, other = passed(1), passed(1), passed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert len(set(first[0].tolist())) > 1


def test_far_apart_logits_are_drawn_from_without_an_error():
    torch.manual_seed(0)
    weights, chosen = answered([0.0, -200.0, -300.0, -400.0], "ka", 50, 1.0)
    assert torch.isfinite(weights).all()
    assert set(chosen.sum(dim=1).tolist()) == {3}


@pytest.mark.parametrize("how", ["all", "ka"])
def test_the_model_is_as_before_afterwards_and_after_an_error(how):
    module, given = tiny("qwen2_moe"), batch()
    other = copy.deepcopy(module)
    before = states(module, given)
    with routing(module, how):
        changed = states(module, given)
        assert torch.equal(states(other, given), before)  # another model of the class
    assert not torch.allclose(changed, before, atol=1e-4)
    assert torch.equal(states(module, given), before)
    with pytest.raises(ValueError, match="inside"), routing(module, how):
        raise ValueError("inside")
    assert torch.equal(states(module, given), before)
    with routing(module, "frozen"):
        assert torch.equal(states(module, given), before)


def test_an_unknown_way_is_refused():
    module = tiny("mixtral")
    with pytest.raises(RecipeError, match="frozen, all, ka"), routing(module, "some"):  # type: ignore[arg-type]
        pass
    with pytest.raises(RecipeError, match=r"sample_frac 1\.5"), routing(module, "ka", sample_frac=1.5):
        pass


def test_a_recipe_opens_its_routing():
    module, given = tiny("mixtral"), batch()
    found, opens = routed(module, Distill(router="sar"))
    with routing(module, "all"):
        want = states(module, given)
    with opens():
        assert torch.equal(states(module, given), want)
    assert len(found) == 2
    with pytest.raises(ModelError, match=r"distill\.router is sar"):
        routed(tiny("deepseek_v3"), Distill(router="sar"))


def test_ka_passes_are_averaged_into_one_loss():
    teacher, student, given = tiny("mixtral"), tiny("llama", seed=1), batch()
    cfg = Distill(router="ka", alpha=1.0, temperature=1.0, objective="kl", moe=Moe(sample_frac=1.0, passes=2))
    _, opens = routed(teacher, cfg)

    def loss(passes: int, seed: int) -> float:
        side = Live(model(teacher), CPU, routing=opens, passes=passes)
        shares: Any = SimpleNamespace(due=lambda epoch: False)
        torch.manual_seed(seed)
        return float(SequenceTeaching(cfg, model(student), side, shares)(student, given)["soft"].values.detach())

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = loss(1, 3)
    with opens():
        torch.set_rng_state(state)
        states(teacher, given)
        second_state = torch.get_rng_state()
        last = states(teacher, given)
    torch.set_rng_state(second_state)
    p = (last[given.labels != IGNORE] @ teacher.lm_head.weight.T).log_softmax(-1)
    q = (states(student, given)[given.labels != IGNORE] @ student.lm_head.weight.T).log_softmax(-1)
    second = float((p.exp() * (p - q)).sum().detach())
    assert first != pytest.approx(second, rel=1e-4)
    assert loss(2, 3) == pytest.approx((first + second) / 2, rel=1e-5)


def sar(teacher: Any, **settings: Any) -> Sar:
    return Sar(model(teacher), Moe(**{"clip_norm": 0.0, "balance": 0.0, **settings}), CPU, chunk=5)


def student_of(seed: int = 1) -> tuple[Any, Any]:
    student = tiny("llama", seed=seed)
    return student, language.head(model(student))


def kl_by_hand(teacher: Any, student: Any, given: Batch) -> torch.Tensor:
    chosen = given.labels != IGNORE
    p = teacher(**given.inputs).logits[chosen].log_softmax(-1)
    with torch.no_grad():
        q = student(**given.inputs).logits[chosen].log_softmax(-1)
    return (p.exp() * (p - q)).sum(dim=-1).mean()


@pytest.mark.parametrize("name", CHANGEABLE)
def test_sar_reaches_the_routers_and_nothing_else(name):
    teacher, given = tiny(name), batch()
    student, head = student_of()
    made = sar(teacher, balance=0.01)
    before = {n: p.detach().clone() for n, p in teacher.named_parameters()}
    ours = {n: p.detach().clone() for n, p in student.named_parameters()}
    learning: set[str] = set()
    named = dict(teacher.named_parameters())
    handle = teacher.model.register_forward_pre_hook(
        lambda *_: learning.update(n for n, p in named.items() if p.requires_grad)
    )
    gradients, _ = made.gradients(student, head, [given])
    assert all(bool((g.abs().sum(dim=1) > 0).all()) for g in gradients)  # every expert's row
    made.update(student, head, [given])
    handle.remove()
    paths = {n for r in made.found for n in r.parameters}
    assert learning == paths
    assert len(paths) == 2
    assert {n for n, p in named.items() if not torch.equal(p, before[n])} == paths
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.grad is None and torch.equal(p, ours[n]) for n, p in student.named_parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert not list(made.parameters())  # nothing for the student's optimizer


def test_the_gradient_is_that_of_the_papers_equation_9():
    teacher, given = tiny("mixtral").double(), batch()
    mixture.use_(teacher)  # the fused kernel knows no float64
    student, _ = student_of()
    student = student.double()
    made = sar(teacher)
    gradients, values = made.gradients(student, language.head(model(student)), [given])
    weights = [r.module.weight.requires_grad_(True) for r in made.found]
    with routing(teacher, "all"):
        loss = kl_by_hand(teacher, student, given)
    want = torch.autograd.grad(loss, weights)
    assert values["kl"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for got, right in zip(gradients, want, strict=True):
        assert torch.allclose(got.double(), right, rtol=1e-4, atol=1e-8)


def test_the_other_direction_is_another_gradient():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    other = Sar(model(teacher), Moe(), CPU, objective="reverse_kl")
    with routing(teacher, "all"), torch.no_grad():
        p = teacher(**given.inputs).logits[given.labels != IGNORE].log_softmax(-1)
        q = student(**given.inputs).logits[given.labels != IGNORE].log_softmax(-1)
    want = float((q.exp() * (q - p)).sum(dim=-1).mean())
    assert other.gradients(student, head, [given])[1]["kl"] == pytest.approx(want, rel=1e-4)
    with pytest.raises(RecipeError, match="kl or reverse_kl"):
        Sar(model(teacher), Moe(), CPU, objective="tvd")


def regular(teacher: Any, given: Batch, term: str) -> torch.Tensor:
    """Return balance or entropy by hand, with a graph."""
    seen: list[Any] = []
    with routing(teacher, "all", see=lambda router, logits, chosen: seen.append((logits, chosen))):
        teacher(**given.inputs)
    real = given.inputs["attention_mask"].bool().reshape(-1)
    total = torch.zeros(())
    for logits, chosen in seen:
        p = logits[real].softmax(dim=-1)
        if term == "balance":
            big, sent = p.sum(0), torch.nn.functional.one_hot(chosen[real], N).sum((0, 1)).float()
            total = total + big.var(correction=0) / big.mean() ** 2 + sent.var(correction=0) / sent.mean() ** 2
        else:
            total = total + (p * p.log()).sum(dim=-1).mean()
    return total


@pytest.mark.parametrize("term", ["balance", "entropy"])
def test_balance_and_entropy_have_a_real_gradient(term):
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    plain, _ = sar(teacher).gradients(student, head, [given])
    made = sar(teacher, **{term: 3.0})
    got, values = made.gradients(student, head, [given])
    weights = [r.module.weight.requires_grad_(True) for r in made.found]
    loss = regular(teacher, given, term)
    want = torch.autograd.grad(loss, weights)
    assert values[term] == pytest.approx(abs(float(loss.detach())), rel=1e-5)
    for a, b, right in zip(got, plain, want, strict=True):
        assert float(right.abs().max()) > 1e-4
        assert torch.allclose(a - b, 3 * right, rtol=1e-3, atol=1e-6)


def test_the_anchor_pulls_back_to_the_first_routers():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    made = sar(teacher, anchor=5.0)
    plain, _ = sar(teacher).gradients(student, head, [given])
    same, values = made.gradients(student, head, [given])
    assert values["anchor"] == 0
    assert torch.equal(same[0], plain[0])
    moved = made.get_buffer("weight0")
    moved += 0.1
    got, values = made.gradients(student, head, [given])
    assert torch.allclose(got[0] - plain[0], torch.full_like(moved, 5 * 2 * 0.1 / moved.numel()), rtol=1e-3)
    assert values["anchor"] == pytest.approx(0.01, rel=1e-4)


def test_unevenness_is_the_squared_coefficient_of_variation():
    assert float(uneven(torch.tensor([1.0, 3.0]))) == 0.25
    assert float(uneven(torch.zeros(4))) == 0


def test_how_a_step_is_cut_changes_nothing():
    student, head = student_of()
    whole = batch(rows=4)
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        inputs = {k: v[rows] for k, v in whole.inputs.items()}
        parts.append(Batch(inputs, whole.labels[rows], whole.rows[rows], 0))
    settings = {"balance": 1.0, "entropy": 1.0}
    one, first = sar(tiny("mixtral"), **settings).gradients(student, head, [whole])
    two, second = sar(tiny("mixtral"), **settings).gradients(student, head, parts)
    assert first == pytest.approx(second, rel=1e-5)
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_padding_counts_nowhere():
    student, head = student_of()
    given = batch()
    grown = {k: torch.nn.functional.pad(v, (0, 5)) for k, v in given.inputs.items()}
    labels = torch.nn.functional.pad(given.labels, (0, 5), value=IGNORE)
    settings = {"balance": 1.0, "entropy": 1.0}
    one, first = sar(tiny("mixtral"), **settings).gradients(student, head, [given])
    two, second = sar(tiny("mixtral"), **settings).gradients(
        student, head, [Batch(grown, labels, given.rows, given.epoch)]
    )
    assert first == pytest.approx(second, rel=1e-5)
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_steps_lower_the_loss_and_modes_come_back():
    teacher, given = tiny("qwen3_moe"), batch()
    student, head = student_of()
    student.train()
    made = sar(teacher, router_lr=0.02)
    values = [made.update(student, head, [given])["kl"] for _ in range(12)]
    assert values[-1] < 0.97 * values[0]
    assert values[1] < values[0]
    assert student.training
    assert not teacher.training


def test_dropout_of_the_student_does_not_teach_the_routers():
    given = batch()
    student = tiny("llama", seed=1, attention_dropout=0.5)
    head = language.head(model(student))
    quiet, first = sar(tiny("mixtral")).gradients(student, head, [given])
    student.train()
    loud, second = sar(tiny("mixtral")).gradients(student, head, [given])
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(quiet, loud, strict=True))
    assert student.training


def test_the_step_is_adamws_and_is_bounded():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    made = sar(teacher, router_lr=0.01, clip_norm=1e-3)
    copies = [nn.Parameter(p.detach().clone()) for p in made.parameters_.values()]
    reference = torch.optim.AdamW(copies, lr=0.01, weight_decay=0.0)
    for _ in range(3):
        gradients, _ = made.gradients(student, head, [given])
        for one, gradient in zip(copies, gradients, strict=True):
            one.grad = gradient.clone()
        nn.utils.clip_grad_norm_(copies, 1e-3)
        reference.step()
        assert made.update(student, head, [given])["grad_norm"] > 1e-3
        for one, kept in zip(copies, made.parameters_.values(), strict=True):
            assert torch.allclose(one, kept, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_holds_all_and_a_resumed_run_is_the_same():
    given = [batch(seed=s) for s in range(4)]
    student, head = student_of()
    whole = sar(tiny("mixtral"), router_lr=0.01, balance=0.1)
    for one in given:
        whole.update(student, head, [one])
    first = sar(tiny("mixtral"), router_lr=0.01, balance=0.1)
    for one in given[:2]:
        first.update(student, head, [one])
    saved = {k: v.clone() for k, v in nn.ModuleDict({"attachment0": first}).state_dict().items()}
    teacher = tiny("mixtral")
    second = sar(teacher, router_lr=0.01, balance=0.1)
    start = second.fingerprint()
    nn.ModuleDict({"attachment0": second}).load_state_dict(saved)
    assert second.fingerprint() == first.fingerprint() != start
    assert fingerprint(second.found) == first.fingerprint()  # the teacher's own weights
    for one in given[2:]:
        second.update(student, head, [one])
    assert second.fingerprint() == whole.fingerprint()
    assert int(second.updates) == 4
    assert second.facts()["moved"] == pytest.approx(whole.facts()["moved"])
    assert min(second.facts()["moved"].values()) > 0


def test_small_steps_are_not_lost_in_half_precision():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    half = tiny("mixtral").bfloat16()
    made = sar(half, router_lr=1e-5)
    for _ in range(3):
        made.update(student.bfloat16(), replace(head, weight=student.lm_head.weight), [given])
    assert made.get_buffer("weight0").dtype == torch.float32
    assert min(made.facts()["moved"].values()) > 0
    assert half.model.layers[0].mlp.gate.weight.dtype == torch.bfloat16
    assert teacher is not half


def test_a_loss_that_is_not_finite_changes_nothing():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    made = sar(teacher)
    before = made.fingerprint()
    with torch.no_grad():
        student.lm_head.weight[5] = float("nan")
    with pytest.raises(TrainingError, match=r"update 1: kl, grad_norm is not finite"):
        made.update(student, head, [given])
    assert made.fingerprint() == before
    assert int(made.updates) == 0
    assert not any(p.requires_grad for p in teacher.parameters())


class Spy(nn.Module):
    """Says where a teacher was, in order."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.said = inner, []
        self.config, self.base_model, self.get_output_embeddings = inner.config, inner.base_model, lambda: inner.lm_head

    def to(self, device: Any) -> Any:  # type: ignore[override]
        self.said.append(str(device))
        return self


def test_an_offloaded_teacher_leaves_after_the_whole_step_only():
    inner, given = tiny("mixtral"), batch()
    student, head = student_of()
    spy = Spy(inner)
    found, opens = routed(inner, Distill(router="sar"))
    made = Sar(model(spy), Moe(), CPU, found=found)
    live = Live(model(spy), replace(CPU, device=torch.device("cpu", 0)), routing=opens, offload=True)
    side = SarSide(made, live, head)
    teaching = SequenceTeaching(
        Distill(alpha=1.0, temperature=1.0), model(student), side, SimpleNamespace(due=lambda epoch: False)
    )  # fmt: skip
    inner.register_forward_hook(lambda *_: spy.said.append("forward"))
    inner.model.register_forward_hook(lambda *_: spy.said.append("forward"))
    made.write_ = lambda: spy.said.append("updated")  # type: ignore[method-assign]
    (ready,) = teaching.prepare(student, [given], 0)
    teaching(student, ready)["soft"].values.sum().backward()
    spy.said.append("backward")
    AfterStep(live.after_step).after_step(1, 1, 1)
    assert spy.said == ["cpu:0", "forward", "updated", "forward", "backward", "cpu"]


def test_frozen_routers_learn_no_more_and_answer_from_a_cache():
    teacher, given = tiny("mixtral"), batch()
    student, head = student_of()
    made = sar(teacher, freeze_after=2, router_lr=0.01)
    _, opens = routed(teacher, Distill(router="sar"))
    asked: list[str] = []

    def stored(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(prepare=lambda module, batches, step: list(batches))

    side = SarSide(made, Live(model(teacher), CPU, routing=opens), head, stored)
    prints = []
    for step in range(4):
        assert made.frozen == (step >= 2)
        side.prepare(student, [given], step)
        prints.append(made.fingerprint())
    assert len(set(prints[:2])) == 2
    assert prints[1] == prints[2] == prints[3]
    assert asked == [prints[1]]
    assert side.last is not None
    assert side.last["kl"] > 0
    side.stored = side._then = None  # nothing to answer from: the teacher goes on, its routers stay
    side.prepare(student, [given], 4)
    assert made.fingerprint() == prints[1]


def test_the_fingerprint_tells_routers_apart():
    teacher = tiny("mixtral")
    first = fingerprint(routers(teacher))
    assert first == fingerprint(routers(copy.deepcopy(teacher))) != fingerprint(routers(tiny("mixtral", seed=2)))
    with torch.no_grad():
        teacher.model.layers[0].mlp.experts.down_proj += 1
        assert fingerprint(routers(teacher)) == first
        teacher.model.layers[1].mlp.gate.weight[0, 0] += 1e-3
        assert fingerprint(routers(teacher)) != first


def test_a_router_that_reads_nothing_is_refused():
    module = tiny("mixtral")
    with torch.no_grad():
        module.model.layers[1].mlp.gate.weight.zero_()
    with pytest.raises(ModelError, match=r"layers\.1\..*the same logit"):
        partial(routing, module, "all")().__enter__()
