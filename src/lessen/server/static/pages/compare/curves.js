// The training curves of the chosen runs on one chart: a colour a run, as in the picture of the points.
// In the address: curve (what is drawn), of (the stage), smooth (weight), log, zoom ("from..to" in steps).

import { chartIn } from "../../chart.js";
import { debounce, fill, h } from "../../dom.js";
import { curves as names, stages as stageNames } from "../../strings.js";
import { compare as words } from "../../strings-models.js";
import { attempt, card, field, select } from "../../widgets.js";
import { spanOf } from "../run/curves.js";
import { KNOWN_KEYS } from "../run/story.js";
import { called, slotOf } from "./points.js";

const KEYS = [...KNOWN_KEYS, "rss_bytes", "gpu_bytes"];
const POINTS = 2000;
const nameOf = (key) => words.curveNames[key] ?? key.replace(/^val_/, words.ofValidation).replaceAll("_", " ");

export class Curves {
  constructor(ctx, params, found) {
    Object.assign(this, { ctx, params, found, key: params.curve, stage: params.of, known: new Map() });
    this.controls = h("div", { class: "form-row" });
    this.host = h("div");
    this.said = h("p", { class: "muted", role: "status" }, words.readingCurves);
    this.node = card({ title: words.curves, id: "curves" }, this.controls, this.said, this.host);
    this.keep = debounce(() => this.toAddress(), 200);
  }

  /** Ask each run what curves it has, then for one of them. */
  async build() {
    const answers = await this.ask({ keys: KEYS.join(), points: 2 });
    const all = [...answers.values()];
    this.stages = [...new Set(all.flatMap(Object.keys))];
    this.keys = KEYS.filter((key) => all.some((stages) => Object.values(stages).some((curves) => curves[key])));
    if (!this.keys.length) return void (this.said.textContent = words.noCurves);
    const one = (list, ...wanted) => wanted.find((name) => list.includes(name)) ?? list[0];
    this.stage = one(this.stages, this.stage, "distill");
    this.key = one(this.keys, this.key, "loss");
    const { smooth, log, zoom } = this.params;
    this.chart = await chartIn(this.host, {
      title: words.curvesTitle, xLabel: names.step, height: 340, canLog: true, canSmooth: true, log: log === "1", zoom: spanOf(zoom),
      smoothing: smooth > 0 && smooth < 1 ? Number(smooth) : 0, onView: () => this.keep(),
    });
    return this.draw();
  }

  /** Return stage -> key -> points of each run that answers. */
  async ask(query) {
    const get = ({ run_id: id }) => this.ctx.api.get(`/runs/${encodeURIComponent(id)}/series`, query, { signal: this.ctx.signal });
    const answers = await Promise.allSettled(this.found.runs.map(get));
    this.ctx.signal.throwIfAborted();
    return new Map(this.found.runs.flatMap(({ run_id: id }, i) => (answers[i].value ? [[id, answers[i].value.series]] : [])));
  }

  async draw() {
    const { key, stage } = this;
    this.drawControls();
    const name = `${stage} ${key}`;
    if (!this.known.has(name)) this.known.set(name, this.ask({ keys: key, stage, points: POINTS }));
    const answers = await this.known.get(name);
    if (key !== this.key || stage !== this.stage) return; // chosen anew meanwhile
    const scale = key.endsWith("_bytes") ? 1e6 : 1;
    const series = this.found.runs.flatMap(({ run_id: id }) => {
      const points = answers.get(id)?.[stage]?.[key]?.map(([x, y]) => [x, y / scale]);
      return points ? [{ key: id, label: called(this.found).get(id), slot: slotOf(this.found, id), dots: key.startsWith("val_"), points }] : [];
    });
    const subject = `${stageNames[stage] ?? stage}: ${nameOf(key)}`;
    this.chart.options.title = subject; // of its copies and its table
    this.said.textContent = words.curvesOf(subject, series.length, this.found.runs.length);
    this.chart.set(series);
  }

  drawControls() {
    const pick = (label, what, list, name) =>
      field({ label, control: select({ options: list.map((one) => [one, name(one)]), value: this[what], onChange: (value) => this.choose(what, value) }) });
    if (!this.controls.firstChild) fill(this.controls, pick(words.curve, "key", this.keys, nameOf), pick(words.ofStage, "stage", this.stages, (one) => stageNames[one] ?? one));
  }

  choose(what, value) {
    this[what] = value;
    if (what === "stage") this.chart.zoom = null; // its steps are others
    this.ctx.query({ curve: this.key, of: this.stage });
    this.keep();
    attempt(this.draw());
  }

  toAddress() {
    const { options, zoom } = this.chart;
    this.ctx.query({ smooth: options.smoothing || null, log: options.log ? 1 : null, zoom: zoom?.map((x) => Number(x.toFixed(2))).join("..") });
  }

  destroy() {
    this.keep.cancel();
    this.chart?.destroy();
  }
}
