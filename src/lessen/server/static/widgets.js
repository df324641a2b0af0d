// Parts that every page uses. All return elements unless it says otherwise.
//
//   heading({title, lead?, actions?, badge?})     the page's h1 with its first sentence and buttons
//   card({title?, actions?, id?, level = 2}, ...children)       empty({title, text, actions?})       loading()
//   button(label, onClick, {kind: "primary" | "danger" | "quiet", ...attributes})     link(label, hash, attributes?)
//   badge(text, kind)       stateBadge(state)        kinds: info good warning bad neutral live
//   meter({label, share, text?, busy?}) -> element with .update({share, text})      share: 0..1 or null (unknown)
//   tabs({label, items: [{id, label, render() -> child}], selected?, onChange?(id)})
//   field({label, control, help?, error?, unit?})      select({options: [[value, label]], value, onChange, ...})      say(text)
//   facts([[term, value], ...])      problem(error, retry?)      pager({offset, limit, total, onGo(offset)})
//   copyButton(text or () => text, label?)
//   toast(text, {kind, action: {label, run}, seconds})      attempt(promise) -> promise<value | undefined>, failure as toast
//   dialog({title, body, actions: [{label, value, kind}], wide?}) -> promise<value | null>     ask({title, text, yes, danger}) -> promise<boolean>

import { byId, h } from "./dom.js";
import { bengali, integer } from "./format.js";
import { announce } from "./announce.js";
import { states, widgets as words } from "./strings.js";

let made = 0;
export const freshId = (name) => `${name}-${(made += 1)}`;

export function heading({ title, lead, actions, badge: mark }) {
  return h(
    "div",
    { class: "heading" },
    h("div", { class: "heading-text" }, h("h1", { tabindex: -1 }, say(title), mark ? [" ", mark] : null), lead ? h("p", { class: "lead" }, lead) : null),
    actions ? h("div", { class: "actions" }, actions) : null,
  );
}

export function card({ title, actions, id, level = 2, class: extra = "" }, ...children) {
  const head = title ? h("div", { class: "card-head" }, h(`h${level}`, null, title), actions ? h("div", { class: "actions" }, actions) : null) : null;
  return h("section", { class: `card ${extra}`.trim(), id }, head, children);
}

export function button(label, onClick, { kind = "", ...attributes } = {}) {
  return h("button", { type: "button", class: `button ${kind}`.trim(), on: { click: onClick }, ...attributes }, label);
}

export function link(label, href, attributes) {
  return h("a", { href, ...attributes }, label);
}

export function badge(text, kind = "neutral") {
  return h("span", { class: `badge ${kind}` }, text);
}

const KIND_OF_STATE = {
  queued: "neutral", starting: "live", running: "live", cancelling: "warning", cancelled: "neutral",
  succeeded: "good", failed: "bad", interrupted: "warning", waiting: "neutral", done: "good", skipped: "info",
};
const SIGN_OF_STATE = {
  queued: "◷", starting: "▸", running: "▸", cancelling: "◌", cancelled: "■", succeeded: "✓", failed: "✕", interrupted: "‖",
  waiting: "○", done: "✓", skipped: "↺",
};

/** A run's or a stage's state: a sign, a colour and the word. */
export function stateBadge(state) {
  const sign = h("span", { "aria-hidden": "true", class: "sign" }, SIGN_OF_STATE[state] ?? "•");
  return h("span", { class: `badge ${KIND_OF_STATE[state] ?? "neutral"}`, data: { state } }, sign, states[state] ?? state);
}

export function meter({ label, share, text = "", busy = false }) {
  const bar = h("div", { class: "meter-bar" });
  const words_ = h("span", { class: "meter-text" });
  const track = h("div", { class: "meter-track", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, bar);
  const node = h("div", { class: "meter" }, track, words_);
  node.update = (next) => {
    const unknown = next.share === null || next.share === undefined;
    const value = unknown ? 0 : Math.min(1, Math.max(0, next.share));
    bar.style.width = `${value * 100}%`;
    node.classList.toggle("busy", Boolean(next.busy));
    if (unknown) track.removeAttribute("aria-valuenow");
    else track.setAttribute("aria-valuenow", String(Math.round(value * 100)));
    if (next.text) track.setAttribute("aria-valuetext", next.text);
    words_.textContent = next.text ?? "";
  };
  node.update({ share, text, busy });
  return node;
}

/** Tabs after the ARIA pattern: arrows move, the panel follows. */
export function tabs({ label, items, selected = items[0]?.id, onChange = () => {} }) {
  const panel = h("div", { role: "tabpanel", id: freshId("panel"), tabindex: 0, class: "tab-panel" });
  const buttons = items.map((item) => tabButton(item, panel));
  const choose = (id, focus) => {
    const index = Math.max(0, items.findIndex((item) => item.id === id));
    buttons.forEach((node, at) => {
      node.setAttribute("aria-selected", String(at === index));
      node.tabIndex = at === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", buttons[index].id);
    panel.replaceChildren(items[index].render());
    if (focus) buttons[index].focus();
  };
  buttons.forEach((node, at) => {
    const go = (to) => {
      const next = items[(to + items.length) % items.length].id;
      choose(next, true);
      onChange(next);
    };
    node.addEventListener("click", () => go(at));
    node.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      go(moves[event.key]);
    });
  });
  choose(selected, false);
  const node = h("div", { class: "tabs" }, h("div", { role: "tablist", "aria-label": label, class: "tab-list" }, buttons), panel);
  node.choose = (id) => choose(id, false);
  return node;
}

function tabButton(item, panel) {
  return h("button", { type: "button", role: "tab", id: freshId("tab"), class: "tab", "aria-controls": panel.id }, item.label);
}

/** A labelled control; help and error are tied to it for screen readers. */
export function field({ label, control, help, error, unit, hideLabel = false }) {
  control.id ||= freshId("field");
  const described = [];
  const note = (content, kind) => {
    const id = freshId("note");
    described.push(id);
    return h("p", { id, class: kind }, content);
  };
  const helpNode = help ? note(help, "help") : null;
  const errorNode = note(error ?? "", "error");
  errorNode.hidden = !error;
  control.setAttribute("aria-describedby", described.join(" "));
  const shown = unit ? h("div", { class: "with-unit" }, control, h("span", { class: "unit" }, unit)) : control;
  const title = h("label", { for: control.id, class: hideLabel ? "visually-hidden" : null }, label);
  const box = control.type === "checkbox";
  const node = h("div", { class: box ? "field check" : "field" }, box ? [h("div", { class: "check-row" }, control, title)] : [title, shown], helpNode, errorNode);
  node.fail = (text) => {
    errorNode.textContent = text ?? "";
    errorNode.hidden = !text;
    control.setAttribute("aria-invalid", String(Boolean(text)));
  };
  return node;
}

export function select({ options, value, onChange = () => {}, ...attributes }) {
  const list = options.map(([key, label]) => h("option", { value: key }, label));
  return h("select", { ...attributes, value, on: { change: (event) => onChange(event.target.value) } }, list);
}

/** Text of unknown language: Bengali is marked as such, so that voices and fonts fit. */
export function say(text) {
  return bengali(String(text)) ? h("span", { lang: "bn", class: "bengali" }, text) : String(text);
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value ?? "–"))));
}

export function empty({ title, text, actions, level = 2 }) {
  return h("div", { class: "empty" }, h(`h${level}`, null, title), text ? h("p", null, text) : null, actions ? h("div", { class: "actions" }, actions) : null);
}

export function loading(text) {
  return h("p", { class: "loading", role: "status" }, text);
}

export function problem(error, retry) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", { class: "problem-text" }, error.message ?? words.failed),
    error.hint ? h("p", { class: "hint" }, error.hint) : null,
    retry ? button(words.retry, retry) : null,
  );
}

export function pager({ offset, limit, total, onGo }) {
  const text = words.range(integer(total ? offset + 1 : 0), integer(Math.min(total, offset + limit)), integer(total));
  const previous = button(words.previous, () => onGo(Math.max(0, offset - limit)), { disabled: offset <= 0 });
  const next = button(words.next, () => onGo(offset + limit), { disabled: offset + limit >= total });
  return h("div", { class: "pager" }, previous, h("span", null, text), next);
}

export function copyButton(text, label = words.copy) {
  return button(label, async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
      toast(words.copied, { kind: "good" });
    } catch {
      toast(words.copyFailed, { kind: "bad" });
    }
  }, { kind: "quiet" });
}

/** Say something at the edge of the screen and to screen readers. Returns the function that takes it away. */
export function toast(text, { kind = "info", action, seconds = 6 } = {}) {
  const close = () => node.remove();
  const node = h(
    "div",
    { class: `toast ${kind}` },
    h("p", null, text),
    action ? button(action.label, () => { close(); action.run(); }, { kind: "quiet" }) : null,
    button("×", close, { kind: "quiet close", "aria-label": words.dismiss }),
  );
  byId("toasts").append(node);
  announce(text);
  // Whoever is reading it, or about to press its button, keeps it.
  let timer = 0;
  const wait = () => { timer = setTimeout(close, (action ? Math.max(seconds, 15) : seconds) * 1000); };
  for (const type of ["pointerenter", "focusin"]) node.addEventListener(type, () => clearTimeout(timer));
  for (const type of ["pointerleave", "focusout"]) node.addEventListener(type, wait);
  wait();
  return close;
}

/** Wait for a request that a click made; what goes wrong is shown as a toast. */
export async function attempt(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    toast([error.message, error.hint].filter(Boolean).join(" "), { kind: "bad", seconds: 12 });
    return undefined;
  }
}

/** Show a modal dialog; resolves to the chosen action's value, or null when it was closed. */
export function dialog({ title, body, actions = [], wide = false }) {
  return new Promise((resolve) => {
    const id = freshId("dialog");
    const node = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": id });
    const finish = (value) => { node.returnValue = ""; resolve(value); node.close(); };
    node.append(
      h("div", { class: "dialog-head" }, h("h2", { id }, title), button("×", () => finish(null), { kind: "quiet close", "aria-label": words.close })),
      h("div", { class: "dialog-body" }, body),
    );
    if (actions.length) node.append(h("div", { class: "actions" }, actions.map((one) => button(one.label, () => finish(one.value), { kind: one.kind ?? "" }))));
    node.addEventListener("close", () => { resolve(null); node.remove(); });
    node.addEventListener("click", (event) => event.target === node && finish(null));
    document.body.append(node);
    node.showModal();
  });
}

export async function ask({ title, text, yes, no = words.cancel, danger = false }) {
  const actions = [{ label: no, value: false }, { label: yes, value: true, kind: danger ? "danger" : "primary" }];
  return (await dialog({ title, body: h("p", null, text), actions })) === true;
}
