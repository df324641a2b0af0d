// The parts of the live page beside the charts: stage rail, log, resources.

import { chartIn } from "../../chart.js";
import { debounce, fill, frame, h } from "../../dom.js";
import { bytes, clock, number, seconds } from "../../format.js";
import { panels as words, stages as stageNames } from "../../strings.js";
import { badge, card, facts, field, say, select, stateBadge } from "../../widgets.js";

const MOST_LINES = 1000; // shown at once; the rest stays in the store
const MOST_SAMPLES = 1800;
const LEVELS = ["info", "warning", "error"];

/** Teacher -> distil -> prune -> ...: what is done, what is being done, what is left. */
export class Rail {
  constructor(story) {
    this.story = story;
    this.node = h("ol", { class: "rail plain", "aria-label": words.rail });
  }

  draw() {
    const now = Date.now() / 1000;
    fill(this.node, this.story.stages.map((stage) => this.item(stage, now)));
  }

  item(stage, now) {
    const running = stage.state === "running";
    const spent = running && stage.started_ts ? now - stage.started_ts : stage.seconds;
    const eta = running ? this.story.eta() : null;
    const times = [spent === null || spent === undefined ? null : seconds(spent), eta === null ? null : words.left(seconds(eta), this.story.pace.unit)].filter(Boolean);
    return h("li", { class: `rail-item ${stage.state}`, "aria-current": running ? "step" : null },
      h("span", { class: "rail-name" }, stageNames[stage.stage] ?? stage.stage), stateBadge(stage.state), h("span", { class: "rail-time" }, times.join(" · ")));
  }
}

/** The run's log with filters, which stand in the address; follows its end unless told otherwise. */
export class LogPanel {
  constructor(story, { level, logstage = "", search = "" }, query) {
    this.story = story;
    this.filter = { level: LEVELS.includes(level) ? level : LEVELS[0], stage: logstage, search };
    this.keep = debounce(() => query({ level: this.filter.level === LEVELS[0] ? null : this.filter.level, logstage: this.filter.stage, search: this.filter.search }), 200);
    this.update = frame(() => this.draw());
    this.shown = "";
  }

  build() {
    const change = (key) => (value) => { this.filter[key] = value; this.shown = ""; this.update(); this.keep(); };
    const search = h("input", { type: "search", value: this.filter.search, placeholder: words.searchHint, data: { search: "" }, on: { input: () => change("search")(search.value) } });
    this.follow = h("input", { type: "checkbox", checked: true });
    this.stages = select({ options: [["", words.allStages]], onChange: change("stage") });
    this.lines = h("ol", { class: "plain" });
    this.box = h("div", { class: "log", tabindex: 0, role: "region", "aria-label": words.log }, this.lines);
    this.count = h("p", { class: "muted small", role: "status" });
    const tools = h("div", { class: "log-tools" },
      field({ label: words.search, control: search }),
      field({ label: words.level, control: select({ options: LEVELS.map((level) => [level, words.levels[level]]), value: this.filter.level, onChange: change("level") }) }),
      field({ label: words.stage, control: this.stages }),
      field({ label: words.follow, control: this.follow }));
    return card({ title: words.log }, tools, this.box, this.count);
  }

  draw() {
    if (this.story.log.length && !this.story.log.some((line) => line.stage === this.filter.stage)) this.filter.stage = "";
    const { level, stage, search } = this.filter;
    const least = LEVELS.indexOf(level);
    const text = search.toLowerCase();
    const fits = (line) => LEVELS.indexOf(line.level) >= least && (!stage || line.stage === stage) && (!text || line.message.toLowerCase().includes(text));
    const found = this.story.log.filter(fits);
    const shape = `${found.length} ${found.at(-1)?.seq}`;
    if (shape === this.shown) return;
    this.shown = shape;
    this.drawStages();
    fill(this.lines, found.length ? found.slice(-MOST_LINES).map((line) => this.line(line)) : h("li", { class: "muted" }, this.story.log.length ? words.noMatch : words.noLines));
    this.count.textContent = words.count(Math.min(found.length, MOST_LINES), this.story.log.length);
    if (this.follow.checked) this.box.scrollTop = this.box.scrollHeight;
  }

  line(line) {
    const kind = { warning: "warning", error: "bad" }[line.level];
    return h("li", null, clock(line.ts), h("span", { class: "log-stage" }, stageNames[line.stage] ?? line.stage), h("span", { class: "log-text" }, kind ? [badge(words.levels[line.level], kind), " "] : null, say(line.message)));
  }

  drawStages() {
    const names = [...new Set(this.story.log.map((line) => line.stage))];
    if (this.stages.options.length === names.length + 1) return;
    fill(this.stages, h("option", { value: "" }, words.allStages), names.map((name) => h("option", { value: name }, stageNames[name] ?? name)));
    this.stages.value = this.filter.stage;
  }
}

/** Processor, memory and accelerator of the run's processes. */
export class ResourcesPanel {
  constructor() {
    this.samples = [];
    this.update = frame(() => this.draw());
  }

  async build(root) {
    this.now = h("div");
    this.host = h("div", { class: "stack", hidden: true });
    root.append(card({ title: words.resources }, this.now, this.host));
    const shared = { xLabel: words.time, time: true, height: 130, sync: "resources", level: 3 };
    this.cpu = await chartIn(this.host, { ...shared, title: words.cpu, unit: "%", yText: (value) => `${number(value)} %` });
    this.memory = await chartIn(this.host, { ...shared, title: words.memory, unit: "MB", yText: (value) => `${number(value, 4)} MB` });
    this.draw();
  }

  take(samples) {
    this.samples.push(...samples);
    this.samples.splice(0, this.samples.length - MOST_SAMPLES);
    this.update();
  }

  draw() {
    if (!this.memory) return;
    const last = this.samples.at(-1);
    this.host.hidden = this.samples.length < 2;
    if (!last) return void fill(this.now, h("p", { class: "muted" }, words.noSamples));
    const gpu = this.samples.some((sample) => sample.gpu_bytes);
    fill(this.now, facts([[words.cpu, last.cpu_percent === null ? null : `${number(last.cpu_percent)} %`], [words.memory, bytes(last.rss_bytes)], gpu ? [words.gpu, bytes(last.gpu_bytes)] : null]));
    const of = (key, scale) => this.samples.filter((sample) => sample[key] !== null).map((sample) => [sample.ts, sample[key] / scale]);
    this.cpu.set([{ key: "cpu", label: words.cpu, slot: 1, points: of("cpu_percent", 1) }]);
    this.memory.set([{ key: "rss", label: words.rss, slot: 1, points: of("rss_bytes", 1e6) }, ...(gpu ? [{ key: "gpu", label: words.gpu, slot: 2, points: of("gpu_bytes", 1e6) }] : [])]);
    return undefined;
  }

  destroy() {
    this.cpu?.destroy();
    this.memory?.destroy();
  }
}
