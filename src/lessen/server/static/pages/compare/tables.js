// Under the picture: the points as a table against the pinned one, repeats with their spread, settings that differ.

import { h, table } from "../../dom.js";
import { times } from "../../format.js";
import { compare as words } from "../../strings-models.js";
import { button, card, say } from "../../widgets.js";
import * as m from "../result/metrics.js";
import { basis, called, repeats, spread } from "./points.js";

const ALSO = ["f1_macro", "bleu", "perplexity", "accuracy", "file_bytes", "parameters", "latency_p50_ms", "speedup", "peak_rss_bytes"];

/** Return the table of points; state: {x, y, pin, sort}. */
export function pointsTable(points, { metrics, comparisons }, state, { onSort, onPin }) {
  const keys = [
    state.x,
    state.y,
    ...ALSO.filter((k) => k !== state.x && k !== state.y && metrics.some((q) => q.name === k) && !points.some((p) => p.repeats)),
  ].slice(0, 8);
  const pinned = points.find((p) => p.key === state.pin) ?? null;
  const of = (p, key) => p.point.metrics[key] ?? null;
  const value = (p, key) => (key === state.x ? p.x : key === state.y ? p.y : (of(p, key)?.value ?? null));
  const columns = [
    {
      key: "pin",
      title: words.pin,
      render: (p) =>
        button(p.key === state.pin ? "◉" : "○", () => onPin(p.key === state.pin ? null : p.key), {
          kind: "quiet icon",
          "aria-pressed": String(p.key === state.pin),
          "aria-label": words.pinOne(p.name),
        }),
    },
    { key: "name", title: words.point, head: true, sortable: true, render: (p) => say(p.name) },
    { key: "runtime", title: words.runtime, render: (p) => `${p.point.runtime}, ${p.point.device}` },
    ...keys.map((key) => ({
      key,
      title: m.title(key) + (m.arrow(key) ? ` ${m.arrow(key)}` : ""),
      numeric: true,
      sortable: true,
      render: (p) =>
        cell(
          value(p, key),
          of(p, key),
          pinned && pinned !== p ? value(pinned, key) : null,
          key,
          fair(p, pinned, key),
          tested(p, pinned, key, comparisons),
        ),
    })),
  ];
  const key = state.sort.replace(/^-/, "");
  const sign = state.sort.startsWith("-") ? -1 : 1;
  const rows = [...points].sort(
    (a, b) => sign * (key === "name" ? a.name.localeCompare(b.name) : (value(a, key) ?? Infinity) - (value(b, key) ?? Infinity)),
  );
  return table({
    caption: words.points,
    columns,
    rows,
    sort: state.sort,
    onSort,
    hideCaption: true,
    empty: words.noPoints,
    rowAttributes: (p) => ({ class: p.key === state.pin ? "pinned" : null }),
  });
}

function fair(p, pinned, key) {
  const by = basis(key);
  return !pinned || !by || p.point[by] === pinned.point[by];
}

/** What the paired test of the pinned stage and this one said, where the run made it: a gain within the noise is called so. */
function tested(p, pinned, key, comparisons) {
  if (!pinned || pinned.run !== p.run) return null;
  return (
    (comparisons[p.run] ?? []).find(
      (c) => c.reference === pinned.point.stage && c.candidate === p.point.stage && (c.metric ?? "f1_macro") === key,
    )?.verdict ?? null
  );
}

function cell(value, metric, base, key, allowed, verdict) {
  if (value === null) return h("span", { class: "muted", title: metric?.reason ?? "" }, "–");
  const shown = [m.show(value, metric?.unit ?? "")];
  if (base === null || base === undefined) return shown;
  if (!allowed) return [...shown, h("span", { class: "against muted", title: words.unfair }, words.unfairShort)];
  const unit = metric?.unit;
  const told = unit === "share" || unit === "points" ? m.change(value - base, unit) : base ? times(value / base) : "";
  if (verdict === "no detectable change") return [...shown, h("span", { class: "against muted" }, `${told}, ${verdict}`)];
  const gain = m.better(key) * Math.sign(value - base);
  return [
    ...shown,
    h("span", { class: `against ${gain > 0 ? "gain" : gain < 0 ? "loss" : ""}` }, `${gain > 0 ? "▲ " : gain < 0 ? "▼ " : ""}${told}`),
  ];
}

/** Return the card of repeats with other seeds, or nothing. */
export function repeatsCard(found, state) {
  const sets = repeats(found);
  if (!sets.length) return null;
  const rows = sets.flatMap((set) => {
    const stages = [...new Set(found.points.filter((p) => set.runs.includes(p.run_id) && p.role === "main").map((p) => p.stage))];
    return stages.map((stage) => ({ set, stage, points: found.points.filter((p) => set.runs.includes(p.run_id) && p.stage === stage) }));
  });
  const numbers = (key) => ({
    key,
    title: m.title(key),
    numeric: true,
    render: (row) => {
      const by = basis(key);
      if (by && new Set(row.points.map((p) => p[by])).size > 1)
        return h("span", { class: "muted", title: words.unfair }, words.unfairShort);
      const values = row.points.map((p) => p.metrics[key]?.value).filter((v) => typeof v === "number");
      if (!values.length) return "–";
      const unit = row.points.find((p) => p.metrics[key])?.metrics[key].unit;
      const { mean, sd, n } = spread(values);
      return [m.show(mean, unit), h("span", { class: "against muted" }, sd === null ? "" : `± ${m.show(sd, unit)}, n = ${n}`)];
    },
  });
  const columns = [
    { key: "set", title: words.repeats, head: true, render: (r) => `${r.set.label} (${r.set.runs.length})` },
    { key: "stage", title: words.stage, render: (r) => r.stage },
    numbers(state.x),
    numbers(state.y),
  ];
  return card(
    { title: words.repeatsTitle, id: "repeats" },
    h("p", { class: "small muted" }, words.repeatsLead),
    table({ caption: words.repeatsTitle, columns, rows, hideCaption: true }),
  );
}

/** Return the card of settings that differ. */
export function diffCard(found) {
  if (found.runs.length < 2) return null;
  const columns = [
    { key: "path", title: words.setting, head: true, render: (d) => h("code", null, d.path) },
    ...found.runs.map((r) => ({ key: r.run_id, title: called(found).get(r.run_id), render: (d) => shown(d.values[r.run_id]) })),
  ];
  return card(
    { title: words.diff, id: "diff" },
    found.config_diff.length
      ? table({ caption: words.diff, columns, rows: found.config_diff, hideCaption: true })
      : h("p", null, words.noDiff),
  );
}

function shown(value) {
  if (value === null || value === undefined) return h("span", { class: "muted" }, words.unset);
  if (typeof value === "number") return String(value);
  return h("code", null, typeof value === "string" ? value : JSON.stringify(value));
}
