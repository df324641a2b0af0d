// A report's numbers for people: titles, better direction, values with their unit, interval and origin. Pure functions of
// report.json; what lessen.report.headline and lessen.report.numbers say in the printed report, in the dashboard's notation.

import { bytes, compact, integer, milliseconds, NOTHING, number, percent, signed, times } from "../../format.js";
import { metricNames, metrics as words } from "../../strings-result.js";

const LOWER = new Set(
  `hamming_loss expected_calibration_error nll perplexity perplexity_ratio nll_per_token bits_per_byte
  kl_to_teacher no_label_share first_token_ms first_token_p95_ms token_ms token_p95_ms batch_first_token_ms
  batch_token_ms active_parameters flops_per_token parameters nonzero_parameters file_bytes
  file_bytes_compressed flops latency_mean_ms latency_p50_ms latency_p95_ms latency_p99_ms batch_latency_p50_ms
  batch_latency_p95_ms cpu_time_ms peak_rss_bytes import_rss_bytes open_ms first_call_ms train_nll
  train_perplexity train_nll_per_token`.split(/\s+/),
);
const HIGHER = new Set(
  `accuracy f1_macro f1_micro f1_weighted precision_macro recall_macro precision_weighted recall_weighted roc_auc
  agreement_with_teacher retention token_accuracy token_agreement bleu chrf rouge_l exact_match tokens_per_s
  batch_tokens_per_s throughput_per_s speedup batch_speedup cpu_speedup f1_macro_change bleu_change
  train_accuracy train_f1_macro train_roc_auc train_token_accuracy`.split(/\s+/),
);
const OF_TEXTS = ["nll_per_token", "perplexity", "bits_per_byte", "token_accuracy", "tokens_scored"]; // perplexity_wikitext

/** Return the stem and the text's name of a metric of held-out texts, or nothing. */
function ofText(name) {
  const stem = OF_TEXTS.find((s) => name.startsWith(`${s}_`));
  return stem ? [stem, name.slice(stem.length + 1)] : null;
}

export function title(name) {
  if (metricNames[name]) return metricNames[name];
  const text = ofText(name);
  if (text) return `${title(text[0])}, ${text[1]}`;
  if (name.startsWith("train_")) return `${title(name.slice(6))}, ${words.training}`;
  return name.replaceAll("_", " ");
}

/** 1: higher is better, -1: lower, 0: neither. */
export function better(name) {
  const stem = ofText(name)?.[0] ?? name;
  return LOWER.has(stem) ? -1 : HIGHER.has(stem) ? 1 : 0;
}

export function arrow(name) {
  return { 1: "↑", "-1": "↓", 0: "" }[better(name)];
}

/** Return what heads a report of this task, as lessen.report.headline. */
export function headline(report) {
  if (report.task === "causal-lm") return "perplexity";
  const classes = report.rows.some((row) => "f1_macro" in row.metrics);
  return report.task === "seq2seq" && !classes ? "bleu" : "f1_macro";
}

export function row(report, stage) {
  return report.rows.findLast((r) => r.stage === stage) ?? null;
}

export const mainRows = (report) => report.rows.filter((r) => r.role === "main");
export const teacher = (report) => row(report, "teacher");

/** Return the row of what ships: the quantized model, or the deployed export of the last stage, or that stage. */
export function final(report) {
  const last = mainRows(report).at(-1) ?? null;
  if (!last || last.stage === "quantize") return last;
  return report.rows.findLast((r) => r.role === "export" && r.source === last.stage) ?? last;
}

export function metric(of, name) {
  return of?.metrics?.[name] ?? null;
}

export function value(of, name) {
  return metric(of, name)?.value ?? null;
}

export function comparison(report, reference, candidate) {
  const found = report.comparisons.find((c) => c.reference === reference && c.candidate === candidate);
  // reports of the first version name the change of macro-F1 alone
  return found ? { metric: "f1_macro", unit: "share", change: found.f1_macro_change, ...found } : null;
}

/** A value with its unit. */
export function show(amount, unit) {
  if (amount === null || amount === undefined || !Number.isFinite(amount)) return NOTHING;
  switch (unit) {
    case "bytes":
      return bytes(amount);
    case "FLOP":
      return `${compact(amount)}FLOP`.replace(/([TGMk])FLOP/, "$1FLOP").replace(/(\d)FLOP/, "$1 FLOP");
    case "count":
    case "tokens":
      return (
        (Math.abs(amount) < 10_000 ? (Number.isInteger(amount) ? integer(amount) : number(amount)) : compact(amount)) +
        (unit === "tokens" ? " tokens" : "")
      );
    case "ratio":
      return times(amount);
    case "share":
      return percent(amount, 2);
    case "points":
      return amount.toFixed(2);
    case "perplexity":
      return amount < 1000 ? amount.toFixed(2) : integer(amount);
    case "nats":
    case "bits":
      return `${amount.toFixed(4)} ${unit}`;
    case "ms":
      return milliseconds(amount);
    case "per_s":
      return `${number(amount)}/s`;
    default:
      return unit ? `${number(amount)} ${unit}` : number(amount);
  }
}

/** A change of a metric, signed, in its unit: shares in points. */
export function change(amount, unit) {
  if (unit === "share") return `${signedFixed(amount * 100, 2)} ${words.points}`;
  if (unit === "points") return signedFixed(amount, 2);
  if (unit === "nats" || unit === "bits") return `${signedFixed(amount, 4)} ${unit}`;
  return `${signed(amount)} ${unit}`.trim();
}

export function signedFixed(amount, digits) {
  const text = Math.abs(amount).toFixed(digits);
  return Number(text) === 0 ? text : amount > 0 ? `+${text}` : `−${text}`;
}

/** A round value of an axis, without zeros that say nothing. */
export function tick(amount, unit) {
  if (unit === "share") return `${Number((amount * 100).toPrecision(6))} %`;
  return show(amount, unit)
    .replace(/(\.\d*?)0+(?=\D|$)/, "$1")
    .replace(/\.(?=\D|$)/, "");
}

/** "[84.1, 86.7] %": two ends with their unit once, where it is the same. */
export function ends([low, high], unit) {
  const [a, b] = [show(low, unit), show(high, unit)];
  const of = b.match(/[^\d.,]*$/)[0];
  return of && a.endsWith(of) ? `[${a.slice(0, -of.length)}, ${b.slice(0, -of.length)}]${of}` : `[${a}, ${b}]`;
}

/** The 95 % interval, or "" where there is none. */
export function interval(of) {
  return of?.ci95 ? ends(of.ci95, of.unit) : "";
}

/** The change of a paired test with its interval, the NLL's also as perplexity. */
export function paired(found) {
  if (!found) return null;
  const range = found.ci95.map((v) =>
    change(v, found.unit)
      .replace(` ${words.points}`, "")
      .replace(/ (nats|bits)$/, ""),
  );
  const grow = (nats) => `${signedFixed(Math.expm1(nats) * 100, 1)} %`;
  const more = found.metric === "nll_per_token" ? ` (${metricNames.perplexity} ${grow(found.change)})` : "";
  return { text: `${change(found.change, found.unit)}${more}`, interval: `[${range.join(", ")}]`, verdict: found.verdict, n: found.n };
}

/** How a number was come by: the label and what to know of it. */
export function origin(of) {
  if (!of || of.kind === "not_available" || of.value === null)
    return { kind: "missing", label: words.missing, why: of?.reason ?? words.noSuch };
  return { kind: of.kind, label: words[of.kind] ?? of.kind, why: of.reason ?? "" };
}

/** Everything there is to say of a number in one line: value, interval, spread, n, origin. */
export function told(of) {
  const from = origin(of);
  if (from.kind === "missing") return `${from.label}: ${from.why}`;
  const parts = [show(of.value, of.unit)];
  if (of.ci95) parts.push(`${words.ci} ${interval(of)}`);
  if (of.spread) parts.push(`${words.spread} ${ends(of.spread, of.unit)}`);
  if (of.n) parts.push(`n = ${integer(of.n)}`);
  parts.push(from.why ? `${from.label} (${from.why})` : from.label);
  return parts.join(", ");
}

/** Series colours by role, so that a control never looks like a stage. */
export const KIND_OF_ROLE = { main: "c1", export: "c2", reference: "c3", control: "c4", baseline: "c5" };

export function under(of) {
  return [of.runtime, of.precision].filter(Boolean).join(" ");
}
