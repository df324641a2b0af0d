from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessen.errors import RecipeError
from lessen.prune.choose import Layer, best, choose


def layer(name, scores, **more):
    return Layer(name, np.asarray(scores, dtype=float), **more)


def test_per_layer_removes_the_lowest_share_of_every_layer():
    kept = choose([layer("a", [5, 1, 4, 2]), layer("b", [0.1, 0.4, 0.3, 0.2, 0.6, 0.5])], 0.5)
    assert kept == {"a": [0, 2], "b": [1, 4, 5]}


def test_per_layer_gives_layers_of_one_size_one_width_whatever_their_scores():
    rng = np.random.default_rng(0)
    kept = choose([layer(str(i), rng.random(5) * 10**i) for i in range(6)], 0.5)
    assert {len(k) for k in kept.values()} == {3}


def test_p5_at_least_one_unit_stays_in_every_layer():
    layers = [layer("a", [1.0]), layer("b", [1, 2]), layer("c", range(1, 40))]
    for scope in ("per_layer", "global"):
        assert min(map(len, choose(layers, 0.95, scope=scope).values())) == 1


def test_p9_global_ranking_does_not_empty_a_layer_whose_scores_are_small_throughout():
    rng = np.random.default_rng(1)
    scores = rng.random(32) + 0.5
    kept = choose([layer("large", 1000 * scores), layer("small", 0.001 * scores[::-1])], 0.5, scope="global")
    assert abs(len(kept["large"]) - len(kept["small"])) <= 1


def test_global_ranking_takes_more_from_the_layer_with_dead_units_than_per_layer_does():
    dead, alive = layer("dead", [0, 0, 0, 0, 0, 0, 2, 2]), layer("alive", np.linspace(0.9, 1.1, 8))
    spread = choose([dead, alive], 0.375, scope="global")
    assert (len(spread["dead"]), len(spread["alive"])) == (2, 8)
    even = choose([dead, alive], 0.375)
    assert len(even["dead"]) == len(even["alive"]) == 5


def test_p10_kept_widths_are_multiples_where_the_layer_is_roomy():
    layers = [layer("roomy", np.arange(100), multiple=16), layer("tight", np.arange(24), multiple=16)]
    for frac in (0.2, 0.5, 0.77):
        kept = choose(layers, frac)
        assert len(kept["roomy"]) % 16 == 0
        assert len(kept["tight"]) % layers[1].grain == 0
        assert 4 * layers[1].grain <= 24


def test_r10_removing_nothing_is_an_error_unless_a_round_may():
    with pytest.raises(RecipeError, match="takes no unit away"):
        choose([layer("a", [1, 2, 3, 4])], 0.05)
    assert choose([layer("a", [1, 2, 3, 4])], 0.05, required=False) == {"a": [0, 1, 2, 3]}


def test_r10_ties_remove_exactly_the_asked_number():
    assert choose([layer("a", np.ones(10))], 0.3) == {"a": [0, 1, 2, 3, 4, 5, 6]}
    kept = choose([layer("a", np.zeros(10)), layer("b", np.zeros(10))], 0.5, scope="global")
    assert sum(map(len, kept.values())) == 10


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(RecipeError, match="not finite"):
        choose([layer("a", [1, float("nan")])], 0.5)


def test_no_unit_at_all_is_refused():
    with pytest.raises(RecipeError, match="no unit"):
        choose([], 0.5)


def test_a_budget_out_of_reach_says_how_far_it_goes():
    with pytest.raises(RecipeError, match=r"holds 0\.3"):
        choose([layer("a", [1, 2, 3, 4])], 0.5, cost=lambda k: 6 + k["a"], whole=10)


def test_rounds_count_from_the_whole_model():
    first = choose([layer("a", np.arange(10))], 0.3)["a"]
    second = choose([layer("a", np.arange(10)[first], whole=10)], 0.6)["a"]
    assert len(first) == 7
    assert len(second) == 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), min_size=1, max_size=5),
    st.floats(0.05, 0.6),
    st.sampled_from(["per_layer", "global"]),
)
def test_a_cost_budget_is_met_and_overshot_by_less_than_one_unit(scores, frac, scope):
    layers = [layer(str(i), s) for i, s in enumerate(scores)]
    prices = {str(i): 3 + 5 * i for i in range(len(layers))}
    whole = sum(prices[x.name] * x.units for x in layers)

    def cost(kept):
        return sum(prices[n] * k for n, k in kept.items())

    if cost({x.name: 1 for x in layers}) > (1 - frac) * whole:
        with pytest.raises(RecipeError):
            choose(layers, frac, scope=scope, cost=cost, whole=whole)
        return
    left = cost({n: len(k) for n, k in choose(layers, frac, scope=scope, cost=cost, whole=whole).items()})
    allowed = (1 - frac) * whole
    assert left <= allowed < left + max(prices.values())


def test_best_keeps_the_first_among_equals():
    assert best(np.array([1.0, 2.0, 2.0, 2.0]), 2) == [1, 2]
