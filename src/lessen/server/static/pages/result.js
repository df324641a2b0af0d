// A run's result: before and after, what each stage did, gates, confusion and the samples behind it, files, where numbers come from.

import { fill, h } from "../dom.js";
import { result as words } from "../strings-result.js";
import { badge, button, empty, heading, link, loading } from "../widgets.js";
import { aboutCard } from "./result/about.js";
import { confusionCard } from "./result/confusion.js";
import { reliabilityCard } from "./result/curves.js";
import { filesCard } from "./result/files.js";
import { gatesCard } from "./result/gates.js";
import { hero } from "./result/hero.js";
import { lead, notices, verdicts } from "./result/said.js";
import { baselineCard, classesCard, textsCard } from "./result/scores.js";
import { latencyCard, stagesCard } from "./result/stages.js";
import { tableCard } from "./result/table.js";
import { trainingCard } from "./result/training.js";

export const title = words.title;
export const styles = ["svg.css", "result.css"];

export async function render(root, params, ctx) {
  fill(root, loading(words.loading));
  const report = await ask(params.id, ctx, root);
  if (!report) return undefined;
  const cards = [
    verdicts(report),
    stagesCard(report),
    tableCard(report, ctx, params),
    gatesCard(report, ctx, params),
    confusionCard(report, ctx, params),
    textsCard(report),
    classesCard(report, params, ctx),
    reliabilityCard(report),
    latencyCard(report, ctx, params),
    baselineCard(report),
    trainingCard(report, ctx),
    filesCard(report, ctx),
    aboutCard(report),
  ].filter(Boolean);
  const news = h("div", { "aria-live": "polite", hidden: true });
  const actions = [
    link(words.layers, `#/layers/${encodeURIComponent(params.id)}`, { class: "button" }),
    link(words.network, `#/network/${encodeURIComponent(params.id)}`, { class: "button" }),
    link(words.compare, `#/compare?runs=${encodeURIComponent(params.id)}`, { class: "button" }),
  ];
  fill(
    root,
    heading({
      title: report.name,
      lead: lead(report),
      actions,
      badge: badge(report.complete ? words.complete : words.partial, report.complete ? "good" : "warning"),
    }),
    news,
    notices(report, ctx.run),
    hero(report),
    contents(cards, ctx),
    cards,
  );
  if (params.section) document.getElementById(params.section)?.scrollIntoView();
  return watch(params.id, ctx, news);
}

async function ask(id, ctx, root) {
  try {
    // a folder may have been copied under another name: the server knows it by that
    return { ...(await ctx.api.get(`/runs/${encodeURIComponent(id)}/report`, {}, { signal: ctx.signal })), run_id: id };
  } catch (error) {
    if (error.status !== 404 && error.status !== 409) throw error;
    fill(
      root,
      heading({ title: ctx.run?.name ?? id }),
      empty({
        title: words.none,
        text: [error.message, error.hint].filter(Boolean).join(". "),
        actions: link(words.live, `#/run/${encodeURIComponent(id)}`, { class: "button primary" }),
      }),
    );
    return null;
  }
}

/** The list of sections; the address's hash belongs to the router, so these are buttons that scroll. */
function contents(cards, ctx) {
  const names = cards.filter((c) => c.id).map((c) => [c.id, c.querySelector("h2").textContent, c]);
  return h(
    "nav",
    { class: "contents", "aria-label": words.contents },
    h(
      "ul",
      null,
      names.map(([id, name, card]) =>
        h(
          "li",
          null,
          h(
            "button",
            {
              type: "button",
              on: {
                click: () => {
                  const target = card.querySelector("h2");
                  target.tabIndex = -1;
                  target.focus({ preventScroll: true });
                  card.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
                  ctx.query({ section: id });
                },
              },
            },
            name,
          ),
        ),
      ),
    ),
  );
}

/** A run that goes on measures more: say so, and let the reader choose when to see it. */
function watch(id, ctx, news) {
  let known = ctx.run?.state;
  return ctx.live.onRuns((run) => {
    if (run.run_id !== id || run.state === known) return;
    known = run.state;
    if (!["succeeded", "failed", "cancelled", "interrupted"].includes(known)) return;
    news.hidden = false;
    fill(
      news,
      h(
        "div",
        { class: "notice" },
        h("p", null, words.changed),
        button(words.again, () => ctx.go(location.hash)),
      ),
    );
  });
}
