// The assessment: twenty questions in a seeded order, then the result, what to look at again, and earlier results.

import { fill, h, table } from "../dom.js";
import { integer, moment, percent, seconds } from "../format.js";
import { assessment as words } from "../strings-learn.js";
import { cards, questions } from "../strings-lessons.js";
import { groupedBars } from "../svg.js";
import { ask, badge, button, card, heading, link } from "../widgets.js";
import { choices } from "./learn/question.js";
import { forget, keep, paperOf, results, scored } from "./learn/quiz.js";

export const title = words.title;
export const styles = ["svg.css", "learn.css"];

const SEEDS = 10_000;
const cardTitle = (id) => cards.find((one) => one.id === id).title;

export async function render(root, params, ctx) {
  const given = Number(params.seed);
  const seed = Number.isInteger(given) && given > 0 && given < SEEDS ? given : 1 + Math.floor(Math.random() * (SEEDS - 1));
  ctx.query({ seed });
  const body = h("div", { class: "stack" });
  const page = { ctx, body, seed, paper: paperOf(questions, seed), answers: {}, at: 0, began: performance.now(), timer: 0, timeShown: true };
  fill(root, heading({ title: words.title, lead: words.lead }), body);
  begin(page);
  return () => clearInterval(page.timer);
}

const minutes = (spent) => `${Math.floor(spent / 60)}:${String(Math.floor(spent % 60)).padStart(2, "0")}`;

function begin(page) {
  clearInterval(page.timer);
  Object.assign(page, { answers: {}, at: 0, began: performance.now() });
  const clock = h("span", { class: "lp-clock", role: "timer" });
  const tick = () => { clock.textContent = page.timeShown ? `${words.time}: ${minutes((performance.now() - page.began) / 1000)}` : words.noLimit; };
  const hide = h("input", { type: "checkbox", id: "hide-time", checked: !page.timeShown, on: { change: () => { page.timeShown = !hide.checked; tick(); } } });
  page.timer = setInterval(tick, 1000);
  tick();
  page.question = h("div", { class: "card" });
  page.numbers = h("nav", { class: "lp-numbers", "aria-label": words.numbers });
  fill(
    page.body,
    h("div", { class: "row between" }, h("div", { class: "row" }, clock, h("span", { class: "check-row" }, hide, h("label", { for: "hide-time" }, words.hideTime))), h("span", { class: "help" }, words.seed(page.seed))),
    page.numbers, page.question, past(page),
  );
  show(page);
}

function show(page, focus) {
  const { paper, at, answers } = page;
  const { question, order } = paper[at];
  const go = (to) => { page.at = to; show(page, true); };
  const form = choices({ legend: question.ask, choices: question.choices, order, chosen: answers[question.id] ?? null, onChange: (index) => { answers[question.id] = index; numbers(page, go); } });
  const head = h("h2", { tabindex: -1 }, words.question(at + 1, paper.length));
  fill(
    page.question, head, form,
    h("div", { class: "row between" },
      h("div", { class: "actions" }, button(words.previous, () => go(at - 1), { disabled: at === 0 }), button(words.next, () => go(at + 1), { disabled: at === paper.length - 1 })),
      button(words.submit, () => handIn(page), { kind: "primary" })),
  );
  numbers(page, go);
  if (focus) head.focus();
}

function numbers(page, go) {
  const items = page.paper.map(({ question }, i) => {
    const done = question.id in page.answers;
    const state = done ? words.answered : words.open;
    return h("li", null, button(done ? `${i + 1} ✓` : String(i + 1), () => go(i), { kind: `lp-n${done ? " done" : ""}`, "aria-label": words.number(i + 1, state), "aria-current": i === page.at ? "step" : null }));
  });
  fill(page.numbers, h("ol", null, items));
}

async function handIn(page) {
  const open = page.paper.filter(({ question }) => !(question.id in page.answers)).length;
  if (open && !(await ask({ title: words.confirmTitle, text: words.confirm(open), yes: words.submit, no: words.back }))) return;
  clearInterval(page.timer);
  const took = (performance.now() - page.began) / 1000;
  const score = scored(page.paper, page.answers);
  keep({ at: new Date().toISOString(), right: score.right, n: score.n, seconds: Math.round(took), seed: page.seed });
  showResult(page, score, took);
}

function showResult(page, score, took) {
  const head = h("h2", { tabindex: -1 }, words.resultTitle, " ", badge(score.passed ? `✓ ${words.passed}` : `✕ ${words.failed}`, score.passed ? "good" : "bad"));
  const again = () => page.ctx.go(`#/assessment?seed=${1 + (page.seed % (SEEDS - 1))}`); // the next order: a new page
  fill(
    page.body,
    h("section", { class: "card" }, head,
      h("p", { class: "lp-score" }, words.score(score.right, score.n, percent(score.share, 0))), h("p", null, words.took(seconds(took))),
      topics(score),
      h("div", { class: "actions" }, button(words.again, again), button(words.retry, () => begin(page)))),
    card({ title: words.review }, score.wrong.length ? score.wrong.map((question) => reviewed(question, page.answers[question.id])) : h("p", null, words.allRight)),
    past(page),
  );
  head.focus();
}

function topics(score) {
  return groupedBars({
    title: words.chart, desc: words.chartDesc, first: words.topic, name: "assessment", show: integer, tick: (v) => (Number.isInteger(v) ? integer(v) : ""),
    series: [{ name: words.right, kind: "c3" }, { name: words.wrong, kind: "c2" }],
    rows: score.topics.map((one) => ({ name: cardTitle(one.card), values: [one.right, one.wrong] })),
  });
}

function reviewed(question, answer) {
  const rows = [
    [words.yours, answer === undefined ? words.none : question.choices[answer]],
    [words.correct, question.choices[0]], [words.why, question.why], [words.source, question.source],
  ];
  return h("article", { class: "lp-review" }, h("h3", null, question.ask), h("dl", null, rows.map(([term, text]) => h("div", null, h("dt", null, term), h("dd", null, text)))), link(words.card(cardTitle(question.card)), `#/learn?card=${question.card}`, { class: "lp-try" }));
}

/** Earlier results, and the button that deletes them. */
function past(page) {
  const node = h("section", { class: "card" });
  const draw = () => {
    const all = results();
    const remove = async () => {
      if (!(await ask({ title: words.deleteTitle, text: words.deleteText, yes: words.deleteYes, danger: true }))) return;
      forget();
      page.ctx.announce(words.deleted);
      draw();
    };
    const columns = [
      { key: "at", title: words.when, head: true, render: (row) => moment(row.at) },
      { key: "right", title: words.result, numeric: true, render: (row) => `${row.right} / ${row.n} (${percent(row.right / row.n, 0)})` },
      { key: "seconds", title: words.duration, numeric: true, render: (row) => seconds(row.seconds) },
      { key: "seed", title: words.order, numeric: true, render: (row) => link(String(row.seed), `#/assessment?seed=${row.seed}`) },
    ];
    fill(node, h("h2", null, words.past), h("p", { class: "help" }, words.pastText), all.length ? [table({ caption: words.past, hideCaption: true, columns, rows: all }), h("div", { class: "actions" }, button(words.delete, remove, { kind: "danger" }))] : h("p", { class: "muted" }, words.pastNone));
  };
  draw();
  return node;
}
