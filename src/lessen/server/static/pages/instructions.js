// Four numbered steps, what the methods are, and what they are good for.

import { fill, h } from "../dom.js";
import { instructions as words, learn } from "../strings-learn.js";
import { card, heading, link } from "../widgets.js";

export const title = words.title;
export const styles = ["learn.css"];

export async function render(root) {
  fill(
    root,
    heading({ title: words.title, lead: words.lead, actions: link(learn.title, "#/learn", { class: "button" }) }),
    h("ol", { class: "lp-steps" }, words.steps.map(step)),
    h("h2", null, words.methods),
    h("div", { class: "lp-methods" }, words.about.map(([name, text], i) => h("details", { class: "card", open: i === 0 }, h("summary", null, name), text.map((one) => h("p", null, one))))),
    card({ title: words.uses }, h("dl", { class: "lp-glossary" }, words.useList.map(([term, text]) => h("div", null, h("dt", null, term), h("dd", null, text))))),
    card({ title: words.honest }, h("p", null, words.honestText)),
  );
}

function step([name, text, label, hash], i) {
  return h("li", { class: "card" }, h("span", { class: "lp-number", "aria-hidden": "true" }, String(i + 1)), h("div", { class: "stack" }, h("h2", null, name), h("p", null, text), h("p", null, link(label, hash, { class: "button" }))));
}
