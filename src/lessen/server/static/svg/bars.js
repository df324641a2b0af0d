// Lying bars, one a row, with whiskers; grouped where a row has several series; a waterfall from row to row.

import { bottomAxis, fit, line, marker, rect, s, text, whisker, width as textWidth, SHAPES } from "./draw.js";
import { chart } from "./frame.js";
import { domain, linear, log, ticks } from "./scale.js";

/**
 * Draw lying bars.
 *
 * spec.rows: [{name, under?, value|null, low?, high?, kind?, note?, reason?, act?}] (kind: series class c1..c8, final, ghost)
 * spec.show: value -> text with its unit; spec.tick: value -> short text; spec.mark: {value, name} draws a line (a target, the teacher)
 * spec.zoom: dots on an axis that need not begin at 0 (a bar would lie there)
 */
export function bars(spec) {
  const draw = (width) => drawBars(spec, width);
  const rows = spec.rows.map((r) => [r.name, r.value ?? null, r.low ?? null, r.high ?? null, r.note ?? r.reason ?? ""]);
  const columns = [spec.first ?? "name", spec.unit || "value", "interval, low", "interval, high", "remark"];
  return chart({ ...spec, draw, table: spec.table ?? slim({ columns, rows }) });
}

/** Drop columns that hold nothing. */
export function slim({ columns, rows }) {
  const used = columns.map((_, i) => rows.some((r) => r[i] !== null && r[i] !== ""));
  return { columns: columns.filter((_, i) => used[i]), rows: rows.map((r) => r.filter((_, i) => used[i])) };
}

/** Pixels that names at the left take, of a third of the width at most. */
function labelRoom(rows, width) {
  return Math.min(Math.max(...rows.flatMap((r) => [textWidth(r.name), textWidth(r.under ?? "", 11)])) + 12, width * 0.36);
}

function drawBars(spec, width) {
  // where names would be cut, they stand above their bars
  const above = labelRoom(spec.rows, Infinity) > width * 0.4;
  const step = above ? 50 : 40;
  const label = above ? 8 : labelRoom(spec.rows, width);
  const told = spec.rows.map(
    (r) => (r.value === null || r.value === undefined ? (r.reason ?? "–") : spec.show(r.value)) + (r.note ? `  ${r.note}` : ""),
  );
  const room = Math.min(Math.max(...told.map((t) => textWidth(t))) + 12, width * 0.42);
  const ends = spec.rows.flatMap((r) => [r.value, r.low, r.high]).concat(spec.mark ? [spec.mark.value] : []);
  const [low, high] = domain(
    ends.filter((v) => v !== null && v !== undefined),
    spec.zoom ? { pad: 0.08 } : { zero: true, pad: 0 },
  );
  const x = linear(low, high, label, Math.max(width - room, label + 40));
  const origin = spec.zoom ? low : 0;
  const height = spec.rows.length * step + 34;
  const marks = [];
  const body = s("g", {});
  spec.rows.forEach((row, i) => {
    const top = 6 + i * step + (above ? 12 : 0);
    const g = s(
      "g",
      {},
      above ? text(0, top - 2, fit([row.name, row.under].filter(Boolean).join(", "), width), "label") : names(row, label, top),
    );
    if (Number.isFinite(row.value)) {
      const from = Math.min(x(origin), x(row.value));
      if (!spec.zoom) g.append(rect(from, top + 2, Math.abs(x(row.value) - x(origin)), 26, `bar ${row.kind ?? "c1"}`));
      if (Number.isFinite(row.low)) g.append(whisker(x(row.low), top + 15, x(row.high), top + 15));
      if (spec.zoom) g.append(marker(x(row.value), top + 15, 6, "circle", `dot ${row.kind ?? "c1"}`));
    }
    const end =
      Math.max(x(origin), Number.isFinite(row.value) ? x(Math.max(row.value, row.high ?? row.value)) : x(origin)) + (spec.zoom ? 6 : 0);
    g.append(text(end + 6, top + 19, fit(told[i], width - end - 8), Number.isFinite(row.value) ? "label" : "faint"));
    marks.push({ node: g, label: row.name, detail: row.detail ?? `${row.name}: ${told[i]}${spread(row, spec)}`, act: row.act });
    body.append(g);
  });
  if (spec.mark && Number.isFinite(spec.mark.value)) {
    const at = x(spec.mark.value);
    body.append(line(at, 2, at, height - 30, "target"));
  }
  const axis = bottomAxis(x, height - 28, ticks(x, (x.to - x.from) / 70), spec.tick ?? spec.show, "");
  return { height, nodes: [axis, body], marks };
}

function names(row, label, top) {
  const under = row.under ? text(label - 8, top + 28, fit(row.under, label - 8, 11), "faint", "end") : null;
  return [text(label - 8, top + (row.under ? 14 : 19), fit(row.name, label - 8), "label", "end"), under];
}

function spread(row, spec) {
  return Number.isFinite(row.low) ? `, ${spec.span ?? "95 % interval"} ${spec.show(row.low)} to ${spec.show(row.high)}` : "";
}

/**
 * Draw grouped bars: several series a row, before and after.
 *
 * spec.series: [{name, kind}]; spec.rows: [{name, values: [number|null ...]}]
 */
export function groupedBars(spec) {
  const columns = [spec.first ?? "name", ...spec.series.map((x) => x.name)];
  const rows = spec.rows.map((r) => [r.name, ...r.values]);
  return chart({ ...spec, key: spec.series, draw: (width) => drawGroups(spec, width), table: { columns, rows } });
}

function drawGroups(spec, width) {
  const thick = 13;
  const step = spec.series.length * (thick + 2) + 14;
  const label = labelRoom(spec.rows, width);
  const known = spec.rows.flatMap((r) => r.values).filter((v) => Number.isFinite(v));
  const [low, high] = domain(known, { zero: true, pad: 0 });
  const x = linear(low, high, label, width - 84);
  const height = spec.rows.length * step + 34;
  const marks = [];
  const body = s("g", {});
  spec.rows.forEach((row, i) => {
    const top = 6 + i * step;
    body.append(text(label - 8, top + step / 2 - 2, fit(row.name, label - 8), "label", "end"));
    row.values.forEach((value, k) => {
      const series = spec.series[k];
      const y = top + k * (thick + 2);
      const shown = Number.isFinite(value) ? spec.show(value) : "–";
      const g = s("g", {}, rect(Math.min(x(0), x(value || 0)), y, Math.abs(x(value || 0) - x(0)), thick, `bar ${series.kind}`));
      g.append(text(Math.max(x(0), x(value || 0)) + 5, y + 11, shown, "small"));
      marks.push({ node: g, label: `${row.name}, ${series.name}`, detail: `${row.name}, ${series.name}: ${shown}` });
      body.append(g);
    });
  });
  const axis = bottomAxis(x, height - 28, ticks(x, (x.to - x.from) / 70), spec.tick ?? spec.show, "");
  return { height, nodes: [axis, body], marks };
}

/**
 * Draw what each row left of the one before: solid what is left, pale what went, striped what was added.
 *
 * spec.rows: [{name, under?, value}] in order; less is the aim.
 */
export function waterfall(spec) {
  const rows = spec.rows.map((r, i) => [r.name, r.value, i ? r.value - spec.rows[i - 1].value : null]);
  const columns = [spec.first ?? "stage", spec.unit || "value", "change"];
  return chart({ ...spec, draw: (width) => drawFall(spec, width), table: { columns, rows } });
}

function drawFall(spec, width) {
  const step = 40;
  const label = labelRoom(spec.rows, width);
  const [, high] = domain(
    spec.rows.map((r) => r.value),
    { zero: true, pad: 0 },
  );
  const x = linear(0, high, label, width - Math.min(130, width * 0.45));
  const height = spec.rows.length * step + 34;
  const marks = [];
  const body = s("g", {});
  spec.rows.forEach((row, i) => {
    const top = 6 + i * step;
    const before = i ? spec.rows[i - 1].value : row.value;
    const g = s("g", {}, names(row, label, top));
    g.append(rect(x(0), top + 2, x(Math.min(before, row.value)) - x(0), 26, "bar c1"));
    const change = row.value - before;
    if (change)
      g.append(
        rect(
          x(Math.min(before, row.value)),
          top + 2,
          x(Math.max(before, row.value)) - x(Math.min(before, row.value)),
          26,
          change < 0 ? "bar gone" : "bar added",
        ),
      );
    const share = i && before ? `${change > 0 ? "+" : "−"}${Math.abs((change / before) * 100).toFixed(0)} %` : "";
    const told = `${spec.show(row.value)} ${share}`.trim();
    g.append(text(x(Math.max(before, row.value)) + 6, top + 19, fit(told, width - x(Math.max(before, row.value)) - 8), "label"));
    const how = i ? `, ${share} against ${spec.rows[i - 1].name}` : "";
    marks.push({ node: g, label: row.name, detail: `${row.name}: ${spec.show(row.value)}${how}` });
    body.append(g);
  });
  const axis = bottomAxis(x, height - 28, ticks(x, (x.to - x.from) / 70), spec.tick ?? spec.show, "");
  return { height, nodes: [axis, body], marks };
}

/**
 * Draw several quantiles a row as shapes on one line (p50, p95, p99), optionally on a logarithmic axis.
 *
 * spec.rows: [{name, under?, values: [number|null ...], note?}]; spec.series: [{name, kind}]
 */
export function dots(spec) {
  const columns = [spec.first ?? "stage", ...spec.series.map((x) => x.name)];
  const rows = spec.rows.map((r) => [r.name, ...r.values]);
  const key = spec.series.map((x, i) => ({ ...x, shape: SHAPES[i] }));
  return chart({ ...spec, key, draw: (width) => drawDots(spec, width), table: { columns, rows } });
}

function drawDots(spec, width) {
  const step = 36;
  const label = labelRoom(spec.rows, width);
  const known = spec.rows.flatMap((r) => r.values).filter((v) => Number.isFinite(v));
  const [low, high] = domain(known, { logarithmic: spec.log, zero: !spec.log });
  const x = (spec.log ? log : linear)(low, high, label + 6, width - 14);
  const height = spec.rows.length * step + 40;
  const marks = [];
  const body = s("g", {});
  spec.rows.forEach((row, i) => {
    const y = 20 + i * step;
    body.append(s("g", {}, names(row, label, y - 15)));
    const there = row.values.filter((v) => Number.isFinite(v));
    if (there.length > 1) body.append(line(x(Math.min(...there)), y, x(Math.max(...there)), y, "whisker"));
    row.values.forEach((value, k) => {
      if (!Number.isFinite(value)) return;
      const node = marker(x(value), y, 5.5, SHAPES[k], `dot ${spec.series[k].kind}`);
      const name = `${row.name}, ${spec.series[k].name}`;
      marks.push({ node, label: name, detail: `${name}: ${spec.show(value)}` });
      body.append(node);
    });
  });
  const axis = bottomAxis(x, height - 30, ticks(x, (x.to - x.from) / 70), spec.tick ?? spec.show, "");
  return { height, nodes: [axis, body], marks };
}
