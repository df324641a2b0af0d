// Start a run: a model and a level, files of one's own, every setting; what it will cost; the same as YAML and curl.
// "#/start?model=ResNet-18&preset=demo&set={...}" fills the form; "#/start?from=<run>" starts from a run's own recipe, and
// "#/start?recipe=<name>" from one that comes with lessen. set: JSON of the changed settings.

import { debounce, fill, h } from "../dom.js";
import { bytes, compact, integer, seconds } from "../format.js";
import { start as words } from "../strings-start.js";
import { stages as stageNames } from "../strings.js";
import { attempt, button, card, copyButton, facts, field, heading, problem, say, select, tabs, toast } from "../widgets.js";
import { Form } from "./start/form.js";
import { uploadsCard } from "./start/uploads.js";

export const title = words.title;
export const styles = ["pages/start.css"];
const LEVELS = ["demo", "balanced", "thorough"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

export async function render(root, params, ctx) {
  const get = (path) => ctx.api.get(path, {}, { signal: ctx.signal });
  const [presets, recipes, schema, from] = await Promise.all([get("/presets"), get("/recipes"), get("/recipes/schema"), params.from ? get(`/runs/${encodeURIComponent(params.from)}/recipe`) : null]);
  const page = new StartPage(root, ctx, { presets, recipes, schema, from });
  page.build();
  page.choose(params);
  return () => page.stop();
}

class StartPage {
  constructor(root, ctx, known) {
    Object.assign(this, { root, ctx }, known);
    this.model = null; // a preset's name, or null where a whole recipe is the start
    this.level = "demo";
    this.whole = null; // that recipe
    this.name = "";
    this.form = new Form(known.schema, { onChange: (changes, valid) => this.changed(changes, valid) });
    this.check = debounce(() => this.ask(), 350);
    this.plan = debounce((signal) => this.askPlan(signal), 900); // reads the data: seconds, so only when the reader pauses
  }

  build() {
    const main = h("div", { class: "stack" });
    const side = h("aside", { class: "stack start-side", "aria-label": words.side });
    this.root.append(heading({ title: words.title, lead: words.lead }), h("div", { class: "columns" }, main, side));
    main.append(this.modelCard(), uploadsCard({ use: (path, value) => { this.form.set(path, value); toast(words.used(path)); } }), this.settingsCard());
    this.estimate = h("div", { "aria-live": "polite" });
    this.changes = h("div");
    this.startButton = button(words.start, () => this.start(), { kind: "primary wide" });
    side.append(card({ title: words.estimate }, this.estimate, this.nameField(), this.startButton), card({ title: words.changes }, this.changes), this.sameCard());
  }

  modelCard() {
    const radio = (name, value, content, onChange) => {
      const box = h("input", { type: "radio", name, value, on: { change: onChange } });
      return h("label", { class: "choice" }, box, h("span", { class: "choice-text" }, content));
    };
    this.models = h("div", { class: "grid choice-grid models" }, this.presets.map((preset) => radio("model", preset.model_name, [h("strong", null, preset.title), h("span", { class: "muted small" }, preset.description)], () => this.choose({ model: preset.model_name, preset: this.level }))));
    this.levels = h("div", { class: "grid choice-grid" });
    this.levelSet = h("fieldset", null, h("legend", null, words.level), this.levels);
    this.other = select({ options: [["", words.chooseRecipe], ...this.recipes.map((one) => [one.name, one.name])], onChange: (name) => name && this.choose({ recipe: name }) });
    this.fromNote = h("p", { class: "notice", hidden: true });
    return card({ title: words.model }, h("fieldset", null, h("legend", { class: "visually-hidden" }, words.model), this.models), this.fromNote, this.levelSet, h("details", null, h("summary", null, words.otherRecipe), field({ label: words.recipe, control: this.other, help: words.recipeHelp })));
  }

  drawLevels() {
    const preset = this.presets.find((one) => one.model_name === this.model);
    this.levelSet.hidden = !preset;
    if (!preset) return;
    const names = LEVELS.filter((name) => preset.levels[name]);
    fill(this.levels, names.map((name) => {
      const box = h("input", { type: "radio", name: "level", value: name, checked: name === this.level, on: { change: () => this.choose({ model: this.model, preset: name }) } });
      return h("label", { class: "choice" }, box, h("span", { class: "choice-text" }, h("strong", null, words.levels[name]), h("span", { class: "muted small" }, preset.levels[name].note)));
    }));
  }

  settingsCard() {
    const found = h("p", { class: "muted small", role: "status" });
    const run = debounce(() => { found.textContent = search.value ? words.found(this.form.search(search.value)) : ""; if (!search.value) this.form.search(""); }, 150);
    const search = h("input", { type: "search", placeholder: words.searchHint, data: { search: "" }, on: { input: run } });
    const host = h("div", { class: "stack setting-list" });
    this.form.build(host);
    return card({ title: words.settings }, h("p", { class: "muted" }, words.settingsLead), field({ label: words.search, control: search }), found, host);
  }

  nameField() {
    const input = h("input", { type: "text", spellcheck: "false", autocomplete: "off", maxlength: 100, on: { input: () => {
      this.name = input.value.trim();
      node.fail(this.name && !NAME.test(this.name) ? words.badName : "");
      this.check();
    } } });
    const node = field({ label: words.name, control: input, help: words.nameHelp });
    return node;
  }

  sameCard() {
    this.yaml = this.curl = "";
    const show = (key) => { const node = h("pre", { tabindex: 0 }, this[key]); this.shown = [key, node]; return h("div", { class: "stack" }, node, h("div", { class: "actions" }, copyButton(() => this[key]))); };
    const items = ["yaml", "curl"].map((id) => ({ id, label: words.same[id], render: () => show(id) }));
    return card({ title: words.sameTitle }, tabs({ label: words.sameTitle, items }), h("div", { class: "actions" }, copyButton(() => location.href, words.copyLink)));
  }

  /** Take the start from the address or from a click: a preset, a recipe of lessen, or a run's. */
  choose({ model, preset, recipe, set, from }) {
    const packaged = recipe ? this.recipes.find((one) => one.name === recipe) : null;
    const used = from ? this.from?.recipe : packaged?.recipe;
    this.origin = { from: used && from ? from : null, recipe: packaged && !from ? recipe : null };
    this.whole = used ?? null;
    const key = (text) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, "");
    const found = this.presets.find((one) => [one.model_name, ...one.aliases].some((name) => key(name) === key(model ?? "")));
    this.model = used ? null : (found ?? this.presets[0]).model_name;
    this.level = LEVELS.includes(preset) ? preset : "demo";
    for (const box of this.models.querySelectorAll("input")) box.checked = box.value === this.model;
    this.fromNote.hidden = !used;
    this.fromNote.textContent = used ? words.from(from ?? packaged.name) : "";
    this.drawLevels();
    const base = used ?? this.presets.find((one) => one.model_name === this.model).levels[this.level].recipe;
    this.form.rebase(base, set === undefined ? undefined : parsed(set));
  }

  body() {
    const { changes } = this.form;
    const body = this.whole ? { recipe: laid(without(this.whole), changes) } : { model_name: this.model, preset: this.level };
    if (!this.whole && Object.keys(changes).length) body.recipe = changes;
    if (this.name) body.name = this.name;
    return body;
  }

  changed(changes, valid) {
    fill(this.changes, this.form.summary());
    const set = Object.keys(changes).length ? JSON.stringify(changes) : null;
    this.ctx.query({ model: this.model, preset: this.model ? this.level : null, ...this.origin, set });
    this.valid = valid;
    if (valid) this.check();
    else this.block(words.fixFirst, this.form.wrong());
  }

  block(text, list = []) {
    this.check.cancel();
    this.plan.cancel();
    this.asking?.abort();
    this.startButton.disabled = true;
    fill(this.estimate, h("div", { class: "problem" }, h("p", null, text), list.length ? h("ul", null, list.map(([path, message]) => h("li", null, h("code", null, path), ` ${message}`))) : null));
  }

  /** Ask the server what this would be: its refusal, or what it costs. */
  async ask() {
    this.plan.cancel();
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    if (this.name && !NAME.test(this.name)) return this.block(words.badName);
    this.estimate.setAttribute("aria-busy", "true");
    try {
      const found = await this.ctx.api.post("/recipes/check", { ...this.body(), plan: false }, { signal });
      this.form.clearFailures();
      this.startButton.disabled = false;
      this.show(found);
      this.plan(signal);
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      this.refused(error);
    }
    this.estimate.removeAttribute("aria-busy");
    return undefined;
  }

  async askPlan(signal) {
    try {
      const found = await this.ctx.api.post("/recipes/check", this.body(), { signal });
      this.show(found, true);
    } catch (error) {
      if (error.name !== "AbortError") this.refused(error);
    }
  }

  refused(error) {
    this.startButton.disabled = true;
    fill(this.estimate, problem(error, error.status ? undefined : () => this.ask()));
    this.form.clearFailures();
    for (const [path] of error.message.matchAll(/[a-z_]+(?:\.[a-z_]+)+/g)) this.form.fail(path, error.message);
  }

  show({ plan, yaml, curl, warnings }, planned = false) {
    Object.assign(this, { yaml, curl });
    if (this.shown) this.shown[1].textContent = this[this.shown[0]];
    const cell = (estimate, write) => (estimate?.value === null || estimate === undefined ? words.unknown : h("span", { title: estimate.basis }, write(estimate.value)));
    fill(this.estimate,
      plan ? [
        facts([
          [words.time, cell(plan.seconds, (value) => words.about(seconds(value)))], [words.disk, cell(plan.disk_bytes, (value) => words.about(bytes(value)))],
          [words.teacher, cell(plan.teacher_parameters, compact)], [words.student, cell(plan.student_parameters, compact)], [words.rows, cell(plan.rows, integer)],
        ]),
        h("ol", { class: "plan-stages plain", "aria-label": words.stages }, plan.stages.map((stage) => h("li", { title: stage.does }, stageNames[stage.name] ?? stage.name))),
        h("details", { class: "small" }, h("summary", null, words.basis), h("ul", null, words.estimates.map(([key, label]) => (plan[key] ? h("li", null, `${label}: ${plan[key].basis}`) : null)))),
      ] : h("p", { class: "muted" }, planned ? words.noPlan : words.planning),
      warnings.length ? h("div", { class: "notice warning" }, h("p", null, h("strong", null, words.warnings)), h("ul", null, warnings.map((text) => h("li", null, say(text))))) : null);
  }

  async start() {
    this.startButton.disabled = true;
    const run = await attempt(this.ctx.api.post("/runs", this.body()));
    this.startButton.disabled = false;
    if (run) this.ctx.go(`#/run/${encodeURIComponent(run.run_id)}`);
  }

  stop() {
    this.check.cancel();
    this.plan.cancel();
    this.asking?.abort();
  }
}

/** What an address may carry: JSON of changed settings. A damaged one is said, not guessed at. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
  } catch {
    // said below
  }
  toast(words.badLink, { kind: "bad" });
  return {};
}

/** Where runs are kept is the server's own; a recipe of another run names that run's folder. */
function without(recipe) {
  const { output_dir: _folder, cache_dir: _cache, ...rest } = recipe;
  return rest;
}

function laid(base, over) {
  const out = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const both = value && typeof value === "object" && !Array.isArray(value) && out[key] && typeof out[key] === "object";
    out[key] = both ? laid(out[key], value) : value;
  }
  return out;
}
