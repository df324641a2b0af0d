// The tree-table of layers, after the ARIA pattern "treegrid": arrows move by row, right opens, left closes, Enter shows a layer.

import { h } from "../../dom.js";
import { grid as words } from "../../strings-models.js";
import { amount, levels, visible } from "./tree.js";

/**
 * Return the table.
 *
 * spec.root, spec.open: Set of ids (changed here), spec.columns: [{key, title, unit, reason?}], spec.colour: key, spec.chosen: id
 * spec.onOpen(): after a row opened or closed; spec.onChoose(node); spec.caption
 */
export function treegrid(spec) {
  const rows = visible(spec.root, spec.open);
  const level = levels(rows, spec.colour);
  const head = h(
    "tr",
    null,
    h("th", { scope: "col" }, words.layer),
    spec.columns.map((c) =>
      h(
        "th",
        { scope: "col", class: "number", title: c.reason ?? null },
        c.title,
        c.unit === "mean square" ? h("span", { class: "unit" }, ` (${c.unit})`) : null,
      ),
    ),
  );
  const made = rows.map((row, i) => line(row, spec, level, i));
  const grid = h(
    "table",
    { role: "treegrid", class: "layers", "aria-label": spec.caption },
    h("thead", null, head),
    h("tbody", null, made),
  );
  const current = made.find((node) => node.dataset.id === spec.focus) ?? made[0];
  current.tabIndex = 0;
  grid.addEventListener("keydown", (event) => travel(event, rows, made, spec));
  return h("div", { class: "table-scroll layers-scroll" }, grid);
}

function line(row, spec, level) {
  const { node } = row;
  const open = spec.open.has(node.id);
  const branch = node.children.length > 0;
  const twist = branch
    ? h("span", { class: "twist", "aria-hidden": "true" }, open ? "▾" : "▸")
    : h("span", { class: "twist", "aria-hidden": "true" });
  const name = h(
    "th",
    { scope: "row", class: "layer-name", style: { "--level": row.level } },
    twist,
    h("span", { class: "path", title: node.id }, node.name),
    node.times > 1 ? h("span", { class: "badge info times" }, `×${node.times}`) : null,
    h("span", { class: "kind" }, node.kind, node.shape && !branch ? ` ${node.shape.join("×")}` : ""),
  );
  const item = h(
    "tr",
    {
      tabindex: -1,
      data: { id: node.id },
      "aria-level": row.level,
      "aria-posinset": row.position,
      "aria-setsize": row.size,
      "aria-expanded": branch ? String(open) : null,
      "aria-selected": node.id === spec.chosen ? "true" : "false",
      class: branch ? "branch" : "leaf",
      on: { click: (event) => press(event, node, spec, twist) },
    },
    name,
    spec.columns.map((c) => cell(node, c, spec, level)),
  );
  return item;
}

function cell(node, column, spec, level) {
  const shaded = column.key === spec.colour ? level(node) : null;
  const step = shaded === null ? null : Math.round(Math.sqrt(shaded) * 9);
  return h("td", { class: `number${shaded === null ? "" : " shaded"}`, data: { level: step } }, content(node, column));
}

function content(node, column) {
  if (column.key === "units") return units(node);
  const range = node.ranges[column.key];
  if (range && range[0] !== range[1]) return `${amount(range[0], column.unit)} – ${amount(range[1], column.unit)}`;
  return amount(node.values[column.key], column.unit);
}

function units(node) {
  const { units_before: before, units_after: after } = node.values;
  if (before === null || before === undefined) return "–";
  if (before === after) return String(Math.round(before));
  return [`${Math.round(before)} → ${Math.round(after)}`];
}

function press(event, node, spec, twist) {
  const branch = node.children.length > 0;
  if (branch && (event.target === twist || node.layer === null)) toggle(node, spec);
  else spec.onChoose(node);
}

function toggle(node, spec) {
  if (spec.open.has(node.id)) spec.open.delete(node.id);
  else spec.open.add(node.id);
  spec.onOpen(node.id);
}

function travel(event, rows, made, spec) {
  const at = made.findIndex((node) => node.contains(event.target));
  if (at < 0) return;
  const { node, parent } = rows[at];
  const open = spec.open.has(node.id);
  const go = (i) => {
    if (!made[i]) return;
    made[at].tabIndex = -1;
    made[i].tabIndex = 0;
    made[i].focus();
  };
  const actions = {
    ArrowDown: () => go(at + 1),
    ArrowUp: () => go(at - 1),
    Home: () => go(0),
    End: () => go(made.length - 1),
    ArrowRight: () => (node.children.length && !open ? toggle(node, spec) : go(at + 1)),
    ArrowLeft: () => (open ? toggle(node, spec) : go(rows.findIndex((r) => r.node.id === parent))),
    Enter: () => (node.layer === null ? toggle(node, spec) : spec.onChoose(node)),
    " ": () => (node.layer === null ? toggle(node, spec) : spec.onChoose(node)),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}
