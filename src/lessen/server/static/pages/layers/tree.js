// The rows of /layers as a tree: joined with the stage they are held against, siblings that look alike folded, sorted.
// Pure functions: no page is needed to test them.

import { number } from "../../format.js";
import { change, show } from "../result/metrics.js";

const SUMS = ["parameters", "nonzero", "bytes", "flops", "latency_share", "saved", "before_bytes", "before_parameters"];
const RANGES = ["sparsity", "bits", "error", "units_before", "units_after"];

/**
 * Return the tree of layers.
 *
 * damage: id -> what its cut alone costs, or null
 *
 * Each node: {id, name, kind, shape, values: {key: number|null}, ranges: {key: [low, high]}, times: 1 or how many it stands for, children, layer}
 */
export function grow(layers, against = [], damage = () => null) {
  const before = new Map(against.map((row) => [row.id, row]));
  const nodes = new Map(layers.map((row) => [row.id, node(row, before.get(row.id), against.length > 0, damage)]));
  let root = null;
  for (const row of layers) {
    const parent = row.parent === null ? null : nodes.get(row.parent);
    if (parent) parent.children.push(nodes.get(row.id));
    else root ??= nodes.get(row.id);
  }
  return root;
}

function node(row, was, held, damage) {
  const values = Object.fromEntries(
    ["parameters", "nonzero", "sparsity", "bits", "bytes", "flops", "latency_share", "units_before", "units_after", "error"].map((k) => [
      k,
      row[k],
    ]),
  );
  values.before_bytes = was?.bytes ?? null;
  values.before_parameters = was?.parameters ?? null;
  values.saved = held && was ? was.bytes - row.bytes : null;
  values.damage = damage(row.id);
  values.cut = row.units_before ? 1 - row.units_after / row.units_before : null;
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    shape: row.shape,
    fold: row.fold,
    values,
    ranges: {},
    times: 1,
    children: [],
    layer: row,
  };
}

/** Return a copy in which a branch whose only child holds all its weights is one row with that child: "encoder.stages". */
export function joined(root) {
  const children = root.children.map((child) => {
    let one = child;
    let { name } = child;
    while (one.children.length === 1 && one.children[0].children.length && one.children[0].values.parameters === one.values.parameters) {
      [one] = one.children;
      name = `${name}.${one.name}`;
    }
    return joined({ ...one, name });
  });
  return { ...root, children };
}

/**
 * Return a copy in which runs of siblings with one signature, two or more, stand as one row that opens into them.
 * A signature says that shapes are equal, not the numbers: sums are added up, others shown as a range.
 */
export function folded(root) {
  const children = [];
  for (const child of root.children.map(folded)) {
    const last = children.at(-1);
    if (last && last[0].fold === child.fold && child.values.parameters > 0) last.push(child);
    else children.push([child]);
  }
  return { ...root, children: children.flatMap((group) => (group.length > 1 ? [bundle(group)] : group)) };
}

function bundle(group) {
  const values = {};
  const ranges = {};
  for (const key of SUMS) values[key] = total(group.map((g) => g.values[key]));
  for (const key of [...RANGES, "cut", "damage"]) {
    const known = group.map((g) => g.values[key]).filter((v) => v !== null && v !== undefined);
    values[key] = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
    if (known.length) ranges[key] = [Math.min(...known), Math.max(...known)];
  }
  values.damage = ranges.damage?.[1] ?? null; // the worst of them
  const [first, last] = [group[0], group.at(-1)];
  return {
    ...first,
    id: `${first.id}…${last.id}`,
    name: `${first.name} … ${last.name}`,
    values,
    ranges,
    times: group.length,
    children: group,
    layer: null,
  };
}

function total(values) {
  const known = values.filter((v) => v !== null && v !== undefined);
  return known.length ? known.reduce((a, b) => a + b, 0) : null;
}

/** A layer's number with its unit; units that stand in the column's title are left out. "fall share": points that were lost. */
export function amount(value, unit) {
  if (unit?.startsWith("fall ") && value !== null) return change(value, unit.slice(5)).replace("+", "");
  return unit === "bits" || unit === "mean square" ? number(value) : show(value, unit);
}

/** Return a copy whose siblings are ordered by a key, largest first; null: the model's own order. */
export function sorted(root, key) {
  const children = root.children.map((child) => sorted(child, key));
  if (key) children.sort((a, b) => (b.values[key] ?? -Infinity) - (a.values[key] ?? -Infinity));
  return { ...root, children };
}

/** Return the nodes to show: a row a node whose parents are open. Each: {node, level, position, size, parent}. */
export function visible(root, open) {
  const out = [];
  const walk = (one, level, position, size, parent) => {
    out.push({ node: one, level, position, size, parent });
    if (open.has(one.id)) one.children.forEach((child, i) => walk(child, level + 1, i + 1, one.children.length, one.id));
  };
  walk(root, 1, 1, 1, null);
  return out;
}

/** Return the leaves that have weights, and whose path or kind holds a text. */
export function leaves(root, search = "") {
  const out = [];
  const walk = (one) => {
    if (!one.children.length && one.values.parameters > 0 && `${one.id} ${one.kind}`.toLowerCase().includes(search)) out.push(one);
    one.children.forEach(walk);
  };
  walk(root);
  return out;
}

/** Return the ids of a node and all above it. */
export function above(root, id) {
  const walk = (one) => {
    if (one.id === id) return [one.id];
    for (const child of one.children) {
      const found = walk(child);
      if (found) return [one.id, ...found];
    }
    return null;
  };
  return walk(root) ?? [];
}

/** Return the share of `key` that a node has of the largest among its peers, 0..1, for shading. */
export function levels(rows, key) {
  const known = rows.map((r) => r.node.values[key]).filter((v) => v !== null && v !== undefined);
  const parts = rows.filter((r) => r.node.children.length === 0 || r.node.times > 1).map((r) => Math.abs(r.node.values[key] ?? 0));
  const most = Math.max(...(parts.length ? parts : known.map(Math.abs)), 0);
  return (one) =>
    most && one.values[key] !== null && one.values[key] !== undefined ? Math.min(1, Math.abs(one.values[key]) / most) : null;
}
