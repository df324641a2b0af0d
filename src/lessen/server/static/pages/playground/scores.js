// The table twin of the three pictures, the curve of accuracy, and the pictures' own descriptions.

import { fill, h, table } from "../../dom.js";
import { bytes, integer, number, percent } from "../../format.js";
import { toy as words } from "../../strings-learn.js";
import { lines } from "../../svg.js";
import { agreement, phaseOf, standing } from "../../toy/lesson.js";
import { roundedNet } from "../../toy/shrink.js";
import { swap } from "./controls.js";

const NAMES = ["teacher", "taught", "alone"];
const EVERY_MS = 250; // tables and curves are made anew this often while it learns; pictures in every frame
const CURVE = 60; // points of the curve at most

/** Return {node, show(lesson, {bits, playing, pictures}), sentence(lesson, bits), forget()}. */
export function scores() {
  const board = h("div");
  const curve = h("div");
  const node = h("div", { class: "stack" }, board, curve);
  let last = 0;
  const show = (lesson, { bits, playing, pictures }) => {
    const held = lesson.settings.set === "own" ? lesson.held : null;
    for (const name of NAMES) pictures[name].draw(name === "teacher" ? lesson.teacher.net : roundedNet(lesson[name].net, bits), lesson.train, { fine: !playing, held });
    const now = performance.now();
    if (playing && now - last < EVERY_MS) return;
    last = now;
    const all = standing(lesson, bits);
    for (const name of NAMES) {
      pictures[name].setAttribute("aria-label", words.picture(words[name], percent(all[name].accuracy), lesson.train.classes));
    }
    fill(board, standings(lesson, all, bits));
    if (lesson.history.length > 1) swap(curve, history(lesson));
    else curve.replaceChildren();
  };
  return { node, show, sentence, forget: () => { last = 0; } };
}

function standings(lesson, all, bits) {
  const rows = NAMES.map((name) => ({ name, ...all[name], agreement: name === "teacher" || phaseOf(lesson) === "teacher" ? null : agreement(lesson, name, bits) }));
  const column = (key, show) => ({ key, title: words.columns[key], numeric: true, render: (row) => show(row[key]) });
  const shapes = (row) => [words[row.name], h("span", { class: "muted" }, ` ${row.widths.join("–")}`)];
  const { n } = all.teacher;
  return [
    table({
      caption: words.table,
      columns: [
        { key: "name", title: words.columns.who, head: true, render: shapes },
        column("accuracy", (v) => percent(v)), column("nll", (v) => number(v)), column("agreement", (v) => percent(v)),
        column("parameters", integer), column("operations", integer), column("bytes", bytes),
      ],
      rows,
    }),
    h("p", { class: "help" }, words.held(n, percent(1.96 * Math.sqrt(0.25 / n), 0)), " ", words.notTimed),
  ];
}

function history(lesson) {
  const every = Math.max(1, Math.ceil(lesson.history.length / CURVE));
  const kept = lesson.history.filter((_, i) => i % every === 0 || i === lesson.history.length - 1);
  return lines({
    title: words.history, desc: words.historyDesc, name: "toy-accuracy",
    series: NAMES.map((name, i) => ({ name: words[name], kind: `c${i + 1}`, points: kept.map((row) => [row.step, row[name]]) })),
    x: { title: words.stepAxis, show: integer }, y: { title: words.columns.accuracy, show: (v) => percent(v), tick: (v) => percent(v, 0) },
    marks: lesson.cuts.map(({ step, share }) => ({ x: step, name: words.cutName(percent(share, 0)) })),
  });
}

/** What a screen reader hears when the lesson rests. */
function sentence(lesson, bits) {
  const all = standing(lesson, bits);
  return NAMES.map((name) => `${words[name]}: ${percent(all[name].accuracy)}`).join(". ");
}
