// Runs and their stages side by side: the Pareto front of any two metrics, a table against a pinned point, what the recipes differ in.

import { chartStyles } from "../chart.js";
import { fill, h } from "../dom.js";
import { compare as words } from "../strings-models.js";
import { csv, scatter } from "../svg.js";
import { attempt, button, card, copyButton, field, heading, link, loading, problem, select } from "../widgets.js";
import { chooser } from "./compare/chooser.js";
import { Curves } from "./compare/curves.js";
import { called, chosen, groups, inside, merged, reasons, repeats, slotOf } from "./compare/points.js";
import { diffCard, pointsTable, repeatsCard } from "./compare/tables.js";
import * as m from "./result/metrics.js";

export const title = words.title;
export const styles = [...chartStyles, "svg.css", "result.css", "compare.css"];
const LOG = new Set(["bytes", "FLOP", "ms"]);

export async function render(root, params, ctx) {
  const ids = (params.runs ?? "").split(",").filter(Boolean);
  const pick = (list) => ctx.go(`#/compare?runs=${list.map(encodeURIComponent).join(",")}`);
  const choose = h("details", { open: ids.length === 0 }, h("summary", null, words.choose), chooser(ctx, ids, pick));
  const head = heading({ title: words.title, lead: words.lead });
  if (!ids.length) {
    fill(root, head, card({ title: words.choose }, chooser(ctx, ids, pick)));
    return undefined;
  }
  const body = h("div", { class: "stack" }, loading(words.loading));
  fill(root, head, card({}, choose), body);
  try {
    const found = await ctx.api.get("/compare", { runs: ids.join(",") }, { signal: ctx.signal });
    const curves = new Curves(ctx, params, found);
    if (!found.points.length)
      fill(
        body,
        h(
          "div",
          { class: "notice warning" },
          h("p", null, words.noReports),
          found.remarks.map((r) => h("p", { class: "small" }, r)),
        ),
        curves.node,
      );
    else new View(body, params, ctx, found, curves).draw();
    attempt(curves.build());
    return () => curves.destroy();
  } catch (error) {
    if (error.name !== "AbortError")
      fill(
        body,
        problem(error, () => ctx.go(location.hash)),
      );
    return undefined;
  }
}

class View {
  constructor(root, params, ctx, found, curves) {
    const names = found.metrics.map((q) => q.name);
    const pick = (asked, ...wanted) => (names.includes(asked) ? asked : (wanted.find((n) => names.includes(n)) ?? names[0]));
    Object.assign(this, { root, ctx, found, curves });
    this.state = {
      x: pick(params.x, "file_bytes", "parameters"),
      y: pick(params.y, "f1_macro", "bleu", "perplexity", "accuracy"),
      which: ["all", "main", "final"].includes(params.show) ? params.show : found.runs.length > 3 ? "final" : "main",
      pin: params.pin ?? null,
      sort: params.sort ?? "",
      split: params.split === "1",
      join: params.join === "1",
      box: null,
      group: null,
    };
    this.state.sort ||= this.state.x;
  }

  set(values) {
    Object.assign(this.state, values);
    const { x, y, which, pin, sort, split, join } = this.state;
    this.ctx.query({ x, y, show: which, pin, sort, split: split ? 1 : null, join: join ? 1 : null });
    const held = document.activeElement?.dataset?.control;
    this.draw();
    if (held) this.root.querySelector(`[data-control="${held}"]`)?.focus();
  }

  draw() {
    const { state, found } = this;
    const all = chosen(found, state);
    const points = state.join ? merged(all, found) : all;
    this.points = points;
    this.table = h("div", null);
    fill(
      this.root,
      this.controls(),
      card({ title: words.tradeoff, id: "picture" }, this.pictures(points)),
      this.curves.node,
      card({ title: words.points, id: "points", actions: [copyButton(() => this.csv(), words.copyCsv)] }, this.filter(points), this.table),
      repeatsCard(found, state),
      diffCard(found),
      this.remarks(),
    );
    this.rows();
  }

  controls() {
    const { state, found } = this;
    const metrics = found.metrics.map((q) => [q.name, `${m.title(q.name)}${m.arrow(q.name) ? ` ${m.arrow(q.name)}` : ""}`]);
    const pick = (label, key, options) =>
      field({
        label,
        control: select({
          options,
          value: state[key],
          data: { control: key },
          onChange: (v) =>
            this.set({ [key]: v, box: null, group: null, ...(state.sort.replace("-", "") === state[key] ? { sort: v } : {}) }),
        }),
      });
    const join = repeats(found).length
      ? field({
          label: words.join,
          control: h("input", {
            type: "checkbox",
            checked: state.join,
            data: { control: "join" },
            on: { change: (e) => this.set({ join: e.target.checked }) },
          }),
        })
      : null;
    return h(
      "div",
      { class: "form-row" },
      pick(words.x, "x", metrics),
      pick(words.y, "y", metrics),
      pick(words.which, "which", Object.entries(words.shown)),
      join,
    );
  }

  /** One picture, or why there is none, or one a group that may share axes. */
  pictures(points) {
    const { state } = this;
    const missing = this.found.points.length - chosen(this.found, { ...state, which: "all" }).length;
    const note = missing ? h("p", { class: "small muted" }, words.missing(missing, m.title(state.x), m.title(state.y))) : null;
    if (!points.length) return [h("p", { class: "muted" }, words.noPoints), note];
    const by = groups(points, state.x, state.y);
    if (by.size === 1) return [this.picture(points, null), note];
    const why = reasons(points, state.x, state.y);
    if (!state.split && state.group === null) return [this.refusal(by, why), note];
    const shown = state.group === null ? [...by] : [...by].filter(([key]) => key === state.group);
    return [
      button(words.unsplit, () => this.set({ split: false, group: null }), { kind: "quiet" }),
      ...shown.map(([key, some]) => this.picture(some, key)),
      note,
    ];
  }

  refusal(by, why) {
    const runs = (points) => [...new Set(points.map((p) => called(this.found).get(p.run)))].join(", ");
    return h(
      "div",
      { class: "notice warning refusal" },
      h("p", null, h("strong", null, words.refused)),
      why.map((kind) => h("p", null, words.why[kind])),
      h(
        "ul",
        null,
        [...by].map(([key, points]) =>
          h(
            "li",
            null,
            h("strong", null, key),
            `: ${runs(points)} (${points.length}) `,
            button(words.only(key), () => this.set({ group: key }), { kind: "quiet" }),
          ),
        ),
      ),
      button(words.split, () => this.set({ split: true }), { kind: "primary", data: { control: "split" } }),
    );
  }

  picture(points, group) {
    const { state, found } = this;
    const runs = [...new Set(points.map((p) => p.run))];
    const series = runs.map((id) => ({ name: called(found).get(id), kind: `c${slotOf(found, id)}` }));
    const axis = (key) => {
      const { unit } = found.metrics.find((q) => q.name === key);
      const positive = points.every((p) => p[key === state.x ? "x" : "y"] > 0);
      const better = { higher: 1, lower: -1 }[found.metrics.find((q) => q.name === key).better] ?? m.better(key);
      return { title: m.title(key), better, log: LOG.has(unit) && positive, show: (v) => m.show(v, unit), tick: (v) => m.tick(v, unit) };
    };
    const [x, y] = [axis(state.x), axis(state.y)];
    const pareto = x.better !== 0 && y.better !== 0 && points.length > 1;
    return scatter({
      title: words.picture(y.title, x.title) + (group ? `, ${group}` : ""),
      desc: words.pictureDesc,
      note: [pareto ? words.paretoNote : words.noPareto, state.join ? words.joinNote : words.whiskers, words.brushNote].join(" "),
      points: points.map((p) => ({
        ...p,
        series: runs.indexOf(p.run),
        ring: p.key === state.pin,
        more: p.repeats ? `, ${words.meanOf(p.repeats)}` : "",
        act: () => this.set({ pin: p.key === state.pin ? null : p.key }),
      })),
      x,
      y,
      series,
      pareto,
      name: "pareto",
      brush: (box) => this.brush(box),
    });
  }

  brush(box) {
    this.state.box = box;
    this.rows();
    this.ctx.announce(box ? words.filtered(this.points.filter((p) => inside(p, box)).length) : words.unfiltered);
  }

  /** The same filter without a mouse. */
  filter(points) {
    const { state } = this;
    const input = (axis, end) =>
      h("input", {
        type: "number",
        step: "any",
        value: state.box ? state.box[axis][end] : "",
        "aria-label": words.bound(m.title(state[axis]), end),
        on: {
          change: (e) => {
            const box = state.box ?? { x: [-Infinity, Infinity], y: [-Infinity, Infinity] };
            box[axis][end] = e.target.value === "" ? (end ? Infinity : -Infinity) : Number(e.target.value);
            this.brush(box);
          },
        },
      });
    const pair = (axis) =>
      h(
        "fieldset",
        null,
        h("legend", { class: "small" }, `${m.title(state[axis])} (${this.found.metrics.find((q) => q.name === state[axis]).unit})`),
        h("div", { class: "from-to" }, input(axis, 0), h("span", null, "–"), input(axis, 1)),
      );
    this.count = h("p", { class: "small muted" });
    this.lift = button(
      words.lift,
      () => {
        this.state.box = null;
        this.draw();
      },
      { kind: "quiet" },
    );
    return h(
      "div",
      { class: "stack" },
      h("details", null, h("summary", null, words.filter(points.length)), h("div", { class: "form-row" }, pair("x"), pair("y"))),
      h("div", { class: "row" }, this.count, this.lift),
    );
  }

  rows() {
    const shown = this.points.filter((p) => inside(p, this.state.box));
    this.count.textContent = this.state.box ? words.filtered(shown.length) : "";
    this.lift.hidden = !this.state.box;
    fill(
      this.table,
      pointsTable(shown, this.found, this.state, {
        onSort: (sort) => {
          this.state.sort = sort;
          this.ctx.query({ sort });
          this.rows();
          this.table.querySelector(`th[aria-sort] button`)?.focus();
        },
        onPin: (pin) => this.set({ pin }),
      }),
    );
  }

  csv() {
    const names = this.found.metrics.map((q) => q.name);
    return csv(
      ["run", "stage", "runtime", "device", ...names],
      this.points
        .filter((p) => inside(p, this.state.box))
        .map((p) => [p.run, p.point.stage, p.point.runtime, p.point.device, ...names.map((n) => p.point.metrics[n]?.value ?? null)]),
    );
  }

  remarks() {
    const { runs, remarks } = this.found;
    return card(
      { title: words.about, id: "about" },
      h(
        "ul",
        null,
        runs.map((r) =>
          h(
            "li",
            null,
            link(called(this.found).get(r.run_id), `#/result/${encodeURIComponent(r.run_id)}`),
            h("span", { class: "muted" }, ` ${r.run_id}, ${r.task}, ${r.pipeline}`),
          ),
        ),
      ),
      remarks.length
        ? h(
            "ul",
            { class: "small" },
            remarks.map((text) => h("li", null, text)),
          )
        : null,
    );
  }
}
