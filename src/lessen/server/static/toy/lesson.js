// The 2-D lesson: a teacher learns, then two equal students learn beside each other, one with the teacher, one without.

import { adamState, adam_, gradients, judged, logits, make } from "./mlp.js";
import { draw, ownSet } from "./points.js";
import { derived, normal } from "./random.js";
import { counted, pruned, roundedNet } from "./shrink.js";

export const TEACHER_STEPS = 250;
export const STUDENT_STEPS = 600; // "play" rests here; "step" goes on
const RATE = 0.02;
const HELD_OUT = 300; // points that nobody learns from: accuracy is known to about 5 points

/**
 * Start a lesson.
 *
 * @param {{set: string, count: number, noise: number, seed: number, teacher: number, student: number, alpha: number,
 *   temperature: number, own: number[][]}} settings teacher, student: units in each of two hidden layers
 * @returns {object|null} null when own points are too few
 */
export function begin(settings) {
  const data = dataOf(settings);
  if (!data) return null;
  const classes = data.train.classes;
  const student = make([2, settings.student, settings.student, classes], normal(derived(settings.seed, "student")));
  const lesson = {
    settings,
    ...data,
    step: 0,
    teacher: learner(make([2, settings.teacher, settings.teacher, classes], normal(derived(settings.seed, "teacher")))),
    taught: learner(copied(student)),
    alone: learner(copied(student)), // the control: same start, same data, no teacher
    teacherLogits: null,
    history: [],
    cuts: [],
  };
  note_(lesson);
  return lesson;
}

function dataOf({ set, count, noise, seed, own }) {
  if (set === "own") return ownSet(own, seed);
  return {
    train: draw(set, { count, noise, seed: derived(seed, "train") }),
    held: draw(set, { count: HELD_OUT, noise, seed: derived(seed, "held out") }),
  };
}

function learner(net) {
  return { net, adam: adamState(net), loss: null };
}

function copied(net) {
  return { ...net, weights: net.weights.map((w) => w.slice()), biases: net.biases.map((b) => b.slice()) };
}

/** Return "teacher" while the teacher learns, "students" then, "done" once play should rest. */
export function phaseOf(lesson) {
  if (lesson.step < TEACHER_STEPS) return "teacher";
  return lesson.step < restAt(lesson) ? "students" : "done";
}

/** Return the step at which play rests: the lesson's end, or as long again after the last cut. */
export function restAt(lesson) {
  const cut = lesson.cuts.at(-1);
  return Math.max(TEACHER_STEPS + STUDENT_STEPS, cut ? cut.step + STUDENT_STEPS / 2 : 0);
}

/** Take one training step over all training points, in place. */
export function step_(lesson) {
  const { alpha, temperature } = lesson.settings;
  if (lesson.step < TEACHER_STEPS) {
    learn_(lesson.teacher, lesson.train, { teacher: null, alpha, temperature });
  } else {
    lesson.teacherLogits ??= logits(lesson.teacher.net, lesson.train.x); // the teacher is frozen: asked once
    learn_(lesson.taught, lesson.train, { teacher: lesson.teacherLogits, alpha, temperature });
    learn_(lesson.alone, lesson.train, { teacher: null, alpha, temperature });
  }
  lesson.step += 1;
  if (lesson.step % 10 === 0) note_(lesson);
}

function learn_(who, data, how) {
  const gradient = gradients(who.net, data, how);
  adam_(who.net, gradient, who.adam, RATE);
  who.loss = gradient.loss;
}

/** Cut a share of the units out of both students, in place; training goes on from there with a fresh optimizer. */
export function prune_(lesson, share) {
  const before = standing(lesson, 32);
  for (const name of ["taught", "alone"]) lesson[name] = learner(pruned(lesson[name].net, share));
  lesson.cuts.push({ step: lesson.step, share, before: before.taught.accuracy, after: standing(lesson, 32).taught.accuracy });
  note_(lesson);
}

/** Return how teacher and students do on held-out points, students rounded to `bits`, and what each needs. */
export function standing(lesson, bits) {
  const of = (who, width) => {
    const net = roundedNet(who.net, width);
    return { ...judged(net, lesson.held), ...counted(net, width), loss: who.loss, widths: net.widths };
  };
  return { teacher: of(lesson.teacher, 32), taught: of(lesson.taught, bits), alone: of(lesson.alone, bits) };
}

/** Return the share of held-out points on which a student decides as the teacher does. */
export function agreement(lesson, name, bits) {
  const decide = (net) => decisions(net, lesson.held.x);
  const [a, b] = [decide(lesson.teacher.net), decide(roundedNet(lesson[name].net, bits))];
  return a.filter((value, i) => value === b[i]).length / a.length;
}

/** Return the likeliest class of each point. */
export function decisions(net, x) {
  const out = logits(net, x);
  const classes = net.widths.at(-1);
  return Array.from({ length: out.length / classes }, (_, i) => {
    const row = out.subarray(i * classes, (i + 1) * classes);
    return row.indexOf(Math.max(...row));
  });
}

function note_(lesson) {
  const now = standing(lesson, 32);
  lesson.history.push({ step: lesson.step, teacher: now.teacher.accuracy, taught: now.taught.accuracy, alone: now.alone.accuracy });
}
