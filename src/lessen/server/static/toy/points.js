// Two-dimensional data sets, made from a seed; and points that somebody typed in.

import { points as words } from "../strings-learn.js";
import { derived, normal, shuffled, uniform } from "./random.js";

const MOST_POINTS = 600; // the table of own points stays usable and a step stays below a frame
const MOST_CLASSES = 4;

/** The data sets by name: each draws one point (x, y) of a class; `classes` of them. */
export const SETS = {
  moons: { classes: 2, draw: moon },
  spiral: { classes: 3, draw: spiral },
  circles: { classes: 2, draw: circle },
  xor: { classes: 2, draw: xor },
};

function moon(label, u) {
  const angle = Math.PI * u();
  const [x, y] = [Math.cos(angle), Math.sin(angle)];
  return label === 0 ? [x - 0.5, y - 0.25] : [0.5 - x, 0.25 - y];
}

function spiral(label, u) {
  const t = Math.sqrt(u());
  const angle = 4.2 * t + (label * 2 * Math.PI) / 3;
  return [1.4 * t * Math.cos(angle), 1.4 * t * Math.sin(angle)];
}

function circle(label, u) {
  const angle = 2 * Math.PI * u();
  const radius = label === 0 ? 0.45 * Math.sqrt(u()) : 0.95 + 0.3 * u();
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

function xor(label, u) {
  const [x, y] = [0.08 + 1.2 * u(), 0.08 + 1.2 * u()];
  const side = u() < 0.5 ? 1 : -1;
  return label === 0 ? [side * x, side * y] : [side * x, -side * y];
}

/**
 * Draw a data set: classes in turn, so that they are equally frequent, then shuffled.
 *
 * @param {string} name one of SETS
 * @param {{count: number, noise: number, seed: number}} how noise: standard deviation added to both coordinates
 * @returns {{x: Float64Array, labels: Uint8Array, classes: number}} x holds pairs, [2 · count]
 */
export function draw(name, { count, noise, seed }) {
  const { classes, draw: place } = SETS[name];
  const u = uniform(derived(seed, `places ${name}`));
  const g = normal(derived(seed, `noise ${name}`));
  const rows = Array.from({ length: count }, (_, i) => {
    const [x, y] = place(i % classes, u);
    return [x + noise * g(), y + noise * g(), i % classes];
  });
  return packed(shuffled(rows, derived(seed, "order")), classes);
}

/** Return rows [x, y, label] as typed arrays. */
export function packed(rows, classes) {
  const x = new Float64Array(2 * rows.length);
  const labels = new Uint8Array(rows.length);
  rows.forEach((row, i) => {
    [x[2 * i], x[2 * i + 1], labels[i]] = row;
  });
  return { x, labels, classes };
}

/**
 * Read points from text, one a line: x, y, class (0 to 3). Commas, semicolons, tabs or spaces; a heading is skipped.
 *
 * @returns {{rows: number[][], errors: string[]}} errors name the line
 */
export function parsePoints(text) {
  const rows = [];
  const errors = [];
  text.split(/\r?\n/).forEach((line, i) => {
    const cells = line.trim().split(/[\s,;]+/);
    if (line.trim() === "" || (i === 0 && cells.every((cell) => Number.isNaN(Number(cell))))) return;
    const [x, y, label] = cells.map(Number);
    if (cells.length !== 3 || ![x, y].every(Number.isFinite)) errors.push(words.notThree(i + 1));
    else if (!Number.isInteger(label) || label < 0 || label >= MOST_CLASSES) errors.push(words.badClass(i + 1));
    else rows.push([x, y, label]);
  });
  if (rows.length > MOST_POINTS) errors.push(words.tooMany(rows.length, MOST_POINTS));
  return { rows: rows.slice(0, MOST_POINTS), errors };
}

/**
 * Return own rows as a data set: scaled to the picture where they do not fit; of each class every second one, in a seeded
 * order, is held out.
 *
 * @returns {{train: object, held: object}|null} null with fewer than 8 points or fewer than two classes
 */
export function ownSet(rows, seed) {
  const classes = 1 + Math.max(0, ...rows.map((row) => row[2]));
  if (rows.length < 8 || new Set(rows.map((row) => row[2])).size < 2) return null;
  const most = [0, 1].map((axis) => Math.max(...rows.map((row) => row[axis])));
  const least = [0, 1].map((axis) => Math.min(...rows.map((row) => row[axis])));
  const half = Math.max(most[0] - least[0], most[1] - least[1]) / 2 || 1;
  const fits = Math.max(...most.map(Math.abs), ...least.map(Math.abs)) <= 1.5; // clicked points stay where they are
  const put = (value, axis) => (fits ? value : (1.3 * (value - (most[axis] + least[axis]) / 2)) / half);
  const order = shuffled(rows, derived(seed, "own")).map((row) => [put(row[0], 0), put(row[1], 1), row[2]]);
  const seen = new Array(classes).fill(0);
  const turn = order.map(([, , label]) => seen[label]++ % 2);
  return { train: packed(order.filter((_, i) => !turn[i]), classes), held: packed(order.filter((_, i) => turn[i]), classes) };
}
