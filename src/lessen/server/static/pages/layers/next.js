// Layers that the next run is to leave alone: collected here (and in the address), then opened in Start or copied as YAML.

import { fill, h } from "../../dom.js";
import { next as words } from "../../strings-models.js";
import { button, card, copyButton, link } from "../../widgets.js";

const PARTS = { prune: "unpruned", quantize: "float" }; // section of the recipe -> name in the address
const OF = { prune: "prune", quantize: "quant" }; // -> what the pipeline calls it

export class Next {
  constructor(params, ctx, recipe) {
    Object.assign(this, { ctx, recipe, id: params.id, node: h("div") });
    this.parts = Object.keys(PARTS).filter((part) => recipe?.[part] && recipe.pipeline.includes(OF[part]));
    const given = (part) => (params[PARTS[part]] ?? "").split(",").filter(Boolean);
    this.chosen = Object.fromEntries(this.parts.map((part) => [part, new Set(given(part))]));
    this.draw();
  }

  /** The buttons of a layer of a stage; a branch stands for all below it. Null where a recipe could not name it. */
  actions(node, stage) {
    const other = stage === "teacher" && this.recipe?.pipeline.includes("kd"); // its layers are not those that are cut
    const cut = this.recipe?.prune?.pattern !== "structured" || node.children.length || (node.values.units_before ?? null) !== null;
    const parts = this.parts.filter((part) => node.values.parameters > 0 && (part === "quantize" || cut));
    if (other || !parts.length || node.layer.parent === null) return null;
    const pattern = node.children.length ? `${node.id}.*` : node.id;
    const press = (part) =>
      button(words.actions[part], () => this.toggle(part, pattern), {
        "aria-pressed": String(this.chosen[part].has(pattern)),
        data: { part, pattern },
      });
    return [h("h3", null, words.heading), h("p", { class: "small muted" }, words.why), h("div", { class: "actions" }, parts.map(press))];
  }

  toggle(part, pattern) {
    if (!this.chosen[part].delete(pattern)) this.chosen[part].add(pattern);
    this.ctx.query(Object.fromEntries(this.parts.map((one) => [PARTS[one], [...this.chosen[one]].join(",")])));
    this.draw();
    for (const node of document.querySelectorAll("[data-pattern]"))
      node.setAttribute("aria-pressed", String(this.chosen[node.dataset.part].has(node.dataset.pattern)));
    this.ctx.announce(words.count(this.count));
  }

  get count() {
    return this.parts.reduce((sum, part) => sum + this.chosen[part].size, 0);
  }

  /** What the recipe has to say: its own patterns and those that were chosen. */
  settings() {
    const parts = this.parts.filter((part) => this.chosen[part].size);
    return Object.fromEntries(parts.map((p) => [p, { ignore: [...new Set([...(this.recipe[p].ignore ?? []), ...this.chosen[p]])] }]));
  }

  draw() {
    if (!this.count) return fill(this.node);
    const settings = this.settings();
    const list = ([part, { ignore }]) => `${part}:\n  ignore:\n${ignore.map((one) => `    - "${one}"\n`).join("")}`;
    const yaml = Object.entries(settings).map(list).join("");
    const row = (part) => (pattern) => h("li", null, h("code", null, pattern), ` ${words.left[part]} `, this.undo(part, pattern));
    const address = `#/start?${new URLSearchParams({ from: this.id, set: JSON.stringify(settings) })}`;
    return fill(
      this.node,
      card(
        { title: words.title, id: "next", actions: link(words.start, address, { class: "button primary" }) },
        h("ul", null, this.parts.flatMap((part) => [...this.chosen[part]].map(row(part)))),
        h("div", { class: "code-row" }, h("code", { class: "pre" }, yaml.trimEnd()), copyButton(yaml)),
      ),
    );
  }

  undo(part, pattern) {
    const take = () => {
      this.toggle(part, pattern);
      (this.node.querySelector("button") ?? document.querySelector("h1")).focus();
    };
    return button("✕", take, { kind: "quiet icon", "aria-label": words.undo(pattern) });
  }
}
