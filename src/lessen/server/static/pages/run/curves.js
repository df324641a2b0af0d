// The charts of a run: loss and its parts, validation against the teacher's line, learning rate and gradient norm, events.
// In the address: stage, metric, smooth (weight), log (charts with a log axis), zoom ("from..to" on the common axis).

import { chartIn } from "../../chart.js";
import { debounce, fill, frame, h } from "../../dom.js";
import { integer, number } from "../../format.js";
import { curves as words, stages as stageNames } from "../../strings.js";
import { attempt, button, card, empty, field, select } from "../../widgets.js";
import { placeOf } from "./story.js";

const SMOOTHING = 0.6; // to begin with
const MOST_EVENTS = 100; // in the list; the chart marks them all
const nameOf = (stage) => stageNames[stage] ?? stage;
const keyName = (key) => words.keys[key] ?? key.replace(/^(loss|val)_/, "").replaceAll("_", " ");

/** Read a span of the address: "12..40" -> [12, 40]; null where it is none. */
export function spanOf(text) {
  const [from, to, ...more] = (text || "?").split("..").map(Number);
  return from < to && !more.length ? [from, to] : null;
}

export class Curves {
  constructor(story, ctx, params, { loadAttempt, refine }) {
    Object.assign(this, { story, ctx, params, loadAttempt });
    this.only = params.stage ?? "";
    this.metric = params.metric ?? null;
    this.keep = debounce(() => this.toAddress(), 200);
    this.charts = {};
    this.update = frame(() => this.draw());
    this.refine = debounce(() => attempt(refine(this.spans(this.zoom))), 250);
  }

  /** Draw the frame; charts follow when the library is there. */
  async build(root) {
    this.none = empty({ title: words.noneTitle, text: words.noneText, level: 3 });
    this.stageSelect = select({ options: [["", words.allStages]], "aria-label": words.stage, onChange: (stage) => { this.only = stage; this.ctx.query({ stage }); this.update(); } });
    this.attemptSelect = select({ options: [["merged", words.merged]], "aria-label": words.attempt, hidden: true, onChange: (value) => attempt(this.loadAttempt(value)) });
    this.metricSelect = select({ options: [], onChange: (metric) => { this.metric = metric; this.ctx.query({ metric }); this.update(); } });
    this.hosts = { loss: h("div"), val: h("div"), lr: h("div"), norm: h("div") };
    this.valCard = card({ class: "val" }, this.hosts.val, field({ label: words.metric, control: this.metricSelect }));
    this.eventList = h("div");
    this.eventCard = card({ title: words.events }, this.eventList);
    this.main = h("div", { class: "stack" },
      card({ title: words.title, actions: [this.attemptSelect, this.stageSelect] }, this.none, this.hosts.loss),
      this.valCard, card({ class: "pair" }, h("div", { class: "grid two" }, this.hosts.lr, this.hosts.norm)));
    root.append(this.main);
    const { smooth, log = "", zoom } = this.params;
    this.zoom = spanOf(zoom);
    const shared = { xLabel: words.step, sync: "run", zoom: this.zoom, xText: (x) => this.xText(x), onZoom: (span) => this.zoomed(span), onView: () => this.keep() };
    const logs = log.split(",");
    const [loss, val, lr, norm] = await Promise.all([
      chartIn(this.hosts.loss, { ...shared, title: words.loss, unit: words.lossUnit, height: 300, canLog: true, log: logs.includes("loss"), canSmooth: true, smoothing: smooth >= 0 && smooth < 1 ? Number(smooth) : SMOOTHING }),
      chartIn(this.hosts.val, { ...shared, title: words.validation, height: 220 }),
      chartIn(this.hosts.lr, { ...shared, title: words.lr, height: 150 }),
      chartIn(this.hosts.norm, { ...shared, title: words.norm, height: 150, canLog: true, log: logs.includes("norm") }),
    ]);
    this.charts = { loss, val, lr, norm };
    this.update();
  }

  setAttempts(count, shown) {
    const options = [["merged", words.merged], ...Array.from({ length: count }, (_, index) => [String(index + 1), words.attemptOf(index + 1)])];
    fill(this.attemptSelect, options.map(([value, label]) => h("option", { value }, label)));
    this.attemptSelect.value = shown;
    this.attemptSelect.hidden = count < 2;
  }

  toAddress() {
    const { smoothing } = this.charts.loss.options;
    const log = ["loss", "norm"].filter((name) => this.charts[name].options.log);
    this.ctx.query({ smooth: smoothing === SMOOTHING ? null : smoothing, log: log.join(), zoom: this.zoom?.map((x) => Number(x.toFixed(2))).join("..") });
  }

  xText(x) {
    const place = placeOf(x, this.layout ?? []);
    return place ? words.place(nameOf(place.stage), integer(place.step)) : number(x);
  }

  draw() {
    if (!this.charts.loss) return;
    const { story } = this;
    if (story.curves.size && !story.curves.has(this.only)) this.only = ""; // an old address
    this.layout = story.layout(this.only);
    const keys = story.keys();
    const bands = this.layout.map(({ stage, start }) => ({ x: start, label: nameOf(stage) }));
    const marks = story.marks(this.layout, (mark) => words.mark(mark, nameOf(mark.stage), integer(mark.step)));
    const losses = ["loss", ...[...keys].filter((key) => key.startsWith("loss_") && key !== "loss_total").sort()].filter((key) => keys.has(key));
    this.showEmpty(!losses.length);
    this.charts.loss.set(losses.map((key, index) => ({ key, label: keyName(key), slot: (index % 8) + 1, points: story.points(key, this.layout) })));
    this.charts.loss.overlay({ bands, marks });
    this.drawValidation(keys, bands);
    this.charts.lr.set([{ key: "lr", label: words.lr, slot: 1, points: story.points("lr", this.layout) }]);
    this.charts.lr.overlay({ bands });
    this.charts.norm.set([{ key: "grad_norm", label: words.norm, slot: 1, points: story.points("grad_norm", this.layout) }]);
    this.charts.norm.overlay({ bands, marks });
    this.drawStages();
    this.drawEvents(marks);
  }

  showEmpty(yes) {
    this.none.hidden = !yes;
    for (const host of Object.values(this.hosts)) host.hidden = yes;
    this.main.querySelector(".pair").hidden = yes;
  }

  drawValidation(keys, bands) {
    const metrics = [...keys].filter((key) => key.startsWith("val_")).sort();
    this.valCard.hidden = !metrics.length;
    if (!metrics.length) return;
    const wanted = this.story.run.summary.score_name;
    if (!metrics.includes(this.metric)) this.metric = [`val_${wanted}`, "val_f1_macro", "val_accuracy", "val_perplexity"].find((key) => metrics.includes(key)) ?? metrics[0];
    if (this.metricSelect.options.length !== metrics.length) fill(this.metricSelect, metrics.map((key) => h("option", { value: key }, keyName(key))));
    this.metricSelect.value = this.metric;
    const teacher = this.story.level(this.metric);
    this.charts.val.set([{ key: this.metric, label: keyName(this.metric), slot: 1, dots: true, points: this.story.points(this.metric, this.layout) }]);
    this.charts.val.overlay({ bands, levels: teacher === null ? [] : [{ y: teacher, label: words.teacher(number(teacher)) }] });
  }

  drawStages() {
    const names = this.story.layout().map(({ stage }) => stage);
    if (this.stageSelect.options.length === names.length + 1) return;
    fill(this.stageSelect, h("option", { value: "" }, words.allStages), names.map((stage) => h("option", { value: stage }, nameOf(stage))));
    this.stageSelect.value = this.only;
  }

  /** Steps that were not finite, one by one; clipped ones as a sum for each stage. */
  drawEvents(marks) {
    const shape = marks.length;
    if (this.eventShape === shape) return;
    this.eventShape = shape;
    const bad = marks.filter((mark) => mark.kind === "bad").slice(0, MOST_EVENTS);
    const clips = this.layout.map(({ stage }) => [stage, marks.filter((mark) => mark.kind === "warning" && mark.stage === stage)]).filter(([, list]) => list.length);
    const goTo = (mark, label) => button(label, () => this.charts.loss.show(mark.x), { kind: "quiet", "aria-label": `${label}: ${mark.label}` });
    const rows = [
      ...bad.map((mark) => h("li", { class: "event bad" }, h("span", { "aria-hidden": "true", class: "sign" }, "✕"), h("p", null, mark.message), goTo(mark, words.show))),
      ...clips.map(([stage, list]) => h("li", { class: "event warning" }, h("span", { "aria-hidden": "true", class: "sign" }, "▲"), h("p", null, words.clipped(nameOf(stage), integer(list.reduce((sum, mark) => sum + mark.count, 0)))), goTo(list[0], words.showFirst))),
    ];
    fill(this.eventList, rows.length ? h("ul", { class: "events plain" }, rows) : h("p", { class: "muted" }, words.noEvents));
  }

  /** A closer look asks the store for the points that the first answer left out. */
  zoomed(zoom) {
    this.zoom = zoom;
    if (zoom) this.refine();
    else this.refine.cancel();
  }

  spans(zoom) {
    return (this.layout ?? []).filter(({ start, length }) => start < zoom[1] && start + length > zoom[0])
      .map(({ stage, start, length }) => ({ stage, from: Math.max(0, Math.floor(zoom[0] - start)), to: Math.min(length, Math.ceil(zoom[1] - start)) }));
  }

  destroy() {
    this.refine.cancel();
    this.keep.cancel();
    Object.values(this.charts).forEach((chart) => chart.destroy());
  }
}
