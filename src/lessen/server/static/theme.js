// Light, dark or as the system says. The choice is the one thing (beside the shortcuts' switch) that the browser keeps.
//
//   choices: ["system", "light", "dark"]     choice() -> one of them     choose(name)     next() -> name
//   shown: {name: "light" | "dark", onChange(callback) -> unsubscribe}
//   color(variable) -> "rgb(...)" of a variable of style.css in the theme that is shown, for canvases

import { h } from "./dom.js";

export const choices = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const callbacks = new Set();
const colors = new Map();

export function remember(key, value) {
  try {
    localStorage.setItem(`lessen.${key}`, value);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

export function recall(key) {
  try {
    return localStorage.getItem(`lessen.${key}`);
  } catch {
    return null;
  }
}

export function choice() {
  return document.documentElement.dataset.theme ?? "system";
}

export function choose(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  remember("theme", name);
  changed();
}

export function next() {
  const name = choices[(choices.indexOf(choice()) + 1) % choices.length];
  choose(name);
  return name;
}

export const shown = {
  get name() {
    const name = choice();
    return name === "system" ? (dark.matches ? "dark" : "light") : name;
  },
  onChange(callback) {
    callbacks.add(callback);
    return () => callbacks.delete(callback);
  },
};

function changed() {
  colors.clear();
  for (const callback of callbacks) callback(shown.name);
}

export function start() {
  dark.addEventListener("change", changed);
}

/** Return a variable's colour as a canvas wants it; light-dark() is only resolved on an element. */
export function color(variable) {
  if (!colors.has(variable)) {
    const probe = h("span", { hidden: true, style: { color: `var(${variable})` } });
    document.body.append(probe);
    colors.set(variable, getComputedStyle(probe).color);
    probe.remove();
  }
  return colors.get(variable);
}
