// All runs, of this server and of the shell: search, filter, sort, progress as it happens, cancel, resume, delete with undo.

import { debounce, fill, h } from "../dom.js";
import { ago, bytes, number, times } from "../format.js";
import { cancel, home, isLive, progressText, remove, restore, resume } from "../run-actions.js";
import { runs as words } from "../strings.js";
import { attempt, badge, button, empty, field, freshId, heading, link, loading, meter, pager, problem, say, select, stateBadge } from "../widgets.js";

export const title = words.title;
export const styles = ["pages/runs.css"];
const PAGE = 100;
const FILTERS = { all: null, live: ["queued", "starting", "running", "cancelling"], succeeded: ["succeeded"], stopped: ["failed", "interrupted", "cancelled"], bin: null };

export async function render(root, params, ctx) {
  const page = new RunsPage(root, params, ctx);
  page.build();
  await page.load();
  return page.watch();
}

class RunsPage {
  constructor(root, params, ctx) {
    Object.assign(this, { root, ctx });
    this.filter = params.filter in FILTERS ? params.filter : "all";
    this.sort = words.sorts.some(([key]) => key === params.sort) ? params.sort : "-created";
    this.search = params.search ?? "";
    this.offset = Math.max(0, Number.parseInt(params.offset, 10) || 0);
    this.rows = new Map(); // run_id -> Row
    this.chosen = new Set();
    this.asked = 0;
    this.reload = debounce(() => this.load(), 300);
  }

  build() {
    const type = debounce((text) => this.change({ search: text }), 200);
    const search = h("input", { type: "search", value: this.search, placeholder: words.searchHint, data: { search: "" }, on: { input: () => type(search.value) } });
    const filters = Object.keys(FILTERS).map((name) => button(words.filters[name], () => this.change({ filter: name }), { kind: "quiet", "aria-pressed": String(name === this.filter), data: { filter: name } }));
    const sort = select({ options: words.sorts, value: this.sort, onChange: (value) => this.change({ sort: value }) });
    this.compare = h("a", { class: "button", hidden: true });
    this.count = h("p", { class: "muted small", role: "status" });
    this.list = h("div", { class: "run-list-host" }, loading(words.loading));
    this.filters = h("div", { class: "actions", role: "group", "aria-label": words.filter }, filters);
    const tools = h("div", { class: "run-tools" }, field({ label: words.search, control: search, hideLabel: true }), this.filters, field({ label: words.sort, control: sort, hideLabel: true }));
    const start = link(words.start, "#/start", { class: "button primary" });
    this.root.append(heading({ title: words.title, lead: words.lead, actions: [this.compare, start] }), tools, this.count, this.list);
  }

  /** Take a new filter, order or search; the address follows, so that it can be kept and sent. */
  change(values) {
    Object.assign(this, { offset: 0 }, values);
    for (const node of this.filters.children) node.setAttribute("aria-pressed", String(node.dataset.filter === this.filter));
    const { filter, sort, search, offset } = this;
    this.ctx.query({ filter: filter === "all" ? null : filter, sort: sort === "-created" ? null : sort, search, offset: offset || null });
    return this.load();
  }

  async load() {
    const mine = (this.asked += 1);
    const { filter, sort, search, offset } = this;
    try {
      const query = new URLSearchParams({ sort, search, limit: PAGE, offset, deleted: filter === "bin" });
      for (const state of FILTERS[filter] ?? []) query.append("state", state);
      const found = await this.ctx.api.get(`/runs?${query}`, {}, { signal: this.ctx.signal });
      if (mine === this.asked) await this.show(found);
    } catch (error) {
      if (mine === this.asked && error.name !== "AbortError") fill(this.list, problem(error, () => this.load()));
    }
  }

  async show({ runs, total }) {
    this.rows.clear();
    this.total = total;
    this.count.textContent = total ? words.count(total) : "";
    if (!runs.length) return this.showEmpty();
    const list = h("ul", { class: "run-list plain" }, runs.map((run) => this.add(run).node));
    fill(this.list, list, total > PAGE ? pager({ offset: this.offset, limit: PAGE, total, onGo: (offset) => this.change({ offset }) }) : null);
    return undefined;
  }

  add(run) {
    const row = new Row(run, this);
    this.rows.set(run.run_id, row);
    return row;
  }

  async showEmpty() {
    if (this.search || this.filter !== "all") {
      fill(this.list, empty({ title: words.noMatch, text: words.noMatchText[this.filter] ?? words.noMatchText.all, actions: button(words.showAll, () => this.ctx.go("#/runs")) }));
      return;
    }
    const presets = await this.ctx.api.get("/presets", {}, { signal: this.ctx.signal });
    fill(this.list, h("div", { class: "first-run" },
      h("h2", null, words.firstTitle),
      h("p", null, words.firstText),
      h("ol", { class: "how plain" }, words.how.map(([name, text]) => h("li", null, h("strong", null, name), h("span", null, text)))),
      h("h3", null, words.firstPresets),
      h("ul", { class: "grid plain" }, presets.map((preset) => this.preset(preset))),
      h("p", { class: "muted" }, words.firstShell, h("code", null, words.firstCommand))));
  }

  preset(preset) {
    const press = button(words.demo, async () => {
      press.disabled = true;
      const run = await attempt(this.ctx.api.post("/runs", { model_name: preset.model_name, preset: "demo" }));
      press.disabled = false;
      if (run) this.ctx.go(home(run));
    }, { kind: "primary" });
    return h("li", { class: "card" }, h("h4", null, preset.title), h("p", null, preset.description), h("p", { class: "help" }, preset.levels.demo?.note), h("div", { class: "actions" }, press));
  }

  /** Keep the rows true; a run that is not here yet, or no longer fits, makes the list ask again. */
  watch() {
    const stops = [
      this.ctx.live.onRuns((run) => {
        const row = this.rows.get(run.run_id);
        if (!row) return this.reload();
        const fits = run.deleted === (this.filter === "bin") && (!FILTERS[this.filter] || FILTERS[this.filter].includes(run.state));
        if (!fits) return this.reload();
        return row.update(run);
      }),
      this.ctx.live.onBack(() => this.load()),
    ];
    return () => {
      stops.forEach((stop) => stop());
      this.reload.cancel();
    };
  }

  choose(runId, yes) {
    if (yes) this.chosen.add(runId);
    else this.chosen.delete(runId);
    this.compare.hidden = this.chosen.size < 2;
    this.compare.textContent = words.compare(this.chosen.size);
    this.compare.href = `#/compare?runs=${[...this.chosen].map(encodeURIComponent).join(",")}`;
  }
}

/** One run of the list. */
class Row {
  constructor(run, page) {
    this.page = page;
    this.nameId = freshId("run");
    this.node = h("li", { class: "run-row" });
    this.draw(run);
  }

  draw(run) {
    this.run = run;
    const box = h("input", { type: "checkbox", checked: this.page.chosen.has(run.run_id), "aria-label": words.choose(run.name), on: { change: () => this.page.choose(run.run_id, box.checked) } });
    this.meter = isLive(run) ? meter({ label: words.progressOf(run.name), ...this.progress(run) }) : null;
    fill(this.node,
      h("label", { class: "run-choose" }, box),
      h("div", { class: "run-name" }, h("a", { href: home(run), id: this.nameId }, say(run.name || run.run_id)), h("span", { class: "muted small" }, `${run.model_name ?? run.task} · ${run.run_id}`)),
      h("div", { class: "run-state" }, h("div", { class: "row" }, stateBadge(run.state), badge(words.origins[run.origin] ?? run.origin), run.attempt > 1 ? badge(words.attempt(run.attempt)) : null), this.meter, run.error ? h("p", { class: "small run-error" }, run.error.message) : null),
      h("dl", { class: "run-facts" }, this.facts(run).map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value)))),
      h("div", { class: "actions run-actions" }, this.actions(run)));
  }

  facts(run) {
    const { summary } = run;
    const score = summary.score_name && number(summary.score) !== "–" ? [[summary.score_name.replaceAll("_", " "), number(summary.score)]] : [];
    const gains = [["smaller", words.smaller], ["faster", words.faster]].filter(([key]) => Number.isFinite(summary[key])).map(([key, label]) => [label, times(summary[key])]);
    const disk = run.disk_bytes === null ? [] : [[words.disk, bytes(run.disk_bytes)]];
    return [[words.created, ago(run.created)], ...score, ...gains, ...disk];
  }

  progress(run) {
    const { percent } = run.progress;
    return { share: percent === null ? null : percent / 100, text: [percent === null ? null : `${Math.floor(percent)} %`, progressText(run)].filter(Boolean).join(" · "), busy: run.state === "running" };
  }

  actions(run) {
    const act = (label, what, options = {}) => button(label, async () => {
      const next = await what(run);
      if (next) this.after(next);
    }, { kind: "quiet", "aria-describedby": this.nameId, ...options });
    if (run.deleted) return [act(words.restore, restore)];
    if (run.state === "cancelling") return [];
    if (isLive(run)) return [act(words.cancel, cancel)];
    return [run.resumable ? act(words.resume, resume) : null, act(words.remove, (one) => remove(one, () => this.page.load()))];
  }

  after(run) {
    if (run.deleted === (this.page.filter === "bin")) return this.update(run);
    // What follows the row that goes gets the focus, or the list's heading.
    const next = this.node.nextElementSibling ?? this.node.previousElementSibling;
    this.node.remove();
    this.page.rows.delete(run.run_id);
    (next?.querySelector("a") ?? this.page.root.querySelector("h1")).focus();
    this.page.reload();
    return undefined;
  }

  /** Exchange what changed; while only the work goes on, nothing but the bar moves. */
  update(run) {
    const same = ["state", "attempt", "deleted", "position"].every((key) => run[key] === this.run[key]);
    if (same && this.meter) {
      this.run = run;
      this.meter.update(this.progress(run));
      return;
    }
    const focused = this.node.contains(document.activeElement);
    this.draw(run);
    if (focused) this.node.querySelector("a").focus();
  }
}
