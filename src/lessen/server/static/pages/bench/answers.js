// What every stage answered, side by side: a table, and the probabilities of the likeliest classes.

import { h, table } from "../../dom.js";
import { milliseconds, percent } from "../../format.js";
import { bench as words } from "../../strings-learn.js";
import { stages as stageNames } from "../../strings.js";
import { groupedBars } from "../../svg.js";
import { badge, say } from "../../widgets.js";
import { mark } from "../playground/parts.js";

const TEACHER = "teacher";
const MOST_CLASSES = 5;
const named = (stage) => stageNames[stage] ?? stage;

/** What one answer says: a text, a label, or several labels. */
export function told(answer) {
  if (answer.text !== null && answer.text !== undefined) return answer.text;
  if (Array.isArray(answer.label)) return answer.label.join(", ") || words.multi;
  return answer.label;
}

/** Return {same: whether every stage that answered says what the teacher says, differs: names of those that do not, final}. */
export function compared(reply) {
  const answered = reply.stages.filter((one) => one.answers.length);
  const teacher = answered.find((one) => one.stage === TEACHER);
  const differs = teacher ? answered.filter((one) => told(one.answers[0]) !== told(teacher.answers[0])).map((one) => named(one.stage)) : [];
  return { teacher, differs, final: answered.at(-1) };
}

/** Return the table and the chart of a reply of POST /predictions to one input. */
export function answersOf(reply) {
  const { teacher, differs } = compared(reply);
  const reference = teacher ? told(teacher.answers[0]) : null;
  const columns = [
    { key: "stage", title: words.stage, head: true, render: (row) => named(row.stage) },
    { key: "runtime", title: words.runtime },
    { key: "answer", title: words.answer, render: answerCell },
    ...(reply.stages.some((one) => one.answers[0]?.probabilities) ? [{ key: "p", title: words.probability, numeric: true, render: (row) => percent(sureness(row.answers[0])) }] : []),
    { key: "agrees", title: words.agreement, render: (row) => agreement(row, reference) },
    { key: "latency", title: words.latency, unit: "ms", numeric: true, render: (row) => milliseconds(row.answers[0]?.latency_ms ?? null) },
  ];
  return [
    teacher ? h("p", { class: differs.length ? "notice warning" : "notice" }, differs.length ? words.disagree(differs.join(", ")) : words.allAgree) : null,
    table({ caption: words.answers, hideCaption: true, columns, rows: reply.stages, rowAttributes: (row) => ({ class: row.answers.length && reference !== null && told(row.answers[0]) !== reference ? "lp-differs" : null }) }),
    h("p", { class: "help" }, mark("measured"), " ", words.latencyHelp(reply.threads)),
    chances(reply),
  ];
}

function answerCell(row) {
  if (!row.answers.length) return h("span", { class: "lp-failed" }, badge(words.failed, "bad"), " ", row.error ?? "");
  return say(told(row.answers[0]) ?? "–");
}

/** The probability of what was decided; of several labels, the least sure of them. */
function sureness(answer) {
  if (!answer?.probabilities) return null;
  const labels = [answer.label].flat();
  return labels.length ? Math.min(...labels.map((label) => answer.probabilities[label])) : null;
}

function agreement(row, reference) {
  if (row.stage === TEACHER) return h("span", { class: "muted" }, words.isTeacher);
  if (reference === null || !row.answers.length) return "–";
  return told(row.answers[0]) === reference ? badge(`✓ ${words.agrees}`, "good") : badge(`≠ ${words.differs}`, "warning");
}

function chances(reply) {
  const shown = reply.stages.filter((one) => one.answers[0]?.probabilities);
  if (!shown.length) return null;
  const first = shown[0].answers[0].probabilities;
  const most = (name) => Math.max(...shown.map((one) => one.answers[0].probabilities[name]));
  const names = Object.keys(first).sort((a, b) => most(b) - most(a)).slice(0, MOST_CLASSES);
  return groupedBars({
    title: words.probabilities, desc: words.probabilitiesDesc, first: "class", name: "probabilities", show: (v) => percent(v), tick: (v) => percent(v, 0),
    series: shown.map((one, i) => ({ name: named(one.stage), kind: `c${i + 1}` })),
    rows: names.map((name) => ({ name, values: shown.map((one) => one.answers[0].probabilities[name]) })),
  });
}
