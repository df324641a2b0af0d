// SVG elements, axes, marker shapes. Everything is coloured by class (result.css), never by attribute, so themes apply.

import { s as build } from "../dom.js";

export const SHAPES = ["circle", "square", "triangle", "diamond", "cross", "star"];

/** Make an SVG element; lengths are rounded to a hundredth of a pixel. */
export function s(tag, attributes = {}, ...children) {
  const rounded = Object.entries(attributes).map(([key, value]) => [key, typeof value === "number" ? round(value) : value]);
  return build(tag, Object.fromEntries(rounded), ...children);
}

export function round(value) {
  return Math.round(value * 100) / 100;
}

export function text(x, y, content, kind = "label", anchor = "start") {
  return s("text", { x, y, class: kind, "text-anchor": anchor }, String(content));
}

/** Return about how many pixels a text takes; used to reserve room before it is drawn. */
export function width(content, size = 12) {
  return String(content).length * size * 0.56;
}

export function line(x1, y1, x2, y2, kind) {
  return s("line", { x1, y1, x2, y2, class: kind });
}

export function rect(x, y, w, h, kind) {
  return s("rect", { x, y, width: Math.max(w, 0), height: Math.max(h, 0), class: kind });
}

/** A marker whose shape tells a series as well as its colour does. */
export function marker(x, y, size, shape, kind) {
  const a = size;
  const points = {
    triangle: [
      [0, -a],
      [a, a * 0.8],
      [-a, a * 0.8],
    ],
    diamond: [
      [0, -a * 1.2],
      [a * 1.2, 0],
      [0, a * 1.2],
      [-a * 1.2, 0],
    ],
    cross: plus(a),
    star: star(a * 1.3),
  };
  if (shape === "circle" || !shape) return s("circle", { cx: x, cy: y, r: a, class: kind });
  if (shape === "square") return rect(x - a * 0.9, y - a * 0.9, a * 1.8, a * 1.8, kind);
  return s("polygon", { points: points[shape].map(([dx, dy]) => `${round(x + dx)},${round(y + dy)}`).join(" "), class: kind });
}

function plus(a) {
  const b = a * 0.38;
  return [
    [-b, -a],
    [b, -a],
    [b, -b],
    [a, -b],
    [a, b],
    [b, b],
    [b, a],
    [-b, a],
    [-b, b],
    [-a, b],
    [-a, -b],
    [-b, -b],
  ];
}

function star(a) {
  return Array.from({ length: 10 }, (_, i) => {
    const r = i % 2 ? a * 0.45 : a;
    const angle = (i / 10) * 2 * Math.PI - Math.PI / 2;
    return [r * Math.cos(angle), r * Math.sin(angle)];
  });
}

/** A whisker with end caps: an interval, upright or lying. */
export function whisker(x1, y1, x2, y2, cap = 3) {
  const upright = Math.abs(x1 - x2) < 0.01;
  const ends = upright
    ? [line(x1 - cap, y1, x1 + cap, y1, "whisker"), line(x2 - cap, y2, x2 + cap, y2, "whisker")]
    : [line(x1, y1 - cap, x1, y1 + cap, "whisker"), line(x2, y2 - cap, x2, y2 + cap, "whisker")];
  return s("g", { "aria-hidden": "true" }, line(x1, y1, x2, y2, "whisker"), ends);
}

export function path(points, kind) {
  const d = points.map(([x, y], i) => `${i ? "L" : "M"}${round(x)} ${round(y)}`).join("");
  return s("path", { d, class: kind, fill: "none" });
}

/** Draw a bottom axis with its title under it. */
export function bottomAxis(x, y, values, show, title) {
  const shown = values.map((v) => [line(x(v), y, x(v), y + 4, "axis"), text(x(v), y + 17, show(v), "tick", "middle")]);
  const name = title ? text((x.from + x.to) / 2, y + 34, title, "axis-title", "middle") : null;
  return s("g", { "aria-hidden": "true" }, line(x.from, y, x.to, y, "axis"), shown.flat(), name);
}

/** Draw a left axis with grid lines to the right edge; its title stands above it, where no turned text is needed. */
export function leftAxis(y, left, right, values, show, title) {
  const shown = values.map((v) => [line(left, y(v), right, y(v), "grid"), text(left - 6, y(v) + 4, show(v), "tick", "end")]);
  const name = title ? text(4, Math.min(y.from, y.to) - 10, title, "axis-title") : null;
  return s("g", { "aria-hidden": "true" }, shown.flat(), name);
}

/** Cut a text that would be wider than `room` pixels; the full text stands in the readout and the table. */
export function fit(content, room, size = 12) {
  const whole = String(content);
  const most = Math.max(2, Math.floor(room / (size * 0.56)));
  return whole.length <= most ? whole : `${whole.slice(0, most - 1)}…`;
}
