"""The fused loss of a language model's head. Requirement numbers are those of the design's list for distillation."""

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from lessen import plugins
from lessen.distill.tokens import linear
from lessen.distill.tokens.linear import DenseTeacher, fused_loss, token_objectives
from lessen.distill.tokens.targets import SparseTargets, entropy, sampled, top_k
from lessen.errors import ModelError, RecipeError, TrainingError
from lessen.models.language import Head

VOCAB, WIDTH, ROWS = 23, 8, 11
TRUNCATES = [n for n in token_objectives() if n != "mse"]  # mse compares logits


@dataclass
class Plain:
    """A head, and its logits written out."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    vocab: int = VOCAB

    def logits(self, states):
        bias = None if self.bias is None else self.bias[: self.vocab]
        z = self.scale * functional.linear(states, self.weight[: self.vocab], bias)
        return z if self.softcap is None else self.softcap * torch.tanh(z / self.softcap)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def student(dtype=torch.float32, **more):
    """Return states, a head with two rows of padding, and labels of which two are not supervised."""
    states = draw(ROWS, WIDTH, seed=1, dtype=dtype).requires_grad_()
    weight = draw(VOCAB + 2, WIDTH, seed=2, dtype=dtype).requires_grad_()
    labels = torch.randint(0, VOCAB, (ROWS,), generator=torch.Generator().manual_seed(3))
    labels[2] = labels[7] = -100
    return states, Plain(weight, **more), labels


def told(dtype=torch.float32):
    return DenseTeacher(draw(ROWS, 6, seed=4, dtype=dtype), Plain(1.5 * draw(VOCAB, 6, seed=5, dtype=dtype)))


def all_logits(teacher):
    return teacher.head.logits(teacher.states)


def parameters(states, head):
    return [t for t in (states, head.weight, head.bias) if t is not None]


def written_out(objective, states, head, labels, teacher_logits, alpha, temperature):
    """The whole batch's logits, the objective's dense loss, autograd."""
    rows = labels != -100
    z, y = head.logits(states)[rows], labels[rows]
    hard = functional.cross_entropy(z, y, reduction="sum")
    file = plugins.find("distill.objectives", objective)
    soft = file.loss(z, teacher_logits[rows], y, temperature=temperature, sigmoid=False).sum()
    total = (1 - alpha) * hard + alpha * soft
    return total, hard, soft, torch.autograd.grad(total, parameters(states, head))


def same(found, states, head, wanted):
    total, hard, soft, grads = wanted
    torch.testing.assert_close(found.total, total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.ce, hard.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.soft, soft.detach(), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found.total, parameters(states, head)), grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", token_objectives())
def test_r09_dense_chunked_and_sparse_with_the_whole_vocabulary_agree_in_value_and_gradient(objective, monkeypatch):
    """R9, R10: also with bias, scale, softcap and padding rows, for each alpha and temperature, some rows at a time."""
    monkeypatch.setattr(linear, "CELLS", 3 * VOCAB)
    bias = draw(VOCAB + 2, seed=6).requires_grad_()
    teacher = told()
    for more, alpha, temperature in product(
        ({}, {"bias": bias, "scale": 0.7, "softcap": 3.0}), (0.3, 1.0), (0.5, 1.0, 2.0)
    ):
        states, head, labels = student(**more)
        wanted = written_out(objective, states, head, labels, all_logits(teacher), alpha, temperature)
        settings = {"objective": objective, "alpha": alpha, "temperature": temperature}
        for chunk in (1, 4, 64):
            same(fused_loss(states, head, labels, teacher=teacher, chunk=chunk, **settings), states, head, wanted)
        if objective in TRUNCATES:
            whole = top_k(all_logits(teacher), VOCAB)
            same(fused_loss(states, head, labels, teacher=whole, chunk=4, **settings), states, head, wanted)


def test_labels_alone_are_the_cross_entropy():
    states, head, labels = student(softcap=2.0)
    found = fused_loss(states, head, labels, chunk=4)
    want = functional.cross_entropy(head.logits(states), labels, reduction="sum")
    torch.testing.assert_close(found.total, want)
    assert (found.tokens, float(found.soft)) == (9, 0.0)
    for ours, theirs in zip(
        torch.autograd.grad(found.total, parameters(states, head)),
        torch.autograd.grad(want, parameters(states, head)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_r10_the_logits_are_those_of_the_models_own_head():
    """R10: padding rows, bias, scale and softcap mean what they mean in models/language.py."""
    states, _, labels = student()
    head = Head(draw(VOCAB + 2, WIDTH, seed=2).requires_grad_(), draw(VOCAB + 2, seed=6), 0.7, 3.0, VOCAB)
    want = functional.cross_entropy(head.logits(states), labels, reduction="sum")
    found = fused_loss(states, head, labels, chunk=4)
    torch.testing.assert_close(found.total, want)
    ours, theirs = (torch.autograd.grad(x, (states, head.weight)) for x in (found.total, want))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (ours[1][VOCAB:] == 0).all()


def test_settings_reach_the_objective():
    states, head, labels = student()
    teacher = told()
    for objective, setting in (("jsd", "beta"), ("skew_kl", "skew"), ("skew_reverse_kl", "skew")):
        file = plugins.find("distill.objectives", objective)
        rows = labels != -100
        want = file.loss(
            head.logits(states)[rows],
            all_logits(teacher)[rows],
            labels[rows],
            temperature=1.0,
            sigmoid=False,
            **{setting: 0.3},
        ).sum()
        for targets in (teacher, top_k(all_logits(teacher), VOCAB)):
            found = fused_loss(states, head, labels, objective=objective, alpha=1.0, teacher=targets, **{setting: 0.3})
            torch.testing.assert_close(found.total, want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("objective", TRUNCATES)
def test_gradients_equal_finite_differences_in_float64(objective):
    """R6: against dense, truncated (K = 5) and softened truncated targets, with bias, scale and softcap."""
    states, _, labels = student(torch.float64)
    weight, bias = draw(9, WIDTH, seed=2, dtype=torch.float64), draw(9, seed=6, dtype=torch.float64)
    states, labels = states[:4], labels[:4] % 7
    teacher = DenseTeacher(draw(4, 6, seed=4).double(), Plain(draw(9, 6, seed=5).double(), vocab=7))
    logits = all_logits(teacher)
    for targets, temperature in ((teacher, 2.0), (top_k(logits, 3), 1.0), (top_k(logits, 3), 2.0)):

        def total(s, w, b, targets=targets, temperature=temperature):
            head = Plain(w, b, 0.6, 4.0, vocab=7)
            return fused_loss(
                s,
                head,
                labels,
                objective=objective,
                alpha=0.6,
                temperature=temperature,
                teacher=targets,
                chunk=3,
                keep=True,
            ).total

        inputs = [x.detach().clone().requires_grad_() for x in (states, weight, bias)]
        assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("objective", TRUNCATES)
def test_r03_a_student_that_says_what_the_teacher_says_costs_nothing_and_stays(objective):
    """R3: dense, truncated and softened truncated."""
    states, head, labels = student()
    logits = head.logits(states).detach()
    same_head = Plain(head.weight.detach())
    for temperature, targets in product(
        (1.0, 3.0), (DenseTeacher(states.detach(), same_head), top_k(logits, VOCAB), top_k(logits, 4))
    ):
        found = fused_loss(
            states, head, labels, objective=objective, alpha=1.0, temperature=temperature, teacher=targets, chunk=4
        )
        assert abs(float(found.total.detach())) < 2e-5
        for grad in torch.autograd.grad(found.total, parameters(states, head)):
            assert grad.abs().max() < 2e-5


@pytest.mark.parametrize("objective", TRUNCATES)
def test_r26_truncated_targets_are_a_distribution_over_k_tokens_and_a_tail(objective):
    """R26: never negative, never above the whole divergence, value as written out over K + 1 buckets."""
    states, head, labels = student()
    teacher = told()
    rows, logits = labels != -100, all_logits(told())
    file = plugins.find("distill.objectives", objective)
    whole = written_out(objective, states, head, labels, logits, 1.0, 1.0)[2]
    before = 0.0
    for k in (1, 4, 12, VOCAB):
        targets = top_k(logits, k)
        found = fused_loss(states, head, labels, objective=objective, alpha=1.0, teacher=targets, chunk=4)
        p, q = (torch.softmax(z[rows].double(), 1) for z in (logits, head.logits(states)))
        p, q = (torch.cat([x.gather(1, targets.index[rows]), 1 - x.gather(1, targets.index[rows]).sum(1, True)], 1)
                for x in (p, q))  # fmt: skip
        if k < VOCAB:
            want = file.between(p.log().float(), q.log().float()).sum()
            torch.testing.assert_close(found.soft, want, rtol=1e-4, atol=1e-5)
        assert before - 1e-5 <= float(found.soft) <= float(whole.detach()) + 1e-4
        before = float(found.soft)
    assert before == pytest.approx(float(whole.detach()), rel=1e-5)
    assert teacher.head.vocab == VOCAB


def test_r26_a_tiny_tail_of_the_student_is_neither_lost_nor_noise():
    """R26: what is outside the K tokens has probability 1e-60; 1 − mass would be 0 in fp32, its logarithm −inf."""
    weight = torch.eye(4)
    states = torch.tensor([[70.0, 69.0, -70.0, -70.0]], requires_grad=True)
    targets = SparseTargets(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.4]]).log(), torch.tensor([0.1]).log())
    found = fused_loss(states, Plain(weight, vocab=4), torch.tensor([0]), alpha=1.0, teacher=targets)
    log_q = torch.log_softmax(states.detach().double(), 1)[0]
    tail = log_q[2:].logsumexp(0)
    p = torch.tensor([0.5, 0.4, 0.1], dtype=torch.float64)
    want = (p * (p.log() - torch.stack([log_q[0], log_q[1], tail]))).sum()
    torch.testing.assert_close(found.soft.double(), want, rtol=1e-5, atol=0)
    (grad,) = torch.autograd.grad(found.total, states)
    q = log_q.exp()
    torch.testing.assert_close(
        grad[0].double(), torch.stack([q[0] - 0.5, q[1] - 0.4, q[2] - 0.05, q[3] - 0.05]), rtol=1e-5, atol=1e-6
    )


def test_r26_top_k_keeps_the_likeliest_and_the_mass_of_the_rest():
    logits = all_logits(told())
    p = torch.softmax(logits, 1)
    kept = top_k(logits, 4)
    torch.testing.assert_close(kept.log_p.exp(), p.topk(4).values)
    torch.testing.assert_close(kept.tail.exp(), 1 - kept.mass)
    assert (kept.log_p.dtype, kept.index.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(entropy(logits), -(p * p.log()).sum(1))
    far = top_k(torch.tensor([[200.0, 0.0, 0.0]]), 1)
    torch.testing.assert_close(far.tail, torch.tensor([2.0]).log() - 200)


@pytest.mark.parametrize("objective", TRUNCATES)
def test_r01_tokens_that_neither_side_allows_change_nothing(objective):
    """R1: padding rows of the head, and logits of −inf on both sides; dense and truncated."""
    states, head, labels = student()
    logits = all_logits(told())
    dead = torch.full((ROWS, 3), -torch.inf)
    wide = Plain(torch.cat([head.weight[:VOCAB], torch.zeros(3, WIDTH)]), vocab=VOCAB + 3)
    wide.bias = torch.cat([torch.zeros(VOCAB), torch.full((3,), -torch.inf)])
    asked = {"objective": objective, "alpha": 0.5, "temperature": 2.0, "chunk": 4}
    for k in (4, VOCAB):
        a = fused_loss(states, head, labels, teacher=top_k(logits, k), **asked)
        b = fused_loss(states, wide, labels, teacher=top_k(torch.cat([logits, dead], 1), k), **asked)
        torch.testing.assert_close(a.total, b.total)
        torch.testing.assert_close(*(torch.autograd.grad(x.total, states)[0] for x in (a, b)))
    all_kept = fused_loss(states, wide, labels, teacher=top_k(torch.cat([logits, dead], 1), VOCAB + 3), **asked)
    torch.testing.assert_close(all_kept.total, b.total)


def test_unused_places_of_truncated_targets_count_for_nothing():
    states, head, labels = student()
    narrow = top_k(all_logits(told()), 4)
    empty = torch.full((ROWS, 2), -1), torch.full((ROWS, 2), -torch.inf)
    padded = SparseTargets(torch.cat([empty[0], narrow.index], 1), torch.cat([empty[1], narrow.log_p], 1), narrow.tail)
    a, b = (fused_loss(states, head, labels, alpha=0.7, teacher=t, objective="jsd") for t in (narrow, padded))
    torch.testing.assert_close(a.total, b.total)
    torch.testing.assert_close(*(torch.autograd.grad(x.total, states)[0] for x in (a, b)))


@pytest.mark.parametrize("objective", token_objectives())
def test_r02_gradients_keep_their_size_over_temperatures(objective):
    """R2: T^ORDER once, in the fused path too."""
    states, head, labels = student(scale=0.1)
    teacher = DenseTeacher(told().states, Plain(0.1 * told().head.weight))
    norms = []
    for temperature in (1.0, 2.0, 4.0, 8.0):
        found = fused_loss(
            states, head, labels, objective=objective, alpha=1.0, temperature=temperature, teacher=teacher
        )
        norms.append(float(torch.autograd.grad(found.total, states)[0].norm()))
    assert max(norms) / min(norms) < 1.6


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("objective", TRUNCATES)
def test_r04_r05_r06_half_precision_is_finite_at_a_temperature_of_a_twentieth(objective, kind):
    """R4 to R6: large logits under autocast; dense and truncated; sums in fp32."""
    states, head, labels = student(scale=8.0)
    for targets in (DenseTeacher(told().states * 8, told().head), top_k(8 * all_logits(told()), 4)):
        with torch.autocast("cpu", dtype=kind):
            found = fused_loss(states, head, labels, objective=objective, alpha=0.5, temperature=0.05, teacher=targets)
        assert found.total.dtype == torch.float32
        assert torch.isfinite(found.total)
        for grad in torch.autograd.grad(found.total, parameters(states, head)):
            assert grad.dtype == torch.float32
            assert torch.isfinite(grad).all()


def test_r04_products_run_in_the_dtype_of_autocast_and_the_weight_is_cast_once():
    states, head, labels = student()
    seen = Seen()
    with seen, torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_loss(states, head, labels, alpha=0.5, teacher=told(), chunk=2)
    products = [k for name, k in seen.made if name in ("mm", "addmm", "linear")]
    assert products
    assert set(products) == {torch.bfloat16}
    weights = [s for name, s in seen.copies if s == (VOCAB, WIDTH)]
    assert len(weights) == 1
    plain = fused_loss(states, head, labels, alpha=0.5, teacher=told(), chunk=2)
    torch.testing.assert_close(found.total, plain.total, rtol=0.03, atol=0)
    for a, b in zip(*(torch.autograd.grad(x.total, parameters(states, head)) for x in (found, plain)), strict=True):
        assert functional.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.999


class Seen(TorchDispatchMode):
    """Notes the largest tensor made, the dtypes of products, the shapes of casts."""

    def __init__(self):
        super().__init__()
        self.largest, self.made, self.copies = 0, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.numel())
                self.made.append((name, x.dtype))
                if name == "_to_copy":
                    self.copies.append((name, tuple(x.shape)))
        return out


@pytest.mark.parametrize("objective", token_objectives())
def test_no_tensor_is_larger_than_a_chunk_of_the_vocabulary(objective):
    """The point of it all: 64 positions of 97 tokens, chunks of 4; nothing above chunk x vocabulary (or the weight)."""
    states, weight = draw(64, 4).requires_grad_(), draw(97, 4, seed=1).requires_grad_()
    labels = torch.arange(64)
    teacher = DenseTeacher(draw(64, 3, seed=2), Plain(draw(97, 3, seed=3), vocab=97))
    cases = [teacher] if objective == "mse" else [teacher, top_k(all_logits(teacher), 5)]
    for kind, targets in product((torch.float32, torch.bfloat16), cases):
        with Seen() as seen, torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            found = fused_loss(
                states, Plain(weight, vocab=97), labels, objective=objective, alpha=0.5, teacher=targets, chunk=4
            )
            found.total.backward()
        assert seen.largest == 4 * 97


def test_the_incoming_gradient_scales_and_a_tied_embedding_gets_both_parts():
    _, head, labels = student()
    ids = torch.arange(ROWS)

    def gradient(total_of):
        head.weight.grad = None
        (total_of(torch.tanh(head.weight[ids])) / 7).backward()
        return head.weight.grad

    ours = gradient(lambda s: fused_loss(s, head, labels, chunk=4).total)
    theirs = gradient(lambda s: functional.cross_entropy(head.logits(s), labels, reduction="sum"))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_second_backward_is_refused_unless_asked_for():
    states, head, labels = student()
    found = fused_loss(states, head, labels)
    found.total.backward(retain_graph=True)
    with pytest.raises(TrainingError, match="twice"):
        found.total.backward()
    once = states.grad.clone()
    kept = fused_loss(states, head, labels, keep=True)
    kept.total.backward(retain_graph=True)
    (2 * kept.total).backward()
    torch.testing.assert_close(states.grad, 4 * once)


def test_frozen_parts_get_no_gradient_and_cost_no_product():
    states, head, labels = student()
    head.weight.requires_grad_(False)
    with Seen() as seen:
        found = fused_loss(states, head, labels, chunk=64)
        found.total.backward()
    assert head.weight.grad is None
    assert [n for n, _ in seen.made if n in ("mm", "addmm", "addmm_")] == ["mm", "mm"]
    with torch.no_grad(), Seen() as seen:
        value = fused_loss(states, head, labels, chunk=64)
    torch.testing.assert_close(value.total, found.total.detach())
    assert [n for n, _ in seen.made if n in ("mm", "addmm", "addmm_")] == ["mm"]


def test_r15_nothing_supervised_is_zero_with_a_live_graph():
    """R15: a sum over no tokens, no 0 / 0."""
    states, head, labels = student()
    found = fused_loss(states, head, torch.full_like(labels, -100), alpha=0.5, teacher=told())
    assert (float(found.total.detach()), found.tokens) == (0.0, 0)
    for grad in torch.autograd.grad(found.total, parameters(states, head)):
        assert (grad == 0).all()


def test_r16_the_sum_does_not_depend_on_how_positions_are_cut():
    states, head, labels = student()
    targets = top_k(all_logits(told()), 4)
    whole = fused_loss(states, head, labels, alpha=0.5, teacher=targets)
    halves = [fused_loss(states[p], head, labels[p], alpha=0.5, teacher=targets.rows(p))
              for p in (slice(0, 5), slice(5, None))]  # fmt: skip
    torch.testing.assert_close(whole.total, halves[0].total + halves[1].total)


def test_answers_may_come_for_the_supervised_positions_alone():
    states, head, labels = student()
    rows = labels != -100
    targets = top_k(all_logits(told()), 4)
    want = fused_loss(states, head, labels, alpha=1.0, teacher=targets).total
    found = fused_loss(states, head, labels, alpha=1.0, teacher=targets.rows(rows)).total
    torch.testing.assert_close(found, want)
    with pytest.raises(ModelError, match="at 5 positions"):
        fused_loss(states, head, labels, alpha=1.0, teacher=targets.rows(slice(0, 5)))


@pytest.mark.slow
def test_r27_sampled_gradients_are_those_of_the_whole_distribution_on_average():
    """R27: mean over seeds within three standard errors, in every coordinate taken together; one seed, one draw."""
    states, head, labels = student()
    logits = all_logits(told())
    dense = fused_loss(states, head, labels, alpha=1.0, teacher=told())
    (want,) = torch.autograd.grad(dense.total, states)
    count, draws = 400, 6
    grads = []
    for seed in range(count):
        targets = sampled(logits, draws, torch.Generator().manual_seed(seed))
        found = fused_loss(states, head, labels, alpha=1.0, teacher=targets)
        grads.append(torch.autograd.grad(found.total, states)[0])
    stack = torch.stack(grads)
    rows = labels != -100
    z = (stack.mean(0) - want)[rows] / (stack.std(0)[rows] / count**0.5)
    assert 0.7 < float(z.square().mean().sqrt()) < 1.3
    again = [sampled(logits, draws, torch.Generator().manual_seed(5)) for _ in range(2)]
    torch.testing.assert_close(again[0].index, again[1].index)
    biased = fused_loss(states, head, labels, alpha=1.0, teacher=top_k(logits, 1))
    assert (torch.autograd.grad(biased.total, states)[0] - want).norm() > 5 * (stack.mean(0) - want).norm()


def test_r27_samples_are_merged_into_distinct_tokens_whose_weights_sum_to_one():
    logits = all_logits(told())
    targets = sampled(logits, 50, torch.Generator().manual_seed(0))
    assert targets.tail is None
    for ids, weights in zip(targets.index, targets.log_p.exp(), strict=True):
        used = ids >= 0
        assert len(ids[used]) == len(set(ids[used].tolist()))
        assert (weights[~used] == 0).all()
        torch.testing.assert_close((weights[used] * 50).round() / 50, weights[used])
    torch.testing.assert_close(targets.mass, torch.ones(ROWS))
    many = sampled(logits, 20000, torch.Generator().manual_seed(0))
    found = torch.zeros(ROWS, VOCAB).scatter_add_(1, many.index.clamp_min(0), many.log_p.exp())
    torch.testing.assert_close(found, torch.softmax(logits, 1), rtol=0, atol=0.015)


def test_the_value_of_sampled_targets_is_a_cross_entropy():
    """KL plus the entropy of the teacher, in expectation: at equality the entropy, not 0."""
    states, head, labels = student()
    logits = head.logits(states).detach()
    targets = sampled(logits, 5000, torch.Generator().manual_seed(0))
    found = fused_loss(states, head, labels, alpha=1.0, teacher=targets)
    torch.testing.assert_close(found.soft, entropy(logits)[labels != -100].sum(), rtol=0.02, atol=0)


def test_what_cannot_be_taken_from_the_targets_is_refused():
    states, head, labels = student()
    logits = all_logits(told())
    few, drawn = top_k(logits, 4), sampled(logits, 4, torch.Generator().manual_seed(0))
    with pytest.raises(RecipeError, match="mse compares logits"):
        fused_loss(states, head, labels, objective="mse", alpha=0.5, teacher=few)
    with pytest.raises(RecipeError, match="sampled"):
        fused_loss(states, head, labels, objective="jsd", alpha=0.5, teacher=drawn)
    with pytest.raises(RecipeError, match="sampled"):
        fused_loss(states, head, labels, temperature=2.0, alpha=0.5, teacher=drawn)
    with pytest.raises(RecipeError, match="dist, which does not compare"):
        fused_loss(states, head, labels, objective="dist", alpha=0.5, teacher=told())
    with pytest.raises(RecipeError, match="no teacher"):
        fused_loss(states, head, labels, alpha=0.5)
    with pytest.raises(ModelError, match="vocabulary has 20"):
        fused_loss(states, head, labels, alpha=0.5, teacher=DenseTeacher(states, Plain(head.weight, vocab=20)))
    with pytest.raises(ModelError, match="a label is 23, the vocabulary has 23"):
        fused_loss(states, head, torch.full_like(labels, VOCAB))
    foreign = SparseTargets(few.index.clamp_min(24), few.log_p, few.tail)
    with pytest.raises(ModelError, match="a token of the teacher is 24"):
        fused_loss(states, head, labels, alpha=0.5, teacher=foreign)
    with pytest.raises(ModelError, match="give states"):
        fused_loss(states[None], head, labels)
