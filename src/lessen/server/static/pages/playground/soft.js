// Part 1: temperature and alpha reshape what the student is pulled to.

import { fill, h } from "../../dom.js";
import { number, percent } from "../../format.js";
import { soft as words } from "../../strings-learn.js";
import { groupedBars } from "../../svg.js";
import { distillation, entropy, logSoftmax, mixedTarget, softmax } from "../../toy/soft.js";
import { button } from "../../widgets.js";
import { sampleImage } from "../bench/files.js";
import { controls, swap } from "./controls.js";
import { mark, readings } from "./parts.js";

const MOST_CLASSES = 8;
const EXAMPLES = {
  digit: { names: ["7", "1", "9", "2", "0"], teacher: [8, 5.5, 4.5, 2, -1], student: [3, 2.5, 0.5, 1, 0.5], label: 0 },
  sure: { names: ["cat", "dog", "fox", "car"], teacher: [12, 3, 2, -4], student: [2, 1.5, 1, 0.5], label: 0 },
  unsure: { names: ["joy", "calm", "fear"], teacher: [2.2, 2, -2], student: [0.5, 1.5, -0.5], label: 0 },
};

export const fields = {
  ex: { value: "digit", kind: "choice", choices: [...Object.keys(EXAMPLES), "run"] },
  T: { value: 3, kind: "number", low: 0.5, high: 10, step: 0.1 },
  alpha: { value: 0.7, kind: "number", low: 0, high: 1, step: 0.01 },
};

export function render(root, board) {
  const { state } = board;
  const view = { holder: h("div"), readings: readings(), why: h("p"), badge: h("span"), note: h("p", { class: "help", role: "status" }) };
  let example = EXAMPLES[state.ex] ?? EXAMPLES.digit;
  const draw = () => show(view, example, state);
  const make = controls({ ...board, changed: (key) => (key === "ex" ? choose() : (board.save(), draw())) });
  const another = button(words.another, () => choose());
  const choose = async () => {
    board.save();
    another.hidden = state.ex !== "run";
    view.note.textContent = "";
    if (state.ex === "run") example = (await fromRun(board, view.note)) ?? example;
    else example = EXAMPLES[state.ex];
    draw();
  };
  const inputs = h(
    "div", { class: "lp-controls" },
    make.choice("ex", words.example, Object.entries(words.examples)), another,
    make.slider("T", words.temperature, (v) => number(v)), make.slider("alpha", words.alpha, (v) => number(v), words.alphaHelp),
  );
  fill(root, h("p", { class: "lead" }, view.badge, " ", words.lead), h("div", { class: "lp-split" }, inputs, h("div", { class: "stack" }, view.holder, view.note)), view.readings, view.why);
  choose();
}

/** Ask the latest finished run about one of its test samples; the probabilities' logarithms serve as logits. */
async function fromRun({ ctx, source }, note) {
  try {
    const run = await source.run();
    if (!run) throw new Error(words.noRun);
    const all = await ctx.api.get(`/runs/${run.run_id}/samples`, { limit: 50 }, { signal: ctx.signal });
    const usable = all.samples.filter((one) => one.text || one.image_url);
    const sample = usable[Math.floor(Math.random() * usable.length)];
    if (!sample) throw new Error(words.noSamples);
    const input = sample.text ? { inputs: [sample.text] } : { images: [await sampleImage(sample.image_url)] };
    const { stages } = await ctx.api.post("/predictions", { run_id: run.run_id, ...input }, { signal: ctx.signal });
    const student = stages.find((one) => one.stage === "distill") ?? stages.at(-1);
    note.textContent = `${words.fromRun(student.stage, run.name)} ${words.logits} ${sample.text ? `“${sample.text.slice(0, 120)}”` : words.image(sample.index + 1)}`;
    return ofAnswers(stages.find((one) => one.stage === "teacher"), student, sample.label);
  } catch (error) {
    if (error.name !== "AbortError") note.textContent = [error.message, error.hint].filter(Boolean).join(" ");
    return null;
  }
}

function ofAnswers(teacher, student, label) {
  const [p, q] = [teacher?.answers?.[0]?.probabilities, student?.answers?.[0]?.probabilities];
  if (!p || !q) throw new Error(words.noProbabilities);
  const names = Object.keys(p).sort((a, b) => p[b] - p[a]);
  const total = names.reduce((sum, name) => sum + p[name], 0);
  if (!names.includes(label) || Math.abs(total - 1) > 1e-3) throw new Error(words.notOne); // several labels: no softmax
  const logs = (of) => names.map((name) => Math.log(of[name]));
  return { names, teacher: logs(p), student: logs(q), label: names.indexOf(label), measured: true };
}

function show(view, example, { T, alpha }) {
  const { names, teacher, student, label } = example;
  const rows = names.map((name, i) => ({ name: i === label ? words.label(name) : name, i }));
  const columns = [softmax(teacher, T), softmax(student, T), mixedTarget(teacher, label, T, alpha)];
  const shown = rows.slice(0, MOST_CLASSES);
  const series = [words.teacher, words.student, words.mix].map((name, k) => ({ name, kind: `c${k + 1}` }));
  swap(view.holder, groupedBars({
    title: words.chart, desc: words.desc, series, show: (v) => percent(v), tick: (v) => percent(v, 0), first: words.classColumn,
    note: names.length > shown.length ? words.truncated(shown.length, names.length) : undefined,
    rows: shown.map((row) => ({ name: row.name, values: columns.map((values) => values[row.i]) })),
  }));
  fill(view.badge, mark(example.measured ? "measured" : "toy"));
  const sample = { teacher, student, label, temperature: T, alpha };
  const terms = distillation(sample);
  view.readings.show([
    [words.entropy, `${number(entropy(logSoftmax(teacher, T)))} ${words.nats}`],
    [words.kl, `${number(terms.kl)} ${words.nats}`],
    [words.softTerm(number(T * T)), `${number(terms.soft)} ${words.nats}`],
    [words.hard, `${number(terms.hard)} ${words.nats}`],
    [words.total, `${number(terms.total)} ${words.nats}`],
  ]);
  view.why.textContent = words.why(...slopes(columns[0], columns[1], T).map((v) => number(v)));
}

/** The length of the KL's gradient by the student's logits, without T² and with it. */
function slopes(p, q, temperature) {
  const length = Math.hypot(...p.map((value, i) => q[i] - value));
  return [length / temperature, length * temperature];
}
