// What chart.js draws over uPlot's canvas: stage borders, horizontal levels, marks. It is drawn by a pen; another pen writes the same
// as SVG, with axes, lines and legend: the copy of a chart. Lengths are CSS pixels, colours are variables of style.css.
//
//   overlay(plot, {bands, levels, marks})                the hook "draw" of uPlot
//   drawing(plot, {title, layers, over}) -> {text, width, height}     an SVG that stands alone, of the span and axis that are shown
//   layers: [{label, slot, points, dots, pale, smoothed}]

import { s } from "./dom.js";
import { color } from "./theme.js";

export const DASHES = [[], [9, 3], [2, 3], [10, 3, 2, 3], [5, 5], [12, 4], [1, 4], [6, 2, 1, 2]];
const FONT = "system-ui, sans-serif";
const round = (value) => Math.round(value * 100) / 100;

/** The parts of a plot in CSS pixels, and where a value lies. */
function place(plot) {
  const scale = devicePixelRatio;
  const [left, top, width, height] = ["left", "top", "width", "height"].map((side) => plot.bbox[side] / scale);
  return { left, top, right: left + width, foot: top + height, x: (value) => plot.valToPos(value, "x", true) / scale, y: (value) => plot.valToPos(value, "y", true) / scale };
}

function onCanvas(ctx) {
  const scale = devicePixelRatio;
  return {
    line(points, { ink, width = 1, dash = [], filled = false }) {
      ctx.strokeStyle = ctx.fillStyle = color(ink);
      ctx.lineWidth = width * scale;
      ctx.setLineDash(dash.map((length) => length * scale));
      ctx.beginPath();
      points.forEach(([x, y], at) => (at ? ctx.lineTo(x * scale, y * scale) : ctx.moveTo(x * scale, y * scale)));
      if (filled) ctx.fill();
      else ctx.stroke();
    },
    text(x, y, content, { ink, bold = false, anchor = "start", room = Infinity }) {
      ctx.font = `${bold ? "600 " : ""}${11 * scale}px ${FONT}`;
      ctx.fillStyle = color(ink);
      ctx.textAlign = anchor;
      ctx.textBaseline = "alphabetic";
      if (ctx.measureText(content).width <= room * scale) ctx.fillText(content, x * scale, y * scale);
    },
  };
}

function onPaper(nodes) {
  return {
    line(points, { ink, width = 1, dash = [], filled = false, faint = false }) {
      nodes.push(s("polyline", {
        points: points.map(([x, y]) => `${round(x)},${round(y)}`).join(" "), fill: filled ? color(ink) : "none", stroke: filled ? null : color(ink),
        "stroke-width": width, "stroke-dasharray": dash.length ? dash.join(" ") : null, "stroke-opacity": faint ? 0.35 : null,
      }));
    },
    text(x, y, content, { ink, bold = false, anchor = "start", room = Infinity, size = 11 }) {
      if (content.length * size * 0.56 > room) return;
      nodes.push(s("text", { x: round(x), y: round(y), fill: color(ink), "font-size": size, "font-weight": bold ? 600 : null, "text-anchor": anchor }, content));
    },
  };
}

/** Draw borders, levels and marks: the hook "draw" of uPlot. */
export function overlay(plot, over) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top - 20 * devicePixelRatio, bbox.width, bbox.height + 28 * devicePixelRatio);
  ctx.clip();
  drawOver(onCanvas(ctx), place(plot), over);
  ctx.restore();
}

function drawOver(pen, at, { bands, levels, marks }) {
  bands.forEach((band, index) => {
    const x = Math.max(at.left, at.x(band.x));
    const next = bands[index + 1] ? at.x(bands[index + 1].x) : Infinity;
    if (x > at.right || next < at.left) return;
    if (index > 0) pen.line([[x, at.top], [x, at.foot]], { ink: "--edge", dash: [4, 4] });
    pen.text(x + 4, at.top - 5, band.label, { ink: "--muted", bold: true, room: Math.min(next, at.right) - x - 6 });
  });
  for (const level of levels) {
    const y = at.y(level.y);
    if (!Number.isFinite(y)) continue;
    pen.line([[at.left, y], [at.right, y]], { ink: "--text", dash: [8, 4] });
    const above = y - at.top > 18; // else it would run into the names of the stages
    pen.text(at.right - 4, y + (above ? -4 : 13), level.label, { ink: "--text", anchor: "end" });
  }
  for (const mark of marks) drawMark(pen, at, at.x(mark.x), mark.kind === "bad");
}

/** A "bad" mark is a line with a cross on top; a "warning" mark a small triangle below the axis, where many of them hide no line: shapes, not colours alone. */
function drawMark(pen, { left, right, top, foot }, x, bad) {
  if (x < left || x > right) return;
  if (!bad) return void pen.line([[x - 3.5, foot + 7], [x + 3.5, foot + 7], [x, foot + 1]], { ink: "--warning", filled: true });
  const ink = "--bad";
  pen.line([[x, top + 10], [x, foot]], { ink });
  pen.line([[x - 5, top], [x + 5, top + 10]], { ink, width: 2 });
  return pen.line([[x + 5, top], [x - 5, top + 10]], { ink, width: 2 });
}

/** Write a chart as SVG: title and legend above, then what the plot shows now, line by line from the data. */
export function drawing(plot, { title, layers, over }) {
  const at = place(plot);
  const [around, below, inner, above] = [[], [], [], []];
  const { width, height } = plot;
  const head = legend(onPaper(around), title, layers.filter((one) => !one.smoothed), width);
  axes(onPaper(below), at, plot);
  const pen = onPaper(inner);
  for (const one of layers) {
    const look = { ink: `--series-${one.slot}`, width: one.pale ? 1 : 2, dash: one.pale ? [] : DASHES[one.slot - 1], faint: one.pale };
    const parts = pieces(one.points, plot, at);
    for (const points of parts) if (points.length > 1) pen.line(points, look);
    const lone = parts.filter((points) => points.length === 1);
    for (const [x, y] of one.dots ? parts.flat() : lone.flat()) inner.push(s("circle", { cx: round(x), cy: round(y), r: 3, fill: color(look.ink) }));
  }
  drawOver(onPaper(above), at, over);
  const clip = s("clipPath", { id: "area" }, s("rect", { x: at.left, y: at.top, width: at.right - at.left, height: at.foot - at.top }));
  const node = s("svg", { width, height: head + height, viewBox: `0 0 ${width} ${head + height}`, "font-family": FONT },
    s("title", null, title), s("rect", { width: "100%", height: "100%", fill: color("--surface") }), clip, around,
    s("g", { transform: `translate(0 ${head})` }, below, s("g", { "clip-path": "url(#area)" }, inner), above));
  return { text: new XMLSerializer().serializeToString(node), width, height: head + height };
}

/** Points in pixels, in pieces between breaks; what lies beside the span is left out, but for its neighbours. */
function pieces(points, plot, at) {
  const { min, max } = plot.scales.x;
  const log = plot.scales.y.distr === 3;
  const out = [[]];
  points.forEach(([x, y], index) => {
    if ((points[index + 1]?.[0] ?? x) < min || (points[index - 1]?.[0] ?? x) > max) return;
    if (Number.isFinite(y) && (y > 0 || !log)) out.at(-1).push([at.x(x), at.y(y)]);
    else out.push([]);
  });
  return out;
}

function axes(pen, at, plot) {
  const [across, up] = plot.axes;
  const grid = { ink: "--grid" };
  across._splits?.forEach((value, index) => { // uPlot's own ticks and their texts; the file is vendored, so they stay
    pen.line([[at.x(value), at.top], [at.x(value), at.foot]], grid);
    pen.text(at.x(value), at.foot + 18, String(across._values[index] ?? ""), { ink: "--muted", anchor: "middle", size: 12 });
  });
  up._splits?.forEach((value, index) => {
    pen.line([[at.left, at.y(value)], [at.right, at.y(value)]], grid);
    pen.text(at.left - 8, at.y(value) + 4, String(up._values[index] ?? ""), { ink: "--muted", anchor: "end", size: 12 });
  });
}

/** Write title and legend; returns their height. */
function legend(pen, title, layers, width) {
  pen.text(12, 20, title, { ink: "--text", bold: true, size: 15 });
  let [x, y] = [12, 42];
  for (const { label, slot } of layers) {
    const needs = 44 + label.length * 12 * 0.56;
    if (x > 12 && x + needs > width) [x, y] = [12, y + 18];
    pen.line([[x, y - 4], [x + 22, y - 4]], { ink: `--series-${slot}`, width: 2.5, dash: DASHES[slot - 1] });
    pen.text(x + 28, y, label, { ink: "--text", size: 12 });
    x += needs;
  }
  return y + 10;
}
