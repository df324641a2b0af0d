// Before and after: what the run cost and what it bought, each number with its origin, its n and its interval.

import { h } from "../../dom.js";
import { integer, NOTHING, times } from "../../format.js";
import { hero as words } from "../../strings-result.js";
import { badge } from "../../widgets.js";
import * as m from "./metrics.js";

/** Return the four cards: quality, size, latency, memory. */
export function hero(report) {
  const [before, after] = [m.teacher(report), m.final(report)];
  if (!before || !after) return null;
  const head = m.headline(report);
  const cards = [quality(report, before, after, head), size(before, after), latency(before, after), memory(before, after)];
  return h(
    "section",
    { class: "hero", "aria-labelledby": "hero-title" },
    h("h2", { id: "hero-title", class: "visually-hidden" }, words.title),
    h("p", { class: "hero-pair" }, words.pair(before.stage, m.under(before), after.stage, m.under(after))),
    h("div", { class: "hero-cards" }, cards),
  );
}

function quality(report, before, after, head) {
  const found = before === after ? null : m.paired(m.comparison(report, "teacher", after.stage));
  const told = found
    ? [
        h("strong", null, found.text),
        ` ${words.ci} ${found.interval}`,
        h("span", { class: "verdict" }, words.verdict(found.verdict, found.n)),
      ]
    : words.notCompared;
  const outcome = found ? ({ better: "good", worse: "bad" }[found.verdict] ?? "neutral") : "neutral";
  return card({ name: words.quality, of: m.title(head), key: head, before, after, told, outcome });
}

function size(before, after) {
  const more = [
    ["parameters", words.parameters],
    ["nonzero_parameters", words.nonzero],
    ["file_bytes_compressed", words.compressed],
  ];
  return card({
    name: words.size,
    of: words.files,
    key: "file_bytes",
    before,
    after,
    ...ratio(before, after, "file_bytes", words.smaller, words.larger),
    more,
  });
}

function latency(before, after) {
  const key = "latency_p50_ms";
  const answer = m.value(after, "answer_tokens");
  const of = answer ? words.latencyOf(integer(answer)) : words.latencyBatch;
  if (before.device !== after.device)
    return card({ name: words.latency, of, key, before, after, told: words.devices(before.device, after.device), outcome: "neutral" });
  const paired = m.metric(after, "speedup");
  const said =
    paired?.value && before !== after
      ? {
          told: [
            h("strong", null, paired.value >= 1 ? words.faster(times(paired.value)) : words.slower(times(1 / paired.value))),
            spread(paired),
          ],
          outcome: paired.value >= 1 ? "good" : "bad",
        }
      : ratio(before, after, key, words.faster, words.slower);
  const load = m.value(after, "foreign_load");
  const note = load > 0.05 ? words.disturbed((load * 100).toFixed(0)) : null;
  return card({
    name: words.latency,
    of,
    key,
    before,
    after,
    ...said,
    note,
    more: [
      ["latency_p95_ms", "p95"],
      ["batch_latency_p50_ms", words.batch],
      ["token_ms", words.token],
      ["cpu_time_ms", words.cpu],
    ],
  });
}

function spread(of) {
  return of.spread ? ` ${words.rounds} ${m.ends(of.spread, "ratio")}` : "";
}

function memory(before, after) {
  return card({
    name: words.memory,
    of: words.peak,
    key: "peak_rss_bytes",
    before,
    after,
    ...ratio(before, after, "peak_rss_bytes", words.less, words.moreMemory),
    more: [["import_rss_bytes", words.imports]],
  });
}

/** Say by how much a cost fell or rose; within 2 % it is called equal, as in the report. */
function ratio(before, after, key, down, up) {
  const [a, b] = [m.value(before, key), m.value(after, key)];
  if (before === after) return { told: words.same, outcome: "neutral" };
  if (!a || !b) return { told: words.notCompared, outcome: "neutral" };
  const factor = a / b;
  if (Math.abs(factor - 1) < 0.02) return { told: words.noChange, outcome: "neutral" };
  return { told: [h("strong", null, factor > 1 ? down(times(factor)) : up(times(1 / factor)))], outcome: factor > 1 ? "good" : "bad" };
}

function card({ name, of, key, before, after, told, outcome, more = [], note }) {
  const direction = m.better(key);
  const list = more.filter(([k]) => m.value(before, k) !== null || m.value(after, k) !== null);
  return h(
    "article",
    { class: `card hero-card ${outcome}` },
    h(
      "header",
      null,
      h("h3", null, name),
      h(
        "p",
        { class: "muted small" },
        `${of} · `,
        h("span", { class: "nowrap" }, `${m.arrow(key)} ${direction > 0 ? words.higher : words.lower}`),
      ),
    ),
    h("dl", { class: "pair" }, side(words.before, before, key, before, after), side(words.after, after, key, before, after)),
    h("p", { class: "told" }, told),
    note ? h("p", { class: "small muted" }, note) : null,
    list.length
      ? h(
          "dl",
          { class: "more" },
          list.map(([k, label]) => h("div", null, h("dt", null, label), h("dd", null, `${shown(before, k)} → ${shown(after, k)}`))),
        )
      : null,
  );
}

function shown(of, key) {
  const metric = m.metric(of, key);
  return metric ? m.show(metric.value, metric.unit) : NOTHING;
}

function side(label, of, key, before, after) {
  const metric = m.metric(of, key);
  const from = m.origin(metric);
  const bar = h("span", { class: "gauge", "aria-hidden": "true" }, h("span", { style: { width: `${share(of, key, before, after)}%` } }));
  const details =
    from.kind === "missing"
      ? from.why
      : [
          metric.ci95 ? `${words.ci} ${m.interval(metric)}` : null,
          metric.spread ? `${words.rounds} ${m.ends(metric.spread, metric.unit)}` : null,
          metric.n ? `n = ${integer(metric.n)}` : null,
        ]
          .filter(Boolean)
          .join(" · ");
  return h(
    "div",
    null,
    h("dt", null, label, " ", h("span", { class: "muted" }, of.stage)),
    h(
      "dd",
      null,
      h("span", { class: "value" }, metric ? m.show(metric.value, metric.unit) : NOTHING),
      bar,
      h(
        "span",
        { class: "origin" },
        badge(from.label, from.kind === "missing" ? "warning" : "neutral"),
        h("span", { class: "muted" }, details),
      ),
    ),
  );
}

function share(of, key, before, after) {
  const most = Math.max(m.value(before, key) ?? 0, m.value(after, key) ?? 0);
  return most ? ((m.value(of, key) ?? 0) / most) * 100 : 0;
}
