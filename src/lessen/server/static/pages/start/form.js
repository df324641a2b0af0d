// A form for every setting of a recipe, made from its schema. It knows the values it starts from (a preset's, a recipe's) and what
// was changed; only the changes are sent.
//
//   new Form(schema, {onChange(changes, valid)})      build(root)      rebase(values, changes = {})      changes: nested, only what differs
//   search(text) -> how many settings fit      fail(path, message)      list() -> [[path, value, from]]      reset(path?)

import { h } from "../../dom.js";
import { form as words } from "../../strings-start.js";
import { badge, button, dialog, facts, field, select } from "../../widgets.js";
import { getAt, range, read, same, setAt, settings } from "./schema.js";

const shown = (value) => (value === null || value === undefined ? words.none : typeof value === "object" ? JSON.stringify(value) : String(value));

export class Form {
  constructor(schema, { onChange }) {
    this.settings = settings(schema);
    this.onChange = onChange;
    this.base = {};
    this.given = new Map(); // path -> value that differs from the base
    this.bad = new Map(); // path -> what is wrong with what was typed
    this.rows = new Map(); // path -> {node, field, write(value)}
  }

  build(root) {
    const names = [...new Set(this.settings.map((setting) => setting.section))];
    this.sections = new Map(names.map((name) => [name, this.section(name)]));
    root.append(...[...this.sections.values()].map((one) => one.node));
  }

  section(name) {
    const mine = this.settings.filter((setting) => setting.section === name);
    const count = badge("", "info");
    const groups = [...new Set(mine.map((setting) => setting.group))].map((group) => this.group(group, name, mine.filter((setting) => setting.group === group)));
    const [title, about] = words.sections[name] ?? [name, ""];
    const node = h("details", { class: "card settings-section" }, h("summary", null, h("span", { class: "section-title" }, title, h("span", { class: "muted small" }, about)), count), groups);
    return { node, count, groups, paths: mine.map((setting) => setting.path) };
  }

  group(group, section, list) {
    const rows = h("div", { class: "settings-grid" }, list.map((setting) => this.row(setting)));
    const title = group === section || group === "general" ? null : h("h3", { class: "group-title" }, group.split(".").slice(1).join(" "), h("span", { class: "muted small" }, words.groups[group.split(".").pop()] ?? ""));
    return h("div", { class: "settings-group" }, title, rows);
  }

  row(setting) {
    const control = this.control(setting);
    const label = setting.kind === "group" ? words.without(setting.name) : setting.name.replaceAll("_", " ");
    const bounds = range(setting);
    const node = field({ label, control: control.node, help: [setting.help, bounds ? h("span", { class: "bounds" }, setting.help ? " · " : "", bounds) : null], unit: setting.unit || null });
    const explain = button("?", () => this.explain(setting), { kind: "quiet icon", "aria-label": words.explain(label), title: words.explain(label) });
    const undo = button("↺", () => { this.reset(setting.path); (control.node.focus ? control.node : explain).focus(); }, { kind: "quiet icon", "aria-label": words.undo(label), title: words.undo(label), hidden: true });
    const row = h("div", { class: "setting", data: { path: setting.path } }, node, h("div", { class: "setting-buttons" }, undo, explain));
    this.rows.set(setting.path, { node: row, field: node, undo, setting, write: control.write });
    return row;
  }

  /** The control of a setting and how a value is written into it. */
  control(setting) {
    const take = (value) => this.take(setting.path, value);
    if (setting.kind === "group") {
      const node = h("input", { type: "checkbox", on: { change: () => (node.checked ? take(null) : this.reset(setting.path)) } });
      return { node, write: (value) => { node.checked = value === null; } };
    }
    if (setting.kind === "flag") {
      const node = h("input", { type: "checkbox", on: { change: () => take(node.checked) } });
      return { node, write: (value) => { node.checked = Boolean(value); } };
    }
    if (setting.kind === "choice") {
      const options = [...(setting.nullable ? [["", words.none]] : []), ...setting.options.map((one) => [String(one), String(one)])];
      const node = select({ options, onChange: (text) => take(text === "" ? null : setting.options.find((one) => String(one) === text)) });
      return { node, write: (value) => { node.value = value === null ? "" : String(value); } };
    }
    if (setting.kind === "choices") return this.choices(setting, take);
    return this.input(setting);
  }

  choices(setting, take) {
    const boxes = setting.options.map((option) => h("input", { type: "checkbox", value: option, on: { change: () => take(boxes.filter((box) => box.checked).map((box) => box.value)) } }));
    const node = h("div", { class: "choices", role: "group", "aria-label": setting.name.replaceAll("_", " ") }, boxes.map((box, index) => h("label", null, box, setting.options[index])));
    return { node, write: (value) => boxes.forEach((box) => { box.checked = (value ?? []).includes(box.value); }) };
  }

  input(setting) {
    const node = h("input", { type: "text", inputmode: setting.kind === "number" ? "decimal" : null, spellcheck: "false", autocomplete: "off", placeholder: setting.nullable ? words.none : setting.kind === "list" ? words.listHint : null, on: { input: () => {
      const { value, error } = read(setting, node.value, words);
      if (error) this.refuse(setting.path, error);
      else this.take(setting.path, value);
    } } });
    const write = (value) => {
      if (setting.kind === "list") node.value = (value ?? []).join(", ");
      else if (setting.kind === "map") node.value = value && Object.keys(value).length ? JSON.stringify(value) : "";
      else node.value = value === null || value === undefined ? "" : String(value);
    };
    return { node, write };
  }

  /** The value that a setting has before any change: the base's, else the schema's. */
  from(path) {
    const value = getAt(this.base, path);
    return value === undefined ? this.rows.get(path).setting.fallback : value;
  }

  take(path, value) {
    this.bad.delete(path);
    if (same(value, this.from(path))) this.given.delete(path);
    else this.given.set(path, value);
    this.rows.get(path).field.fail("");
    this.mark(path);
    this.tell();
  }

  refuse(path, message) {
    this.bad.set(path, message);
    this.rows.get(path).field.fail(message);
    this.tell();
  }

  /** Show what the server said about a setting. */
  fail(path, message) {
    const row = this.rows.get(path);
    if (!row) return;
    row.field.fail(message);
    this.sections.get(row.setting.section).node.open = true;
  }

  clearFailures() {
    for (const [path, row] of this.rows) if (!this.bad.has(path)) row.field.fail("");
  }

  mark(path) {
    const row = this.rows.get(path);
    const changed = this.given.has(path);
    row.node.classList.toggle("changed", changed);
    row.undo.hidden = !changed;
    const section = this.sections.get(row.setting.section);
    const count = section.paths.filter((one) => this.given.has(one)).length;
    section.count.textContent = words.changed(count);
    section.count.hidden = !count;
  }

  tell() {
    this.onChange(this.changes, !this.bad.size);
  }

  get changes() {
    let values = {};
    for (const [path, value] of this.given) {
      // A part that is done without has no settings.
      const off = [...this.given].some(([other, one]) => one === null && path.startsWith(`${other}.`));
      if (!off) values = setAt(values, path, value);
    }
    return values;
  }

  /** What was typed and cannot be used: [[path, message]]. */
  wrong() {
    return [...this.bad];
  }

  list() {
    return [...this.given].map(([path, value]) => [path, shown(value), shown(this.from(path))]);
  }

  /** Start from other values; changes that are given, or still differ, stay. */
  rebase(base, changes) {
    const kept = changes ? this.settings.map(({ path }) => [path, getAt(changes, path)]).filter(([path, value]) => value !== undefined && this.rows.get(path).setting.kind !== "group" || value === null) : [...this.given];
    this.base = base;
    this.given = new Map();
    this.bad.clear();
    for (const [path, value] of kept) if (!same(value, this.from(path))) this.given.set(path, value);
    for (const [path, row] of this.rows) {
      row.write(this.given.has(path) ? this.given.get(path) : this.from(path));
      row.field.fail("");
      this.mark(path);
    }
    this.tell();
  }

  set(path, value) {
    this.rows.get(path).write(value);
    this.take(path, value);
  }

  reset(path) {
    for (const one of path ? [path] : [...this.given.keys()]) {
      this.given.delete(one);
      this.bad.delete(one);
      this.rows.get(one).write(this.from(one));
      this.rows.get(one).field.fail("");
      this.mark(one);
    }
    this.tell();
  }

  /** Show only settings whose name or help has the words; open the sections that have some. */
  search(text) {
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [path, row] of this.rows) {
      const all = `${path} ${path.replaceAll(/[._]/g, " ")} ${row.setting.help}`.toLowerCase();
      const fits = wanted.every((word) => all.includes(word));
      row.node.hidden = !fits;
      found += fits ? 1 : 0;
    }
    for (const { node, paths, groups } of this.sections.values()) {
      node.hidden = paths.every((path) => this.rows.get(path).node.hidden);
      for (const group of groups) group.hidden = [...group.querySelectorAll(".setting")].every((one) => one.hidden);
      if (wanted.length) node.open = !node.hidden;
    }
    if (!wanted.length) for (const { node } of this.sections.values()) node.open = false;
    return found;
  }

  explain(setting) {
    const more = words.explained[setting.path] ?? words.explained[setting.name];
    dialog({ title: setting.name.replaceAll("_", " "), body: [
      setting.help ? h("p", null, setting.help) : null,
      more ? h("p", null, more) : null,
      facts([
        [words.inRecipe, h("code", null, setting.path)], [words.kind, words.kinds[setting.kind]], setting.unit ? [words.unit, setting.unit] : null,
        range(setting) ? [words.limits, range(setting)] : null, setting.options ? [words.options, setting.options.join(", ")] : null,
        [words.byDefault, shown(setting.fallback)], [words.here, shown(this.from(setting.path))], [words.now, shown(this.given.has(setting.path) ? this.given.get(setting.path) : this.from(setting.path))],
      ]),
    ] });
  }

  /** The list of changes for the page's margin. */
  summary() {
    if (!this.given.size) return h("p", { class: "muted" }, words.noChanges);
    const rows = this.list().map(([path, value, from]) => h("li", null, h("code", null, path), h("span", null, h("s", { class: "muted" }, h("span", { class: "visually-hidden" }, words.was), from), " → ", value), button("↺", () => this.reset(path), { kind: "quiet icon", "aria-label": words.undo(path) })));
    return h("div", { class: "stack" }, h("ul", { class: "changes plain" }, rows), h("div", { class: "actions" }, button(words.resetAll, () => this.reset(), { kind: "quiet" })));
  }
}
