// Scores class by class, texts that sequence models generated, and the simple model beside.

import { fill, h, table } from "../../dom.js";
import { integer } from "../../format.js";
import { scores as words } from "../../strings-result.js";
import { card, facts, field, say, select } from "../../widgets.js";
import * as m from "./metrics.js";

export function classesCard(report, params, ctx) {
  const rows = [...report.rows, ...(report.baseline ? [report.baseline] : [])].filter((r) => r.facts.per_class?.length);
  if (!rows.length) return null;
  const keys = ["f1", "precision", "recall", "accuracy", "roc_auc"].filter((k) => rows[0].facts.per_class.some((c) => k in c));
  const state = { key: keys.includes(params.score) ? params.score : keys[0] };
  const place = h("div", null);
  const draw = () => fill(place, classes(report, rows, state.key));
  const choice = field({
    label: words.score,
    control: select({
      options: keys.map((k) => [k, words.keys[k] ?? k]),
      value: state.key,
      onChange: (v) => {
        state.key = v;
        ctx.query({ score: v });
        draw();
      },
    }),
  });
  draw();
  return card({ title: words.classes, id: "classes" }, h("div", { class: "form-row" }, choice), place);
}

function classes(report, rows, key) {
  const labels = rows[0].facts.per_class.map((c) => c.label);
  const of = (row, label) => row.facts.per_class.find((c) => c.label === label)?.[key] ?? null;
  const teacher = rows.find((r) => r.stage === "teacher");
  const last = m.final(report);
  const fall = (label) => (teacher && last?.facts.per_class ? of(last, label) - of(teacher, label) : null);
  const columns = [
    { key: "label", title: words.label, head: true, render: (label) => say(label) },
    {
      key: "support",
      title: words.support,
      numeric: true,
      render: (label) => integer(rows[0].facts.per_class.find((c) => c.label === label)?.support),
    },
    ...rows.map((r) => ({ key: r.stage, title: r.stage, numeric: true, render: (label) => m.show(of(r, label), "share") })),
    ...(teacher && last && last !== teacher
      ? [
          {
            key: "change",
            title: words.change(last.stage),
            numeric: true,
            render: (label) => (fall(label) === null ? "–" : m.change(fall(label), "share")),
          },
        ]
      : []),
  ];
  return table({ caption: words.caption(words.keys[key] ?? key), columns, rows: labels });
}

/** Texts that every stage generated for the same sources. */
export function textsCard(report) {
  const rows = report.rows.filter((r) => r.facts.examples?.length);
  if (!rows.length) return null;
  const first = rows[0].facts.examples;
  const item = (example, i) =>
    h(
      "li",
      null,
      h(
        "dl",
        { class: "texts" },
        line(words.source, example.source),
        line(words.reference, example.reference, "reference"),
        rows.map((r) => line(r.stage, r.facts.examples[i]?.generated ?? "–")),
      ),
    );
  return card(
    { title: words.texts, id: "texts" },
    h("p", { class: "small muted" }, words.textsLead(rows[0].facts.generation?.beams ?? 1)),
    h("ol", { class: "text-list" }, first.slice(0, 8).map(item)),
  );
}

function line(name, text, kind) {
  return h("div", { class: kind ?? null }, h("dt", null, name), h("dd", null, say(text ?? "–")));
}

/** The simple model on the same splits. */
export function baselineCard(report) {
  const simple = report.baseline;
  if (!simple) return null;
  const head = m.headline(report);
  const verdict = report.verdicts.find((v) => v.stage === "teacher" && v.subject === "quality");
  const shown = [head, "accuracy", "roc_auc", "perplexity", "nll", "fit_s"].filter(
    (k, i, all) => all.indexOf(k) === i && m.value(simple, k) !== null,
  );
  const pair = (k) => [
    m.title(k),
    h(
      "span",
      { title: m.told(m.metric(simple, k)) },
      `${m.show(m.value(simple, k), m.metric(simple, k).unit)} ${m.interval(m.metric(simple, k))}`,
    ),
  ];
  return card(
    { title: words.baseline, id: "baseline" },
    h("p", null, h("strong", null, simple.facts.method ?? simple.runtime), ". ", verdict ? say(verdict.text) : ""),
    facts(shown.map(pair)),
    h("p", { class: "small muted" }, words.baselineWhy),
  );
}
