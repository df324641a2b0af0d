// Line charts over steps or time, drawn by uPlot (vendor/), with everything around it that uPlot does not have: legend, table
// twin, keyboard cursor, smoothing that keeps the raw line, log axis, marks, copies. Pages with a chart name the style sheets
// in `styles`: export const styles = [...chartStyles].
//
//   const chart = await chartIn(root, {
//     title: "Loss", unit: "nats", xLabel: "step",          required: title and xLabel
//     height: 280, log: false, canLog: true, canSmooth: true, smoothing: 0.6, level: 3,       (defaults are false, 0)
//     xText(x) -> "distil, step 120",  yText(y) -> "0.41",   how values are said; number() when absent
//     time: false,                                           x is unix seconds
//     sync: "run",                                           charts with the same key share the cursor
//     onZoom([from, to] | null),                             the visible span changed by the reader (null: all)
//     zoom: [from, to], onView({log, smoothing, zoom}),      a view to begin with, and called when the reader changed it: deep links
//   })
//   chart.set([{key, label, points: [[x, y], ...], slot?: 1..8, smooth?: true, dots?: true}])    y null: the line breaks
//   chart.overlay({bands: [{x, label}], levels: [{y, label}], marks: [{x, label, kind: "bad" | "warning"}]})
//   chart.show(x)        put the cursor there and say it                chart.destroy()

import { announce } from "./announce.js";
import { fit, join, smooth, thin, valueAt } from "./chart-data.js";
import { DASHES, drawing, overlay as drawOverlay } from "./chart-draw.js";
import { clear, fill, frame, h, s, table } from "./dom.js";
import { clock, number } from "./format.js";
import { chart as words } from "./strings.js";
import { csv, hand, paint } from "./svg/copy.js";
import { color, shown } from "./theme.js";
import { attempt, button, freshId, toast } from "./widgets.js";

export const chartStyles = ["vendor/uPlot.min.css", "chart.css"];
const TWIN_ROWS = 200;
const MOST_SAID = 12; // lines whose values are said one by one
let library = null;

function loadLibrary() {
  library ??= new Promise((done, fail) => {
    const script = h("script", { src: new URL("vendor/uPlot.iife.min.js", import.meta.url).href });
    script.addEventListener("load", () => done(window.uPlot));
    script.addEventListener("error", () => fail(new Error(words.noLibrary)));
    document.head.append(script);
  });
  return library;
}

/** Draw a chart at the end of `root` and return it. */
export async function chartIn(root, options) {
  return new Chart(await loadLibrary(), root, options);
}

class Chart {
  constructor(Plot, root, options) {
    this.Plot = Plot;
    this.options = { unit: "", height: 280, log: false, canLog: false, canSmooth: false, smoothing: 0, level: 3, ...options };
    this.series = [];
    this.over = { bands: [], levels: [], marks: [] };
    this.hidden = new Set();
    this.index = null;
    this.zoom = options.zoom ?? null;
    this.reach = 0; // how far a point may have moved: not at all, or a column of pixels
    this.plot = null;
    this.shape = "";
    this.redraw = frame(() => this.draw());
    this.build(root);
    this.observer = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.observer.observe(this.host);
    this.unwatch = shown.onChange(() => this.plot?.redraw(false, true));
  }

  build(root) {
    const { title, unit, level } = this.options;
    const id = freshId("chart");
    this.host = h("div", {
      class: "plot", tabindex: 0, role: "group", "aria-roledescription": words.role, "aria-labelledby": id, on: { keydown: (event) => this.key(event) },
    });
    this.readout = h("p", { class: "readout" }, words.hint);
    this.legend = h("ul", { class: "legend plain" });
    this.twin = h("div", { class: "twin", hidden: true });
    const name = h(`h${level}`, { id }, title, unit ? h("span", { class: "unit" }, ` (${unit})`) : null);
    this.node = h("figure", { class: "chart" }, h("figcaption", null, name, this.tools()), h("div", { class: "legend-row" }, this.legend, this.readout), this.host, this.twin);
    root.append(this.node);
  }

  tools() {
    const toggle = (label, name, change) => {
      const node = button(label, () => { this.options[name] = !this.options[name]; node.setAttribute("aria-pressed", String(this.options[name])); change(); this.viewed(); }, { kind: "quiet", "aria-pressed": String(Boolean(this.options[name])) });
      return node;
    };
    const range = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: this.options.smoothing, on: { input: () => { this.options.smoothing = Number(range.value); this.redraw(); this.viewed(); } } });
    return h("div", { class: "actions" },
      this.options.canSmooth ? h("label", { class: "smoothing" }, words.smoothing, range) : null,
      this.options.canLog ? toggle(words.log, "log", () => this.redraw()) : null,
      this.menu(toggle(words.table, "twin", () => { this.twin.hidden = !this.options.twin; this.drawTwin(); })));
  }

  /** What is seldom needed: the table twin and the copies. */
  menu(twin) {
    const node = h("details", { class: "menu" }, h("summary", null, words.data, h("span", { class: "visually-hidden" }, ` ${this.options.title}`)), h("div", null,
      twin, ["csv", "svg", "png"].map((kind) => button(words[kind], () => attempt(this.copyAs(kind)), { kind: "quiet" }))));
    const close = (focus) => { node.open = false; if (focus) node.firstChild.focus(); };
    node.addEventListener("click", (event) => event.target.closest(".button") && close(true));
    node.addEventListener("keydown", (event) => event.key === "Escape" && node.open && close(true));
    node.addEventListener("focusout", (event) => !node.contains(event.relatedTarget) && close(false));
    return node;
  }

  /** Exchange all points. Cheap to call often: drawing waits for the next frame. */
  set(series) {
    this.series = series.map((one, index) => ({ slot: (index % 8) + 1, smooth: true, dots: false, ...one }));
    this.redraw();
  }

  overlay(parts) {
    Object.assign(this.over, parts);
    this.redraw();
  }

  size() {
    return { width: Math.max(200, this.host.clientWidth), height: this.options.height };
  }

  /** Raw lines stay under the smoothed ones, thin and pale. */
  layers() {
    const weight = this.options.canSmooth ? this.options.smoothing : 0;
    const visible = this.series.filter((one) => !this.hidden.has(one.key));
    const raw = visible.map((one) => ({ ...one, pale: weight > 0 && one.smooth }));
    const soft = weight > 0 ? visible.filter((one) => one.smooth).map((one) => ({ ...one, points: smooth(one.points, weight), smoothed: true })) : [];
    return [...raw, ...soft];
  }

  draw() {
    if (!this.node.isConnected) return;
    const layers = this.layers();
    // Many lines are thinned to two or four pixels: more points would lie over each other, and cost the most of a redraw.
    const wide = Math.ceil((this.size().width - 60) / (layers.length > 24 ? 4 : layers.length > 8 ? 2 : 1));
    const { xs, columns, reach } = fit(layers, wide, this.zoom);
    Object.assign(this, { xs, reach });
    this.joined = null; // of the points as they are; made when somebody asks
    const data = [xs, ...columns.map((column) => (this.options.log ? column.map((y) => (y > 0 || y === undefined ? y : null)) : column))];
    const shape = JSON.stringify([this.options.log, layers.map((one) => [one.key, one.label, one.pale, one.smoothed, one.slot, one.dots])]);
    if (shape !== this.shape) this.make(layers, data);
    else {
      this.plot.setData(data, !this.zoom);
      if (this.zoom) this.plot.redraw(true);
    }
    this.shape = shape;
    this.drawLegend();
    this.drawTwin();
    if (this.index === null) this.tell();
  }

  make(layers, data) {
    this.plot?.destroy();
    const keep = this.zoom;
    this.making = true;
    this.plot = new this.Plot(this.config(layers), data, this.host);
    if (keep) this.plot.setScale("x", { min: keep[0], max: keep[1] });
    this.making = false;
  }

  config(layers) {
    const { log, time = false, sync } = this.options;
    const axis = { stroke: () => color("--muted"), grid: { stroke: () => color("--grid"), width: 1 }, ticks: { stroke: () => color("--grid"), width: 1 }, font: "12px system-ui, sans-serif" };
    return {
      ...this.size(), legend: { show: false }, padding: [20, 12, 0, 0],
      cursor: { sync: sync ? { key: sync } : undefined, drag: { x: true, y: false, setScale: true }, points: { size: 7 } },
      scales: { x: { time }, y: log ? { distr: 3 } : { range: (plot, low, high) => this.range(low, high) } },
      axes: [{ ...axis, size: 34, ...(time ? { values: (plot, ticks) => ticks.map((tick) => clock(tick).textContent) } : {}), space: time ? 90 : 50 }, { ...axis, size: 58, values: (plot, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick, 3))) }],
      series: [{}, ...layers.map((one) => this.line(one))],
      hooks: { draw: [(plot) => drawOverlay(plot, this.over)], setCursor: [(plot) => this.cursor(plot)], setScale: [(plot, key) => key === "x" && this.zoomed(plot)] },
    };
  }

  /** Room above and below; horizontal levels are in view. */
  range(low, high) {
    const values = [low, high, ...this.over.levels.map((level) => level.y)].filter((y) => Number.isFinite(y));
    if (!values.length) return [0, 1];
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = (most - least || Math.abs(most) || 1) * 0.06;
    return [least >= 0 && least - room < 0 ? 0 : least - room, most + room];
  }

  line(one) {
    const stroke = () => color(`--series-${one.slot}`);
    const faint = () => stroke().replace("rgb(", "rgba(").replace(")", ", 0.35)");
    return {
      label: one.label, stroke: one.pale ? faint : stroke, width: one.pale ? 1 : 2, dash: one.pale ? undefined : DASHES[one.slot - 1],
      points: { show: (plot, index) => one.dots || few(plot.data[index]), size: 6 },
    };
  }

  zoomed(plot) {
    if (this.making || !this.xs?.length) return;
    const { min, max } = plot.scales.x;
    const all = min <= this.xs[0] && max >= this.xs.at(-1);
    const next = all ? null : [min, max];
    if (JSON.stringify(next) === JSON.stringify(this.zoom)) return;
    this.zoom = next;
    if (this.series.length) this.redraw(); // a closer look has room for more points
    this.options.onZoom?.(next);
    this.viewed();
  }

  viewed() {
    const { log, smoothing } = this.options;
    this.options.onView?.({ log, smoothing, zoom: this.zoom });
  }

  cursor(plot) {
    const index = plot.cursor.idx;
    this.index = index ?? null;
    this.tell();
  }

  xText(x) {
    if (this.options.xText) return this.options.xText(x);
    return this.options.time ? clock(x).textContent : `${this.options.xLabel} ${number(x, 6)}`;
  }

  yText(y) {
    return (this.options.yText ?? number)(y);
  }

  get raw() {
    this.joined ??= join(this.series);
    return this.joined;
  }

  /** What stands under the cursor, in words. */
  tell() {
    const x = this.index === null ? null : this.xs?.[this.index];
    if (x === null || x === undefined) return void (this.readout.textContent = this.xs?.length ? words.hint : words.noPoints);
    const values = this.series.map((one) => [one.label, valueAt(one.points, x, this.reach)]).filter(([, y]) => y !== undefined);
    const here = this.over.marks.filter((mark) => mark.x === x).map((mark) => mark.label);
    const text = [this.xText(x), ...this.said(values), ...here].join(" · ");
    this.readout.textContent = text;
    return text;
  }

  said(values) {
    const known = values.filter(([, y]) => Number.isFinite(y)).sort((a, b) => a[1] - b[1]);
    if (known.length <= MOST_SAID) return values.map(([label, y]) => `${label} ${Number.isFinite(y) ? this.yText(y) : words.gap}`);
    const [[low, least], [high, most]] = [known[0], known.at(-1)];
    return [words.spread(known.length, this.yText(least), low, this.yText(most), high)];
  }

  key(event) {
    if (!this.plot || !this.xs?.length || event.ctrlKey || event.metaKey) return;
    const last = this.xs.length - 1;
    const stride = event.shiftKey ? 10 : 1;
    const moves = { ArrowRight: (this.index ?? -1) + stride, ArrowLeft: (this.index ?? last + 1) - stride, Home: 0, End: last };
    if (event.key in moves) this.place(Math.min(last, Math.max(0, moves[event.key])));
    else if (event.key === "+" || event.key === "=") this.scale(0.5);
    else if (event.key === "-") this.scale(2);
    else if (event.key === "Escape" || event.key === "0") this.reset();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  place(index) {
    const left = this.plot.valToPos(this.xs[index], "x");
    this.plot.setCursor({ left, top: this.plot.over.clientHeight / 2 });
    this.index = index;
    const text = this.tell();
    if (text) announce(text);
  }

  /** Put the cursor at an x. */
  show(x) {
    if (!this.plot || !this.xs?.length) return;
    let nearest = 0;
    this.xs.forEach((value, index) => { if (Math.abs(value - x) < Math.abs(this.xs[nearest] - x)) nearest = index; });
    if (this.zoom && (x < this.zoom[0] || x > this.zoom[1])) this.reset();
    this.node.scrollIntoView({ block: "nearest" });
    this.host.focus({ preventScroll: true });
    this.place(nearest);
  }

  scale(factor) {
    const { min, max } = this.plot.scales.x;
    const middle = this.index === null ? (min + max) / 2 : this.xs[this.index];
    const low = Math.max(this.xs[0], middle - (middle - min) * factor);
    const high = Math.min(this.xs.at(-1), middle + (max - middle) * factor);
    if (high > low) this.plot.setScale("x", { min: low, max: high });
  }

  reset() {
    this.plot.setScale("x", { min: this.xs[0], max: this.xs.at(-1) });
  }

  drawLegend() {
    const shape = JSON.stringify(this.series.map((one) => [one.key, one.label, one.slot]));
    if (this.legendShape === shape) return;
    this.legendShape = shape;
    fill(this.legend, this.series.map((one) => h("li", null, this.legendButton(one))));
  }

  legendButton(one) {
    const dash = DASHES[one.slot - 1].join(" ");
    const sample = s("svg", { width: 26, height: 10, "aria-hidden": "true" }, s("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 2.5, "stroke-dasharray": dash || null, class: `series-${one.slot}` }));
    const node = button([sample, one.label], () => {
      if (!this.hidden.delete(one.key)) this.hidden.add(one.key);
      node.setAttribute("aria-pressed", String(!this.hidden.has(one.key)));
      this.redraw();
    }, { kind: "quiet", "aria-pressed": String(!this.hidden.has(one.key)), title: words.toggle });
    return node;
  }

  rows() {
    return this.raw.xs.map((x, at) => [x, ...this.raw.columns.map((column) => column[at])]).filter((row) => row.slice(1).some((y) => y !== undefined && y !== null));
  }

  drawTwin() {
    if (!this.options.twin || !this.xs) return;
    const all = this.rows();
    const rows = thin(all, TWIN_ROWS);
    const columns = [
      { key: 0, title: this.options.xLabel, head: true, numeric: true, render: (row) => this.xText(row[0]) },
      ...this.series.map((one, index) => ({ key: index + 1, title: one.label, unit: this.options.unit, numeric: true, render: (row) => (row[index + 1] === undefined ? "" : this.yText(row[index + 1])) })),
    ];
    clear(this.twin).append(table({ caption: words.caption(this.options.title, rows.length, all.length), columns, rows }));
  }

  async copyAs(kind) {
    const content = await this[kind]();
    const how = await hand(content, `${this.options.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.${kind}`);
    toast(words[how](kind.toUpperCase()), { kind: "good" });
  }

  csv() {
    return csv([this.options.xLabel, ...this.series.map((one) => one.label)], this.rows());
  }

  drawing() {
    const { title, unit } = this.options;
    return drawing(this.plot, { title: unit ? `${title} (${unit})` : title, layers: this.layers(), over: this.over });
  }

  svg() {
    return this.drawing().text;
  }

  png() {
    return paint(this.drawing());
  }

  destroy() {
    this.unwatch();
    this.observer.disconnect();
    this.plot?.destroy();
    this.node.remove();
  }
}

/** Whether a line has so few points that only dots show them. */
function few(column) {
  let known = 0;
  for (const y of column) if (y !== null && y !== undefined && (known += 1) > 2) return false;
  return true;
}
