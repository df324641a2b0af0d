// Points to columns for chart.js, without any drawing.
//
//   join(series) -> {xs, columns}: one sorted x for all; undefined where a series has no point, null where its line breaks
//   smooth(points, weight) -> points: moving average of TensorBoard's kind, unbiased at the start; starts anew after a break
//   thin(rows, most) -> at most `most` rows, evenly, first and last kept
//   fit(series, columns, span?) -> {xs, columns, reach}: join, thinned to columns of pixels      valueAt(points, x, reach) -> y

/** Lay series over one common x. A point is [x, y]; y null breaks the line there. */
export function join(series) {
  const first = series[0]?.points ?? [];
  if (rising(first) && (series.length < 2 || aligned(series))) {
    return { xs: first.map(([x]) => x), columns: series.map(({ points }) => points.map(([, y]) => (Number.isFinite(y) ? y : null))) };
  }
  const xs = Float64Array.from(new Set(series.flatMap((one) => one.points.map(([x]) => x)))).sort();
  const at = new Map();
  xs.forEach((x, index) => at.set(x, index));
  const columns = series.map((one) => {
    const column = new Array(xs.length).fill(undefined);
    for (const [x, y] of one.points) column[at.get(x)] = Number.isFinite(y) ? y : null;
    return column;
  });
  return { xs: Array.from(xs), columns };
}

function rising(points) {
  return points.every(([x], index) => index === 0 || x > points[index - 1][0]);
}

/** Smooth points by an exponential average of weight 0..1; 0 leaves them. */
export function smooth(points, weight) {
  if (!weight) return points;
  let sum = 0;
  let mass = 0;
  return points.map(([x, y]) => {
    if (!Number.isFinite(y)) {
      sum = 0;
      mass = 0;
      return [x, null];
    }
    sum = sum * weight + y * (1 - weight);
    mass = mass * weight + (1 - weight);
    return [x, sum / mass];
  });
}

export function thin(rows, most) {
  if (rows.length <= most) return rows;
  const stride = (rows.length - 1) / (most - 1);
  return Array.from({ length: most }, (_, index) => rows[Math.round(index * stride)]);
}

/** Lay series over one x, thinned to what `columns` of pixels can show where there is more: of each line the least and the greatest in a
 *  column, so that no spike is lost. Lines share the x of their points, so that a cursor finds them all; a point moves by less than a
 *  column: `reach`. Of what lies beside a span only the neighbours and the ends are kept. */
export function fit(series, columns, span) {
  if (small(series, columns)) return { ...join(series), reach: 0 };
  const part = span ? series.map(({ points }) => ({ points: within(points, span) })) : series;
  if (span && small(part, columns)) return { ...join(part), reach: 0 };
  const ends = part.flatMap(({ points }) => (points.length ? [points[0][0], points.at(-1)[0]] : []));
  const [from, to] = span ?? [Math.min(...ends), Math.max(...ends)];
  const pace = columns / (to - from || 1);
  const column = (x) => Math.max(0, Math.min(columns - 1, Math.floor((x - from) * pace)));
  const first = new Float64Array(columns).fill(Infinity);
  const last = new Float64Array(columns).fill(-Infinity);
  for (const { points } of part) {
    for (let i = 0; i < points.length; i += 1) {
      const x = points[i][0];
      const c = column(x);
      if (x < first[c]) first[c] = x;
      if (x > last[c]) last[c] = x;
    }
  }
  const xs = [];
  const slots = new Int32Array(columns + 1);
  for (let c = 0; c < columns; c += 1) {
    if (first[c] <= last[c]) xs.push(first[c]);
    if (first[c] < last[c]) xs.push(last[c]);
    slots[c + 1] = xs.length;
  }
  return { xs, columns: part.map(({ points }) => extremes(points, column, slots)), reach: 1 / pace };
}

/** Whether lines can be drawn point by point. */
function small(series, columns) {
  const most = series.reduce((longest, { points }) => Math.max(longest, points.length), 0);
  return most <= 2 * columns && (series.length * most <= 8 * columns || aligned(series));
}

function aligned(series) {
  const { points } = series[0];
  return series.every((one) => one.points.length === points.length && one.points.every((point, index) => point[0] === points[index][0]));
}

function within(points, [from, to]) {
  const [low, high] = [Math.max(1, lower(points, from) - 1), Math.min(points.length - 1, lower(points, to) + 1)];
  return [...points.slice(0, 1), ...points.slice(low, high), ...points.slice(Math.max(1, points.length - 1))];
}

/** A line's column: in every column of pixels its extremes in their order, or the break in it. */
function extremes(points, column, slots) {
  const out = new Array(slots.at(-1)).fill(undefined);
  for (let i = 0; i < points.length;) {
    const c = column(points[i][0]);
    let [least, most, gap] = [-1, -1, false];
    for (; i < points.length && column(points[i][0]) === c; i += 1) {
      const y = points[i][1];
      if (!Number.isFinite(y)) gap = true;
      else {
        if (least < 0 || y < points[least][1]) least = i;
        if (most < 0 || y > points[most][1]) most = i;
      }
    }
    const found = least < 0 ? [null] : least === most ? [points[least][1], ...(gap ? [null] : [])] : [points[Math.min(least, most)][1], points[Math.max(least, most)][1]];
    found.slice(0, slots[c + 1] - slots[c]).forEach((y, at) => { out[slots[c] + at] = y; });
  }
  return out;
}

/** Return the index of the first point at x or after it; points rise in x. */
function lower(points, x) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Return the y of the point nearest to x, undefined where none lies within `reach`. */
export function valueAt(points, x, reach) {
  const at = lower(points, x);
  const away = (point) => (point ? Math.abs(point[0] - x) : Infinity);
  const near = away(points[at]) <= away(points[at - 1]) ? points[at] : points[at - 1];
  return away(near) <= reach ? near[1] : undefined;
}
