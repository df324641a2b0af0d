"""Soft objectives: the mathematics. Requirement numbers are those of the design's list for distillation."""

import pytest
import torch
from torch.nn import functional

from lessen import plugins
from lessen.distill.divergence import divergence, log_probabilities, standardized
from lessen.distill.objectives import dkd, jsd, kl, mse, reverse_kl, skew_kl, skew_reverse_kl

SOFT = sorted(n for n in plugins.names("distill.objectives") if hasattr(plugins.find("distill.objectives", n), "loss"))
SECOND = [
    "kl",
    "reverse_kl",
    "jsd",
    "dkd",
    "skew_kl",
    "skew_reverse_kl",
]  # of the second order in the logits' difference
KLS = [*SECOND, "tvd"]
LABELS = torch.tensor([0, 2, 1, 3, 0, 2])


def file(name):
    return plugins.find("distill.objectives", name)


def logits(seed, classes=4, rows=6, scale=2.0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * scale


def value(name, student, teacher, temperature=2.0, sigmoid=False, labels=LABELS):
    return file(name).loss(student, teacher, labels, temperature=temperature, sigmoid=sigmoid)


def gradient(name, student, teacher, **more):
    student = student.detach().requires_grad_()
    value(name, student, teacher, **more).sum().backward()
    return student.grad


def reference_kl(p_logits, q_logits, temperature):
    """T² Σ p (log p − log q) in float64, class by class."""
    p = torch.softmax(p_logits.double() / temperature, 1)
    q = torch.softmax(q_logits.double() / temperature, 1)
    return temperature**2 * torch.stack([p[:, c] * (p[:, c] / q[:, c]).log() for c in range(p.shape[1])]).sum(0)


def test_there_is_a_file_for_every_objective_that_recipes_name():
    assert {"kl", "mse", "dkd", "dist"} <= set(SOFT)


@pytest.mark.parametrize("name", SOFT)
def test_every_objective_gives_one_fp32_value_per_sample_from_bf16_logits(name):
    got = value(name, logits(0).bfloat16(), logits(1).bfloat16())
    assert got.shape == (6,)
    assert got.dtype == torch.float32


@pytest.mark.parametrize("name", KLS)
def test_r01_kl_sums_over_classes_so_classes_that_cannot_occur_change_nothing(name):
    """R1: sum over classes, mean over samples; adding −inf classes leaves value and gradient."""
    student, teacher = logits(0), logits(1)
    dead = torch.full((6, 5), -torch.inf)
    wide_s, wide_t = torch.cat([student, dead], 1), torch.cat([teacher, dead], 1)
    torch.testing.assert_close(value(name, wide_s, wide_t), value(name, student, teacher))
    grad = gradient(name, wide_s, wide_t)
    torch.testing.assert_close(grad[:, :4], gradient(name, student, teacher))
    assert (grad[:, 4:] == 0).all()


def test_r01_a_class_that_only_the_teacher_allows_costs_infinitely_much():
    """R1: no clamp and no epsilon hides a student that forbids what the teacher says."""
    student = torch.tensor([[0.0, -torch.inf]])
    assert torch.isinf(value("kl", student, torch.zeros(1, 2), labels=LABELS[:1])).all()


@pytest.mark.parametrize("name", KLS)
def test_r02_temperature_squared_keeps_the_gradient_about_constant(name):
    """R2: T² exactly once: gradient norms for T in 1..8 stay within a factor of two, with no drift by T²."""
    student, teacher = logits(0, scale=0.5), logits(1, scale=0.5)
    norms = [float(gradient(name, student, teacher, temperature=t).norm()) for t in (1.0, 2.0, 4.0, 8.0)]
    assert max(norms) / min(norms) < 2
    plain = value(name, student * 4, teacher * 4, temperature=4.0)
    factor = 16 if name in SECOND else 4  # total variation is of the first order: T once
    torch.testing.assert_close(plain, factor * value(name, student, teacher, temperature=1.0))


@pytest.mark.parametrize(
    ("name", "sigmoid"), [*((n, False) for n in SOFT), *((n, True) for n in SOFT if file(n).SIGMOID)]
)
def test_r03_equal_answers_cost_nothing_and_move_nothing(name, sigmoid):
    """R3: value 0 and gradient 0 at equality."""
    same = logits(3)
    torch.testing.assert_close(value(name, same, same, sigmoid=sigmoid), torch.zeros(6), atol=3e-6, rtol=0)
    assert gradient(name, same, same, sigmoid=sigmoid).abs().max() < 2e-6


@pytest.mark.parametrize("name", SOFT)
def test_r03_different_answers_cost_something(name):
    """R3, the other way: the minimum is at equality alone."""
    assert (value(name, logits(0), logits(1)) > 1e-4).all()


def test_r04_both_sides_are_cast_before_the_division():
    """R4: bf16 logits give the value of the same numbers in fp32, exactly; never negative."""
    student, teacher = logits(0, scale=30).bfloat16(), logits(1, scale=30).bfloat16()
    for name in KLS:
        torch.testing.assert_close(
            value(name, student, teacher, temperature=3.0),
            value(name, student.float(), teacher.float(), temperature=3.0),
            rtol=0,
            atol=0,
        )
        mixed = value(name, teacher.float() + 1e-4, teacher, temperature=3.0)
        assert (mixed > -1e-6).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert log_probabilities(student, temperature=3.0, sigmoid=False).dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SOFT)
def test_r05_r06_gradients_are_finite_at_a_temperature_of_a_twentieth(name, kind):
    """R5, R6: no epsilon or differentiable target that overflows: T = 0.05 on large fp16 and bf16 logits."""
    for sigmoid in (False, True):
        if sigmoid and not file(name).SIGMOID:
            continue
        student = (logits(0, scale=20)).to(kind).requires_grad_()
        out = value(name, student, logits(1, scale=20).to(kind), temperature=0.05, sigmoid=sigmoid)
        assert torch.isfinite(out).all()
        (out / 400).sum().backward()
        assert torch.isfinite(student.grad).all()


def test_r06_reverse_kl_gradient_equals_finite_differences():
    """R6: the student is both the weight and inside the logarithm; both parts are in the gradient."""
    teacher = logits(1).double()

    def fp64(x):
        q = torch.log_softmax(x / 2, 1)
        return 4 * divergence(q, torch.log_softmax(teacher / 2, 1)).sum()

    x = logits(0).double().requires_grad_()
    assert torch.autograd.gradcheck(fp64, x)
    torch.testing.assert_close(
        gradient("reverse_kl", logits(0), teacher.float()), torch.autograd.grad(fp64(x), x)[0].float()
    )


def test_r07_jensen_shannon_has_its_weight_on_the_teacher_and_tends_to_the_two_kls():
    """R7: mixture of probabilities, weight on the documented side, 0 at the ends, KL once divided by the weight."""
    student, teacher = logits(0), logits(1)
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(student / 2, 1)
    m = 0.3 * p + 0.7 * q
    want = 4 * (0.3 * (p * (p / m).log()).sum(1) + 0.7 * (q * (q / m).log()).sum(1))
    got = jsd.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False, beta=0.3)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    for share, limit in ((1e-3, kl), (1 - 1e-3, reverse_kl)):
        near = jsd.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False, beta=share)
        scale = min(share, 1 - share)
        want = limit.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False)
        torch.testing.assert_close(near / scale, want, rtol=0.05, atol=1e-3)
        assert (near < 0.02 * want).all()


def test_skewed_kls_mix_in_the_other_side_and_stay_bounded():
    """DistiLLM: KL(p ‖ αp + (1−α)q) and KL(q ‖ (1−α)p + αq); at most −log α; the plain KLs as α falls to 0."""
    student, teacher = logits(0), logits(1)
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(student / 2, 1)
    for file_, a, b in ((skew_kl, p, q), (skew_reverse_kl, q, p)):
        want = 4 * (a * (a / (0.2 * a + 0.8 * b)).log()).sum(1)
        got = file_.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False, skew=0.2)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
        worst = file_.loss(40 * student, -40 * student, LABELS, temperature=1.0, sigmoid=False, skew=0.2)
        torch.testing.assert_close(worst, torch.full((6,), 5.0).log(), rtol=1e-3, atol=0)
    for file_, limit in ((skew_kl, kl), (skew_reverse_kl, reverse_kl)):
        near = file_.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False, skew=1e-4)
        plain = limit.loss(student, teacher, LABELS, temperature=2.0, sigmoid=False)
        torch.testing.assert_close(near, plain, rtol=0.02, atol=1e-3)


def test_total_variation_is_half_the_sum_of_differences():
    student, teacher = logits(0), logits(1)
    want = (torch.softmax(teacher / 2, 1) - torch.softmax(student / 2, 1)).abs().sum(1)
    torch.testing.assert_close(value("tvd", student, teacher), want)  # T = 2: 2 times the half
    assert (value("tvd", 40 * student, -40 * student, temperature=1.0) > 0.99).all()


@pytest.mark.parametrize("name", [n for n in SOFT if plugins.stated("distill.objectives", n).get("TOKENS")])
def test_dense_answers_and_tokens_are_compared_by_the_same_function(name):
    """R9: `loss` is T^ORDER times `between` of the log-probabilities; what has no `between` compares logits."""
    states, student, teacher = plugins.stated("distill.objectives", name), logits(0), logits(1)
    assert ("between" in states) == (name != "mse")
    if "between" in states:
        log_t, log_s = torch.log_softmax(teacher / 3, 1), torch.log_softmax(student / 3, 1)
        want = 3 ** file(name).ORDER * file(name).between(log_t, log_s)
        torch.testing.assert_close(value(name, student, teacher, temperature=3.0), want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SOFT)
def test_r08_the_teacher_gets_no_gradient(name):
    """R8: soft targets are detached."""
    teacher = logits(1).requires_grad_()
    value(name, logits(0).requires_grad_(), teacher).sum().backward()
    assert teacher.grad is None


def test_r08_r09_kl_equals_pytorchs_and_a_written_out_sum_in_value_and_gradient():
    """R8, R9: argument order, against two independent implementations, pairwise."""
    student, teacher = logits(0), logits(1)

    def pytorch(s):
        log_t = functional.log_softmax(teacher / 3, 1)
        return 9 * functional.kl_div(functional.log_softmax(s / 3, 1), log_t, reduction="none", log_target=True).sum(1)

    ours = [
        lambda s: value("kl", s, teacher, temperature=3.0),
        pytorch,
        lambda s: reference_kl(teacher, s, 3.0).float(),
    ]
    for a in ours:
        for b in ours:
            x, y = student.clone().requires_grad_(), student.clone().requires_grad_()
            va, vb = a(x), b(y)
            torch.testing.assert_close(va, vb, rtol=1e-5, atol=1e-6)
            va.sum().backward()
            vb.sum().backward()
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        value("reverse_kl", student, teacher, temperature=3.0), reference_kl(student, teacher, 3.0).float()
    )


def test_r09_two_classes_by_softmax_equal_one_logit_by_sigmoid():
    """R9: the two forms of one answer agree in value."""
    s, t = logits(0, classes=1), logits(1, classes=1)
    zero = torch.zeros(6, 1)
    for name in ("kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "tvd"):
        torch.testing.assert_close(
            value(name, s, t, sigmoid=True), value(name, torch.cat([zero, s], 1), torch.cat([zero, t], 1))
        )


def test_one_logit_kl_is_the_binary_cross_entropy_minus_its_least():
    s, t = logits(0, classes=1), logits(1, classes=1)
    target = torch.sigmoid(t / 2)
    bce = functional.binary_cross_entropy_with_logits(s / 2, target, reduction="none")[:, 0]
    least = functional.binary_cross_entropy_with_logits(t / 2, target, reduction="none")[:, 0]
    torch.testing.assert_close(value("kl", s, t, sigmoid=True), 4 * (bce - least), rtol=1e-4, atol=1e-5)


def test_multi_label_kl_is_the_mean_over_labels_as_the_label_loss_is():
    s, t = logits(0), logits(1)
    each = torch.stack([value("kl", s[:, i : i + 1], t[:, i : i + 1], sigmoid=True) for i in range(4)])
    torch.testing.assert_close(value("kl", s, t, sigmoid=True), each.mean(0))


def test_logit_matching_is_twice_the_limit_of_kl_at_high_temperature():
    s, t = logits(0), logits(1)
    s, t = s - s.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    matched = mse.loss(s, t, LABELS, temperature=1.0, sigmoid=False)
    torch.testing.assert_close(value("kl", s, t, temperature=100.0) * 2, matched, rtol=2e-2, atol=1e-2)


def test_decoupled_parts_with_the_papers_weights_add_up_to_kl(monkeypatch):
    """DKD, eq. 6: KL = TCKD + (1 − p_label) NCKD."""
    s, t = logits(0), logits(1)
    p = torch.softmax(t / 2, 1).gather(1, LABELS[:, None])[:, 0]
    monkeypatch.setattr(dkd, "OTHERS", 1 - p)
    torch.testing.assert_close(value("dkd", s, t), value("kl", s, t), rtol=1e-4, atol=1e-6)


def test_decoupled_kl_with_two_classes_is_kl():
    s, t = logits(0, classes=2), logits(1, classes=2)
    labels = LABELS % 2
    torch.testing.assert_close(
        value("dkd", s, t, labels=labels), value("kl", s, t, labels=labels), rtol=1e-4, atol=1e-6
    )


def test_dist_equals_one_minus_pearsons_correlations():
    s, t = logits(0), logits(1)
    p_s, p_t = torch.softmax(s / 2, 1), torch.softmax(t / 2, 1)
    within = torch.stack([1 - torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(p_s, p_t, strict=True)])
    across = torch.stack([1 - torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(p_s.T, p_t.T, strict=True)])
    torch.testing.assert_close(value("dist", s, t), 4 * (within + across.mean()), rtol=1e-4, atol=1e-5)


def test_dist_of_a_single_sample_or_of_a_constant_teacher_is_finite_and_moves_nothing_wrongly():
    student = logits(0, rows=1).requires_grad_()
    value("dist", student, logits(1, rows=1), labels=LABELS[:1]).sum().backward()
    assert torch.isfinite(student.grad).all()
    flat = gradient("dist", logits(0), torch.zeros(6, 4))
    assert (flat == 0).all()


@pytest.mark.parametrize("name", SOFT)
def test_r16_values_do_not_depend_on_the_other_samples_unless_the_file_says_so(name):
    """R16: a sum over samples is the same however a step is cut; dist says PER_BATCH and is refused when it is cut."""
    s, t = logits(0), logits(1)
    whole = value(name, s, t)
    parts = torch.cat([value(name, s[i : i + 2], t[i : i + 2], labels=LABELS[i : i + 2]) for i in (0, 2, 4)])
    if file(name).PER_BATCH:
        assert not torch.allclose(whole, parts)
    else:
        torch.testing.assert_close(whole, parts)


def test_standardised_logits_have_mean_zero_and_deviation_one_and_ignore_shift_and_scale():
    z = logits(0)
    out = standardized(z)
    torch.testing.assert_close(out.mean(1), torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.std(1), torch.ones(6))
    torch.testing.assert_close(standardized(z * 7 + 3), out, rtol=1e-4, atol=1e-5)


def test_standardising_equal_logits_gives_zeros_and_no_gradient():
    z = torch.full((2, 3), 5.0, requires_grad=True)
    standardized(z).square().sum().backward()
    assert (z.grad == 0).all()
