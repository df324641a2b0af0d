"""The playground's maths, run in Chromium and checked against numpy, torch and lessen's own rounding and divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import lessen.server
from lessen.distill.divergence import compared, divergence
from lessen.quantize.weight_only import pack8

STATIC = Path(lessen.server.__file__).parent / "static"
HOST = "http://toy.test"
SPIRAL = {
    "set": "spiral",
    "count": 120,
    "noise": 0.1,
    "seed": 1,
    "teacher": 24,
    "student": 8,
    "alpha": 0.9,
    "temperature": 3,
    "own": [],
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def js(browser: Any) -> Iterator[Ask]:
    """Evaluate JavaScript beside the modules of static/: js("(m, x) => ...", "toy/soft.js", argument)."""
    context = browser.new_context()

    def serve(route: Any) -> None:
        path = route.request.url.removeprefix(HOST).partition("?")[0]
        if path == "/":
            route.fulfill(body="<!doctype html><title>toy</title>", content_type="text/html")
        else:
            route.fulfill(path=STATIC / path.lstrip("/"), content_type="text/javascript")

    context.route(f"{HOST}/**", serve)
    page = context.new_page()
    page.goto(f"{HOST}/")

    def ask(code: str, module: str, argument: Any = None) -> Any:
        return page.evaluate(f"async (x) => ({code})(await import('/{module}'), x)", argument)

    yield ask
    context.close()


def numbers(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape)


# ---- random numbers


def test_a_seed_gives_the_same_numbers_everywhere(js: Ask) -> None:
    def mulberry(seed: int, count: int) -> list[float]:
        out, state, low = [], seed, 0xFFFFFFFF
        for _ in range(count):
            state = (state + 0x6D2B79F5) & low
            t = ((state ^ (state >> 15)) * (state | 1)) & low
            t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & low)) & low
            out.append(((t ^ (t >> 14)) & low) / 2**32)
        return out

    code = "(m, seed) => { const u = m.uniform(seed); return Array.from({length: 50}, u); }"
    for seed in (0, 1, 4_000_000_000):
        assert js(code, "toy/random.js", seed) == mulberry(seed, 50)
    assert js(code, "toy/random.js", 1) != js(code, "toy/random.js", 2)


def test_normal_numbers_are_normal_and_orders_are_permutations(js: Ask) -> None:
    values = js("(m) => { const g = m.normal(3); return Array.from({length: 20000}, g); }", "toy/random.js")
    assert abs(np.mean(values)) < 0.03
    assert abs(np.std(values) - 1) < 0.03
    assert abs(np.mean(np.square(values) ** 2) - 3) < 0.2
    first, again, other = js(
        "(m) => [[5], [5], [6]].map(([s]) => m.shuffled([...Array(30).keys()], s))", "toy/random.js"
    )
    assert first == again != other
    assert sorted(first) == list(range(30))
    assert js(
        "(m) => m.derived(1, 'a') !== m.derived(1, 'b') && m.derived(1, 'a') !== m.derived(2, 'a')", "toy/random.js"
    )


# ---- soft targets


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 10.0])
def test_softmax_and_the_loss_are_lessens(js: Ask, temperature: float) -> None:
    teacher, student = numbers(1, 6, scale=4), numbers(2, 6, scale=4)
    given = {
        "teacher": teacher.tolist(),
        "student": student.tolist(),
        "label": 2,
        "temperature": temperature,
        "alpha": 0.7,
    }
    told = js("(m, x) => ({softened: m.softmax(x.teacher, x.temperature), ...m.distillation(x)})", "toy/soft.js", given)
    t, s = torch.tensor(teacher)[None], torch.tensor(student)[None]
    assert told["softened"] == pytest.approx(torch.softmax(t[0] / temperature, 0).tolist(), rel=1e-12)
    soft = compared(divergence, s, t, order=2, temperature=temperature, sigmoid=False).item()
    hard = functional.cross_entropy(s, torch.tensor([2])).item()
    assert told["total"] == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-10)
    assert told["kl"] == pytest.approx(soft / temperature**2, rel=1e-10)
    assert told["hard"] == pytest.approx(hard, rel=1e-12)


def test_the_loss_s_gradient_is_autograds(js: Ask) -> None:
    for temperature, alpha in ((1.0, 1.0), (4.0, 0.6), (2.5, 0.0)):
        teacher, student = numbers(3, 5, scale=3), torch.tensor(numbers(4, 5, scale=3), requires_grad=True)
        t = torch.tensor(teacher)[None]
        soft = compared(divergence, student[None], t, order=2, temperature=temperature, sigmoid=False)[0]
        (alpha * soft + (1 - alpha) * functional.cross_entropy(student[None], torch.tensor([4]))).backward()
        given = {
            "teacher": teacher.tolist(),
            "student": student.tolist(),
            "label": 4,
            "temperature": temperature,
            "alpha": alpha,
        }
        assert student.grad is not None
        assert js("(m, x) => m.distillationGradient(x)", "toy/soft.js", given) == pytest.approx(
            student.grad.tolist(), abs=1e-12
        )


def test_equal_answers_cost_nothing_and_large_logits_do_not_overflow(js: Ask) -> None:
    given = {"teacher": [900.0, -900.0, 3.0], "student": [900.0, -900.0, 3.0], "label": 0, "temperature": 2, "alpha": 1}
    told = js(
        "(m, x) => ({...m.distillation(x), slope: m.distillationGradient(x), p: m.softmax(x.teacher)})",
        "toy/soft.js",
        given,
    )
    assert told["soft"] == 0
    assert told["slope"] == [0, 0, 0]
    assert told["p"] == [1, 0, 0]
    mixed = js("(m) => m.mixedTarget([1, 2, 3], 0, 2, 0.25)", "toy/soft.js")
    assert sum(mixed) == pytest.approx(1)
    assert mixed[0] == pytest.approx(
        0.75 + 0.25 * torch.softmax(torch.tensor([1, 2, 3], dtype=torch.float64) / 2, 0)[0].item()
    )


# ---- quantization


@pytest.mark.parametrize("limit", [127, 7, 1])
def test_channels_are_rounded_as_lessen_rounds_them(js: Ask, limit: int) -> None:
    weight = numbers(5, 6, 32, scale=0.1).astype(np.float32)
    weight[3] = 0
    packed = pack8(weight, limit)
    bits = {127: 8, 7: 4, 1: 2}[limit]
    code = """(m, x) => {
      const r = m.quantize(Float64Array.from(x.w), 32, x.bits, true);
      return [[...r.values], r.steps, r.meanSquare];
    }"""
    values, steps, error = js(code, "toy/grid.js", {"w": weight.ravel().tolist(), "bits": bits})
    assert steps == pytest.approx(packed.scale.tolist(), rel=1e-6)
    codes = np.array(values).reshape(6, 32) / np.array(steps)[:, None]
    assert np.array_equal(np.rint(codes), packed.values)
    assert error == pytest.approx(np.mean((weight - packed.values * packed.scale[:, None]) ** 2), rel=1e-4)


def test_one_step_for_all_reaches_the_largest_weight_and_halves_go_to_even(js: Ask) -> None:
    weight = numbers(6, 200)
    code = "(m, x) => { const r = m.quantize(Float64Array.from(x), 50, 3, false); return [[...r.values], r.steps]; }"
    values, steps = js(code, "toy/grid.js", weight.tolist())
    step = np.abs(weight).max() / 3
    assert steps == [pytest.approx(step)]
    assert values == pytest.approx((np.clip(np.rint(weight / step), -3, 3) * step).tolist())
    ties = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, 1e6 + 0.5]
    assert js("(m, x) => x.map(m.rint)", "toy/grid.js", ties) == np.rint(ties).tolist()
    assert js("(m) => m.gridPoints(0.5, 3)", "toy/grid.js") == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]


def test_the_histograms_error_is_that_of_values_spread_evenly(js: Ask) -> None:
    edges, counts = np.linspace(-0.7, 1.1, 10), [3, 0, 5, 9, 20, 11, 4, 2, 1]
    dense = np.concatenate([np.linspace(a, b, 40_001) for a, b in pairwise(edges)]).reshape(9, -1)
    for step in (0.05, 0.31, 1.1):
        expected = np.average(((dense - np.rint(dense / step) * step) ** 2).mean(axis=1), weights=counts)
        told = js(
            "(m, x) => m.histogramError(x.e, x.c, x.s)", "toy/grid.js", {"e": edges.tolist(), "c": counts, "s": step}
        )
        assert told == pytest.approx(expected, rel=1e-3)


# ---- pruning


def test_a_cut_takes_the_least_weights_and_their_energy(js: Ask) -> None:
    weight = numbers(7, 400)
    told = js("(m, x) => m.cutWeights(x, 0.3)", "toy/cut.js", weight.tolist())
    order = np.sort(np.abs(weight))
    assert told["removed"] == 120
    assert told["threshold"] == order[119]
    assert told["energy"] == pytest.approx((order[:120] ** 2).sum() / (order**2).sum())
    edges, counts = js(
        "(m, x) => { const h = m.histogram(x, 12); return [h.edges, h.counts]; }", "toy/cut.js", weight.tolist()
    )
    expected, ends = np.histogram(weight, 12)
    assert counts == expected.tolist()
    assert edges == pytest.approx(ends.tolist())


def test_units_go_by_their_norm_and_one_always_stays(js: Ask) -> None:
    weight = numbers(8, 10, 7)
    code = "(m, x) => m.cutUnits(m.rowNorms(x.w, 7), x.share)"
    told = js(code, "toy/cut.js", {"w": weight.ravel().tolist(), "share": 0.4})
    norms = np.linalg.norm(weight, axis=1)
    assert told["removed"] == sorted(np.argsort(norms)[:4].tolist())
    assert sorted(told["removed"] + told["kept"]) == list(range(10))
    assert told["energy"] == pytest.approx((norms[told["removed"]] ** 2).sum() / (norms**2).sum())
    assert len(js(code, "toy/cut.js", {"w": weight.ravel().tolist(), "share": 1})["kept"]) == 1


def test_a_histogram_is_cut_nearly_as_its_weights(js: Ask) -> None:
    weight = np.random.default_rng(9).laplace(0.1, 1, 50_000)
    counts, edges = np.histogram(weight, 200)
    for share in (0.1, 0.5, 0.9):
        told = js(
            "(m, x) => m.cutHistogram(x.e, x.c, x.s)",
            "toy/cut.js",
            {"e": edges.tolist(), "c": counts.tolist(), "s": share},
        )
        order = np.sort(np.abs(weight))
        assert told["threshold"] == pytest.approx(order[int(share * 50_000)], rel=0.03)
        assert told["energy"] == pytest.approx((order[: int(share * 50_000)] ** 2).sum() / (order**2).sum(), abs=0.005)
    assert js("(m) => m.cutHistogram([-1, 1], [5], 0)", "toy/cut.js") == {"threshold": 0, "share": 0, "energy": 0}


# ---- the network

NET = """(m, x) => {
  const arrays = (lists) => lists.map((list) => Float64Array.from(list));
  const net = {widths: x.widths, weights: arrays(x.weights), biases: arrays(x.biases)};
  const data = {x: Float64Array.from(x.x), labels: Uint8Array.from(x.labels)};
  const teacher = x.teacher && Float64Array.from(x.teacher);
  const how = {teacher, alpha: x.alpha, temperature: x.temperature};
  const lists = (arrays) => arrays.map((a) => [...a]);
  const g = m.gradients(net, data, how);
  const slopes = {weights: lists(g.weights), biases: lists(g.biases)};
  const out = {...slopes, loss: g.loss, logits: [...m.logits(net, data.x)], judged: m.judged(net, data)};
  const state = m.adamState(net);
  for (let i = 0; i < 5; i++) m.adam_(net, m.gradients(net, data, how), state, 0.02);
  return {...out, after: lists(net.weights)};
}"""


def network(teacher: bool) -> tuple[dict[str, Any], list[torch.Tensor], list[torch.Tensor]]:
    widths = [2, 5, 4, 3]
    weights = [numbers(10 + i, b, a) for i, (a, b) in enumerate(pairwise(widths))]
    biases = [numbers(20 + i, b, scale=0.3) for i, b in enumerate(widths[1:])]
    given = {
        "widths": widths, "weights": [w.ravel().tolist() for w in weights], "biases": [b.tolist() for b in biases],
        "x": numbers(30, 14).tolist(), "labels": [0, 1, 2, 2, 1, 0, 1], "alpha": 0.8, "temperature": 2.5,
        "teacher": numbers(31, 21, scale=3).tolist() if teacher else None,
    }  # fmt: skip
    return (
        given,
        [torch.tensor(w, requires_grad=True) for w in weights],
        [torch.tensor(b, requires_grad=True) for b in biases],
    )


def loss_of(
    given: dict[str, Any], weights: list[torch.Tensor], biases: list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    value = torch.tensor(given["x"], dtype=torch.float64).reshape(-1, 2)
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        value = value @ w.T + b
        value = value if i == len(weights) - 1 else value.tanh()
    loss = functional.cross_entropy(value, torch.tensor(given["labels"]))
    if given["teacher"]:
        teacher = torch.tensor(given["teacher"], dtype=torch.float64).reshape(-1, 3)
        soft = compared(divergence, value, teacher, order=2, temperature=given["temperature"], sigmoid=False).mean()
        loss = given["alpha"] * soft + (1 - given["alpha"]) * loss
    return loss, value


@pytest.mark.parametrize("teacher", [False, True])
def test_gradients_and_adam_are_torchs(js: Ask, teacher: bool) -> None:
    given, weights, biases = network(teacher)
    told = js(NET, "toy/mlp.js", given)
    loss, value = loss_of(given, weights, biases)
    loss.backward()
    assert told["loss"] == pytest.approx(loss.item(), rel=1e-12)
    assert told["logits"] == pytest.approx(value.flatten().tolist(), rel=1e-10)
    for mine, theirs in zip(told["weights"] + told["biases"], weights + biases, strict=True):
        assert theirs.grad is not None
        assert mine == pytest.approx(theirs.grad.flatten().tolist(), abs=1e-12)
    right = (value.argmax(1) == torch.tensor(given["labels"])).double().mean().item()
    assert told["judged"]["accuracy"] == pytest.approx(right)
    adam = torch.optim.Adam([*weights, *biases], lr=0.02, eps=1e-8)
    for _ in range(5):
        adam.zero_grad()
        loss_of(given, weights, biases)[0].backward()
        adam.step()
    for mine, theirs in zip(told["after"], weights, strict=True):
        assert mine == pytest.approx(theirs.detach().flatten().tolist(), abs=1e-10)


def test_gradients_are_the_slopes_of_the_loss(js: Ask) -> None:
    given, _, _ = network(True)
    told = js(NET, "toy/mlp.js", given)
    h = 1e-6
    for layer, at in ((0, 3), (1, 7), (2, 11)):
        sides = []
        for sign in (1, -1):
            moved = [list(w) for w in given["weights"]]
            moved[layer][at] += sign * h
            sides.append(js(NET, "toy/mlp.js", {**given, "weights": moved})["loss"])
        assert told["weights"][layer][at] == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-6)


def test_cutting_units_is_silencing_them(js: Ask) -> None:
    code = """async (m, x) => {
      const mlp = await import('/toy/mlp.js'), random = await import('/toy/random.js');
      const net = mlp.make([2, 6, 5, 3], random.normal(4));
      const points = Float64Array.from(x);
      const small = m.pruned(net, 0.4);
      const silent = {...net, weights: net.weights.map((w) => w.slice())};
      for (const layer of [0, 1]) {
        const norms = m.unitNorms(net, layer), units = net.widths[layer + 1];
        const gone = norms.map((_, i) => i).sort((a, b) => norms[a] - norms[b]).slice(0, Math.floor(0.4 * units));
        const next = silent.weights[layer + 1];
        for (const u of gone) for (let o = 0; o < net.widths[layer + 2]; o++) next[o * units + u] = 0;
      }
      const answers = [small, silent].map((one) => [...mlp.logits(one, points)]);
      return [...answers, small.widths, m.counted(small), m.counted(net, 4)];
    }"""
    cut, silent, widths, small, whole = js(code, "toy/shrink.js", numbers(40, 20).tolist())
    assert cut == pytest.approx(silent, abs=1e-12)
    assert widths == [2, 4, 3, 3]
    assert small == {"parameters": 8 + 4 + 12 + 3 + 9 + 3, "operations": 29, "bytes": 4 * 39}
    assert (
        whole["bytes"] == (12 + 30 + 15) * 4 // 8 + 1 + 4 * 14 + 4 * 14
    )  # halves of a byte per matrix round up: 6 + 15 + 8


# ---- data and lessons


@pytest.mark.parametrize("name", ["moons", "spiral", "circles", "xor"])
def test_data_sets_are_even_repeat_and_fit_the_picture(js: Ask, name: str) -> None:
    code = "(m, x) => { const d = m.draw(x.name, x); return [[...d.x], [...d.labels], d.classes]; }"
    given = {"name": name, "count": 120, "noise": 0.05, "seed": 3}
    x, labels, classes = js(code, "toy/points.js", given)
    assert js(code, "toy/points.js", given) == [x, labels, classes]
    assert js(code, "toy/points.js", {**given, "seed": 4})[0] != x
    assert np.bincount(labels).tolist() == [120 // classes] * classes
    assert np.abs(x).max() < 1.6


def test_own_points_are_read_or_the_line_is_named(js: Ask) -> None:
    text = "x,y,class\n0.5, -0.2, 1\n\n1;2;0\n3 4 5\nfoo,1,0\n1,2"
    told = js("(m, x) => m.parsePoints(x)", "toy/points.js", text)
    assert told["rows"] == [[0.5, -0.2, 1], [1, 2, 0]]
    assert [error.split(":")[0] for error in told["errors"]] == ["line 5", "line 6", "line 7"]
    rows = [[100 + i, 3 * i, i % 2] for i in range(20)]
    own = js(
        "(m, x) => { const d = m.ownSet(x, 1); return [[...d.train.x], [...d.held.x], d.train.classes]; }",
        "toy/points.js",
        rows,
    )
    assert len(own[0]) == len(own[1]) == 20
    uneven = [[i / 10, 0, 1 if i < 3 else 0] for i in range(11)]
    halves = js(
        "(m, x) => { const d = m.ownSet(x, 1); return [[...d.train.labels], [...d.held.labels]]; }",
        "toy/points.js",
        uneven,
    )
    assert [sorted(half) for half in halves] == [[0] * 4 + [1] * 2, [0] * 4 + [1]]
    assert max(map(abs, own[0] + own[1])) <= 1.3 + 1e-9
    assert js("(m) => [m.ownSet([[0, 0, 0]], 1), m.ownSet(Array(9).fill([0, 0, 1]), 1)]", "toy/points.js") == [
        None,
        None,
    ]


LESSON = """(m, s) => {
  const lesson = m.begin(s);
  while (m.phaseOf(lesson) !== "done") m.step_(lesson);
  const accuracies = (all) => Object.fromEntries(Object.entries(all).map(([k, v]) => [k, v.accuracy]));
  const at = () => accuracies(m.standing(lesson, 32));
  const learned = at(), rough = m.standing(lesson, 2).taught.accuracy;
  const [taught, alone] = [lesson.taught, lesson.alone].map((who) => [...who.net.weights[0]]);
  m.prune_(lesson, 0.5);
  const cut = at();
  while (m.phaseOf(lesson) !== "done") m.step_(lesson);
  const [widths, counts] = [lesson.taught.net.widths, m.standing(lesson, 32)];
  return {learned, rough, taught, alone, cut, healed: at(), widths, counts,
    apart: [...lesson.held.x].every((v, i) => v !== lesson.train.x[i])};
}"""


def test_a_lesson_learns_breaks_heals_and_repeats(js: Ask) -> None:
    told = js(LESSON, "toy/lesson.js", SPIRAL)
    assert told["learned"]["teacher"] > 0.9
    assert told["learned"]["taught"] > 0.9
    assert told["rough"] < told["learned"]["taught"]
    assert told["cut"]["taught"] < told["learned"]["taught"] - 0.2
    assert told["healed"]["taught"] > told["cut"]["taught"] + 0.2
    assert told["healed"]["teacher"] == told["learned"]["teacher"]  # the teacher is frozen
    assert told["widths"] == [2, 4, 4, 3]
    assert told["apart"]
    assert told["taught"] != told["alone"]
    assert js(LESSON, "toy/lesson.js", SPIRAL) == told


def test_without_weight_on_the_teacher_both_students_are_one(js: Ask) -> None:
    told = js(LESSON, "toy/lesson.js", {**SPIRAL, "alpha": 0, "count": 30})
    assert told["taught"] == told["alone"]
    assert told["learned"]["taught"] == told["learned"]["alone"]


# ---- ink


def test_ink_becomes_the_counts_of_the_digits_data(js: Ask) -> None:
    bitmap = (numbers(50, 32, 32) > 0.5).astype(int)
    counts = js("(m, x) => [...m.blocks(Uint8Array.from(x))]", "toy/ink.js", bitmap.ravel().tolist())
    assert counts == bitmap.reshape(8, 4, 8, 4).sum(axis=(1, 3)).ravel().tolist()
    code = """(m) => {
      const bitmap = m.paper();
      m.stroke_(bitmap, 10, 12, 10, 20);
      return [[...m.framed(bitmap)], m.framed(m.paper())];
    }"""
    framed, nothing = js(code, "toy/ink.js")
    rows, columns = np.nonzero(np.array(framed).reshape(32, 32))
    assert (rows.min(), rows.max()) == (0, 31)
    assert abs(columns.mean() - 15.5) < 1
    assert nothing is None


# ---- what the texts claim


def test_the_texts_arithmetic_is_right(js: Ask) -> None:
    cards, questions = js("(m) => [m.cards, m.questions]", "strings-lessons.js")
    at = {one["id"]: one["question"] for one in cards} | {one["id"]: one for one in questions}
    softened = js("(m) => [m.softmax([4, 2, 0]), m.softmax([4, 2, 0], 4)]", "toy/soft.js")
    assert f"{softened[0][0]:.1%}".replace("%", " %") in at["temperature"]["ask"]
    assert f"{softened[1][0]:.1%}".replace("%", " %") == at["temperature"]["choices"][0]
    assert f"{softened[1][0]:.0%}".replace("%", " %") == at["t-value"]["choices"][0]
    assert js("(m) => m.stepOf([1.27, -0.3], 8)", "toy/grid.js") == pytest.approx(float(at["step"]["choices"][0]))
    assert abs((127 / 63) ** 2 - 4) < 0.1
    assert f"± {196 * np.sqrt(0.85 * 0.15 / 1680):.1f} points" == at["honest"]["choices"][0]
    assert f"0.95 and {2 * 0.95 / 1.95 / 2:.2f}" == at["accuracy"]["choices"][0]
    assert 1 - 0.5**3 == 0.875
    told = js(LESSON, "toy/lesson.js", {**SPIRAL, "count": 30})["counts"]
    assert f"A teacher with {told['teacher']['parameters']} parameters, students with 123" in [
        t[0] for t in cards[0]["tryIt"]
    ]
    code = """(m) => {
      const empty = (sizes) => sizes.map((n) => Array(n));
      const net = {widths: [2, 8, 8, 3], weights: empty([16, 64, 24]), biases: empty([8, 8, 3])};
      return m.counted(net).parameters;
    }"""
    assert js(code, "toy/shrink.js") == 123


def test_ten_cards_and_twenty_questions_are_whole(js: Ask) -> None:
    cards, questions, glossary = js("(m) => [m.cards, m.questions, m.glossary]", "strings-lessons.js")
    assert len(cards) == 10
    assert len(questions) == 20
    names = {one["id"] for one in cards}
    assert {one["card"] for one in questions} == names
    for one in [*questions, *(card["question"] for card in cards)]:
        assert len(set(one["choices"])) == 4
        assert one["why"]
    assert all(one["source"] for one in questions)
    assert all(one["sources"] for one in cards)
    assert [pair[0].lower() for pair in glossary] == sorted(
        (pair[0].lower() for pair in glossary), key=lambda t: t.replace(",", "")
    )


def test_the_paper_is_the_seeds_and_seventy_percent_pass(js: Ask) -> None:
    code = """async (m, x) => {
      const { questions } = await import('/strings-lessons.js');
      const paper = m.paperOf(questions, x.seed);
      const answers = Object.fromEntries(paper.slice(0, x.right).map(({ question }) => [question.id, 0]));
      if (x.right < 20) answers[paper[19].question.id] = 1;
      const score = m.scored(paper, answers);
      const asked = paper.map(({ question, order }) => [question.id, order]);
      return [asked, score.right, score.passed, score.wrong.length, score.topics];
    }"""
    order, right, passed, wrong, topics = js(code, "pages/learn/quiz.js", {"seed": 7, "right": 14})
    assert (right, passed, wrong) == (14, True, 6)
    assert sum(one["right"] for one in topics) == 14
    assert sum(one["wrong"] for one in topics) == 6
    assert sorted(order[0][1]) == [0, 1, 2, 3]
    again = js(code, "pages/learn/quiz.js", {"seed": 7, "right": 13})
    assert again[0] == order
    assert again[2] is False
    assert js(code, "pages/learn/quiz.js", {"seed": 8, "right": 20})[0] != order
