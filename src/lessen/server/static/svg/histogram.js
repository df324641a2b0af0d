// A histogram on ready-made bins, with another behind it as an outline, upright lines (a cut), and a shaded middle.

import { bottomAxis, leftAxis, line, rect, s, text, width as textWidth } from "./draw.js";
import { chart } from "./frame.js";
import { linear, ticks } from "./scale.js";

/**
 * Draw a histogram.
 *
 * spec.edges: bins + 1 values; spec.counts: bins; spec.against?: {edges, counts, name}; spec.show: value -> text
 * spec.cuts?: [{value, name}]; spec.gone?: (low, high) -> true where a bin was removed; spec.grid?: values drawn as a comb
 * spec.x: {title}; spec.y: {title}; spec.log?: counts on a logarithmic axis (log of 1 + count)
 */
export function histogram(spec) {
  const columns = ["from", "to", spec.first ?? "count", ...(spec.against ? [spec.against.name] : [])];
  const same = spec.against && spec.against.edges.every((e, i) => e === spec.edges[i]);
  const rows = spec.counts.map((n, i) => [
    spec.edges[i],
    spec.edges[i + 1],
    n,
    ...(spec.against ? [same ? spec.against.counts[i] : null] : []),
  ]);
  return chart({ ...spec, draw: (width) => drawHistogram(spec, width), table: spec.table ?? { columns, rows } });
}

function drawHistogram(spec, width) {
  const height = 240;
  const lift = spec.log ? (n) => Math.log10(1 + n) : (n) => n;
  const every = [...spec.counts, ...(spec.against?.counts ?? [])];
  const top = Math.max(...every.map(lift), 1);
  const y = linear(0, top * 1.05, height - 44, 30);
  const show = (v) => (spec.log ? short(Math.round(10 ** v - 1)) : short(v));
  const at = spec.log ? [0, ...[1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].map(lift)].filter((v) => v <= top * 1.05) : ticks(y, 4);
  const room = Math.max(...at.map((v) => textWidth(show(v), 11))) + 12;
  const low = Math.min(spec.edges[0], spec.against?.edges[0] ?? spec.edges[0]);
  const high = Math.max(spec.edges.at(-1), spec.against?.edges.at(-1) ?? spec.edges.at(-1));
  const x = linear(low, high, Math.max(room, 34), width - 10);
  const marks = [];
  const body = s("g", {});
  spec.counts.forEach((n, i) => {
    const [a, b] = [spec.edges[i], spec.edges[i + 1]];
    const gone = spec.gone?.(a, b);
    const node = rect(x(a), y(lift(n)), Math.max(x(b) - x(a) - 0.5, 0.5), y(0) - y(lift(n)), gone ? "bar gone" : "bar c1");
    const what = `${spec.show(a)} to ${spec.show(b)}: ${n.toLocaleString()}${gone === undefined ? "" : gone ? ", removed" : ", kept"}`;
    marks.push({ node, label: what, detail: what });
    body.append(node);
  });
  if (spec.against) body.append(outline(spec.against, x, y, lift));
  for (const cut of spec.cuts ?? []) {
    if (!(cut.value >= low && cut.value <= high)) continue;
    body.append(line(x(cut.value), 28, x(cut.value), y(0), "target"), text(x(cut.value) + 4, 40, cut.name, "small"));
  }
  if (spec.grid?.length)
    body.append(
      s(
        "g",
        { "aria-hidden": "true" },
        spec.grid.filter((v) => v >= low && v <= high).map((v) => line(x(v), y(0), x(v), y(0) - 7, "comb")),
      ),
    );
  const nodes = [
    leftAxis(y, x.from, x.to, at, show, spec.y?.title ?? "count"),
    bottomAxis(x, height - 44, ticks(x, (x.to - x.from) / 75), spec.tick ?? spec.show, spec.x?.title ?? ""),
    body,
  ];
  return { height, nodes, marks };
}

function outline({ edges, counts }, x, y, lift) {
  const d = [`M${x(edges[0])} ${y(0)}`];
  counts.forEach((n, i) => d.push(`V${y(lift(n))}H${x(edges[i + 1])}`));
  d.push(`V${y(0)}`);
  return s("path", { d: d.join(""), class: "outline", "aria-hidden": "true" });
}

function short(value) {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))} k`;
  return String(Number(value.toPrecision(3)));
}
