// Test samples whose answer changed between two stages: what was right and became wrong, and the other way.

import { fill, h } from "../../dom.js";
import { integer, percent } from "../../format.js";
import { samples as words } from "../../strings-result.js";
import { badge, button, loading, pager, problem, say, select } from "../../widgets.js";

const PAGE = 10;

/**
 * Return a view with .refresh() and .cell(stage, i, j).
 *
 * stages: {left, right}: what is compared; read again at every refresh; params: the address's {samples: filter, cell: "stage:i:j"}
 */
export function samplesView(report, ctx, stages, params) {
  const view = new View(report, ctx, stages, params);
  view.node.refresh = () => view.refresh();
  view.node.cell = (stage, i, j) => view.cell(stage, i, j);
  return view.node;
}

class View {
  constructor(report, ctx, stages, params) {
    Object.assign(this, { report, ctx, stages, change: "lost", label: null, predicted: null, candidate: null, offset: 0, asked: false });
    this.labels = report.rows.find((r) => r.facts.labels)?.facts.labels ?? [];
    this.place = h("div", { "aria-live": "polite", "aria-busy": "false" });
    this.where = h("span", { class: "where" });
    this.title = h("h3", { tabindex: -1 }, words.title);
    const options = Object.entries(words.changes);
    this.filter = select({
      options,
      value: this.change,
      "aria-label": words.filter,
      onChange: (v) => this.set({ change: v }),
    });
    const head = h("div", { class: "row between" }, this.title, h("div", { class: "row" }, this.where, this.filter));
    this.node = h("div", { class: "samples" }, head, this.place);
    const [j, i, ...stage] = (params.cell ?? "").split(":").reverse();
    if (stage.length && this.labels[i] && this.labels[j]) this.narrow(stage.reverse().join(":"), i, j);
    if (Object.hasOwn(words.changes, params.samples)) Object.assign(this, { change: params.samples, asked: true });
    this.filter.value = this.change;
  }

  set(values) {
    Object.assign(this, values, { asked: true });
    this.ctx.query({ samples: this.change });
    return this.refresh();
  }

  refresh() {
    const { left, right } = this.stages;
    this.offset = 0;
    if ([left, right].includes("baseline")) return fill(this.place, h("p", { class: "muted" }, words.noBaseline));
    // nobody asked for samples yet: the answers of a run are many, and old runs keep none
    if (!this.asked)
      return fill(
        this.place,
        button(words.list, () => this.set({})),
      );
    if (this.candidate !== null && ![left, right].includes(this.candidate)) return this.cell(null);
    return this.ask();
  }

  /** Narrow to one cell of a stage's matrix; null: all cells. */
  cell(stage, i, j) {
    this.narrow(stage, i, j);
    this.ctx.query({ cell: stage === null ? null : `${stage}:${i}:${j}`, samples: this.change });
    const asked = this.refresh();
    if (stage !== null) this.title.focus();
    return asked;
  }

  narrow(stage, i, j) {
    const all = { candidate: null, label: null, predicted: null, change: "lost" };
    const one = { asked: true, candidate: stage, label: this.labels[i], predicted: this.labels[j], change: "all" };
    Object.assign(this, stage === null ? all : one);
    this.filter.value = this.change;
    const clear = button(words.clear, () => this.cell(null), { kind: "quiet" });
    fill(this.where, stage === null ? null : [words.cell(this.candidate, this.label, this.predicted), " ", clear]);
  }

  async ask() {
    const { left, right } = this.stages;
    const candidate = this.candidate ?? right;
    const { label, predicted, change, offset } = this;
    const query = { reference: candidate === left ? right : left, candidate, label, predicted, change, limit: PAGE, offset };
    this.place.setAttribute("aria-busy", "true");
    if (!this.place.firstChild) fill(this.place, loading(words.loading));
    try {
      const path = `/runs/${encodeURIComponent(this.report.run_id)}/samples`;
      const found = await this.ctx.api.get(path, query, { signal: this.ctx.signal });
      const go = (to) => {
        this.offset = to;
        this.ask();
      };
      fill(this.place, list(found, this, go));
    } catch (error) {
      if (error.name !== "AbortError") fill(this.place, problem(error));
    }
    this.place.setAttribute("aria-busy", "false");
  }
}

function list(found, state, onGo) {
  if (!found.total)
    return h("p", { class: "muted" }, words.none(words.changes[state.change].toLowerCase(), found.reference, found.candidate));
  return [
    h("p", { class: "small muted" }, words.count(integer(found.total), found.reference, found.candidate)),
    h(
      "ol",
      { class: "sample-list", start: state.offset + 1 },
      found.samples.map((s) => sample(s, found)),
    ),
    found.total > PAGE ? pager({ offset: state.offset, limit: PAGE, total: found.total, onGo }) : null,
  ];
}

function sample(one, found) {
  const shown = one.image_url
    ? h("img", { src: one.image_url, alt: words.image(one.index, one.label ?? ""), loading: "lazy", class: "sample-image" })
    : h("p", { class: "sample-text" }, say(one.text ?? words.noText(one.index)));
  const truth = h(
    "p",
    { class: "small" },
    h("span", { class: "muted" }, `${one.reference === null ? words.truth : words.reference}: `),
    h("strong", null, say(one.label ?? one.reference ?? "–")),
  );
  const stages = found.stages.filter((s) => one.predictions[s]);
  return h(
    "li",
    null,
    shown,
    h(
      "div",
      { class: "answers" },
      truth,
      h(
        "ul",
        { class: "plain" },
        stages.map((s) => answer(s, one, found)),
      ),
    ),
  );
}

function answer(stage, one, found) {
  const said = one.predictions[stage];
  const compared = stage === found.reference || stage === found.candidate;
  const right = said.label !== null && one.label !== null ? said.label === one.label : null;
  const mark = right === null ? null : badge(right ? `✓ ${words.right}` : `✕ ${words.wrong}`, right ? "good" : "bad");
  return h(
    "li",
    { class: compared ? "compared" : null },
    h("span", { class: "stage" }, stage),
    " ",
    say(said.label ?? said.text ?? "–"),
    said.probability === null || said.probability === undefined ? null : h("span", { class: "muted" }, ` ${percent(said.probability)}`),
    " ",
    mark,
  );
}
