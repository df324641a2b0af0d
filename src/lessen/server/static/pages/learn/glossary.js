// The glossary with its search, and the server's explanations of metrics.

import { debounce, fill, h, table } from "../../dom.js";
import { learn as words } from "../../strings-learn.js";
import { glossary as terms } from "../../strings-lessons.js";
import { field, loading, problem } from "../../widgets.js";

/** Return the glossary; `find(text)` is told what was searched, for the address. */
export function glossary(found, announce, find) {
  const list = h("dl", { class: "lp-glossary" });
  const count = h("p", { class: "help" });
  const show = (text) => {
    const wanted = text.trim().toLowerCase();
    const hits = terms.filter((pair) => pair.some((part) => part.toLowerCase().includes(wanted)));
    fill(list, hits.map(([term, meaning]) => h("div", null, h("dt", null, term), h("dd", null, meaning))));
    count.textContent = hits.length ? words.glossaryFound(hits.length) : words.glossaryNone;
  };
  const later = debounce((text) => { find(text); announce(count.textContent); }, 500);
  const input = h("input", { type: "search", value: found, "data-search": "", autocomplete: "off", on: { input: () => { show(input.value); later(input.value); } } });
  show(found);
  return h("div", { class: "stack" }, field({ label: words.glossarySearch, control: input }), count, list);
}

/** Return the table of GET /metrics_explanations. */
export function metrics({ signal }) {
  const node = h("div", { class: "stack" }, loading(words.metricsLead));
  const load = async () => {
    try {
      const { explanations } = await asked(signal);
      fill(node, h("p", { class: "lead" }, words.metricsLead), explained(explanations));
    } catch (error) {
      if (error.name !== "AbortError") fill(node, problem(error, load));
    }
  };
  load();
  return node;
}

/** This answer has no twin below /api/v1, so it is asked for here. */
async function asked(signal) {
  const reply = await fetch("/metrics_explanations", { signal, headers: { Accept: "application/json" } });
  if (!reply.ok) throw new Error(words.metricsFailed(reply.status));
  return reply.json();
}

function explained(explanations) {
  const rows = Object.entries(explanations).map(([name, texts]) => ({ name, ...texts }));
  const columns = [
    { key: "name", title: words.metric, head: true, render: (row) => [h("code", null, row.name), h("div", { class: "lp-what" }, row.description)] },
    { key: "formula", title: words.formula }, { key: "range", title: words.range }, { key: "interpretation", title: words.meaning },
  ];
  return table({ caption: words.tabs.metrics, hideCaption: true, columns, rows });
}
