// How single numbers came about: every timed call, how often a confidence was right, memory while a stage trained. Each is left out
// with its reason where the report holds no such data, as one of an older lessen.

import { fill, h } from "../../dom.js";
import { bytes, integer, number, percent } from "../../format.js";
import { charts as shared, curves as words, stageCharts } from "../../strings-result.js";
import { lines } from "../../svg.js";
import { rect } from "../../svg/draw.js";
import { card, field, select } from "../../widgets.js";
import * as m from "./metrics.js";

const MARKED = { 50: "circle", 95: "square", 99: "triangle" };
const CALLS = { 95: 40, 99: 1000 }; // behind a percentile, as lessen.measure.speed asks
const POINTS = 200; // of a memory curve
const color = (i) => `c${(i % 8) + 1}`;

/** Say why a figure is left out. */
export function missing(name, why) {
  return h("p", { class: "small muted" }, shared.leftOut(name, why));
}

/** The times of all calls as a cumulative curve a stage, one picture a device, of the batch size that is chosen. */
export function ecdf(report, ctx, params) {
  const rows = report.rows.filter((r) => r.facts.latency);
  const sizes = [...new Set(rows.flatMap((r) => Object.keys(r.facts.latency)))].sort((a, b) => a - b);
  if (!sizes.length)
    return missing(words.calls, report.rows.map((r) => m.metric(r, "latency_p50_ms")?.reason).find(Boolean) ?? words.noCalls);
  const place = h("div", { class: "stack" });
  const draw = (size) => {
    const there = rows.filter((r) => r.facts.latency[size]);
    const devices = [...new Set(there.map((r) => r.device))];
    const one = (device) => (devices.length > 1 ? `${words.calls}, ${device}` : words.calls);
    const drawn = devices.map((d) =>
      cumulative(
        one(d),
        there.filter((r) => r.device === d),
        size,
      ),
    );
    fill(place, drawn);
  };
  const onChange = (size) => {
    ctx.query({ batch: size });
    draw(size);
  };
  const value = sizes.includes(params.batch) ? params.batch : sizes[0];
  draw(value);
  const choice = field({ label: words.batch, control: select({ options: sizes.map((n) => [n, n]), value, onChange }) });
  return h("div", { class: "stack" }, sizes.length > 1 ? h("div", { class: "form-row" }, choice) : null, place);
}

function cumulative(title, rows, size) {
  const found = rows.map((r) => r.facts.latency[size]);
  const shares = found[0].quantiles_ms.map((_, k, all) => k / (all.length - 1));
  const at = (k) => Math.round(shares[k] * 100);
  const counts = found.map((f) => integer(f.n));
  return lines({
    title,
    desc: words.callsDesc,
    note: words.callsNote(size, new Set(counts).size === 1 ? [`n = ${counts[0]}`] : rows.map((r, i) => `${r.stage} n = ${counts[i]}`)),
    series: rows.map((r, i) => ({ name: r.stage, kind: color(i), points: found[i].quantiles_ms.map((ms, k) => [ms, shares[k]]) })),
    x: { title: words.time, show: (v) => m.show(v, "ms"), tick: number, log: true },
    y: { title: words.share, show: percent, tick: (v) => percent(v, 0), range: [0, 1] },
    dot: (k, points, i) => (found[i].n >= (CALLS[at(k)] ?? 0) ? MARKED[at(k)] : null),
    tell: (q, [ms], k) => `${q.name}, p${at(k)}: ${m.show(ms, "ms")}`,
    table: {
      columns: [words.percent, ...rows.map((r) => r.stage)],
      rows: shares.map((_, k) => [at(k), ...found.map((f) => f.quantiles_ms[k])]),
    },
  });
}

/** How often answers of a confidence were right: teacher and what ships. */
export function reliabilityCard(report) {
  const rows = [m.teacher(report), m.final(report)].filter((r, i, all) => r?.facts.reliability?.bins && all.indexOf(r) === i);
  return card({ title: words.calibration, id: "calibration" }, rows.length ? reliability(rows) : missing(words.reliability, words.noBins));
}

function reliability(rows) {
  const bins = rows.map((r) => r.facts.reliability.bins);
  const most = Math.max(...bins.flat().map((b) => b.n), 1);
  const known = (all) => all.filter((b) => b.n && b.accuracy !== null);
  return lines({
    title: words.reliability,
    desc: words.reliabilityDesc,
    note: words.reliabilityNote,
    series: rows.map((r, i) => ({ name: r.stage, kind: color(i), points: known(bins[i]).map((b) => [b.confidence, b.accuracy, b.n]) })),
    x: { title: words.confidence, show: percent, tick: (v) => percent(v, 0), range: [0, 1] },
    y: { title: words.right, show: percent, tick: (v) => percent(v, 0), range: [0, 1] },
    marks: [{ line: [[0, 0], [1, 1]], name: words.sure }],
    tell: (q, [sure, right, n]) => words.bin(q.name, percent(sure), percent(right), integer(n)),
    behind: (x, y) =>
      bins.flatMap((all, i) =>
        all.map((b) => {
          const wide = (x(b.high) - x(b.low) - 2) / rows.length;
          const tall = ((y(0) - y(1)) * 0.3 * b.n) / most;
          return rect(x(b.low) + 1 + i * wide, y(0) - tall, wide, tall, `bar ${color(i)} faded`);
        }),
      ),
    table: {
      columns: [words.from, words.to, ...rows.flatMap((r) => words.columns.map((name) => `${r.stage} ${name}`))],
      rows: bins[0].map((b, k) => [b.low, b.high, ...bins.flatMap((all) => [all[k].n, all[k].confidence, all[k].accuracy])]),
    },
  });
}

/** Memory while the stages trained, from the run's events. */
export function memory(report, ctx) {
  const place = h("div", { class: "figures" });
  const path = `/runs/${encodeURIComponent(report.run_id)}/series`;
  const keys = Object.keys(words.memory);
  ctx.api.get(path, { keys: keys.join(","), points: POINTS }, { signal: ctx.signal }).then(
    ({ series }) => {
      const made = keys.map((key) => used(series, key)).filter(Boolean);
      fill(place, made.length ? made : missing(words.memory.rss_bytes, words.noMemory));
    },
    (error) => error.name !== "AbortError" && fill(place, missing(words.memory.rss_bytes, error.message)),
  );
  return place;
}

function used(series, key) {
  const stages = Object.keys(series).filter((stage) => series[stage][key]?.length);
  if (!stages.length) return null;
  const peak = (points) => points.reduce((most, point, k) => (point[1] > points[most][1] ? k : most), 0);
  return lines({
    title: words.memory[key],
    desc: words.memoryDesc,
    note: words.memoryNote,
    name: key,
    series: stages.map((s, i) => ({ name: s, kind: color(i), points: series[s][key] })),
    x: { title: words.step, show: integer, tick: integer },
    y: { title: stageCharts.memory, show: bytes, tick: bytes },
    dot: (k, points) => (k === peak(points) || k === points.length - 1 ? "circle" : null),
  });
}
