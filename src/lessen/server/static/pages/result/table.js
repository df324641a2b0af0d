// Every metric of every stage: one table, searchable, with units, intervals, origins; copied as CSV as it is shown.

import { debounce, fill, h, table } from "../../dom.js";
import { stageTable as words } from "../../strings-result.js";
import { csv, save } from "../../svg.js";
import { button, card, copyButton } from "../../widgets.js";
import * as m from "./metrics.js";

const HEADLINES = [
  "file_bytes",
  "file_bytes_compressed",
  "parameters",
  "nonzero_parameters",
  "sparsity",
  "flops",
  "latency_p50_ms",
  "latency_p95_ms",
  "throughput_per_s",
  "speedup",
  "peak_rss_bytes",
  "agreement_with_teacher",
];
const QUALITY = ["accuracy", "f1_macro", "bleu", "chrf", "rouge_l", "perplexity", "bits_per_byte", "token_accuracy", "roc_auc"];

export function tableCard(report, ctx, params) {
  const rows = [...(report.baseline ? [{ ...report.baseline, role: "baseline" }] : []), ...report.rows];
  const names = [...new Set(rows.flatMap((r) => Object.keys(r.metrics)))];
  const first = [...QUALITY, ...HEADLINES].filter((n) => names.includes(n));
  const state = { all: Boolean(params.all), search: (params.find ?? "").toLowerCase() };
  const place = h("div", null);
  const shown = () => {
    const wanted = state.search
      ? names.filter((n) => `${n} ${m.title(n)}`.toLowerCase().includes(state.search))
      : state.all
        ? names
        : first;
    return wanted;
  };
  const draw = () => fill(place, grid(report, rows, shown()));
  const toggle = button(
    words.all(names.length),
    () => {
      state.all = !state.all;
      toggle.setAttribute("aria-pressed", String(state.all));
      ctx.query({ all: state.all ? 1 : null });
      draw();
    },
    { kind: "quiet", "aria-pressed": String(state.all) },
  );
  const search = h("input", {
    type: "search",
    value: params.find ?? "",
    placeholder: words.search,
    "aria-label": words.search,
    data: { search: "" },
    on: {
      input: debounce(() => {
        state.search = search.value.trim().toLowerCase();
        ctx.query({ find: state.search });
        draw();
      }, 150),
    },
  });
  draw();
  const text = () => asCsv(rows, shown());
  return card(
    {
      title: words.title,
      id: "table",
      actions: [
        copyButton(text, words.copy),
        button(words.save, () => save(new Blob([text()], { type: "text/csv" }), `${report.run_id}.csv`), { kind: "quiet" }),
      ],
    },
    h("p", { class: "small muted" }, words.lead),
    h("div", { class: "row" }, h("div", { class: "search" }, search), toggle),
    place,
  );
}

function grid(report, rows, names) {
  const last = m.final(report);
  const columns = [
    {
      key: "name",
      title: words.metric,
      head: true,
      render: (name) =>
        h(
          "span",
          { title: name },
          m.title(name),
          m.arrow(name)
            ? h(
                "span",
                { class: "muted" },
                ` ${m.arrow(name)}`,
                h("span", { class: "visually-hidden" }, m.better(name) > 0 ? words.higher : words.lower),
              )
            : null,
        ),
    },
    ...rows.map((r) => ({
      key: r.stage,
      title: [r.stage === last?.stage && r.role !== "baseline" ? `${r.stage} ★` : r.stage],
      unit: m.under(r),
      numeric: true,
      render: (name) => cell(m.metric(r, name)),
    })),
  ];
  return table({ caption: words.caption, columns, rows: names, hideCaption: true, empty: words.none, rowAttributes: () => ({}) });
}

function cell(found) {
  if (!found) return h("span", { class: "muted" }, "–");
  const from = m.origin(found);
  if (from.kind === "missing")
    return h("span", { class: "muted missing", title: m.told(found) }, "–", h("span", { class: "why" }, from.why));
  const ends = m.interval(found);
  return h(
    "span",
    { title: m.told(found) },
    m.show(found.value, found.unit),
    from.kind === "derived" ? h("abbr", { title: `${from.label}: ${from.why}`, class: "derived" }, "d") : null,
    ends ? h("span", { class: "interval" }, ends) : null,
  );
}

function asCsv(rows, names) {
  const columns = ["metric", "unit", ...rows.flatMap((r) => [r.stage, `${r.stage} ci95 low`, `${r.stage} ci95 high`, `${r.stage} kind`])];
  return csv(
    columns,
    names.map((n) => [
      n,
      rows.map((r) => m.metric(r, n)?.unit).find((u) => u !== undefined) ?? "",
      ...rows.flatMap((r) => {
        const found = m.metric(r, n);
        return [found?.value ?? null, found?.ci95?.[0] ?? null, found?.ci95?.[1] ?? null, found?.kind ?? ""];
      }),
    ]),
  );
}
