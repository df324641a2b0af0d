// Bounds that the run must keep, checked by the server as `lessen check` does; the reader may set them.

import { debounce, fill, h } from "../../dom.js";
import { gates as words } from "../../strings-result.js";
import { badge, card, copyButton, field, problem } from "../../widgets.js";
import * as m from "./metrics.js";

/** Bounds to begin with: what is usually asked for. Perplexity may rise by a tenth of the teacher's. */
function defaults(report, head) {
  const unit = m.metric(m.teacher(report), head)?.unit;
  const drop = unit === "share" ? 1 : unit === "points" ? 1 : Number(((m.value(m.teacher(report), head) ?? 10) * 0.1).toPrecision(2));
  return { max_drop: drop, min_speedup: 1.5, min_compression: 2 };
}

export function gatesCard(report, ctx, params) {
  const head = m.headline(report);
  const unit = m.metric(m.teacher(report), head)?.unit;
  const shares = unit === "share";
  const values = { ...defaults(report, head) };
  for (const key of Object.keys(values))
    if (params[key] !== undefined && Number.isFinite(Number(params[key]))) values[key] = Number(params[key]);
  const place = h("div", { "aria-live": "polite" });
  const command = h("code", null);
  const ask = async () => {
    const bounds = bounded(values, shares);
    command.textContent = asCommand(report, values, head, shares);
    try {
      fill(place, list(await ctx.api.get(`/runs/${encodeURIComponent(report.run_id)}/gates`, bounds, { signal: ctx.signal })));
    } catch (error) {
      if (error.name !== "AbortError") fill(place, problem(error));
    }
  };
  const later = debounce(() => {
    ctx.query(values);
    ask();
  }, 300);
  const input = (key, label, of, step) =>
    field({
      label,
      unit: of,
      control: h("input", {
        type: "number",
        step,
        min: key === "max_drop" ? null : 0.01,
        value: values[key],
        inputmode: "decimal",
        on: {
          input: (event) => {
            values[key] = event.target.value === "" ? null : Number(event.target.value);
            later();
          },
        },
      }),
    });
  ask();
  return card(
    { title: words.title, id: "gates" },
    h("p", { class: "small muted" }, words.lead),
    h(
      "div",
      { class: "gate-form" },
      input("max_drop", m.better(head) > 0 ? words.drop(m.title(head)) : words.rise(m.title(head)), shares ? words.points : "", 0.1),
      input("min_speedup", words.speedup, "×", 0.1),
      input("min_compression", words.compression, "×", 0.1),
    ),
    place,
    h(
      "div",
      { class: "code-row" },
      command,
      copyButton(() => command.textContent),
    ),
  );
}

function bounded(values, shares) {
  const drop = values.max_drop === null ? null : shares ? values.max_drop / 100 : values.max_drop;
  const above = (v) => (v > 0 ? v : null);
  return { max_drop: drop, min_speedup: above(values.min_speedup), min_compression: above(values.min_compression) };
}

function asCommand(report, values, head, shares) {
  const bounds = bounded(values, shares);
  const parts = [`lessen check runs/${report.run_id}`];
  if (bounds.max_drop !== null) parts.push(`--max-drop ${head}=${Number(bounds.max_drop.toPrecision(6))}`);
  if (bounds.min_speedup !== null) parts.push(`--min-speedup ${bounds.min_speedup}`);
  if (bounds.min_compression !== null) parts.push(`--min-compression ${bounds.min_compression}`);
  return parts.join(" ");
}

function list(found) {
  const failed = found.gates.filter((g) => !g.met).length;
  return [
    h(
      "p",
      { class: "gate-sum" },
      badge(found.met ? words.passed : words.failed(failed), found.met ? "good" : "bad"),
      ` ${words.of(found.stage)}`,
    ),
    h(
      "ul",
      { class: "gates" },
      found.gates.map((g) =>
        h(
          "li",
          null,
          h(
            "span",
            { class: `badge ${g.met ? "good" : "bad"}` },
            h("span", { "aria-hidden": "true" }, g.met ? "✓" : "✕"),
            g.met ? words.met : words.broken,
          ),
          h("span", null, h("strong", null, `${g.name}: `), g.text),
        ),
      ),
    ),
  ];
}
