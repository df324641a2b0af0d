// The steps of the network view and what is said at each, all from this run's report.

import { compact, integer, number, percent, seconds } from "../../format.js";
import { network as words } from "../../strings-models.js";
import { fits } from "../result/training.js";
import * as m from "../result/metrics.js";

/**
 * Return the steps that this run took: [{id, title, left, right, mode, said: [text], facts: [[term, value]]}]
 *
 * left, right: stages whose layers are drawn; mode: whole | copied | distil | cut | bits | result
 */
export function steps(report) {
  const of = (stage) => m.row(report, stage);
  const out = [teach(report, of("teacher"))];
  if (of("distill")) out.push(begin(of("distill")), distil(report, of("distill")));
  if (of("prune")) out.push(prune(report, of("prune")));
  if (of("quantize")) out.push(quantize(report, of("quantize")));
  const last = m.final(report);
  if (last && last.stage !== "teacher") out.push(result(report, last));
  return out.filter(Boolean);
}

function score(report, row) {
  const head = m.headline(report);
  const found = m.metric(row, head);
  return found?.value === null || found === null ? null : [m.title(head), `${m.show(found.value, found.unit)} ${m.interval(found)}`.trim()];
}

function trained(row) {
  const all = fits(row);
  if (!all.length) return null;
  const count = all.reduce((a, f) => a + (f.steps ?? 0), 0);
  return [words.trained, words.trainedFor(integer(count), seconds(all.reduce((a, f) => a + (f.seconds ?? 0), 0)))];
}

function verdictsOf(report, stage) {
  return report.verdicts.filter((v) => v.stage === stage && v.subject !== "result").map((v) => v.text);
}

function known(pairs) {
  return pairs.filter((p) => p && p[1] !== null && p[1] !== undefined && p[1] !== "–");
}

function teach(report, row) {
  if (!row) return null;
  const fact = row.facts;
  const begun = words.begun[fact.model?.weights] ?? fact.model?.weights ?? "";
  return {
    id: "teach",
    title: words.steps.teach,
    left: "teacher",
    right: null,
    mode: "whole",
    said: [
      words.teach(fact.model?.source ?? "", begun, compact(m.value(row, "parameters")), integer(m.value(row, "layers"))),
      ...verdictsOf(report, "teacher"),
    ],
    facts: known([
      score(report, row),
      trained(row),
      [m.title("parameters"), compact(m.value(row, "parameters"))],
      [m.title("flops"), m.show(m.value(row, "flops"), "FLOP")],
    ]),
  };
}

function begin(row) {
  const model = row.facts.model ?? {};
  const map = model.layer_map ?? [];
  const text = map.length
    ? words.copied(map.join(", "), percent(model.copied_frac, 0))
    : words.notCopied(typeof model.not_copied === "string" ? model.not_copied : "");
  const sizes = row.facts.sizes ?? {};
  return {
    id: "student",
    title: words.steps.student,
    left: "teacher",
    right: "distill",
    mode: "copied",
    said: [
      words.student(
        compact(sizes.student_parameters ?? m.value(row, "parameters")),
        sizes.times_smaller ? number(sizes.times_smaller) : null,
      ),
      text,
    ],
    facts: known([
      [words.studentParameters, compact(sizes.student_parameters)],
      [words.teacherParameters, compact(sizes.teacher_parameters)],
      [words.copiedParameters, model.copied_parameters === undefined ? null : compact(model.copied_parameters)],
    ]),
  };
}

function distil(report, row) {
  const fact = row.facts.distill ?? {};
  const soft = fact.soft_loss;
  return {
    id: "distil",
    title: words.steps.distil,
    left: "teacher",
    right: "distill",
    mode: "distil",
    said: [
      words.distil(fact.objective, fact.alpha, fact.temperature),
      soft ? words.softLoss(number(soft.first), number(soft.kept ?? soft.final)) : null,
      ...verdictsOf(report, "distill"),
    ].filter(Boolean),
    facts: known([
      score(report, row),
      agreement(row),
      trained(row),
      fact.teacher_answers?.rows ? [words.answers, integer(fact.teacher_answers.rows)] : null,
    ]),
  };
}

function agreement(row) {
  const found = m.metric(row, "agreement_with_teacher");
  return found?.value === null || !found ? null : [m.title("agreement_with_teacher"), m.show(found.value, found.unit)];
}

function prune(report, row) {
  const fact = row.facts;
  const achieved = Object.entries(fact.achieved ?? {})
    .filter(([, a]) => typeof a?.before === "number")
    .map(([name, a]) => [words.kinds[name] ?? m.title(name), `${compact(a.before)} → ${compact(a.after)} (−${percent(a.fraction, 0)})`]);
  const refits = (fact.rounds ?? []).flatMap((r) => r.refit ?? []);
  return {
    id: "prune",
    title: words.steps.prune,
    left: "teacher",
    right: "prune",
    mode: "cut",
    said: [
      words.prune(fact.method, fact.pattern, fact.scope),
      refits.length ? words.refit(refits.length) : null,
      fits(row).length ? words.recovered(integer(fits(row).reduce((a, f) => a + (f.steps ?? 0), 0))) : words.notRecovered,
      ...verdictsOf(report, "prune"),
    ].filter(Boolean),
    facts: known([...achieved, score(report, row)]),
  };
}

function quantize(report, row) {
  const fact = row.facts;
  const formats = Object.entries(fact.weight_formats ?? {})
    .map(([name, n]) => `${compact(n)} ${name}`)
    .join(", ");
  return {
    id: "quantize",
    title: words.steps.quantize,
    left: "teacher",
    right: "quantize",
    mode: "bits",
    said: [words.quantize(fact.backend, fact.bits?.weights, fact.bits?.activations), ...verdictsOf(report, "quantize")],
    facts: known([
      [words.stored, formats],
      fact.source_bytes ? [words.weightFile, `${m.show(fact.source_bytes, "bytes")} → ${m.show(fact.bytes, "bytes")}`] : null,
      fact.agreement === undefined ? null : [words.equal, percent(fact.agreement, 2)],
      fact.kl_nats === undefined ? null : [words.kl, `${number(fact.kl_nats)} nats`],
      score(report, row),
    ]),
  };
}

function result(report, row) {
  const verdict = report.verdicts.find((v) => v.subject === "result");
  const pair = (key, unit) => [m.title(key), `${m.show(m.value(m.teacher(report), key), unit)} → ${m.show(m.value(row, key), unit)}`];
  return {
    id: "result",
    title: words.steps.result,
    left: "teacher",
    right: row.stage,
    mode: "result",
    said: [verdict?.text ?? words.noResult],
    facts: known([
      score(report, row),
      pair("parameters", "count"),
      pair("file_bytes", "bytes"),
      pair("latency_p50_ms", "ms"),
      pair("flops", "FLOP"),
    ]),
  };
}
