// Ten cards bound to the playground and to the reader's own run, a glossary, and what the metrics mean.

import { fill, h } from "../dom.js";
import { learn as words } from "../strings-learn.js";
import { cards } from "../strings-lessons.js";
import { shuffled } from "../toy/random.js";
import { button, card, heading, link, problem, tabs } from "../widgets.js";
import { glossary, metrics } from "./learn/glossary.js";
import { latest, tell } from "./learn/own.js";
import { prediction } from "./learn/question.js";
import { mark } from "./playground/parts.js";

export const title = words.title;
export const styles = ["learn.css"];

const TABS = ["cards", "glossary", "metrics"];

export async function render(root, params, ctx) {
  const boxes = new Map(cards.map(({ id }) => [id, h("div", { class: "lp-own-run" })]));
  const render_ = {
    cards: () => allCards(boxes),
    glossary: () => glossary(params.q ?? "", ctx.announce, (q) => ctx.query({ q })),
    metrics: () => metrics(ctx),
  };
  const items = TABS.map((id) => ({ id, label: words.tabs[id], render: render_[id] }));
  const selected = TABS.includes(params.tab) ? params.tab : "cards";
  fill(
    root,
    heading({
      title: words.title, lead: words.lead,
      actions: [link(words.instructions, "#/instructions", { class: "button" }), link(words.assessment, "#/assessment", { class: "button primary" })],
    }),
    tabs({ label: words.sections, items, selected, onChange: (tab) => ctx.query({ tab: tab === "cards" ? null : tab, card: null }) }),
  );
  ownNumbers(boxes, ctx);
  if (boxes.has(params.card)) requestAnimationFrame(() => jump(params.card));
}

function allCards(boxes) {
  const list = cards.map(({ id, title: name }, i) => h("li", null, button(`${i + 1}. ${name}`, () => jump(id), { kind: "quiet" })));
  return h("div", { class: "lp-learn" }, h("nav", { class: "lp-index", "aria-label": words.cardsNav }, h("ol", null, list)), h("div", { class: "stack" }, cards.map((one, i) => oneCard(one, i, boxes.get(one.id)))));
}

function oneCard({ id, title: name, text, tryIt, question, sources }, i, box) {
  const order = shuffled(question.choices.map((_, k) => k), i + 11); // the right one is not always first, and stays where it was
  const node = card(
    { title: `${i + 1}. ${name}`, id: `card-${id}`, class: "lp-card" },
    h(
      "div", { class: "lp-lesson" },
      h("div", { class: "stack" },
        text.map((one) => h("p", null, one)),
        h("div", { class: "row" }, h("strong", null, `${words.tryIt}:`), tryIt.map(([label, hash]) => link(label, hash, { class: "lp-try" }))),
        h("p", { class: "help" }, `${words.sources}: ${sources.join("; ")}.`)),
      h("div", { class: "stack" }, box, prediction(question, order)),
    ),
  );
  node.querySelector("h2").tabIndex = -1;
  return node;
}

function jump(id) {
  const head = document.querySelector(`#card-${id} h2`);
  head?.scrollIntoView({ block: "start" });
  head?.focus({ preventScroll: true });
}

async function ownNumbers(boxes, ctx) {
  try {
    const found = await latest(ctx);
    for (const [id, box] of boxes) {
      if (!found) fill(box, h("p", { class: "muted" }, words.ownNone));
      else fill(box, h("h3", null, mark("measured"), " ", words.own), h("p", { class: "help" }, words.ownFrom, " ", link(found.run.name, `#/result/${found.run.run_id}`)), sentences(tell(id, found.report)));
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return;
    for (const box of boxes.values()) fill(box, problem(error));
  }
}

function sentences(list) {
  return list.length ? h("ul", null, list.map((one) => h("li", null, one))) : h("p", { class: "muted" }, words.ownNothing);
}
