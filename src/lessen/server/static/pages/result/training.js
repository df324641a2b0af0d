// How each stage was trained: losses and validation score by epoch, from the report; the live page has every step.

import { h } from "../../dom.js";
import { integer, number, seconds } from "../../format.js";
import { stages as stageNames } from "../../strings.js";
import { training as words } from "../../strings-result.js";
import { lines } from "../../svg.js";
import { card, facts } from "../../widgets.js";
import { memory } from "./curves.js";

/** Return the trainings of a row: its own and those after its cuts, the epochs of later ones following on. */
export function fits(row) {
  const own = row.facts.fit ? [row.facts.fit] : [];
  const after = (row.facts.rounds ?? []).map((r) => r.recovery?.fit).filter(Boolean);
  return [...own, ...after];
}

function history(row) {
  const out = [];
  let shift = 0;
  for (const fit of fits(row)) {
    const entries = (fit.history ?? []).filter((e) => typeof e.epoch === "number").map((e) => ({ ...e, epoch: e.epoch + shift }));
    out.push(...entries);
    shift = entries.at(-1)?.epoch ?? shift;
  }
  return out;
}

export function trainingCard(report, ctx) {
  const rows = report.rows.filter((r) => fits(r).length);
  if (!rows.length) return null;
  return card(
    { title: words.title, id: "training" },
    h("p", { class: "small muted" }, words.lead, " ", h("a", { href: `#/run/${encodeURIComponent(report.run_id)}` }, words.live)),
    rows.map(stage),
    memory(report, ctx),
  );
}

function stage(row) {
  const entries = history(row);
  const last = fits(row).at(-1);
  // one epoch is no curve
  const made = entries.length > 1 ? [losses(row, entries), score(row, entries)].filter(Boolean) : [];
  const only =
    entries.length === 1
      ? Object.entries(entries[0])
          .filter(([k]) => k.startsWith("loss_") || k.startsWith("val_"))
          .map(([k, v]) => [words.names[k] ?? k.replaceAll("_", " "), number(v, 4)])
      : [];
  return h(
    "details",
    { open: row.stage !== "control" },
    h(
      "summary",
      null,
      stageNames[row.stage] ?? row.stage,
      h("span", { class: "muted small" }, words.summary(integer(last.steps), seconds(fits(row).reduce((a, f) => a + (f.seconds ?? 0), 0)))),
    ),
    h("div", { class: "figures" }, made),
    facts(
      [
        ...only,
        [words.best, last.best?.epoch === undefined ? "–" : number(last.best.epoch)],
        [words.threshold, last.threshold === undefined || last.threshold === null ? null : number(last.threshold)],
        [words.early, last.stopped_early ? words.yes : words.no],
        [words.failed, last.failed_steps === undefined ? null : integer(last.failed_steps)],
      ].filter((f) => f[1] !== null),
    ),
  );
}

function losses(row, entries) {
  const parts = [...new Set(entries.flatMap((e) => Object.keys(e)))].filter((k) => k.startsWith("loss_") || k === "val_loss");
  const useful = parts.filter(
    (k) => k !== "loss_total" || parts.filter((p) => p.startsWith("loss_")).length > 2 || !parts.includes("loss_label"),
  );
  const series = useful
    .map((k, i) => ({ name: words.names[k] ?? k.replaceAll("_", " "), kind: `c${i + 1}`, points: points(entries, k) }))
    .filter((q) => q.points.length);
  if (!series.length) return null;
  return lines({
    title: words.losses(row.stage),
    desc: words.lossesDesc,
    unit: "nats",
    series,
    x: { title: words.epoch, show: number },
    y: { title: words.loss, show: (v) => number(v, 4), tick: number },
    marks: mark(row),
  });
}

function score(row, entries) {
  const keys = [...new Set(entries.flatMap((e) => Object.keys(e)))].filter((k) => k.startsWith("val_") && k !== "val_loss");
  const series = keys
    .map((k, i) => ({ name: words.names[k] ?? k.replaceAll("_", " "), kind: `c${i + 1}`, points: points(entries, k) }))
    .filter((q) => q.points.length);
  if (!series.length) return null;
  return lines({
    title: words.score(row.stage),
    desc: words.scoreDesc,
    series,
    x: { title: words.epoch, show: number },
    y: { title: words.validation, show: (v) => number(v, 4), tick: number },
    zero: false,
    marks: mark(row),
  });
}

function points(entries, key) {
  return entries.filter((e) => typeof e[key] === "number").map((e) => [e.epoch, e[key]]);
}

function mark(row) {
  const all = fits(row);
  return all.length === 1 && all[0].best?.epoch !== undefined ? [{ x: all[0].best.epoch, name: words.kept }] : [];
}
