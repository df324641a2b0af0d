// The playground: four parts that answer at once, in the browser. Their whole state stands in the address.

import { debounce, fill, h } from "../dom.js";
import { button, card, copyButton, heading } from "../widgets.js";
import { playground as words } from "../strings-learn.js";
import { hashOf, read, write } from "./playground/address.js";
import * as cut from "./playground/cut.js";
import * as grid from "./playground/grid.js";
import { layerSource } from "./playground/layers.js";
import * as soft from "./playground/soft.js";
import * as toy from "./playground/toy.js";

export const title = words.title;
export const styles = ["svg.css", "learn.css"];

const PARTS = { soft, cut, grid, toy };
const FIELDS = { at: { value: "", kind: "choice", choices: ["", ...Object.keys(PARTS)] }, ...soft.fields, ...cut.fields, ...grid.fields, ...toy.fields };

/** Draw the parts that are not hidden; return what stops them. */
export async function render(root, params, ctx) {
  const { state, hidden, problems } = read(FIELDS);
  const save = debounce(() => write("playground", state, FIELDS, hidden), 150); // browsers refuse a hundred writes a second
  const board = { state, fields: FIELDS, hidden, ctx, save, source: layerSource(ctx) };
  const names = Object.keys(PARTS).filter((name) => !hidden.has(name));
  const parts = names.map((name) => part(name, { ...board }));
  fill(
    root,
    heading({ title: words.title, lead: words.lead, actions: actions(ctx, hidden) }),
    problems.map(({ key, given }) => h("p", { class: "notice warning", role: "status" }, words.bad(key, given))),
    names.length > 1 ? jumps(names) : null,
    parts.map((one) => one.node),
    hidden.has("class") ? null : classroom(),
  );
  const stops = parts.map((one) => one.stop);
  if (state.at && names.includes(state.at)) requestAnimationFrame(() => jump(state.at));
  return () => { save.cancel(); stops.forEach((stop) => stop?.()); };
}

function part(name, board) {
  const body = h("div", { class: "lp-part" });
  const node = card({ title: words.names[name], id: `part-${name}`, class: "lp-card" }, body);
  node.querySelector("h2").tabIndex = -1;
  return { node, stop: PARTS[name].render(body, board) };
}

function actions(ctx, hidden) {
  const reset = () => {
    const address = hashOf("playground", {}, {}, hidden);
    ctx.announce(words.resetDone);
    if (address === location.hash) ctx.go(address);
    else location.hash = address;
  };
  return [
    hidden.has("reset") ? null : button(words.reset, reset),
    hidden.has("link") ? null : copyButton(() => location.href, words.link),
  ];
}

/** Buttons, not links: the hash is the address of the page. */
function jumps(names) {
  const items = names.map((name) => h("li", null, button(words.names[name], () => jump(name), { kind: "quiet" })));
  return h("nav", { class: "lp-jumps", "aria-label": words.sections }, h("ul", null, items));
}

function jump(name) {
  const head = document.querySelector(`#part-${name} h2`);
  head.scrollIntoView({ block: "start" });
  head.focus({ preventScroll: true });
}

function classroom() {
  const all = [...Object.keys(PARTS), ...Object.keys(FIELDS).filter((key) => key !== "at" && key !== "pts"), "reset", "link", "class"];
  return h(
    "details",
    { class: "card" },
    h("summary", null, words.classroom),
    h("p", null, words.classroomText),
    h("p", { class: "mono" }, all.join(", ")),
    h("p", null, words.classroomExample, " ", h("code", null, "#/playground?hide=cut,grid,noise,seed,class&set=xor")),
  );
}

