// A run as it goes: stages, curves, log, resources. Everything comes from the server (the store first, then the socket from
// there on), so that a reload or a second browser shows the same.

import { chartStyles } from "../chart.js";
import { fill, frame, h } from "../dom.js";
import { ago, seconds } from "../format.js";
import { cancel, isLive, progressText, resume } from "../run-actions.js";
import { live as words, runs as listWords, stages as stageNames } from "../strings.js";
import { attempt, badge, button, copyButton, dialog, facts, heading, link, meter, say, stateBadge } from "../widgets.js";
import { Curves } from "./run/curves.js";
import { LogPanel, Rail, ResourcesPanel } from "./run/panels.js";
import { KNOWN_KEYS, Story } from "./run/story.js";

export const title = words.title;
export const styles = [...chartStyles, "pages/run.css"];
const POINTS = 1000;
const TAIL = 300; // events that are looked through for keys that this file does not know

export async function render(root, params, ctx) {
  const page = new RunPage(root, params, ctx);
  await page.build();
  return page.watch();
}

class RunPage {
  constructor(root, params, ctx) {
    Object.assign(this, { root, ctx, run: ctx.run, path: `/runs/${encodeURIComponent(ctx.run.run_id)}` });
    this.from = ctx.run.seq; // what is read from the store now is at least this far; events go on from here
    this.shown = "merged";
    this.story = new Story(ctx.run);
    this.rail = new Rail(this.story);
    this.log = new LogPanel(this.story, params, ctx.query);
    this.resources = new ResourcesPanel();
    this.curves = new Curves(this.story, ctx, params, { loadAttempt: (name) => this.loadAttempt(name), refine: (spans) => this.refine(spans) });
    this.update = frame(() => this.draw());
  }

  async build() {
    this.head = h("div", { class: "stack" });
    const main = h("div");
    const side = h("div", { class: "stack" });
    this.root.append(this.head, h("div", { class: "rail-scroll" }, this.rail.node), h("div", { class: "columns live-columns" }, main, side), this.log.build());
    this.buildHead();
    await Promise.all([this.curves.build(main), this.resources.build(side), this.load()]);
    side.prepend(this.curves.eventCard);
    this.curves.zoomed(this.curves.zoom);
    this.draw();
  }

  get(path, query) {
    return this.ctx.api.get(this.path + path, query, { signal: this.ctx.signal });
  }

  /** Read the course so far. */
  async load() {
    const [stages, log, resources, tail] = await Promise.all([
      this.get("/stages"), this.get("/log", { limit: 5000 }), this.get("/resources"), this.get("/events", { after: Math.max(0, this.from - TAIL), limit: TAIL }),
    ]);
    const found = tail.events.flatMap((event) => Object.keys(event.values ?? {}));
    this.keys = [...new Set([...KNOWN_KEYS, ...found])].join(",");
    this.story.takeStages(stages.stages);
    this.story.takeLog(log.lines);
    this.resources.take(resources.samples);
    for (const event of tail.events) if (event.kind === "Progress") this.story.takeProgress(event);
    this.story.forget();
    await this.loadSeries();
  }

  async loadSeries() {
    const { series, attempts } = await this.get("/series", { keys: this.keys, points: POINTS, attempt: this.shown });
    this.story.takeSeries(series);
    this.curves.setAttempts(attempts.length, this.shown);
    this.curves.update();
  }

  /** Show the curves of one attempt alone, or of all as they follow each other. */
  async loadAttempt(name) {
    this.shown = name;
    this.story.forget();
    await this.loadSeries();
  }

  async refine(spans) {
    const answers = await Promise.all(spans.map(({ stage, from, to }) => this.get("/series", { keys: this.keys, points: POINTS, attempt: this.shown, stage, from, to })));
    for (const { series } of answers) this.story.takeSeries(series);
    this.curves.update();
  }

  watch() {
    const stops = [
      this.ctx.live.subscribe(this.run.run_id, {
        after: this.from,
        onEvents: (events) => this.take(events),
        onResources: (sample) => this.resources.take([sample]),
        onReplay: (count) => this.replayed(count),
      }),
      this.ctx.live.onRuns((run) => run.run_id === this.run.run_id && this.changed(run)),
      this.ctx.live.onBack(() => this.refresh()),
    ];
    const clock = setInterval(() => this.rail.draw(), 1000);
    return () => {
      stops.forEach((stop) => stop());
      clearInterval(clock);
      this.curves.destroy();
      this.resources.destroy();
    };
  }

  take(events) {
    // An old attempt on show stays as it was; its news would belong to the newest one.
    const current = this.shown === "merged" || Number(this.shown) === this.run.attempt;
    for (const event of events) if (current || event.kind !== "Progress") this.story.take(event);
    this.curves.update();
    this.log.update();
    this.update();
  }

  replayed(count) {
    this.note.replaceChildren(badge(words.replayed(count), "info"));
    this.ctx.announce(words.replayed(count));
  }

  async refresh() {
    const run = await attempt(this.ctx.api.get(this.path, {}, { signal: this.ctx.signal }));
    if (run) this.changed(run);
  }

  changed(run) {
    const before = this.run;
    this.run = this.story.run = run;
    this.story.noteError(run.error?.message, run.progress.stage);
    if (before.state !== run.state || before.attempt !== run.attempt) {
      this.buildHead();
      this.ctx.announce(words.nowState(run.name, run.state));
      // What became of the stages is the server's to say; a new attempt changes more than events tell.
      attempt(this.get("/stages").then(({ stages }) => { this.story.takeStages(stages); this.draw(); }));
      if (before.attempt !== run.attempt) attempt(this.loadSeries());
    }
    this.update();
  }

  /** Name, state, what can be done, and what went wrong. Rebuilt when the state changes. */
  buildHead() {
    const { run } = this;
    const focused = this.head.contains(document.activeElement);
    this.note = h("span", { role: "status" }, this.note?.childNodes ? [...this.note.childNodes] : null);
    this.meter = meter({ label: words.progress, share: 0 });
    this.facts = h("div");
    fill(this.head,
      heading({ title: run.name || run.run_id, badge: [stateBadge(run.state), run.attempt > 1 ? badge(listWords.attempt(run.attempt)) : null, this.note], lead: run.note ? say(run.note) : null, actions: this.actions(run) }),
      this.outcome(run), h("div", { class: "card live-progress" }, this.meter, this.facts));
    if (focused) this.head.querySelector("h1").focus();
  }

  actions(run) {
    const act = (label, what, kind) => button(label, async () => {
      const next = await what(run);
      if (next) this.changed(next);
    }, { kind });
    return [
      button(words.recipe, () => this.showRecipe(), { kind: "quiet" }),
      isLive(run) && run.state !== "cancelling" ? act(words.cancel, cancel, "danger") : null,
      run.state === "cancelling" ? button(words.cancelling, () => {}, { disabled: true }) : null,
      run.resumable ? act(words.resume, resume, "primary") : null,
      run.state === "succeeded" ? link(words.result, `#/result/${encodeURIComponent(run.run_id)}`, { class: "button primary" }) : null,
    ];
  }

  outcome(run) {
    if (isLive(run) || run.state === "succeeded") return null;
    const { stage, step, total_steps: total, unit } = run.progress;
    const where = stage ? words.stoppedAt(words.verbs[run.state], stageNames[stage] ?? stage, step, total, unit) : words.verbs[run.state];
    const bad = run.state === "failed";
    return h("div", { class: bad ? "problem" : "notice warning", role: bad ? "alert" : null },
      h("p", { class: "problem-text" }, where),
      run.error ? h("p", null, say(run.error.message)) : null,
      run.error?.hint ? h("p", { class: "hint" }, run.error.hint) : null,
      run.resumable ? h("p", { class: "muted small" }, words.resumeHelp) : null,
      run.error?.stderr ? h("details", null, h("summary", null, words.stderr), h("pre", { tabindex: 0 }, run.error.stderr)) : null);
  }

  async showRecipe() {
    const recipe = await attempt(this.get("/recipe"));
    if (recipe) dialog({ title: words.recipeTitle, wide: true, body: [h("div", { class: "actions" }, copyButton(recipe.yaml, words.copyYaml)), h("pre", { tabindex: 0 }, recipe.yaml)] });
  }

  draw() {
    const { run } = this;
    const { percent } = run.progress;
    const share = percent === null ? null : percent / 100;
    const text = [percent === null ? null : `${Math.floor(percent)} %`, progressText(run)].filter(Boolean).join(" · ");
    this.meter.update({ share, text, busy: run.state === "running" });
    fill(this.facts, facts([
      [words.model, run.model_name ?? run.task], [words.pipeline, run.pipeline.replaceAll("_", " ")],
      [words.started, run.started ? ago(run.started) : words.notYet],
      [words.elapsed, seconds(run.progress.elapsed_s)],
      isLive(run) ? [words.eta, seconds(run.progress.eta_s)] : null,
      [words.origin, listWords.origins[run.origin] ?? run.origin],
    ]));
    this.rail.draw();
    this.log.update();
  }
}
