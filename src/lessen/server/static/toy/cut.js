// Pruning: which weights or units fall below the cut, and what goes with them.

/** Return a histogram of equal bins over [min, max]: {edges, counts}. The last bin holds its right edge. */
export function histogram(values, bins) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const width = (high - low) / bins;
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor((value - low) / width))] += 1;
  return { edges: Array.from({ length: bins + 1 }, (_, i) => low + i * width), counts };
}

/**
 * Cut the share of weights of least magnitude; the count is rounded down, ties go by position.
 *
 * @returns {{threshold: number, removed: number, share: number, energy: number}} threshold: the largest magnitude
 * that went; energy: share of the sum of squares that went
 */
export function cutWeights(values, share) {
  const order = Array.from(values, Math.abs).sort((a, b) => a - b);
  const removed = Math.floor(share * order.length);
  let [gone, all] = [0, 0];
  order.forEach((magnitude, i) => {
    all += magnitude ** 2;
    if (i < removed) gone += magnitude ** 2;
  });
  const threshold = removed ? order[removed - 1] : 0;
  return { threshold, removed, share: order.length ? removed / order.length : 0, energy: all ? gone / all : 0 };
}

/** Return the L2 norm of each row of a matrix [rows, columns]. */
export function rowNorms(values, columns) {
  const norms = new Array(values.length / columns).fill(0);
  for (let i = 0; i < values.length; i++) norms[Math.floor(i / columns)] += values[i] ** 2;
  return norms.map(Math.sqrt);
}

/**
 * Cut whole rows (units) of least norm; at least one stays.
 *
 * @param {number[]} norms L2 norm of each unit's weights
 * @returns {{kept: number[], removed: number[], share: number, energy: number}} indices in order
 */
export function cutUnits(norms, share) {
  const count = Math.min(norms.length - 1, Math.floor(share * norms.length));
  const order = norms.map((_, i) => i).sort((a, b) => norms[a] - norms[b] || a - b);
  const removed = order.slice(0, count).sort((a, b) => a - b);
  const kept = order.slice(count).sort((a, b) => a - b);
  const square = (rows) => rows.reduce((sum, i) => sum + norms[i] ** 2, 0);
  const all = square(order);
  return { kept, removed, share: norms.length ? count / norms.length : 0, energy: all ? square(removed) / all : 0 };
}

/**
 * Cut a share of the weights of a histogram by magnitude, values spread evenly within each bin: an estimate.
 *
 * @returns {{threshold: number, share: number, energy: number}}
 */
export function cutHistogram(edges, counts, share) {
  const pieces = counts.flatMap((count, i) => (count ? folded(edges[i], edges[i + 1], count) : []));
  const total = pieces.reduce((sum, piece) => sum + piece.count, 0);
  const below = (limit, measure) => pieces.reduce((sum, piece) => sum + measure(piece, Math.min(limit, piece.high)), 0);
  const number = (piece, x) => (x > piece.low ? (piece.count * (x - piece.low)) / (piece.high - piece.low) : 0);
  const square = (piece, x) => (x > piece.low ? (piece.count * (x ** 3 - piece.low ** 3)) / (3 * (piece.high - piece.low)) : 0);
  let [low, high] = [0, Math.max(0, ...pieces.map((piece) => piece.high))];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (below(middle, number) < share * total) low = middle;
    else high = middle;
  }
  const all = below(Infinity, square);
  return { threshold: share > 0 ? high : 0, share, energy: all && share > 0 ? below(high, square) / all : 0 };
}

/** Return a bin as pieces of magnitude: one, or two where it straddles zero. */
function folded(low, high, count) {
  if (low < 0 && high > 0) {
    const left = (count * -low) / (high - low);
    return [{ low: 0, high: -low, count: left }, { low: 0, high, count: count - left }];
  }
  const [a, b] = [Math.min(Math.abs(low), Math.abs(high)), Math.max(Math.abs(low), Math.abs(high))];
  return b > a ? [{ low: a, high: b, count }] : [];
}
