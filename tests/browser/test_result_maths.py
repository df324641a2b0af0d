"""What the result pages reckon by themselves: fronts, folds, copied blocks, spreads, CSV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from served import Running

MATHS = """async () => {
  const { front } = await import("/static/svg/scatter.js");
  const { copied, place } = await import("/static/pages/network/rows.js");
  const { folded, grow } = await import("/static/pages/layers/tree.js");
  const { spread } = await import("/static/pages/compare/points.js");
  const { csv } = await import("/static/svg/copy.js");
  const points = [{ x: 1, y: 0 }, { x: 2, y: 9 }, { x: 10, y: 10 }, { x: 5, y: 5 }, { x: 1, y: 0 }];
  const block = (list, index) => ({ list, index, rows: [] });
  const student = [block("encoder.block", 0), block("encoder.block", 1), block("decoder.block", 0)];
  const teacher = ["encoder.block", "decoder.block"].flatMap((list) => [0, 1, 2].map((i) => block(list, i)));
  const layer = (id, parent, fold, parameters) => ({
    id, name: id.split(".").at(-1), parent, fold, kind: "Linear", shape: [1, 1], parameters,
    bytes: 4 * parameters, sparsity: 0, units_before: null, units_after: null,
  });
  const below = [["a.0", "s", 2], ["a.1", "s", 2], ["b", "t", 3]];
  const rows = [layer("model", null, "r", 7), ...below.map(([id, fold, n]) => layer(id, "model", fold, n))];
  const tree = folded(grow(rows));
  return {
    front: front(points, { x: -1, y: 1 }),
    none: front(points.slice(0, 2), { x: -1, y: 1 }).knee,
    copied: [...copied(student, teacher, [0, 2, 4])],
    unmapped: [...copied(student, teacher, [0, 2])],
    place: [place("classifier.1"), place("bert.layer.3.output.dense")],
    folded: tree.children.map((n) => [n.name, n.times, n.values.parameters]),
    spread: spread([1, 2, 3]),
    csv: csv(["a", "=b"], [["=1+1", -2], ['say "no"', null]]),
  };
}"""


def test_the_pages_reckon_rightly(server: Running, open_page: Callable[..., Any]) -> None:
    found = open_page(server, "#/compare").evaluate(MATHS)
    # smaller x and larger y win; equal points do not beat each other
    assert found["front"]["on"] == [True, True, True, False, True]
    assert found["front"]["knee"] == 1
    assert found["none"] is None
    assert found["copied"] == [
        ["encoder.block.0", "encoder.block.0"],
        ["encoder.block.1", "encoder.block.2"],
        ["decoder.block.0", "decoder.block.1"],
    ]
    assert found["unmapped"] == []
    assert found["place"] == [
        {"list": None, "index": None, "rest": "classifier.1"},
        {"list": "bert.layer", "index": 3, "rest": "output.dense"},
    ]
    assert found["folded"] == [["0 … 1", 2, 4], ["b", 1, 3]]
    assert found["spread"] == {"n": 3, "mean": 2, "sd": 1, "low": 1, "high": 3}
    assert found["csv"] == 'a,\'=b\r\n\'=1+1,-2\r\n"say ""no""",\r\n'
