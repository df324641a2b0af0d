// A layer to prune and quantize when no run is at hand: toy weights with rows of unlike size, as real layers have.

import { derived, normal } from "./random.js";

export const ROWS = 48;
export const COLUMNS = 32;

/** Return toy weights [ROWS, COLUMNS]: rows differ in scale (log-normal, sd 0.5), as trained layers' units do. */
export function toyLayer(seed) {
  const g = normal(derived(seed, "layer"));
  const values = new Float64Array(ROWS * COLUMNS);
  for (let row = 0; row < ROWS; row++) {
    const scale = 0.05 * Math.exp(0.5 * g());
    for (let column = 0; column < COLUMNS; column++) values[row * COLUMNS + column] = scale * g();
  }
  return { values, rows: ROWS, columns: COLUMNS };
}
