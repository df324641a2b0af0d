// Points to columns for chart.js, without any drawing.
//
//   join(series) -> {xs, columns}: one sorted x for all; undefined where a series has no point, null where its line breaks
//   smooth(points, weight) -> points: moving average of TensorBoard's kind, unbiased at the start; starts anew after a break
//   thin(rows, most) -> at most `most` rows, evenly, first and last kept
//   csv(head, rows) -> text; numbers free of locale; no cell can be read as a formula

/** Lay series over one common x. A point is [x, y]; y null breaks the line there. */
export function join(series) {
  const first = series[0]?.points ?? [];
  if (rising(first) && series.every(({ points }) => points.length === first.length && points.every(([x], index) => x === first[index][0]))) {
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

export function csv(head, rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
