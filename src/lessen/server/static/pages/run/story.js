// What is known of a run's course, without any drawing: stages, curves, log, marks. Filled from the store once, then event by
// event; taking an event twice changes nothing, so that both may overlap.
//
//   new Story(run)     takeStages(list)     takeSeries({stage: {key: [[step, value]]}})     takeLog(lines)     take(event)
//   stages: [{stage, state, started_ts, seconds, rate?}]      log: [{seq, ts, level, stage, message}]
//   keys(): every key that has points       curve(stage, key): sorted [[step, value]]
//   layout(only?): [{stage, start, length, gap}] of the stages with curves, one after the other; only: that stage alone
//   marks(layout): [{x, kind: "bad" | "warning", stage, step, label}]       level(key): the teacher's value, or null
//   The rule for attempts is the store's: an attempt that goes on from an earlier step replaces all from there.

export const KNOWN_KEYS = [
  "loss", "loss_label", "loss_soft", "loss_hidden", "loss_attention", "loss_relation", "loss_balance", "lr", "grad_norm", "clipped",
  "val_loss", "val_accuracy", "val_f1_macro", "val_f1", "val_perplexity", "val_bleu", "val_chrf", "val_rouge_l", "val_exact_match",
];
const NOT_FINITE = /not finite at step (\d+)/;
const GAP = 0.012; // of all steps
const LOWER_IS_BETTER = /loss|perplexity|error|nll/;

export class Story {
  constructor(run) {
    this.run = run;
    this.stages = [];
    this.log = [];
    this.curves = new Map(); // stage -> key -> step -> value
    this.totals = new Map(); // stage -> steps that it will have
    this.attempts = new Map(); // stage -> newest attempt seen in live events
    this.bad = new Map(); // "stage step" -> {stage, step, message}
    this.pace = null; // of the work being done: {stage, unit, first: [ts, step], last: [ts, step], total}
    this.seen = new Set(); // seq of log lines
    this.noteError(run.error?.message, run.progress.stage);
  }

  takeStages(list) {
    this.stages = list.map((one) => ({ ...one }));
  }

  takeSeries(series) {
    for (const [stage, keys] of Object.entries(series)) {
      for (const [key, points] of Object.entries(keys)) for (const [step, value] of points) this.put(stage, key, step, value);
    }
  }

  /** Forget all curves: another attempt is to be shown. */
  forget() {
    this.curves.clear();
    this.attempts.clear();
  }

  takeLog(lines) {
    for (const line of lines) {
      if (this.seen.has(line.seq)) continue;
      this.seen.add(line.seq);
      this.log.push(line);
      this.noteError(line.message, line.stage);
    }
  }

  take(event) {
    if (event.kind === "Progress") this.takeProgress(event);
    else if (event.kind === "Log") this.takeLog([{ seq: event.seq, ts: event.ts, level: event.level, stage: event.stage, message: event.message }]);
    else if (event.kind === "StageStarted") this.setStage(event, { state: "running", started_ts: event.ts });
    else if (event.kind === "StageFinished") this.setStage(event, { state: "done", seconds: event.seconds });
    else if (event.kind === "StageSkipped") this.setStage(event, { state: "skipped" });
    else if (event.kind === "RunStateChanged") this.noteError(event.error?.message, this.pace?.stage);
  }

  setStage(event, values) {
    let stage = this.stages.find((one) => one.stage === event.stage);
    if (!stage) this.stages.push(stage = { stage: event.stage, index: this.stages.length, state: "waiting", started_ts: null, seconds: null });
    Object.assign(stage, values);
    this.pace = null;
  }

  takeProgress(event) {
    const { stage, step, unit, attempt = 1 } = event;
    const at = [event.ts, step];
    if (this.pace?.stage === stage && this.pace.unit === unit && step >= this.pace.last[1]) Object.assign(this.pace, { last: at, total: event.total_steps });
    else this.pace = { stage, unit, first: at, last: at, total: event.total_steps };
    if (unit !== "steps") return;
    this.totals.set(stage, event.total_steps);
    if (attempt > (this.attempts.get(stage) ?? attempt)) this.cut(stage, step);
    this.attempts.set(stage, attempt);
    const values = Object.entries({ loss: event.loss, ...event.values });
    // A line at the end of an epoch has the epoch's mean losses beside the validation; the curve is that of single steps.
    const wanted = values.some(([key]) => key.startsWith("val_")) ? values.filter(([key]) => key.startsWith("val_")) : values;
    for (const [key, value] of wanted) if (Number.isFinite(value)) this.put(stage, key, step, value);
  }

  put(stage, key, step, value) {
    if (!this.curves.has(stage)) this.curves.set(stage, new Map());
    const keys = this.curves.get(stage);
    if (!keys.has(key)) keys.set(key, new Map());
    keys.get(key).set(step, value);
  }

  cut(stage, from) {
    for (const curve of this.curves.get(stage)?.values() ?? []) for (const step of curve.keys()) if (step >= from) curve.delete(step);
  }

  noteError(message, stage) {
    const found = NOT_FINITE.exec(message ?? "");
    if (found && stage) this.bad.set(`${stage} ${found[1]}`, { stage, step: Number(found[1]), message });
  }

  keys() {
    return new Set([...this.curves.values()].flatMap((keys) => [...keys.keys()]));
  }

  curve(stage, key) {
    return [...(this.curves.get(stage)?.get(key) ?? [])].sort((a, b) => a[0] - b[0]);
  }

  /** The steps of a stage: as many as it will have, or has had. */
  length(stage) {
    const last = [...this.curves.get(stage).values()].map((curve) => [...curve.keys()].reduce((most, step) => Math.max(most, step), 0));
    return Math.max(this.totals.get(stage) ?? 0, ...last);
  }

  layout(only = "") {
    const order = this.stages.map((one) => one.stage);
    const named = [...this.curves.keys()].sort((a, b) => order.indexOf(a) - order.indexOf(b));
    const parts = named.filter((stage) => !only || stage === only).map((stage) => ({ stage, length: this.length(stage) }));
    // Some room between stages: without it the end of one and the start of the next look like one steep line.
    const gap = Math.ceil(parts.reduce((sum, { length }) => sum + length, 0) * GAP);
    let start = 0;
    return parts.map((part) => {
      const placed = { ...part, start, gap };
      start += part.length + gap;
      return placed;
    });
  }

  /** Points of a key over the whole layout; the line breaks between stages. */
  points(key, layout) {
    return layout.flatMap(({ stage, start, length, gap }) => {
      const points = this.curve(stage, key).map(([step, value]) => [start + step, value]);
      return points.length ? [...points, [start + length + gap / 2, null]] : [];
    });
  }

  marks(layout, describe) {
    const bad = [...this.bad.values()].map((one) => ({ ...one, kind: "bad" }));
    const clipped = layout.flatMap(({ stage }) => this.curve(stage, "clipped").filter(([, count]) => count > 0).map(([step, count]) => ({ stage, step, count, kind: "warning" })));
    return [...clipped, ...bad].flatMap((mark) => {
      const part = layout.find((one) => one.stage === mark.stage);
      return part ? [{ ...mark, x: part.start + mark.step, label: describe(mark) }] : [];
    });
  }

  /** The best value that the teacher's training reached: what the student is held against. */
  level(key) {
    const values = this.curve("teacher", key).map(([, value]) => value);
    if (!values.length) return null;
    return LOWER_IS_BETTER.test(key) ? Math.min(...values) : Math.max(...values);
  }

  /** Seconds that the work being done still needs, by the pace so far; null while it is not known. */
  eta() {
    if (!this.pace) return null;
    const { first, last, total } = this.pace;
    const done = last[1] - first[1];
    const spent = last[0] - first[0];
    return done > 0 && spent > 1 ? (spent / done) * Math.max(0, total - last[1]) : null;
  }
}

/** Name a place of the common axis: which stage and step an x is. */
export function placeOf(x, layout) {
  const part = [...layout].reverse().find(({ start }) => x > start) ?? layout[0];
  return part ? { stage: part.stage, step: Math.round(x - part.start) } : null;
}
