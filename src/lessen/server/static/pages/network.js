// The network view: steps through teach, distil, prune and quantize with the layers of this run, as they lie on disk.

import { fill, h } from "../dom.js";
import { network as words } from "../strings-models.js";
import { button, card, empty, facts, heading, link, loading, problem, say } from "../widgets.js";
import { inspected } from "./network/inspected.js";
import { blocks, copied, widest } from "./network/rows.js";
import { steps } from "./network/steps.js";
import { links, tower } from "./network/tower.js";
import * as m from "./result/metrics.js";

export const title = words.title;
export const styles = ["result.css", "network.css"];
const PAUSE_MS = 6000;

export async function render(root, params, ctx) {
  const id = encodeURIComponent(params.id);
  fill(root, loading(words.loading));
  let report;
  try {
    report = await ctx.api.get(`/runs/${id}/report`, {}, { signal: ctx.signal });
  } catch (error) {
    if (error.status !== 404 && error.status !== 409) throw error;
    fill(
      root,
      heading({ title: words.heading(ctx.run?.name ?? params.id) }),
      empty({
        title: words.none,
        text: [error.message, error.hint].filter(Boolean).join(". "),
        actions: link(words.live, `#/run/${id}`, { class: "button primary" }),
      }),
    );
    return undefined;
  }
  const view = new View(root, params, ctx, report);
  await view.start(params.step);
  return () => view.stop();
}

class View {
  constructor(root, params, ctx, report) {
    Object.assign(this, {
      root,
      ctx,
      report,
      id: encodeURIComponent(params.id),
      at: 0,
      chosen: null,
      timer: 0,
      models: new Map(),
      cuts: new Map(),
    });
    this.steps = steps(report);
    this.board = h("div", { class: "board" });
    this.said = h("div", { class: "explained", "aria-live": "polite" });
    this.detail = h("div", { class: "stack" });
    this.rail = h("ol", { class: "rail", "aria-label": words.rail });
    this.resize = new ResizeObserver(() => this.overlay?.redraw());
  }

  async start(step) {
    const first = this.steps.findIndex((one) => one.id === step);
    this.play = button(words.play, () => this.toggle(), { kind: "primary", "aria-pressed": "false" });
    this.before = button(words.previous, () => this.hand(this.at - 1));
    this.after = button(words.next, () => this.hand(this.at + 1));
    const bar = h(
      "div",
      { class: "stepper row", role: "group", "aria-label": words.controls, on: { keydown: (event) => this.key(event) } },
      this.before,
      this.after,
      this.play,
      button(words.reset, () => this.hand(0), { kind: "quiet" }),
      h("span", { class: "small muted" }, words.keys),
    );
    fill(
      this.root,
      heading({ title: words.heading(this.ctx.run?.name ?? this.report.name), lead: words.lead }),
      bar,
      this.rail,
      card({ class: "network" }, this.said, this.board, legend()),
      this.detail,
    );
    this.resize.observe(this.board);
    await this.show(first < 0 ? 0 : first);
  }

  stop() {
    clearTimeout(this.timer);
    this.resize.disconnect();
  }

  key(event) {
    const to = { ArrowRight: this.at + 1, ArrowLeft: this.at - 1, Home: 0, End: this.steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.hand(to);
  }

  /** A step that the reader chose ends the play. */
  hand(to) {
    if (this.timer) this.toggle();
    this.show(to);
  }

  toggle() {
    const playing = Boolean(this.timer);
    clearTimeout(this.timer);
    this.timer = 0;
    this.play.setAttribute("aria-pressed", String(!playing));
    this.play.textContent = playing ? words.play : words.pause;
    if (playing) return;
    if (this.at === this.steps.length - 1) this.show(0);
    this.tick();
  }

  tick() {
    this.timer = setTimeout(async () => {
      await this.show(this.at + 1);
      if (!this.timer) return;
      if (this.at < this.steps.length - 1) this.tick();
      else this.toggle();
    }, PAUSE_MS);
  }

  async show(to) {
    if (to < 0 || to >= this.steps.length) return;
    this.at = to;
    const step = this.steps[to];
    this.ctx.query({ step: step.id });
    // the button that has the focus must not be the one that goes out
    if (to === 0 && document.activeElement === this.before) this.after.focus();
    if (to === this.steps.length - 1 && document.activeElement === this.after) this.before.focus();
    this.before.disabled = to === 0;
    this.after.disabled = to === this.steps.length - 1;
    fill(
      this.rail,
      this.steps.map((one, i) =>
        h(
          "li",
          null,
          h(
            "button",
            { type: "button", "aria-current": i === to ? "step" : null, on: { click: () => this.hand(i) } },
            h("span", { class: "count", "aria-hidden": "true" }, i + 1),
            one.title,
          ),
        ),
      ),
    );
    fill(
      this.said,
      h("h2", null, `${to + 1}. ${step.title}`),
      h(
        "div",
        { class: "told-by" },
        h(
          "div",
          { class: "stack" },
          step.said.map((text) => h("p", null, say(text))),
        ),
        facts(step.facts),
      ),
    );
    try {
      await this.draw(step, to);
    } catch (error) {
      if (error.name !== "AbortError")
        fill(
          this.board,
          problem(error, () => this.show(to)),
        );
    }
  }

  async draw(step, to) {
    if (!this.models.has(step.left) || (step.right && !this.models.has(step.right))) fill(this.board, loading(words.counting));
    const source = step.mode === "cut" ? m.row(this.report, step.right)?.source : null;
    const [left, right, was] = await Promise.all([
      this.layers(step.left),
      step.right ? this.layers(step.right) : null,
      source ? this.layers(source) : null,
    ]);
    if (step.mode === "cut") await this.units(step.right, right.layers);
    if (this.at !== to) return;
    this.step = { step, left, right, was };
    this.paint();
  }

  paint() {
    const { step, left, right, was } = this.step;
    const most = widest(left.layers, right?.layers, was?.layers);
    const one = (found, stage, side, mode) =>
      tower({
        title: words.model(stage),
        under: this.under(stage),
        blocks: blocks(found.layers),
        most,
        mode,
        side,
        cuts: this.cuts,
        chosen: this.chosen,
        was: was && side === "right" ? new Map(was.layers.map((l) => [l.id, l])) : null,
        onChoose: (layer) => this.pick(layer, side, stage),
      });
    const pairs =
      right && ["copied", "distil"].includes(step.mode)
        ? copied(blocks(right.layers), blocks(left.layers), m.row(this.report, "distill")?.facts.model?.layer_map)
        : new Map();
    this.overlay = links(this.board, pairs);
    this.board.dataset.towers = right ? 2 : 1;
    fill(this.board, one(left, step.left, "left", "whole"), right ? one(right, step.right, "right", step.mode) : null, this.overlay);
    this.overlay.redraw();
  }

  under(stage) {
    const row = m.row(this.report, stage);
    return [m.show(m.value(row, "parameters"), "count"), m.show(m.value(row, "file_bytes"), "bytes"), m.under(row)].join(", ");
  }

  async layers(stage) {
    if (!this.models.has(stage))
      this.models.set(stage, this.ctx.api.get(`/runs/${this.id}/layers`, { stage }, { signal: this.ctx.signal }));
    try {
      return await this.models.get(stage);
    } catch (error) {
      this.models.delete(stage);
      throw error;
    }
  }

  /** Ask which units went, of the layers that keep the list of them; the others have counts. */
  async units(stage, layers) {
    const wanted = layers.filter((l) => l.units_before && l.units_before !== l.units_after && l.units_before <= 64 && !this.cuts.has(l.id));
    const one = async () => {
      for (let next = wanted.shift(); next; next = wanted.shift()) {
        const { id } = next;
        const got = await this.ctx.api.get(
          `/runs/${this.id}/layers/${encodeURIComponent(id)}/histogram`,
          { stage, bins: 4 },
          { signal: this.ctx.signal },
        );
        this.cuts.set(id, got.kept ? { kept: got.kept, removed: got.removed ?? [] } : null);
      }
    };
    await Promise.all([one(), one()]);
  }

  async pick(layer, side, stage) {
    this.chosen = `${side}:${layer.id}`;
    for (const node of this.board.querySelectorAll("button.layer"))
      node.setAttribute(
        "aria-pressed",
        String(`${node.closest(".tower").classList.contains("left") ? "left" : "right"}:${node.dataset.id}` === this.chosen),
      );
    const told =
      side === "left"
        ? ["teacher"]
        : this.report.rows
            .filter((r) => r.role === "main" && (r.stage !== "teacher" || !m.row(this.report, "distill")))
            .map((r) => r.stage);
    fill(this.detail, loading(words.counting));
    const found = [];
    for (const name of told) {
      const model = await this.layers(name);
      const row = model.layers.find((l) => l.id === layer.id);
      if (row) found.push([name, row]);
    }
    const at = this.step?.step;
    fill(this.detail, inspected(layer, found, this.id, stage, this.cuts.get(layer.id), at?.mode === "cut"));
  }
}

function legend() {
  return h(
    "ul",
    { class: "legend" },
    [
      ["", words.legend.units],
      ["gone", words.legend.gone],
      ["places", words.legend.places],
      ["bits8", words.legend.bits],
      ["zeroed", words.legend.zeros],
      ["line", words.legend.link],
    ].map(([kind, text]) => h("li", null, h("span", { class: `sample ${kind}`, "aria-hidden": "true" }), text)),
  );
}
