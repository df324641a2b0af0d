// The recipe's JSON Schema as a list of settings, without any drawing.
//
//   settings(schema) -> [{path: "prune.remove_frac", section: "prune", group: "prune", name, kind, help, unit, options?, min, max,
//                         above, below, whole, nullable, fallback}]      kind: flag choice choices number text list map
//   groups that may be switched off as a whole: kind "group" (path of the group, nullable)
//   getAt(values, path)     setAt(values, path, value) -> new values     read(setting, text) -> {value} or {error}
//   same(a, b)

const HIDDEN = new Set(["name", "output_dir", "cache_dir", "legacy", "data.fold", "author", "note"]); // asked for elsewhere, or set by the program
const UNITS = [
  [/(^|_)seconds$/, "s"], [/_frac$|^fraction$/, "share"], [/(^|_)epochs?$/, "epochs"], [/_length$|_tokens$/, "tokens"], [/_steps$|^frequency$/, "steps"],
  [/_samples$|^generate$/, "samples"], [/^batch_size$/, "samples"], [/^image_size$/, "pixels"], [/^max_drop$/, "share"], [/^layers$/, "layers"],
];

/** Follow $ref and take the null out of a choice of types. */
function resolve(node, defs) {
  const options = node.anyOf ?? [];
  const nullable = options.some((one) => one.type === "null");
  const inner = options.length ? options.find((one) => one.type !== "null") : node;
  const found = inner.$ref ? { ...defs[inner.$ref.split("/").pop()], ...inner } : inner;
  return { found, nullable };
}

export function settings(schema) {
  const list = [];
  const walk = (node, prefix) => {
    for (const [name, property] of Object.entries(node.properties ?? {})) {
      const path = prefix ? `${prefix}.${name}` : name;
      if (HIDDEN.has(path)) continue;
      const { found, nullable } = resolve(property, schema.$defs ?? {});
      const about = { path, name, nullable, group: prefix || "general", section: prefix.split(".")[0] || "general", help: property.description ?? found.description ?? "", fallback: property.default };
      if (found.properties) {
        if (!prefix) about.section = name;
        if (nullable) list.push({ ...about, kind: "group", group: path });
        walk(found, path);
      } else {
        const bounds = limits(found);
        list.push({ ...about, ...bounds, unit: bounds.kind === "number" ? unitOf(name) : "" });
      }
    }
  };
  walk(schema, "");
  return list;
}

function unitOf(name) {
  return UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? "";
}

function limits(node) {
  const bounds = { min: node.minimum ?? null, max: node.maximum ?? null, above: node.exclusiveMinimum ?? null, below: node.exclusiveMaximum ?? null, pattern: node.pattern ?? null };
  if (node.enum) return { kind: "choice", options: node.enum };
  if (node.type === "boolean") return { kind: "flag" };
  if (node.type === "integer" || node.type === "number") return { kind: "number", whole: node.type === "integer", ...bounds };
  if (node.type === "array") return node.items?.enum ? { kind: "choices", options: node.items.enum } : { kind: "list" };
  if (node.type === "object") return { kind: "map" };
  return { kind: "text", ...bounds };
}

export function getAt(values, path) {
  return path.split(".").reduce((value, key) => value?.[key], values);
}

/** Return values with one exchanged; nothing that was given is changed. */
export function setAt(values, path, value) {
  const [key, ...rest] = path.split(".");
  return { ...values, [key]: rest.length ? setAt(values?.[key] ?? {}, rest.join("."), value) : value };
}

export function same(a, b) {
  return JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
}

/** Turn what was typed into a value of the setting. `words` says what is wrong with it. */
export function read(setting, text, words) {
  const typed = text.trim();
  if (setting.kind === "list") return { value: typed ? typed.split(",").map((one) => one.trim()).filter(Boolean) : setting.nullable ? null : [] };
  if (setting.kind === "map") return readMap(typed, words);
  if (!typed && setting.nullable) return { value: null };
  if (setting.kind === "text") return { value: typed };
  const value = Number(typed);
  if (!typed || !Number.isFinite(value)) return { error: words.notNumber };
  if (setting.whole && !Number.isInteger(value)) return { error: words.notWhole };
  const { min, max, above, below } = setting;
  const inside = (min === null || value >= min) && (max === null || value <= max) && (above === null || value > above) && (below === null || value < below);
  return inside ? { value } : { error: words.outside(range(setting)) };
}

function readMap(typed, words) {
  if (!typed) return { value: {} };
  try {
    const value = JSON.parse(typed);
    if (value && typeof value === "object" && !Array.isArray(value)) return { value };
  } catch {
    // said below
  }
  return { error: words.notMap };
}

/** "0 ≤ x < 1", or "" where nothing is bounded. */
export function range({ min, max, above, below }) {
  const low = min !== null && min !== undefined ? `${min} ≤ ` : above !== null && above !== undefined ? `${above} < ` : "";
  const high = max !== null && max !== undefined ? ` ≤ ${max}` : below !== null && below !== undefined ? ` < ${below}` : "";
  return low || high ? `${low}x${high}` : "";
}
