// The assessment's maths and memory, without elements: order of questions, score, results kept in the browser.

import { recall, remember } from "../../theme.js";
import { derived, shuffled } from "../../toy/random.js";

export const PASS = 0.7;
const KEY = "assessment";
const KEPT = 20;

/** Return the questions in the order of a seed, each with its choices' order: [{question, order}]. */
export function paperOf(questions, seed) {
  return shuffled(questions, derived(seed, "questions")).map((question) => ({
    question, order: shuffled(question.choices.map((_, i) => i), derived(seed, question.id)),
  }));
}

/** Return the score: choice 0 is the right one of every question; answers: chosen indices by question id. */
export function scored(paper, answers) {
  const wrong = paper.filter(({ question }) => answers[question.id] !== 0).map(({ question }) => question);
  const right = paper.length - wrong.length;
  const topics = [...new Set(paper.map(({ question }) => question.card))].sort().map((card) => {
    const all = paper.filter(({ question }) => question.card === card);
    const good = all.filter(({ question }) => answers[question.id] === 0).length;
    return { card, right: good, wrong: all.length - good };
  });
  return { right, n: paper.length, share: right / paper.length, passed: right / paper.length >= PASS, wrong, topics };
}

/** Return the results kept in this browser, newest first; what cannot be read counts as none. */
export function results() {
  try {
    const kept = JSON.parse(recall(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((one) => Number.isFinite(one?.right) && Number.isFinite(one?.n) && Number.isFinite(one?.seed)) : [];
  } catch {
    return [];
  }
}

export function keep(result) {
  remember(KEY, JSON.stringify([result, ...results()].slice(0, KEPT)));
}

export function forget() {
  remember(KEY, "[]");
}
