// The blocks of the network view, from /layers: which layers are drawn, how many units each has, what was copied from where.
// Pure functions of what the server said; nothing here is made up.

/** Layers with a matrix of weights: the ones that have units. Norms and biases are counted with the model, not drawn. */
export function drawable(layers) {
  const parents = new Set(layers.map((l) => l.parent));
  return layers.filter((l) => !parents.has(l.id) && l.parameters > 0 && (l.shape?.length ?? 0) >= 2);
}

/** How many outputs a layer has: rows of a Linear, filters of a convolution, the width of an embedding. */
export function width(layer) {
  if (layer.kind === "Conv1D" || /Embedding/.test(layer.kind)) return layer.shape[1];
  return layer.shape[0];
}

/** Take a path apart at its first number: "bert.encoder.layer.0.output" -> {list: "bert.encoder.layer", index: 0, rest: "output"}. */
export function place(id) {
  const parts = id.split(".");
  const at = parts.findIndex((p) => /^\d+$/.test(p));
  if (at < 0 || at === parts.length - 1) return { list: null, index: null, rest: id };
  return { list: parts.slice(0, at).join("."), index: Number(parts[at]), rest: parts.slice(at + 1).join(".") };
}

/** Return the layers as blocks in the order of the model: [{title, list, index, rows: [layer]}]. */
export function blocks(layers) {
  const out = [];
  for (const layer of drawable(layers)) {
    const { list, index, rest } = place(layer.id);
    const last = out.at(-1);
    if (last && last.list === list && last.index === index) last.rows.push({ ...layer, short: rest });
    else
      out.push({
        title: list === null ? null : `${list.split(".").slice(-2).join(".")}.${index}`,
        list,
        index,
        rows: [{ ...layer, short: rest }],
      });
  }
  return out;
}

/**
 * Return which teacher's block each student's block was copied from: Map of "list.index" -> "list.index". Empty when nothing was.
 *
 * layerMap counts the blocks of all lists one after the other (encoder, then decoder).
 */
export function copied(student, teacher, layerMap) {
  const lists = (of) => {
    const found = new Map();
    for (const b of of) if (b.list !== null) found.set(b.list, Math.max(found.get(b.list) ?? 0, b.index + 1));
    return found;
  };
  const [mine, theirs] = [lists(student), lists(teacher)];
  const total = [...mine.values()].reduce((a, b) => a + b, 0);
  const out = new Map();
  if (!Array.isArray(layerMap) || layerMap.length !== total) return out;
  let [at, offset] = [0, 0];
  for (const [list, many] of mine) {
    for (let i = 0; i < many; i += 1) {
      const from = layerMap[at + i] - offset;
      if (theirs.has(list) && from >= 0 && from < theirs.get(list)) out.set(`${list}.${i}`, `${list}.${from}`);
    }
    at += many;
    offset += theirs.get(list) ?? 0;
  }
  return out;
}

/**
 * Return what is left of a layer's units.
 *
 * cut: {kept, removed} with real indices, or null where the places are not kept and there are counts only.
 * Returns {left: share, places: [true where the unit is left] | null}
 */
export function cells(layer, cut) {
  const { units_before: before, units_after: after } = layer;
  if (!before || after === null || before === after) return { left: 1, places: null };
  const gone = cut?.kept ? new Set(cut.removed) : null;
  return { left: after / before, places: gone && Array.from({ length: before }, (_, i) => !gone.has(i)) };
}

/** The largest width among layers, which bars are scaled by. */
export function widest(...models) {
  return Math.max(1, ...models.flatMap((layers) => drawable(layers ?? []).map(width)));
}
