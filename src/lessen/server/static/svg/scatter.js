// Dots over two axes: the Pareto front of any two metrics, whiskers for intervals, and lines of a few points.

import { bottomAxis, leftAxis, line, marker, path, rect, s, text, whisker, width as textWidth, SHAPES } from "./draw.js";
import { chart } from "./frame.js";
import { domain, linear, log, ticks } from "./scale.js";

/**
 * Return which points no other beats on both axes, and the knee among them.
 *
 * A point is beaten by one that is at least as good on both and better on one. The knee is the point of the front that lies furthest from
 * the line between the front's ends, with both axes scaled to 0..1; a front of less than three points has none.
 *
 * points: [{x, y}]; better: {x: 1|-1, y: 1|-1} (1: higher is better)
 */
export function front(points, better) {
  const beats = (a, b) => {
    const dx = (a.x - b.x) * better.x;
    const dy = (a.y - b.y) * better.y;
    return dx >= 0 && dy >= 0 && (dx > 0 || dy > 0);
  };
  const on = points.map((p) => !points.some((q) => beats(q, p)));
  const order = points
    .map((_, i) => i)
    .filter((i) => on[i])
    .sort((a, b) => points[a].x - points[b].x || points[a].y - points[b].y);
  return { on, order, knee: knee(points, order) };
}

function knee(points, order) {
  if (order.length < 3) return null;
  const [first, last] = [points[order[0]], points[order[order.length - 1]]];
  const w = last.x - first.x || 1;
  const h = last.y - first.y || 1;
  let best = null;
  let far = 1e-9;
  for (const i of order.slice(1, -1)) {
    const away = Math.abs((points[i].y - first.y) / h - (points[i].x - first.x) / w);
    if (away > far) [best, far] = [i, away];
  }
  return best;
}

/**
 * Draw dots.
 *
 * spec.points: [{name, x, y, xlow?, xhigh?, ylow?, yhigh?, series, faded?, ring?, act?}] series: index into spec.series
 * spec.x, spec.y: {title, show, tick?, better: 1|-1|0, log?}; spec.series: [{name, kind}]; spec.pareto: draw front and knee
 * spec.brush: (box|null) -> called with {x: [low, high], y: [low, high]} when an area is dragged
 */
export function scatter(spec) {
  const columns = ["name", spec.x.title, spec.y.title, ...(spec.pareto ? ["front"] : [])];
  const found = spec.pareto ? front(spec.points, { x: spec.x.better || 1, y: spec.y.better || 1 }) : null;
  const word = (i) => (found.knee === i ? "front, knee" : found.on[i] ? "front" : "beaten");
  const rows = spec.points.map((p, i) => [p.name, p.x, p.y, ...(found ? [word(i)] : [])]);
  const key = spec.series.length > 1 ? spec.series.map((x, i) => ({ ...x, shape: SHAPES[i % SHAPES.length] })) : null;
  return chart({ ...spec, key, draw: (width, svg) => drawScatter(spec, found, word, width, svg), table: { columns, rows } });
}

function drawScatter(spec, found, word, width, svg) {
  const height = Math.max(280, Math.min(420, width * 0.62));
  const { x, y } = axes(spec, width, height);
  const nodes = [
    leftAxis(y, x.from, x.to, ticks(y, 5), spec.y.tick ?? spec.y.show, arrowed(spec.y)),
    bottomAxis(x, height - 44, ticks(x, (x.to - x.from) / 80), spec.x.tick ?? spec.x.show, arrowed(spec.x)),
  ];
  if (found && found.order.length > 1) nodes.push(stairs(spec, found, x, y));
  const marks = [];
  const labels = [];
  spec.points.forEach((p, i) => {
    const at = [x(p.x), y(p.y)];
    const faded = p.faded ?? (found ? !found.on[i] : false);
    const g = s("g", { class: faded ? "faded" : null });
    if (Number.isFinite(p.ylow)) g.append(whisker(at[0], y(p.ylow), at[0], y(p.yhigh)));
    if (Number.isFinite(p.xlow)) g.append(whisker(x(p.xlow), at[1], x(p.xhigh), at[1]));
    if (p.ring || found?.knee === i) g.append(s("circle", { cx: at[0], cy: at[1], r: 11, class: p.ring ? "ring pinned" : "ring" }));
    const series = spec.series[p.series] ?? spec.series[0];
    g.append(marker(at[0], at[1], 6, SHAPES[p.series % SHAPES.length], `dot ${series.kind}`));
    labels.push({ at, text: found?.knee === i ? `${p.short ?? p.name} (knee)` : (p.short ?? p.name), faded });
    const more = found ? `, ${word(i)}` : "";
    marks.push({ node: g, label: p.name, detail: `${p.name}: ${spec.x.show(p.x)}, ${spec.y.show(p.y)}${p.more ?? ""}${more}`, act: p.act });
    nodes.push(g);
  });
  nodes.push(...place(labels, width, height));
  if (spec.brush) brush(svg, x, y, spec.brush);
  return { height, nodes, marks };
}

function axes(spec, width, height) {
  const range = (axis, of) =>
    domain(
      spec.points.flatMap((p) => of.map((k) => p[k])),
      { logarithmic: axis.log, pad: 0.12 },
    );
  const [xl, xh] = range(spec.x, ["x", "xlow", "xhigh"]);
  const [yl, yh] = range(spec.y, ["y", "ylow", "yhigh"]);
  const y = (spec.y.log ? log : linear)(yl, yh, height - 44, 30);
  const room = Math.max(...ticks(y, 5).map((v) => textWidth((spec.y.tick ?? spec.y.show)(v), 11))) + 12;
  return { x: (spec.x.log ? log : linear)(xl, xh, Math.max(room, 34), width - 12), y };
}

function arrowed(axis) {
  if (!axis.better) return axis.title;
  return `${axis.title} (${axis.better > 0 ? "higher" : "lower"} is better)`;
}

function stairs(spec, found, x, y) {
  const points = [];
  found.order.forEach((i, k) => {
    const p = spec.points[i];
    const before = spec.points[found.order[k - 1]];
    // between two points of the front, what is reachable is the worse of both on either axis
    if (before) points.push(spec.x.better < 0 ? [x(p.x), y(before.y)] : [x(before.x), y(p.y)]);
    points.push([x(p.x), y(p.y)]);
  });
  return path(points, "front");
}

/** Put names beside their dots where they do not cover each other; one that finds no room is left to the readout. */
function place(labels, width, height) {
  const taken = labels.map(({ at }) => [at[0] - 7, at[1] - 7, at[0] + 7, at[1] + 7]);
  const out = [];
  for (const { at, text: name, faded } of labels) {
    const w = textWidth(name, 12);
    const spots = [
      [10, 4, "start"],
      [-10, 4, "end"],
      [0, -11, "middle"],
      [0, 20, "middle"],
      [9, -9, "start"],
      [-9, -9, "end"],
      [9, 17, "start"],
      [-9, 17, "end"],
    ];
    for (const [dx, dy, anchor] of spots) {
      const left = at[0] + dx - (anchor === "end" ? w : anchor === "middle" ? w / 2 : 0);
      const box = [left, at[1] + dy - 11, left + w, at[1] + dy + 3];
      const inside = box[0] > 30 && box[2] < width - 2 && box[1] > 14 && box[3] < height - 46;
      if (!inside || taken.some((t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1])) continue;
      taken.push(box);
      out.push(text(at[0] + dx, at[1] + dy, name, faded ? "label halo faint-text" : "label halo", anchor));
      break;
    }
  }
  return out;
}

function brush(svg, x, y, told) {
  if (svg.brushed) svg.brushed.abort();
  svg.brushed = new AbortController();
  const { signal } = svg.brushed;
  let start = null;
  let box = null;
  const value = (scale, pixel) => {
    const share = (pixel - scale.from) / (scale.to - scale.from);
    return scale.log
      ? 10 ** (Math.log10(scale.low) + share * (Math.log10(scale.high) - Math.log10(scale.low)))
      : scale.low + share * (scale.high - scale.low);
  };
  const spot = (event) => {
    const r = svg.getBoundingClientRect();
    return [event.clientX - r.left, event.clientY - r.top];
  };
  svg.addEventListener(
    "pointerdown",
    (event) => {
      if (event.target.closest(".mark") || event.pointerType === "touch") return;
      start = spot(event);
    },
    { signal },
  );
  svg.addEventListener(
    "pointermove",
    (event) => {
      if (!start) return;
      const now = spot(event);
      if (!box && Math.hypot(now[0] - start[0], now[1] - start[1]) < 5) return;
      box?.remove();
      box = rect(Math.min(now[0], start[0]), Math.min(now[1], start[1]), Math.abs(now[0] - start[0]), Math.abs(now[1] - start[1]), "brush");
      svg.append(box);
    },
    { signal },
  );
  addEventListener(
    "pointerup",
    (event) => {
      if (!start) return;
      const end = spot(event);
      const dragged = box !== null;
      const span = (scale, i) => [value(scale, start[i]), value(scale, end[i])].sort((a, b) => a - b);
      const area = dragged ? { x: span(x, 0), y: span(y, 1) } : null;
      start = null;
      box?.remove();
      box = null;
      told(area);
    },
    { signal },
  );
}

/**
 * Draw lines; every dot can be reached by keyboard.
 *
 * spec.series: [{name, kind, points: [[x, y] ...]}]; spec.x, spec.y: {title, show, tick?, log?, range?: [low, high]}
 * spec.marks: dashed lines of reference: upright {x, name}, level {y, name}, or {line: [[x, y], [x, y]], name}
 * spec.dot(k, points, series index) -> shape of a point or null, where not each has its series' dot
 * spec.tell(series, point, k) -> the words of a dot
 * spec.behind(x, y) -> nodes under the lines
 */
export function lines(spec) {
  const xs = [...new Set(spec.series.flatMap((q) => q.points.map((p) => p[0])))].sort((a, b) => a - b);
  const columns = [spec.x.title, ...spec.series.map((q) => q.name)];
  const rows = xs.map((v) => [v, ...spec.series.map((q) => q.points.find((p) => p[0] === v)?.[1] ?? null)]);
  const key = spec.series.map((q, i) => ({ ...q, shape: spec.dot ? null : SHAPES[i % SHAPES.length], dash: i }));
  return chart({ ...spec, key, draw: (width) => drawLines(spec, width), table: spec.table ?? { columns, rows } });
}

/** Between whole epochs there is nothing to mark. */
function rounds(values, at) {
  return values.every(Number.isInteger) ? at.filter(Number.isInteger) : at;
}

function drawLines(spec, width) {
  const height = 250;
  const every = spec.series.flatMap((q) => q.points);
  const along = (i) => every.map((p) => p[i]).concat((spec.marks ?? []).map((mark) => mark["xy"[i]]));
  const [yl, yh] = spec.y.range ?? domain(along(1), { zero: spec.zero ?? true });
  const y = linear(yl, yh, height - 44, 30);
  const room = Math.max(...ticks(y, 5).map((v) => textWidth((spec.y.tick ?? spec.y.show)(v), 11))) + 12;
  const [xl, xh] = spec.x.range ?? domain(along(0), { pad: 0.04, logarithmic: spec.x.log });
  const x = (spec.x.log ? log : linear)(xl, xh, Math.max(room, 34), width - 12);
  const at = ticks(x, Math.min((x.to - x.from) / 60, 8));
  const nodes = [
    leftAxis(y, x.from, x.to, ticks(y, 5), spec.y.tick ?? spec.y.show, spec.y.title),
    bottomAxis(
      x,
      height - 44,
      rounds(
        every.map((p) => p[0]),
        at,
      ),
      spec.x.tick ?? spec.x.show,
      spec.x.title,
    ),
    ...(spec.behind?.(x, y) ?? []),
  ];
  for (const mark of spec.marks ?? []) {
    const upright = mark.x !== undefined;
    const [[a, b], [c, d]] = mark.line ?? [
      [mark.x ?? xl, mark.y ?? yl],
      [mark.x ?? xh, mark.y ?? yh],
    ];
    nodes.push(line(x(a), y(b), x(c), y(d), "target"), text(x(c) - 4, y(d) + (upright ? 10 : -4), mark.name, "small", "end"));
  }
  const marks = [];
  spec.series.forEach((q, i) => {
    nodes.push(
      path(
        q.points.map(([a, b]) => [x(a), y(b)]),
        `curve ${q.kind} dash${i}`,
      ),
    );
    q.points.forEach((point, k) => {
      const [a, b] = point;
      const shape = spec.dot ? spec.dot(k, q.points, i) : SHAPES[i % SHAPES.length];
      if (!shape) return;
      const node = marker(x(a), y(b), 3.6, shape, `dot ${q.kind}`);
      const told = spec.tell?.(q, point, k);
      marks.push({
        node,
        label: told ?? `${q.name}, ${spec.x.show(a)}`,
        detail: told ?? `${q.name}, ${spec.x.title} ${spec.x.show(a)}: ${spec.y.show(b)}`,
      });
      nodes.push(node);
    });
  });
  return { height, nodes, marks };
}
