// Keys for the whole page: "?" lists them, "/" goes to a page's search, "g" and a letter go to a section.
// A single key is only heard outside of fields, and can be switched off (WCAG 2.1.4): the switch stands in the list.

import { h, on } from "./dom.js";
import { shortcuts as words } from "./strings.js";
import { recall, remember, next as nextTheme } from "./theme.js";
import { dialog, field } from "./widgets.js";

export const label = words.open;
const PLACES = { r: "runs", s: "start", c: "compare", p: "playground", l: "learn", y: "system" };
let enabled = recall("shortcuts") !== "off";
let pending = 0; // "g" was pressed: until when its letter counts

/** Show the list of shortcuts. */
export function open() {
  if (document.querySelector("dialog[open]")) return;
  const rows = words.rows.map(([keys, text]) => h("tr", null, h("th", { scope: "row" }, keys.split(" ").map((key) => [h("kbd", null, key), " "])), h("td", null, text)));
  const box = h("input", { type: "checkbox", checked: enabled, on: { change: () => { enabled = box.checked; remember("shortcuts", enabled ? "on" : "off"); } } });
  dialog({ title: words.title, body: [h("table", { class: "keys" }, h("tbody", null, rows)), field({ label: words.enabled, control: box })] });
}

function typing(target) {
  return target.closest?.("input, select, textarea, [contenteditable]") !== null;
}

export function start({ go }) {
  on(document, "keydown", (event) => {
    if (!enabled || event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
    if (press(event.key, go)) event.preventDefault();
  });
}

/** Focus the search of a page, folded away or not; else its first filter. */
function search() {
  const seen = (node) => node.offsetParent && !node.disabled;
  const marked = document.querySelector("main [data-search]");
  marked?.closest("details:not([open])")?.querySelector("summary").click();
  const found = marked && seen(marked) ? marked : [...document.querySelectorAll("main :is(input:not([type=range], [type=radio], [type=file]), select)")].find(seen);
  found?.focus();
  return Boolean(found);
}

function press(key, go) {
  if (pending > Date.now() && PLACES[key]) {
    pending = 0;
    go(`#/${PLACES[key]}`);
    return true;
  }
  pending = 0;
  if (key === "g") pending = Date.now() + 1500;
  else if (key === "?") open();
  else if (key === "t") nextTheme();
  else if (key === "/") {
    return search();
  } else return false;
  return key !== "g";
}
