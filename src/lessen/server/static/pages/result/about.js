// Where the numbers come from: data, machine, versions, settings, the models' own facts.

import { h, table } from "../../dom.js";
import { bytes, compact, integer, moment, seconds } from "../../format.js";
import { about as words } from "../../strings-result.js";
import { card, copyButton, facts } from "../../widgets.js";
import * as m from "./metrics.js";

export function aboutCard(report) {
  return card(
    { title: words.title, id: "about" },
    h("h3", null, words.run),
    facts(run(report)),
    h("h3", null, words.data),
    facts(data(report.data)),
    perClass(report.data),
    h("h3", null, words.machine),
    facts(machine(report.environment)),
    h("h3", null, words.models),
    models(report),
    recipe(report),
  );
}

function run(report) {
  return [
    [words.id, h("code", null, report.run_id)],
    [words.created, moment(report.created)],
    [words.seconds, report.seconds ? seconds(report.seconds) : null],
    [words.task, report.task],
    [words.pipeline, report.pipeline],
    [words.seed, report.recipe.seed],
    [words.author, report.recipe.author],
  ].filter((f) => f[1] !== null && f[1] !== undefined);
}

function data(of) {
  const names = {
    source: words.source,
    path: words.path,
    rows_read: words.read,
    rows_used: words.used,
    duplicates_removed: words.duplicates,
    missing_dropped: words.missing,
    conflicting_texts_dropped: words.conflicts,
    removed_from_train: words.leaked,
    fraction: words.fraction,
    folds: words.folds,
  };
  const out = Object.entries(names)
    .filter(([k]) => of[k] !== null && of[k] !== undefined)
    .map(([k, label]) => [label, typeof of[k] === "number" ? integerOr(of[k]) : String(of[k])]);
  for (const [split, n] of Object.entries(of.rows ?? {})) out.push([words.split(split), integer(n)]);
  if (of.digest) out.push([words.digest, h("code", { title: of.digest }, of.digest.slice(0, 16))]);
  return out;
}

function integerOr(value) {
  return Number.isInteger(value) ? integer(value) : String(value);
}

function perClass(of) {
  const splits = Object.keys(of.rows_per_class ?? {});
  if (!splits.length) return null;
  const labels = Object.keys(of.rows_per_class[splits[0]]);
  const columns = [
    { key: "label", title: words.label, head: true, render: (l) => l },
    ...splits.map((s) => ({ key: s, title: words.split(s), numeric: true, render: (l) => integer(of.rows_per_class[s][l]) })),
  ];
  return h(
    "details",
    null,
    h("summary", null, words.perClass),
    table({ caption: words.perClass, columns, rows: labels, hideCaption: true }),
  );
}

function machine(of) {
  return [
    [words.device, of.device],
    [words.cpu, of.cpu],
    [words.gpu, of.gpu],
    [words.cores, of.cores],
    [words.threads, of.threads],
    [words.memory, of.memory_bytes ? bytes(of.memory_bytes) : null],
    [words.system, of.system],
    ["Python", of.python],
    [words.flags, (of.cpu_flags ?? []).join(", ") || null],
    ...Object.entries(of.versions ?? {}),
  ].filter((f) => f[1] !== null && f[1] !== undefined);
}

function models(report) {
  const rows = report.rows.filter((r) => r.facts.shape);
  const cell = (value) => (Array.isArray(value) ? [...new Set(value)].join(", ") : (value ?? "–"));
  const columns = [
    { key: "stage", title: words.stage, head: true, render: (r) => r.stage },
    {
      key: "weights",
      title: words.weights,
      render: (r) => [r.facts.model?.source, words.begun[r.facts.model?.weights] ?? r.facts.model?.weights].filter(Boolean).join(", "),
    },
    { key: "layers", title: words.layers, numeric: true, render: (r) => cell(r.facts.shape.layers) },
    { key: "hidden", title: words.hidden, numeric: true, render: (r) => cell(r.facts.shape.hidden_size) },
    { key: "heads", title: words.heads, numeric: true, render: (r) => cell(r.facts.shape.heads) },
    { key: "ffn", title: words.ffn, numeric: true, render: (r) => cell(r.facts.shape.intermediate_size) },
    {
      key: "parameters",
      title: m.title("parameters"),
      numeric: true,
      render: (r) => compact(m.value(r, "parameters") ?? r.facts.shape.parameters),
    },
    {
      key: "stored",
      title: words.stored,
      render: (r) =>
        Object.entries(r.facts.weight_formats ?? {})
          .map(([k, n]) => `${compact(n)} ${k}`)
          .join(", "),
    },
  ].filter((c) => c.key === "stage" || rows.some((r) => ![undefined, null, "–", ""].includes(c.render(r))));
  return table({ caption: words.models, columns, rows, hideCaption: true });
}

function recipe(report) {
  const text = JSON.stringify(report.recipe, null, 2);
  return h(
    "details",
    null,
    h("summary", null, words.recipe),
    h("div", { class: "row end" }, copyButton(text)),
    h("pre", { tabindex: 0, role: "region", "aria-label": words.recipe }, text),
  );
}
