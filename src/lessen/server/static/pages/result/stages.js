// The stages in pictures: what each took away in bytes, what it did to the answer's time and to quality, and who won the speed.

import { h, table } from "../../dom.js";
import { number, times } from "../../format.js";
import { charts as shared, stageCharts as words } from "../../strings-result.js";
import { bars, dots, waterfall } from "../../svg.js";
import { card } from "../../widgets.js";
import { ecdf, missing } from "./curves.js";
import * as m from "./metrics.js";

/** Size, latency and quality by stage. */
export function stagesCard(report) {
  const figures = [sizes(report), latencies(report), qualities(report), agreement(report), attribution(report)].filter(Boolean);
  if (!figures.length) return null;
  return card(
    { title: words.title, id: "stages" },
    h("p", { class: "muted small" }, words.lead),
    key(report),
    h("div", { class: "figures" }, figures),
  );
}

function key(report) {
  const roles = [...new Set(report.rows.map((r) => r.role))];
  return h(
    "ul",
    { class: "roles" },
    roles.map((role) =>
      h("li", null, h("span", { class: `chip ${m.KIND_OF_ROLE[role]}`, "aria-hidden": "true" }), words.roles[role] ?? role),
    ),
  );
}

function sizes(report) {
  const rows = m.mainRows(report).filter((r) => m.value(r, "file_bytes"));
  if (rows.length < 2) return null;
  return waterfall({
    title: words.size,
    desc: words.sizeDesc,
    unit: "",
    note: words.sizeNote,
    first: words.stage,
    rows: rows.map((r) => ({ name: r.stage, under: m.under(r), value: m.value(r, "file_bytes") })),
    show: (v) => m.show(v, "bytes"),
  });
}

function latencies(report) {
  const rows = report.rows.filter((r) => "latency_p50_ms" in r.metrics);
  if (!rows.some((r) => m.value(r, "latency_p50_ms"))) return null;
  const devices = [...new Set(rows.map((r) => r.device))];
  // two devices are not two bars of one picture
  return h(
    "div",
    { class: "stack" },
    devices.map((device) =>
      bars({
        title: devices.length > 1 ? `${words.latency}, ${device}` : words.latency,
        desc: words.latencyDesc,
        note: words.latencyNote(device),
        first: words.stage,
        span: shared.spreadOf,
        rows: rows.filter((r) => r.device === device).map((r) => bar(r, "latency_p50_ms", "spread")),
        show: (v) => m.show(v, "ms"),
      }),
    ),
  );
}

function bar(row, key, span) {
  const found = m.metric(row, key);
  const ends = found?.[span];
  return {
    name: row.stage,
    under: m.under(row),
    value: found?.value ?? null,
    low: ends?.[0],
    high: ends?.[1],
    kind: m.KIND_OF_ROLE[row.role],
    reason: found?.reason,
    detail: `${row.stage}: ${m.told(found)}`,
  };
}

function qualities(report) {
  const head = m.headline(report);
  const every = [...(report.baseline ? [{ ...report.baseline, role: "baseline" }] : []), ...report.rows].filter((r) => head in r.metrics);
  if (!every.length) return null;
  const unit = m.metric(every[0], head).unit;
  const before = m.value(m.teacher(report), head);
  return bars({
    title: words.quality(m.title(head)),
    desc: words.qualityDesc,
    note: `${m.better(head) > 0 ? words.higher : words.lower} ${words.qualityNote}`,
    first: words.stage,
    zoom: true,
    rows: every.map((r) => bar(r, head, "ci95")),
    show: (v) => m.show(v, unit),
    tick: (v) => m.tick(v, unit),
    mark: before === null ? null : { value: before, name: words.teacherLine },
  });
}

function agreement(report) {
  const keys = ["agreement_with_teacher", "token_agreement"];
  const key = keys.find((k) => report.rows.some((r) => m.value(r, k) !== null));
  const rows = report.rows.filter((r) => m.metric(r, key));
  if (!rows.length) {
    const why = keys.flatMap((k) => report.rows.map((r) => m.metric(r, k)?.reason)).find(Boolean);
    return missing(words.agreement, why ?? words.noTeacher);
  }
  return bars({
    title: words.agreement,
    desc: words.agreementDesc,
    note: words.agreementNote,
    first: words.stage,
    rows: rows.map((r) => bar(r, key, "ci95")),
    show: (v) => m.show(v, "share"),
    tick: (v) => m.tick(v, "share"),
  });
}

function attribution(report) {
  const steps = report.attribution.filter((s) => s.latency_p50_ms);
  if (steps.length < 2) return null;
  return bars({
    title: words.attribution,
    desc: words.attributionDesc,
    note: words.attributionNote,
    first: words.step,
    rows: steps.map((s, i) => ({
      name: s.name,
      value: s.latency_p50_ms,
      note: i && s.gain ? `(${times(s.gain)})` : "",
      kind: i === steps.length - 1 ? "c1" : "c3",
      detail: `${s.name}: ${m.show(s.latency_p50_ms, "ms")}${s.gain ? `, ${words.gain(times(s.gain), times(s.total))}` : ""}`,
    })),
    show: (v) => m.show(v, "ms"),
    table: {
      columns: [words.step, "ms", words.overBefore, words.overFirst, words.remark],
      rows: report.attribution.map((s) => [s.name, s.latency_p50_ms, s.gain, s.total, s.reason ?? ""]),
    },
  });
}

/** Latency quantiles, tokens, first call and opening, where the report has them. */
export function latencyCard(report, ctx, params) {
  const rows = report.rows.filter((r) => m.value(r, "latency_p50_ms"));
  const calls = ecdf(report, ctx, params);
  if (!rows.length) return card({ title: words.latencyTitle, id: "latency" }, calls);
  const quantiles = ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"];
  const figure = dots({
    title: words.quantiles,
    desc: words.quantilesDesc,
    unit: "ms",
    log: true,
    first: words.stage,
    note: words.quantilesNote,
    series: [
      { name: "p50", kind: "c1" },
      { name: "p95", kind: "c2" },
      { name: "p99", kind: "c4" },
    ],
    rows: rows.map((r) => ({ name: r.stage, under: m.under(r), values: quantiles.map((k) => m.value(r, k)) })),
    show: (v) => m.show(v, "ms"),
    tick: (v) => number(v),
  });
  const keys = [
    "batch_latency_p50_ms",
    "batch_latency_p95_ms",
    "throughput_per_s",
    "first_token_ms",
    "token_ms",
    "tokens_per_s",
    "first_call_ms",
    "open_ms",
    "cpu_time_ms",
    "foreign_load",
  ];
  const there = keys.filter((k) => rows.some((r) => m.value(r, k) !== null));
  const columns = [
    { key: "stage", title: words.stage, head: true, render: (r) => r.stage },
    ...there.map((k) => ({
      key: k,
      title: m.title(k),
      numeric: true,
      render: (r) => h("span", { title: m.told(m.metric(r, k)) }, m.show(m.value(r, k), m.metric(r, k)?.unit)),
    })),
  ];
  const without = rows.filter((r) => m.metric(r, "latency_p99_ms")?.reason).map((r) => `${r.stage}: ${r.metrics.latency_p99_ms.reason}`);
  return card(
    { title: words.latencyTitle, id: "latency" },
    h("div", { class: "figures" }, figure, calls),
    without.length ? h("p", { class: "small muted" }, `p99 ${words.missing}: ${without.join("; ")}.`) : null,
    table({ caption: words.latencyTable, columns, rows, hideCaption: true }),
  );
}
