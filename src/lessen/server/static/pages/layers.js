// The layers of a stage: a tree-table with their real numbers, before against after; a click shows how a layer's weights are spread.

import { debounce, fill, h } from "../dom.js";
import { percent } from "../format.js";
import { layers as words } from "../strings-models.js";
import { bars } from "../svg.js";
import { button, card, empty, facts, field, heading, link, loading, problem, select } from "../widgets.js";
import { detail } from "./layers/detail.js";
import { treegrid } from "./layers/grid.js";
import { Next } from "./layers/next.js";
import { curve, measured } from "./layers/sensitivity.js";
import { above, amount, folded, grow, joined, leaves, sorted } from "./layers/tree.js";

export const title = words.title;
export const styles = ["svg.css", "result.css", "layers.css"];
const SHOWN = ["parameters", "sparsity", "bits", "bytes", "flops", "latency_share", "error"];

export async function render(root, params, ctx) {
  const id = encodeURIComponent(params.id);
  fill(root, heading({ title: words.heading(ctx.run?.name ?? params.id) }), loading(words.loading));
  const [first, recipe, report] = await Promise.all([
    ask(id, params, ctx),
    known(ctx, `/runs/${id}/recipe`),
    known(ctx, `/runs/${id}/report`),
  ]);
  if (first.error) {
    fill(
      root,
      heading({ title: words.heading(ctx.run?.name ?? params.id) }),
      first.error.status === 404 || first.error.status === 409
        ? empty({
            title: words.none,
            text: [first.error.message, first.error.hint].filter(Boolean).join(". "),
            actions: link(words.live, `#/run/${id}`, { class: "button primary" }),
          })
        : problem(first.error, () => ctx.go(location.hash)),
    );
    return;
  }
  const view = new View(root, params, ctx, recipe?.recipe ?? null, report);
  view.take(first);
  // what a stage is best held against is known only now
  const source = view.sources[first.stage];
  if (params.against === undefined && source && first.stages.includes(source)) await view.choose({ against: source });
}

async function ask(id, { stage, against }, ctx) {
  try {
    return await ctx.api.get(`/runs/${id}/layers`, { stage, against: against === "none" ? null : against }, { signal: ctx.signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { error };
  }
}

/** Ask for what is good to have: its absence only leaves something out. */
async function known(ctx, path) {
  try {
    return await ctx.api.get(path, {}, { signal: ctx.signal });
  } catch (error) {
    if (error.name === "AbortError" || !error.status) throw error;
    return null;
  }
}

class View {
  constructor(root, params, ctx, recipe, report) {
    Object.assign(this, {
      root,
      ctx,
      recipe,
      report,
      sources: Object.fromEntries((report?.rows ?? []).map((r) => [r.stage, r.source])),
      id: encodeURIComponent(params.id),
      colour: params.colour ?? "bytes",
      sort: params.sort ?? "",
      chosen: params.layer ?? null,
      search: (params.find ?? "").toLowerCase(),
      next: new Next(params, ctx, recipe),
    });
    this.open = new Set();
    this.grid = h("div", null);
    this.side = h("div", { class: "stack" });
    this.picture = h("div", null);
  }

  /** Show what the server said. */
  take(found) {
    this.harm = measured(this.report, found.stage);
    this.found = { ...found, damageUnit: `fall ${this.harm?.unit}` };
    this.tree = folded(joined(grow(found.layers, found.against_layers, this.harm?.damage)));
    for (const one of above(this.tree, this.chosen)) this.open.add(one);
    if (!this.open.size) unroll(this.tree, this.open);
    fill(
      this.root,
      heading({ title: words.heading(this.ctx.run?.name ?? ""), lead: words.lead }),
      this.controls(),
      this.totals(),
      card(
        { title: words.table(found.stage), id: "tree" },
        h("p", { class: "small muted" }, words.keys),
        this.grid,
        found.remarks.map((text) => h("p", { class: "small muted" }, text)),
        this.missing(),
        this.told(),
      ),
      this.next.node,
      this.side,
      this.picture,
    );
    this.draw();
    const node = this.chosen ? find(this.tree, this.chosen) : null;
    if (node) this.pick(node, false);
  }

  async choose(values) {
    const next = { stage: this.found.stage, against: this.found.against ?? "none", ...values };
    if (next.against === next.stage) next.against = "none";
    this.root.setAttribute("aria-busy", "true");
    const found = await ask(this.id, next, this.ctx);
    this.root.removeAttribute("aria-busy");
    if (found.error) return fill(this.grid, problem(found.error));
    this.ctx.query({ stage: next.stage, against: next.against });
    return this.take(found);
  }

  controls() {
    const { stages, stage, against } = this.found;
    const of = stages.map((s) => [s, s]);
    const source = (s) => (stages.includes(this.sources[s]) ? this.sources[s] : "none");
    const others = [["none", words.nothing], ...of.filter(([s]) => s !== stage)];
    const asked = (key, values) => async (v) => {
      await this.choose(values(v));
      this.root.querySelector(`[data-control="${key}"]`)?.focus();
    };
    return h(
      "div",
      { class: "form-row" },
      chosen(
        "stage",
        words.stage,
        of,
        stage,
        asked("stage", (v) => ({ stage: v, against: source(v) })),
      ),
      chosen(
        "against",
        words.against,
        others,
        against ?? "none",
        asked("against", (v) => ({ against: v })),
      ),
      chosen("colour", words.colour, this.colours(), this.colour, (v) => this.set("colour", v)),
      chosen("sort", words.sort, [...words.orders, ...(this.harm ? words.byDamage : [])], this.sort, (v) => this.set("sort", v)),
      this.finder(),
    );
  }

  colours() {
    const there = this.columns().filter((c) => c.key !== "units");
    return [...there.map((c) => [c.key, c.title]), ["cut", words.cutShare]];
  }

  set(key, value) {
    this[key] = value;
    this.ctx.query({ [key]: value });
    this.draw();
  }

  finder() {
    const found = debounce((event) => {
      this.search = event.target.value.trim().toLowerCase();
      this.ctx.query({ find: this.search });
      this.draw();
    }, 150);
    return field({
      label: words.find,
      control: h("input", { type: "search", data: { search: "" }, value: this.search, on: { input: found } }),
    });
  }

  columns() {
    const there = this.found.columns.filter(
      (c) => SHOWN.includes(c.key) && !(c.reason && this.found.layers.every((l) => l[c.key] === null)),
    );
    const units = { key: "units", title: words.units, unit: "" };
    const saved = this.found.against ? [{ key: "saved", title: words.saved(this.found.against), unit: "bytes" }] : [];
    const harm = this.harm ? [{ key: "damage", title: words.damage, unit: this.found.damageUnit }] : [];
    return [units, ...there, ...saved, ...harm];
  }

  /** What the damage is, or which setting measures it. */
  told() {
    const { harm, recipe, report } = this;
    const never = recipe?.pipeline.includes("prune") && !report?.rows.some((r) => r.facts.sensitivity);
    const text = harm ? words.damageOf(harm.name, harm.n, percent(harm.share, 0)) : never ? words.notMeasured : null;
    return text && h("p", { class: "small muted" }, text);
  }

  missing() {
    const gone = this.found.columns.filter((c) => c.reason);
    return gone.length ? h("p", { class: "small muted" }, gone.map((c) => `${c.title}: ${c.reason}.`).join(" ")) : null;
  }

  totals() {
    const t = this.found.totals;
    const was = this.found.against_layers?.[0];
    const pair = (key, unit) => (was && was[key] !== null ? `${amount(was[key], unit)} → ${amount(t[key], unit)}` : amount(t[key], unit));
    const held = was ? this.found.against : null;
    return card(
      { title: held ? words.totalsAgainst(this.found.stage, held) : words.totals(this.found.stage) },
      facts(
        this.found.columns
          .filter((c) => SHOWN.includes(c.key) && c.key !== "latency_share" && t[c.key] !== null)
          .map((c) => [c.title, pair(c.key, c.unit)]),
      ),
    );
  }

  draw(focus = null) {
    const shown = this.search
      ? { ...this.tree, children: leaves(unfolded(this.tree), this.search).map((n) => ({ ...n, name: n.id })) }
      : this.tree;
    const open = this.search ? new Set([shown.id]) : this.open;
    const spec = {
      root: sorted(shown, this.sort || null),
      open,
      columns: this.columns(),
      colour: this.colour,
      chosen: this.chosen,
      caption: words.caption(this.found.stage),
      focus: focus ?? this.chosen,
      onOpen: (id) => this.draw(id),
      onChoose: (node) => this.pick(node),
    };
    fill(this.grid, treegrid(spec));
    if (focus !== null) this.grid.querySelector(`tr[data-id="${CSS.escape(focus)}"]`)?.focus();
    this.figure();
  }

  pick(node, jump = true) {
    this.chosen = node.id;
    this.ctx.query({ layer: node.id });
    for (const row of this.grid.querySelectorAll("tr[data-id]")) row.setAttribute("aria-selected", String(row.dataset.id === node.id));
    const made = detail(node, this.found, this.ctx, [curve(node, this.harm), this.next.actions(node, this.found.stage)]);
    fill(this.side, made);
    if (!jump) return;
    const back = button(words.back, () => this.grid.querySelector(`tr[data-id="${CSS.escape(node.id)}"]`)?.focus(), { kind: "quiet" });
    made.querySelector("h2").after(back);
    made.querySelector("h2").tabIndex = -1;
    made.querySelector("h2").focus();
  }

  /** The same numbers as a picture: the layers with most of what is shown by colour. */
  figure() {
    const column = [...this.columns(), { key: "cut", title: words.cutShare, unit: "share" }].find((c) => c.key === this.colour);
    const all = leaves(unfolded(this.tree), this.search).filter(
      (n) => n.values[this.colour] !== null && n.values[this.colour] !== undefined,
    );
    const rows = all.sort((a, b) => b.values[this.colour] - a.values[this.colour]).slice(0, 14);
    if (!column || !rows.length) return fill(this.picture);
    return fill(
      this.picture,
      card(
        { title: words.picture(column.title), id: "picture" },
        bars({
          title: words.most(column.title, rows.length, all.length),
          desc: words.mostDesc,
          first: words.layer,
          show: (v) => amount(v, column.unit),
          rows: rows.map((n) => ({
            name: short(n.id),
            value: n.values[this.colour],
            detail: `${n.id}: ${amount(n.values[this.colour], column.unit)}`,
          })),
          table: { columns: [words.layer, column.title], rows: rows.map((n) => [n.id, n.values[this.colour]]) },
        }),
      ),
    );
  }
}

function chosen(key, label, options, value, onChange) {
  return field({ label, control: select({ options, value, data: { control: key }, onChange }) });
}

/** Open branches that say little by themselves, until there are rows to look at. */
function unroll(root, open) {
  open.add(root.id);
  let many = root.children.length;
  let next = root.children;
  while (many < 12 && next.length) {
    const branches = next.filter((n) => n.children.length && n.times === 1 && many + n.children.length <= 24);
    if (!branches.length) return;
    for (const one of branches) {
      open.add(one.id);
      many += one.children.length;
    }
    next = branches.flatMap((n) => n.children);
  }
}

/** The tree without folds. */
function unfolded(node) {
  return { ...node, children: node.children.flatMap((c) => (c.times > 1 ? c.children.map(unfolded) : [unfolded(c)])) };
}

function find(node, id) {
  if (node.id === id && node.layer) return node;
  for (const child of node.children) {
    const found = find(child, id);
    if (found) return found;
  }
  return null;
}

function short(path) {
  const parts = path.split(".");
  return parts.length > 4 ? `…${parts.slice(-4).join(".")}` : path;
}
