"""Functions of the page that need no page: numbers and units, curves over attempts, values typed into the form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from served import Running


@pytest.fixture(scope="module")
def page(server: Running, browser: Any) -> Any:
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.goto(f"{server.url}/test")
    yield page
    context.close()


@pytest.fixture
def call(page: Any) -> Callable[..., Any]:
    def run(module: str, body: str, *values: Any) -> Any:
        code = f"async (values) => {{ const m = await import('/static/{module}'); return (({body}))(m, ...values); }}"
        return page.evaluate(code, list(values))

    return run


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("number", 0.86627, "0.866"),
        ("number", -0.5, "−0.5"),
        ("number", 123456.7, "123,457"),
        ("number", 2e-05, "2.00e−5"),
        ("number", None, "–"),
        ("integer", 1677128, "1,677,128"),
        ("compact", 1677128, "1.68 M"),
        ("percent", 0.866, "86.6 %"),
        ("points", -0.0041, "−0.4 points"),
        ("points", 0.012, "+1.2 points"),
        ("bytes", 4700000, "4.7 MB"),
        ("bytes", 999, "999 B"),
        ("milliseconds", 12.34, "12.3 ms"),
        ("seconds", 192, "3 min 12 s"),
        ("seconds", 0.25, "250 ms"),
        ("seconds", 5400, "1 h 30 min"),
        ("signed", 0.12, "+0.12"),
        ("times", 3.8712, "3.87 ×"),
    ],
)
def test_numbers_have_units_and_no_false_digits(call: Callable[..., Any], name: str, value: Any, text: str) -> None:
    assert call("format.js", "(m, name, value) => m[name](value)", name, value) == text


def test_times_are_local_on_the_screen_and_iso_in_the_title(call: Callable[..., Any]) -> None:
    body = "(m, t) => { const node = m.clock(t); return [node.textContent, node.title, node.tagName]; }"
    assert call("format.js", body, 1_795_276_701) == ["16:58:21", "2026-11-21T15:58:21.000Z", "TIME"]


STORY = """(m, events) => {
  const story = new m.Story({ error: null, progress: {}, summary: {} });
  for (const event of events) story.take(event);
  const marks = story.marks(story.layout(), (mark) => mark.kind);
  return [story.curve("distill", "loss"), marks.map((mark) => [mark.kind, mark.step])];
}"""


def step(number: int, loss: float | None, attempt: int = 1, **values: float) -> dict[str, Any]:
    return {"kind": "Progress", "stage": "distill", "step": number, "total_steps": 9, "unit": "steps", "loss": loss,
            "values": values, "attempt": attempt, "ts": 1.0 * number, "seq": number}  # fmt: skip


def test_curves_follow_the_stores_rules(call: Callable[..., Any]) -> None:
    """A later attempt replaces what it does again; an epoch's mean is no step; other work is no step."""
    events = [
        *(step(n, 1.0) for n in (1, 2, 3, 4)),
        step(4, 9.0, val_loss=0.5),
        {**step(99, None), "unit": "teacher answers"},
    ]
    assert call("pages/run/story.js", STORY, events)[0] == [[1, 1], [2, 1], [3, 1], [4, 1]]
    events += [step(3, 2.0, attempt=2)]
    assert call("pages/run/story.js", STORY, events)[0] == [[1, 1], [2, 1], [3, 2]]
    assert call("pages/run/story.js", STORY, events + events[-1:])[0] == [[1, 1], [2, 1], [3, 2]]


def test_events_on_the_curve_come_from_the_log_and_from_the_error(call: Callable[..., Any]) -> None:
    line, error = "loss_soft is not finite at step 6", {"message": "the gradient is not finite at step 8"}
    events = [
        step(5, 1.0, clipped=2.0),
        step(6, 1.0, clipped=0.0),
        {"kind": "Log", "stage": "distill", "level": "warning", "message": line, "seq": 7, "ts": 1.0},
        {"kind": "RunStateChanged", "state": "failed", "error": error, "seq": 8, "ts": 1.0},
    ]
    assert call("pages/run/story.js", STORY, events)[1] == [["warning", 5], ["bad", 6], ["bad", 8]]


@pytest.mark.parametrize(
    ("setting", "text", "wanted"),
    [
        ({"kind": "number", "min": 0, "max": None, "above": None, "below": 1}, "0.5", {"value": 0.5}),
        ({"kind": "number", "min": 0, "max": None, "above": None, "below": 1}, "1", {"error": "0 ≤ x < 1"}),
        ({"kind": "number", "min": None, "max": None, "above": 0, "below": None}, "2e-5", {"value": 2e-5}),
        (
            {"kind": "number", "whole": True, "min": 1, "max": None, "above": None, "below": None},
            "1.5",
            {"error": "whole"},
        ),
        (
            {"kind": "number", "nullable": True, "min": 1, "max": None, "above": None, "below": None},
            "",
            {"value": None},
        ),
        ({"kind": "number", "min": 1, "max": None, "above": None, "below": None}, "", {"error": "number"}),
        ({"kind": "list"}, "a, b,", {"value": ["a", "b"]}),
        ({"kind": "map"}, '{"hidden": 0.3}', {"value": {"hidden": 0.3}}),
        ({"kind": "map"}, "[1]", {"error": "map"}),
    ],
)
def test_what_is_typed_becomes_a_value_or_an_error(
    call: Callable[..., Any], setting: dict[str, Any], text: str, wanted: Any
) -> None:
    words = '{ notNumber: "number", notWhole: "whole", notMap: "map", outside: (range) => range }'
    assert (
        call("pages/start/schema.js", f"(m, setting, text) => m.read(setting, text, {words})", setting, text) == wanted
    )


def fitted(call: Callable[..., Any], body: str) -> Any:
    return call("chart-data.js", f"(m) => {{ {body} }}")


def test_few_points_are_drawn_as_they_are(call: Callable[..., Any]) -> None:
    found = fitted(call, "return m.fit([{ points: [[1, 5], [2, null]] }, { points: [[2, 7]] }], 100);")
    assert found == {"xs": [1, 2], "columns": [[5, None], [None, 7]], "reach": 0}


def test_many_points_are_thinned_and_no_spike_is_lost(call: Callable[..., Any]) -> None:
    body = """
      const wave = (x) => (x === 51234 ? 99 : x === 51236 ? -99 : x > 80000 && x < 82000 ? null : Math.sin(x / 9));
      const points = Array.from({ length: 100000 }, (_, x) => [x, wave(x)]);
      const other = Array.from({ length: 90000 }, (_, x) => [x + 0.5, 1]);
      const { xs, columns: [line, flat], reach } = m.fit([{ points }, { points: other }], 500);
      const known = line.map((y, i) => [xs[i], y]).filter(([, y]) => y !== undefined && y !== null);
      return { count: xs.length, reach, rising: xs.every((x, i) => !i || x > xs[i - 1]), ends: [xs[0], xs.at(-1)],
        spikes: known.filter(([, y]) => Math.abs(y) > 2),
        far: known.filter(([x, y]) => Math.abs(x - 51235) > reach && Math.abs(y) > 1),
        gaps: line.filter((y) => y === null).length, flat: [...new Set(flat.filter((y) => y !== undefined))] };"""
    found = fitted(call, body)
    assert found["count"] <= 1000
    assert found["rising"]
    assert found["ends"] == [0, 99999]
    assert [y for _, y in found["spikes"]] == [99, -99]
    assert all(abs(x - 51235) <= found["reach"] for x, _ in found["spikes"])
    assert found["far"] == []
    assert found["gaps"] >= 9  # 2,000 of 100,000 steps are 10 of 500 columns
    assert found["flat"] == [1]


def test_a_closer_look_has_every_point(call: Callable[..., Any]) -> None:
    body = """
      const points = Array.from({ length: 100000 }, (_, x) => [x, x % 10]);
      const { xs, columns: [line], reach } = m.fit([{ points }], 500, [50000, 50100]);
      const near = xs.map((x, i) => [x, line[i]]).filter(([x]) => x >= 50000 && x <= 50100);
      return [near.length, near.every(([x, y]) => y === x % 10), xs[0], xs.at(-1), reach, xs.length < 200];"""
    assert fitted(call, body) == [101, True, 0, 99999, 0, True]


def test_the_nearest_point_is_read_within_reach(call: Callable[..., Any]) -> None:
    body = """
      const points = [[0, 1], [10, 2], [20, null]];
      const read = ([x, reach]) => { const y = m.valueAt(points, x, reach); return y === undefined ? "none" : y; };
      return [[10, 0], [9, 0], [9, 1], [4, 4], [30, 9], [20, 0]].map(read);"""
    assert fitted(call, body) == [2, "none", 2, 1, "none", None]


def test_a_gap_in_the_events_is_fetched_and_nothing_comes_twice(page: Any) -> None:
    """The server may drop progress for a slow client; the page then asks the store before it goes on."""
    page.route(
        "**/api/v1/runs/r/events*",
        lambda route: route.fulfill(
            json={"events": [{"seq": 3, "run_id": "r"}, {"seq": 4, "run_id": "r"}], "more": False}
        ),
    )
    got = page.evaluate("""async () => {
      const { Feed } = await import("/static/live.js");
      const seen = [];
      const feed = new Feed("r", 1, { onEvents: (events) => seen.push(...events.map((event) => event.seq)) });
      for (const seq of [2, 2, 5, 4, 6]) feed.take({ seq, run_id: "r" });
      await new Promise((done) => setTimeout(done, 1000));
      feed.take({ seq: 5, run_id: "r" });
      feed.take({ seq: 7, run_id: "r" });
      await new Promise((done) => setTimeout(done, 400));
      return seen;
    }""")
    assert got == [2, 3, 4, 5, 6, 7]
