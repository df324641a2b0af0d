// What /compare said as points of a picture: which may share an axis, which are repeats with other seeds, what their spread is.
// Pure functions.

const SPEED = /(_ms|_s|_per_s|speedup|throughput|rss_bytes|foreign_load)/;
const COST = new Set([
  "file_bytes",
  "file_bytes_compressed",
  "parameters",
  "nonzero_parameters",
  "flops",
  "flops_per_token",
  "layers",
  "sparsity",
  "active_parameters",
]);
const SEEDS = new Set(["seed", "data.seed", "data.fold"]);

/** What decides whether two points may stand on one axis of this metric: the machine, the data, or nothing. */
export function basis(metric) {
  if (SPEED.test(metric) && !COST.has(metric)) return "comparable";
  return COST.has(metric) ? null : "comparable_quality";
}

/** Return what to call each run: its name, or its id where several share the name. */
export function called(found) {
  const many = (name) => found.runs.filter((r) => r.name === name).length > 1;
  return new Map(found.runs.map((r) => [r.run_id, many(r.name) ? r.run_id : r.name]));
}

/** Return the colour of a run, 1 to 8: the same in every chart of the page. */
export function slotOf(found, id) {
  return (found.runs.findIndex((r) => r.run_id === id) % 8) + 1;
}

/** Return the points that have both metrics, as the picture wants them. */
export function chosen(found, { x, y, which }) {
  const names = called(found);
  const kept = found.points.filter((p) => which === "all" || (which === "final" ? p.final : p.role === "main"));
  return kept
    .filter((p) => known(p, x) && known(p, y))
    .map((p) => {
      const run = names.get(p.run_id);
      const [a, b] = [p.metrics[x], p.metrics[y]];
      return {
        key: `${p.run_id}/${p.stage}`,
        point: p,
        run: p.run_id,
        name: `${run}, ${p.stage}`,
        short: found.runs.length > 1 ? `${run} ${p.stage}` : p.stage,
        x: a.value,
        y: b.value,
        xlow: a.ci95?.[0],
        xhigh: a.ci95?.[1],
        ylow: b.ci95?.[0],
        yhigh: b.ci95?.[1],
      };
    });
}

function known(point, metric) {
  return typeof point.metrics[metric]?.value === "number";
}

/** Return the points by what they may be compared within: Map of group -> points. One group: one picture. */
export function groups(points, x, y) {
  const keys = [basis(x), basis(y)].filter(Boolean);
  const out = new Map();
  for (const p of points) {
    const key = keys.map((k) => p.point[k]).join(" · ");
    out.set(key, [...(out.get(key) ?? []), p]);
  }
  return out;
}

/** Why points may not share an axis: "speed" (other machines), "data" (other data), or both. */
export function reasons(points, x, y) {
  const many = (key) => new Set(points.map((p) => p.point[key])).size > 1;
  const keys = new Set([basis(x), basis(y)]);
  return [
    keys.has("comparable") && many("comparable") ? "speed" : null,
    keys.has("comparable_quality") && many("comparable_quality") ? "data" : null,
  ].filter(Boolean);
}

/** Return runs that differ in nothing but seeds: [{runs: [id], label}], groups of two or more. */
export function repeats(found) {
  const told = found.config_diff.filter((d) => !SEEDS.has(d.path));
  const out = new Map();
  for (const run of found.runs) {
    const key = JSON.stringify(told.map((d) => d.values[run.run_id] ?? null));
    out.set(key, [...(out.get(key) ?? []), run]);
  }
  return [...out.values()].filter((runs) => runs.length > 1).map((runs) => ({ runs: runs.map((r) => r.run_id), label: runs[0].name }));
}

/** Mean and standard deviation (n − 1). */
export function spread(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const sd = values.length > 1 ? Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1)) : null;
  return { n: values.length, mean, sd, low: Math.min(...values), high: Math.max(...values) };
}

/** Return points in which repeats are one point a stage: the mean, with whiskers of one standard deviation. */
export function merged(points, found) {
  const sets = repeats(found);
  const of = (p) => sets.findIndex((set) => set.runs.includes(p.run));
  const out = points.filter((p) => of(p) < 0);
  sets.forEach((set, i) => {
    const stages = [...new Set(points.filter((p) => of(p) === i).map((p) => p.point.stage))];
    for (const stage of stages) {
      const same = points.filter((p) => of(p) === i && p.point.stage === stage);
      const [x, y] = [spread(same.map((p) => p.x)), spread(same.map((p) => p.y))];
      const name = `${set.label}, ${stage}, ×${same.length}`;
      out.push({
        ...same[0],
        key: `${set.label}/${stage}/mean`,
        name,
        short: name,
        x: x.mean,
        y: y.mean,
        ...ends(x, "x"),
        ...ends(y, "y"),
        repeats: same.length,
      });
    }
  });
  return out;
}

function ends({ mean, sd }, axis) {
  return sd === null
    ? { [`${axis}low`]: undefined, [`${axis}high`]: undefined }
    : { [`${axis}low`]: mean - sd, [`${axis}high`]: mean + sd };
}

/** Whether a point lies in a box {x: [low, high], y: [low, high]}. */
export function inside(point, box) {
  return !box || (point.x >= box.x[0] && point.x <= box.x[1] && point.y >= box.y[0] && point.y <= box.y[1]);
}
