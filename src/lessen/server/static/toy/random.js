// Seeded random numbers: the same seed gives the same numbers in every browser, so a link reproduces a picture.

/** Return a generator of numbers in [0, 1), period about 2^32 (mulberry32, public domain, Tommy Ettinger). */
export function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Return a generator of standard normal numbers (Box and Muller 1958; both of each pair are used). */
export function normal(seed) {
  const draw = uniform(seed);
  let spare = null;
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - draw())); // 1 - u is never 0
    const angle = 2 * Math.PI * draw();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/** Return a seed for a named purpose, so that two purposes of one seed do not share their numbers (FNV-1a). */
export function derived(seed, purpose) {
  let hash = 0x811c9dc5 ^ (seed >>> 0);
  for (const character of purpose) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return hash >>> 0;
}

/** Return the items in a seeded random order (Fisher and Yates); the given list stays as it is. */
export function shuffled(items, seed) {
  const draw = uniform(seed);
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
