// What the reader's own latest finished run says about a card, from its report alone.

import { number, percent, withUnit } from "../../format.js";
import { own as words } from "../../strings-learn.js";

/** Return {run, report}, or null where no run is finished. */
export async function latest(ctx) {
  const { runs } = await ctx.api.get("/runs", { state: "succeeded", limit: 1 }, { signal: ctx.signal });
  if (!runs.length) return null;
  const report = await ctx.api.get(`/runs/${runs[0].run_id}/report`, {}, { signal: ctx.signal });
  return { run: runs[0], report };
}

const said = (report, test) => report.verdicts.filter(test).map((one) => one.text);
const of = (report, stage, ...subjects) => said(report, (one) => one.stage === stage && (!subjects.length || subjects.includes(one.subject)));
const row = (report, stage) => report.rows.find((one) => one.stage === stage);

const TELLERS = {
  why: (report) => said(report, (one) => one.subject === "result" || one.subject === "runtime"),
  soft: (report) => distilled(report, () => agreement(report)),
  temperature: (report) => distilled(report, () => [settings(report)]),
  alpha: (report) => distilled(report, () => [settings(report), ...said(report, (one) => one.subject === "distillation")]),
  features: (report) => distilled(report, () => [features(report), ...agreement(report)]),
  structure: (report) => pruned(report, (cfg) => [words.pruned(cfg.pattern, percent(cfg.remove_frac, 0), cfg.of), ...of(report, "prune", "size", "speed")]),
  recovery: (report) => pruned(report, (cfg) => [cfg.recover ? words.recovered(number(cfg.recover.epochs), cfg.recover_from) : words.noRecovery, ...of(report, "prune", "quality")]),
  quantize: (report) => (row(report, "quantize") ? of(report, "quantize", "size", "speed", "quality") : [words.noQuantizing]),
  honest: (report) => [...interval(report), ...of(report, "teacher", "quality"), words.seeds(report.recipe.seed)],
  limits: (report) => orElse(said(report, (one) => one.outcome !== "helped"), words.allHelped),
};

/** Return sentences of a report for a card. */
export function tell(card, report) {
  return TELLERS[card](report);
}

const orElse = (list, text) => (list.length ? list : [text]);

function distilled(report, sentences) {
  return row(report, "distill") ? sentences() : [words.noDistilling];
}

function pruned(report, sentences) {
  return row(report, "prune") ? sentences(report.recipe.prune) : [words.noPruning];
}

function settings({ recipe: { distill } }) {
  return words.distilled(number(distill.temperature), number(distill.alpha), distill.objective);
}

function features({ recipe: { distill } }) {
  const names = Object.entries(distill.features ?? {}).map(([name, weight]) => `${name} × ${number(weight)}`);
  return names.length ? words.features(names.join(", ")) : words.noFeatures;
}

function agreement(report) {
  const { value, n } = row(report, "distill").metrics.agreement_with_teacher ?? {};
  return typeof value === "number" ? [words.agreement(percent(value), n)] : [];
}

/** The teacher's interval in the metric that the report compares by. */
function interval(report) {
  const name = report.comparisons[0]?.metric ?? "f1_macro";
  const found = row(report, "teacher")?.metrics[name];
  if (!found?.ci95) return [];
  const show = (value) => withUnit(value, found.unit);
  return [words.interval(name, show(found.value), show(found.ci95[0]), show(found.ci95[1]), found.n)];
}
