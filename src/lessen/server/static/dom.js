// Elements without a framework. Everything that shows text goes through here: a string always becomes a text node,
// so a run's name or a class label can never become markup.
//
//   h(tag, attributes?, ...children) -> HTMLElement     s(tag, attributes?, ...children) -> SVGElement
//     attributes: {class, id, href, hidden: true, "aria-label": "...", data: {key: value}, style: {"--x": "1"},
//                  on: {click: handler}, value: "..."}      null, undefined and false leave an attribute out
//     children: strings, numbers, nodes, arrays of them; null, undefined and false are left out
//   byId(id) -> Element        on(target, type, handler, options?) -> function that takes the listener away
//   clear(node) -> node        fill(node, ...children) -> node with its children exchanged
//   table({caption, columns, rows, sort?, onSort?, empty?, hideCaption?, rowAttributes?}) -> scrolling region with a table
//     columns: [{key, title, unit?, numeric?, sortable?, head?, render?(row) -> child}]     head: the row's header cell
//     sort: "key" or "-key"; onSort(next) is called with the next such string
//   frame(callback) -> function that runs callback at most once per animation frame
//   debounce(callback, ms) -> function with .cancel()
// Numbers, units and times: format.js.   Cards, badges, tabs, dialogs, toasts: widgets.js.

import { table as words } from "./strings.js";

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "selected", "indeterminate", "disabled", "hidden", "open"]);

/** Return a new HTML element. */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Return a new SVG element. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) set(node, name, value);
  append(node, children);
  // A select only knows its options now.
  if (node.tagName === "SELECT" && attributes?.value !== undefined) node.value = attributes.value;
  return node;
}

function set(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on") {
    for (const [type, handler] of Object.entries(value)) node.addEventListener(type, handler);
  } else if (name === "data") {
    for (const [key, item] of Object.entries(value)) if (item !== null && item !== undefined) node.dataset[key] = item;
  } else if (name === "style") {
    for (const [key, item] of Object.entries(value)) node.style.setProperty(key, item);
  } else if (PROPERTIES.has(name) && name in node) {
    node[name] = value;
  } else {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}

function append(node, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(node, child);
    else node.append(child instanceof Node ? child : String(child));
  }
}

/** Return the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Listen, and return the function that stops listening. */
export function on(target, type, handler, options) {
  target.addEventListener(type, handler, options);
  return () => target.removeEventListener(type, handler, options);
}

/** Take all children out of a node. */
export function clear(node) {
  node.replaceChildren();
  return node;
}

/** Exchange the children of a node. */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/** Return a function that runs `callback` once in the next animation frame, however often it is called before. */
export function frame(callback) {
  let asked = 0;
  const run = () => {
    if (asked) return;
    // A hidden tab gets no frames; its news must not pile up meanwhile.
    const later = document.hidden ? (f) => setTimeout(f, 250) : requestAnimationFrame;
    asked = later(() => {
      asked = 0;
      callback();
    });
  };
  return run;
}

/** Return a function that runs `callback` when it has not been called for `ms`. */
export function debounce(callback, ms) {
  let timer = 0;
  const run = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...values), ms);
  };
  run.cancel = () => clearTimeout(timer);
  return run;
}

/** Return a table in a region that scrolls by itself, so that the page never does. */
export function table({ caption, columns, rows, sort = "", onSort, empty, hideCaption = false, rowAttributes }) {
  const head = h("tr", null, columns.map((column) => heading(column, sort, onSort)));
  const body = rows.length
    ? rows.map((row) => h("tr", rowAttributes?.(row), columns.map((column) => cell(column, row))))
    : h("tr", null, h("td", { colspan: columns.length, class: "muted" }, empty ?? words.empty));
  return h(
    "div",
    { class: "table-scroll", role: "region", tabindex: 0, "aria-label": caption },
    h("table", null, h("caption", { class: hideCaption ? "visually-hidden" : null }, caption), h("thead", null, head), h("tbody", null, body)),
  );
}

function heading(column, sort, onSort) {
  const label = [column.title, column.unit ? h("span", { class: "unit" }, ` (${column.unit})`) : null];
  const attributes = { scope: "col", class: column.numeric ? "number" : null };
  if (!column.sortable || !onSort) return h("th", attributes, label);
  const direction = sort === column.key ? "ascending" : sort === `-${column.key}` ? "descending" : null;
  const next = direction === "ascending" ? `-${column.key}` : column.key;
  const arrow = direction === "ascending" ? "▲" : direction === "descending" ? "▼" : "↕";
  const press = { class: "sort", type: "button", on: { click: () => onSort(next) } };
  return h("th", { ...attributes, "aria-sort": direction }, h("button", press, label, h("span", { "aria-hidden": "true", class: "arrow" }, arrow)));
}

function cell(column, row) {
  const content = column.render ? column.render(row) : row[column.key];
  const attributes = { class: column.numeric ? "number" : null };
  return column.head ? h("th", { scope: "row", ...attributes }, content) : h("td", attributes, content ?? "–");
}
