// Quantization grids, rounded as lessen's own INT8 and INT4 packing does (lessen/quantize/weight_only.py).

/** Return the nearest integer; halves go to the even one, as in numpy and IEEE 754. */
export function rint(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Return the largest integer of a symmetric grid: 127 for 8 bits, 7 for 4, 1 for 2. */
export function limitOf(bits) {
  return 2 ** (bits - 1) - 1;
}

/** Return the step of a symmetric grid that reaches max|w|: max|w| / limit, and 1 / limit where all are zero. */
export function stepOf(values, bits) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most > 0 ? most / limitOf(bits) : 1;
}

/** Return values rounded to a symmetric grid of this step. */
export function rounded(values, step, bits) {
  const limit = limitOf(bits);
  return Float64Array.from(values, (w) => Math.max(-limit, Math.min(limit, rint(w / step))) * step);
}

/** Return [from, to) of the parts of a matrix that share one step: all of it, or each of its rows. */
function parts(values, columns, perChannel) {
  const width = perChannel ? columns : values.length;
  return Array.from({ length: values.length / width }, (_, row) => [row * width, (row + 1) * width]);
}

/**
 * Round a matrix [rows, columns] to a symmetric grid; one step for all, or one a row (output).
 *
 * @returns {{values: Float64Array, steps: number[], meanSquare: number}} meanSquare: mean of squared rounding errors
 */
export function quantize(values, columns, bits, perChannel) {
  const result = new Float64Array(values.length);
  const steps = [];
  for (const [from, to] of parts(values, columns, perChannel)) {
    const row = values.subarray ? values.subarray(from, to) : values.slice(from, to);
    const step = stepOf(row, bits);
    result.set(rounded(row, step, bits), from);
    steps.push(step);
  }
  return { values: result, steps, meanSquare: meanSquare(values, result) };
}

function meanSquare(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return sum / a.length;
}

/**
 * Return the mean squared rounding error of a histogram whose values spread evenly within each bin: an estimate.
 *
 * @param {number[]} edges one more than counts
 * @param {number} step of a grid that holds 0 and reaches both ends
 */
export function histogramError(edges, counts, step) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const sum = counts.reduce((all, count, i) => {
    const [low, high] = [edges[i], edges[i + 1]];
    const mean = high > low ? (squareUpTo(high, step) - squareUpTo(low, step)) / (high - low) : (low - rint(low / step) * step) ** 2;
    return all + count * mean;
  }, 0);
  return total ? sum / total : 0;
}

/** The integral from 0 to x of the squared distance to the nearest multiple of step: step³/12 per whole step. */
function squareUpTo(x, step) {
  const whole = Math.round(x / step);
  return (whole * step ** 3) / 12 + (x - whole * step) ** 3 / 3;
}

/** Return the points of a symmetric grid from −limit · step to limit · step. */
export function gridPoints(step, bits) {
  const limit = limitOf(bits);
  return Array.from({ length: 2 * limit + 1 }, (_, i) => (i - limit) * step);
}
