// Part 4: a teacher and two students learn in the plane; cut the students, round them, watch them heal.

import { fill, h } from "../../dom.js";
import { number, percent } from "../../format.js";
import { marks, toy as words } from "../../strings-learn.js";
import { phaseOf } from "../../toy/lesson.js";
import { SETS } from "../../toy/points.js";
import { button } from "../../widgets.js";
import { picture } from "./canvas.js";
import { controls } from "./controls.js";
import { course, cutsText } from "./course.js";
import { ownPoints, pointsOf, pointsText } from "./own.js";
import { mark } from "./parts.js";
import { scores } from "./scores.js";

const number_ = (value, low, high, step) => ({ value, kind: "number", low, high, step });
const choice_ = (value, choices) => ({ value, kind: "choice", choices });

export const fields = {
  set: choice_("spiral", [...Object.keys(SETS), "own"]), n: number_(120, 30, 300, 10), noise: number_(0.1, 0, 0.4, 0.01), seed: number_(1, 0, 99, 1),
  tu: number_(24, 4, 40, 1), su: number_(8, 2, 20, 1), ta: number_(0.9, 0, 1, 0.05), tT: number_(3, 1, 10, 0.5),
  cs: number_(0.5, 0.1, 0.8, 0.05), bits: choice_("32", ["32", "8", "4", "3", "2"]), spf: number_(4, 1, 20, 1),
  steps: number_(0, 0, 20000, 1), cuts: { value: "", kind: "text" }, pts: { value: "", kind: "text" },
};
const RESTARTS = new Set(["set", "n", "noise", "seed", "tu", "su", "ta", "tT"]);
const NAMES = ["teacher", "taught", "alone"];

export function render(root, board) {
  const { state, ctx } = board;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const view = build(calm);
  const rows = { own: pointsOf(state.pts) };
  const lessons = course({ calm, speed: () => state.spf, drawn: () => show(view, lessons, board), told: (kind) => tell(view, lessons, board, kind) });
  const restart = (at) => {
    if (!at) Object.assign(state, { steps: 0, cuts: "" });
    view.scores.forget();
    lessons.start(settingsOf(state, rows.own), at);
    view.few.hidden = Boolean(lessons.lesson);
  };
  const again = () => {
    const playing = lessons.playing;
    restart();
    if (playing) lessons.play();
  };
  const make = controls({ ...board, changed: (key) => {
    if (key === "set") view.choose();
    if (RESTARTS.has(key)) again();
    else show(view, lessons, board);
    board.save();
  } });
  view.own = ownPoints(rows.own, (next) => {
    rows.own = next;
    state.pts = pointsText(next);
    board.save();
    again();
  }, ctx.announce);
  for (const name of NAMES) view.pictures[name].onPoint((x, y) => state.set === "own" && view.own.add(x, y));
  view.buttons = buttons(view, lessons, board, again, make.hidden);
  lay(root, view, make, state);
  view.choose();
  restart({ steps: state.steps, cuts: state.cuts });
  const stops = [ctx.theme.onChange(() => show(view, lessons, board)), watchWidth(view, () => show(view, lessons, board))];
  return () => { lessons.stop(); stops.forEach((stop) => stop()); };
}

function settingsOf(state, own) {
  return {
    set: state.set, count: state.n, noise: state.noise, seed: state.seed, teacher: state.tu, student: state.su,
    alpha: state.ta, temperature: state.tT, own,
  };
}

function build(calm) {
  const pictures = Object.fromEntries(NAMES.map((name) => [name, picture()]));
  return {
    pictures, scores: scores(), stage: h("p", { class: "lp-step" }), said: h("p", { class: "help", role: "status" }),
    few: h("p", { class: "notice warning", hidden: true }, words.ownFew), calm: calm ? h("p", { class: "help" }, words.reduced) : null,
  };
}

function buttons(view, lessons, { state, save, hidden }, again, gone) {
  const play = button(words.play, () => (lessons.playing ? lessons.pause() : lessons.play()), { kind: "primary" });
  const cut = button(words.pruneNow(percent(state.cs, 0)), () => {
    lessons.prune(state.cs);
    const { share, before, after } = lessons.lesson.cuts.at(-1);
    view.said.textContent = words.cutSaid(percent(share, 0), percent(before), percent(after));
    save();
  });
  const all = {
    play, step: button(words.step, () => lessons.walk(1)), steps: button(words.steps, () => lessons.walk(10)),
    restart: button(words.restart, () => { again(); save(); }), prune: cut,
  };
  return { play, cut, list: Object.entries(all).filter(([name]) => !gone(name) && !hidden.has(name)).map(([, node]) => node) };
}

function lay(root, view, make, state) {
  const sets = Object.entries(words.sets);
  const units = (v) => String(v);
  const drawn = [make.slider("n", words.count, units), make.slider("noise", words.noise, (v) => number(v))];
  view.choose = () => {
    view.own.hidden = state.set !== "own";
    for (const node of drawn) if (node) node.hidden = state.set === "own"; // these only make sense for points that are drawn
  };
  const left = [
    make.choice("set", words.data, sets), drawn, make.slider("seed", words.seed, units),
    make.slider("tu", words.teacherUnits, units), make.slider("su", words.studentUnits, units),
    make.slider("ta", words.alpha, (v) => number(v)), make.slider("tT", words.temperature, (v) => number(v)),
  ];
  const later = [
    make.slider("cs", words.prune, (v) => percent(v, 0)), make.choice("bits", words.bits, Object.entries(words.bitsOptions).reverse()), make.slider("spf", words.speed, units),
  ];
  const frames = NAMES.map((name) => h("figure", { class: "lp-figure" }, h("figcaption", null, words[name]), view.pictures[name]));
  fill(
    root,
    h("p", { class: "lead" }, mark("toy"), " ", words.lead, " ", h("span", { class: "visually-hidden" }, marks.toyHelp)),
    view.own, h("div", { class: "lp-settings" }, left), view.few, view.calm,
    h("div", { class: "lp-bar" }, h("div", { class: "actions" }, view.buttons.list), view.stage), view.said,
    h("div", { class: "lp-pictures" }, frames), h("div", { class: "lp-settings" }, later), view.scores.node,
  );
}

function show(view, lessons, { state, save }) {
  const { lesson, playing } = lessons;
  view.buttons.play.textContent = playing ? words.pause : words.play;
  for (const node of view.buttons.list) node.disabled = !lesson;
  view.buttons.cut.textContent = words.pruneNow(percent(state.cs, 0));
  if (!lesson) return;
  view.stage.textContent = words.stepCount(lesson.step, words.phases[phaseOf(lesson)]);
  view.scores.show(lesson, { bits: Number(state.bits), playing, pictures: view.pictures });
  Object.assign(state, { steps: lesson.step, cuts: cutsText(lesson.cuts) });
  if (!playing) save();
}

function tell(view, lessons, { state, ctx }, kind) {
  if (kind === "replay") view.stage.textContent = words.replay(state.steps);
  else ctx.announce(view.scores.sentence(lessons.lesson, Number(state.bits)));
}

/** Pictures are drawn in device pixels, so a new width needs a new picture. */
function watchWidth(view, draw) {
  let width = 0;
  const observer = new ResizeObserver(([entry]) => {
    if (Math.round(entry.contentRect.width) === width) return;
    width = Math.round(entry.contentRect.width);
    requestAnimationFrame(draw);
  });
  observer.observe(view.pictures.teacher);
  return () => observer.disconnect();
}
