// The state of the playground lives in the address, so that a link shows the same picture. Only what differs from the defaults is written.
//
//   read(fields) -> {state, problems}     write(route, state, fields) -> the address, also set in the browser (no new history entry)
//   fields: {key: {value, kind: "number"|"choice"|"text", low?, high?, step?, choices?}}      hide= is kept as it is

/** Read the query of the hash; a value that is not allowed becomes the default and is told. */
export function read(fields, hash = location.hash) {
  const query = new URLSearchParams(hash.split("?")[1] ?? "");
  const state = {};
  const problems = [];
  for (const [key, field] of Object.entries(fields)) {
    const given = query.get(key);
    const value = given === null ? field.value : allowed(given, field);
    if (value === null) problems.push({ key, given });
    state[key] = value ?? field.value;
  }
  const hidden = new Set((query.get("hide") ?? "").split(",").filter(Boolean));
  return { state, hidden, problems };
}

function allowed(given, { kind, low, high, choices }) {
  if (kind === "choice") return choices.includes(given) ? given : null;
  if (kind === "text") return given;
  const number = Number(given);
  return given.trim() !== "" && number >= low && number <= high ? number : null;
}

/** Return the hash of a state. */
export function hashOf(route, state, fields, hidden = new Set()) {
  const query = new URLSearchParams();
  for (const [key, field] of Object.entries(fields)) {
    if (state[key] !== field.value) query.set(key, String(state[key]));
  }
  if (hidden.size) query.set("hide", [...hidden].join(","));
  const tail = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  return `#/${route}${tail ? `?${tail}` : ""}`;
}

/** Put a state into the address without a new entry in the history. */
export function write(route, state, fields, hidden) {
  history.replaceState(history.state, "", hashOf(route, state, fields, hidden));
}
