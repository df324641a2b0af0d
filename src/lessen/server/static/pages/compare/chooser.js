// Which runs to compare: a searchable list with boxes.

import { debounce, fill, h, table } from "../../dom.js";
import { ago, percent } from "../../format.js";
import { compare as words } from "../../strings-models.js";
import { button, loading, problem, say, stateBadge } from "../../widgets.js";

/** Return the list; `onChoose(ids)` is called by its button. */
export function chooser(ctx, chosen, onChoose) {
  const picked = new Set(chosen);
  const place = h("div", null, loading(words.reading));
  const count = h("span", { class: "muted", "aria-live": "polite" });
  const go = button(words.compare, () => onChoose([...picked]), { kind: "primary" });
  const told = () => {
    count.textContent = words.picked(picked.size);
    go.disabled = picked.size === 0;
  };
  const ask = async (search) => {
    try {
      const found = await ctx.api.get("/runs", { search, limit: 100, sort: "-created" }, { signal: ctx.signal });
      fill(place, list(found.runs, picked, told));
    } catch (error) {
      if (error.name !== "AbortError") fill(place, problem(error));
    }
  };
  const search = h("input", {
    type: "search",
    placeholder: words.search,
    "aria-label": words.search,
    data: { search: "" },
    on: { input: debounce(() => ask(search.value.trim()), 250) },
  });
  ask("");
  told();
  return h("div", { class: "stack" }, h("div", { class: "row" }, h("div", { class: "search" }, search), go, count), place);
}

function list(runs, picked, told) {
  const box = (run) =>
    h("input", {
      type: "checkbox",
      checked: picked.has(run.run_id),
      "aria-label": words.take(run.name, run.run_id),
      on: {
        change: (event) => {
          if (event.target.checked) picked.add(run.run_id);
          else picked.delete(run.run_id);
          told();
        },
      },
    });
  const columns = [
    { key: "box", title: words.take_, render: box },
    { key: "name", title: words.run, head: true, render: (r) => [say(r.name), h("span", { class: "small muted id" }, r.run_id)] },
    { key: "state", title: words.state, render: (r) => stateBadge(r.state) },
    { key: "task", title: words.task, render: (r) => r.task },
    { key: "pipeline", title: words.pipeline, render: (r) => r.pipeline },
    {
      key: "score",
      title: words.score,
      numeric: true,
      render: (r) =>
        typeof r.summary.score === "number" ? (r.summary.score <= 1 ? percent(r.summary.score, 2) : r.summary.score.toFixed(2)) : "–",
    },
    { key: "created", title: words.created, render: (r) => ago(r.created) },
  ];
  return table({ caption: words.choose, columns, rows: runs, hideCaption: true, empty: words.noRuns });
}
