// The frame around every chart: title, unit, key, live readout, keyboard, table twin, copies. Charts draw at the width they
// are given, so that letters keep their size on a narrow screen.

import { fill, h, s, table } from "../dom.js";
import { charts as words } from "../strings-result.js";
import { csv, hand, png, standalone } from "./copy.js";
import { marker, round } from "./draw.js";

let made = 0;

/**
 * Return a <figure> with a chart.
 *
 * spec.title, spec.desc (one sentence: what is drawn), spec.unit?, spec.note?, spec.name? (of saved files), spec.key?: [{name, kind, shape?}]
 * spec.draw(width, svg) -> {height, nodes, marks: [{node, label, detail, act?}]}; a mark is a point that keyboard and pointer reach
 * spec.table: {columns: [title], rows: [[value]]}
 *
 * The figure has .redraw() for when what `draw` reads has changed.
 */
export function chart(spec) {
  made += 1;
  const ids = { title: `chart-${made}-title`, desc: `chart-${made}-desc` };
  const title = s("title", { id: ids.title }, spec.title);
  const desc = s("desc", { id: ids.desc }, `${spec.desc ?? ""} ${words.howTo}`.trim());
  const svg = s("svg", { class: "drawing", role: "group", "aria-labelledby": ids.title, "aria-describedby": ids.desc });
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const twin = h("div", { class: "twin", hidden: true });
  const node = h(
    "figure",
    { class: `chart ${spec.kind ?? ""}`.trim() },
    h("figcaption", null, h("span", { class: "chart-title" }, spec.title), spec.unit ? h("span", { class: "unit" }, spec.unit) : null),
    spec.note ? h("p", { class: "note" }, spec.note) : null,
    key(spec.key),
    svg,
    h("div", { class: "chart-foot" }, readout, tools(spec, svg, twin, readout)),
    twin,
  );
  const state = { at: 0, marks: [], width: 0 };
  const draw = (width) => {
    const { height, nodes, marks } = spec.draw(width, svg);
    const focused = svg.contains(document.activeElement);
    svg.setAttribute("viewBox", `0 0 ${round(width)} ${round(height)}`);
    svg.setAttribute("height", round(height));
    fill(svg, title, desc, nodes);
    state.marks = marks;
    state.at = Math.min(state.at, Math.max(marks.length - 1, 0));
    marks.forEach((mark, i) => prepare(mark, i, state, readout));
    if (focused) marks[state.at]?.node.focus();
  };
  svg.addEventListener("keydown", (event) => travel(event, state));
  node.redraw = () => state.width && draw(state.width);
  watch(svg, state, draw);
  return node;
}

function watch(svg, state, draw) {
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width < 40 || width === state.width) return;
    state.width = width;
    draw(width);
  });
  observer.observe(svg);
}

function prepare(mark, i, state, readout) {
  const { node } = mark;
  node.classList.add("mark");
  node.setAttribute("tabindex", i === state.at ? 0 : -1);
  node.setAttribute("role", mark.act ? "button" : "img");
  node.setAttribute("aria-label", mark.label);
  const tell = () => {
    readout.textContent = mark.detail;
  };
  node.addEventListener("pointerenter", tell);
  node.addEventListener("focus", () => {
    state.marks[state.at]?.node.setAttribute("tabindex", -1);
    state.at = i;
    node.setAttribute("tabindex", 0);
    tell();
  });
  if (mark.act) node.addEventListener("click", mark.act);
}

function travel(event, state) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const last = state.marks.length - 1;
  const mark = state.marks[state.at];
  if ((event.key === "Enter" || event.key === " ") && mark?.act) {
    event.preventDefault();
    mark.act(event);
    return;
  }
  const next = event.key === "Home" ? 0 : event.key === "End" ? last : state.at + (steps[event.key] ?? NaN);
  if (!(next >= 0 && next <= last)) return;
  event.preventDefault();
  state.marks[next].node.focus();
}

function key(entries) {
  if (!entries?.length) return null;
  return h(
    "ul",
    { class: "key" },
    entries.map((entry) => {
      const swatch = s("svg", { class: "swatch", viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" });
      const lined = entry.dash !== undefined;
      if (lined) swatch.append(s("path", { d: "M0 7H28", class: `curve ${entry.kind} dash${entry.dash}` }));
      if (entry.shape) swatch.append(marker(14, 7, 5, entry.shape, `dot ${entry.kind}`));
      else if (!lined) swatch.append(s("rect", { x: 4, y: 1, width: 20, height: 12, class: `bar ${entry.kind}` }));
      return h("li", null, swatch, entry.name);
    }),
  );
}

function tools(spec, svg, twin, readout) {
  const name = (spec.name ?? spec.title)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  const told = (how, what) => {
    readout.textContent = how === "copied" ? words.copied(what) : words.saved(what);
  };
  const press = (label, full, act) => h("button", { type: "button", class: "quiet small", "aria-label": full, on: { click: act } }, label);
  const show = press(words.table, words.tableOf(spec.title), () => {
    twin.hidden = !twin.hidden;
    show.setAttribute("aria-expanded", String(!twin.hidden));
    if (!twin.hidden && !twin.firstChild) twin.append(plainTable(spec));
  });
  show.setAttribute("aria-expanded", "false");
  const text = () => csv(spec.table.columns, spec.table.rows);
  return h(
    "div",
    { class: "chart-tools" },
    show,
    press("CSV", words.copyOf("CSV", spec.title), async () => told(await hand(text(), `${name}.csv`), "CSV")),
    press("SVG", words.copyOf("SVG", spec.title), async () => told(await hand(standalone(svg), `${name}.svg`), "SVG")),
    press("PNG", words.copyOf("PNG", spec.title), async () => {
      try {
        told(await hand(await png(svg), `${name}.png`), "PNG");
      } catch (error) {
        readout.textContent = error.message;
      }
    }),
  );
}

function plainTable(spec) {
  const columns = spec.table.columns.map((title, i) => ({
    key: String(i),
    title,
    head: i === 0,
    numeric: spec.table.rows.some((r) => typeof r[i] === "number"),
    render: (row) =>
      row[i] === null || row[i] === undefined || row[i] === "" ? "–" : typeof row[i] === "number" ? plain(row[i]) : String(row[i]),
  }));
  return table({ caption: spec.unit ? `${spec.title} (${spec.unit})` : spec.title, columns, rows: spec.table.rows });
}

function plain(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}
