// Scales and ticks. A scale maps a value to a pixel; ticks are round numbers inside its domain.

export function linear(low, high, from, to) {
  const span = high - low || 1;
  const at = (value) => from + ((value - low) / span) * (to - from);
  return Object.assign(at, { low, high, from, to, log: false });
}

export function log(low, high, from, to) {
  const a = Math.log10(low);
  const span = Math.log10(high) - a || 1;
  const at = (value) => from + ((Math.log10(value) - a) / span) * (to - from);
  return Object.assign(at, { low, high, from, to, log: true });
}

/** Return about `count` round values within the scale's domain. */
export function ticks(scale, count = 5) {
  return scale.log ? logTicks(scale.low, scale.high, count) : linearTicks(scale.low, scale.high, count);
}

function linearTicks(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) {
    out.push(Number((i * step).toPrecision(12)));
  }
  return out;
}

function logTicks(low, high, count) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    const out = [];
    for (let p = first; p <= last; p += 1) {
      for (const m of steps) {
        const value = Number((m * 10 ** p).toPrecision(12));
        if (value >= low * 0.999 && value <= high * 1.001) out.push(value);
      }
    }
    if (out.length >= Math.min(3, count)) return thin(out, count);
  }
  return linearTicks(low, high, count);
}

function thin(values, count) {
  const every = Math.ceil(values.length / (count * 1.5));
  return values.filter((_, i) => i % every === 0);
}

/** Return a domain that holds all values with `pad` of its span on either side. */
export function domain(values, { pad = 0.08, zero = false, logarithmic = false } = {}) {
  const known = values.filter((v) => Number.isFinite(v) && (!logarithmic || v > 0));
  if (!known.length) return logarithmic ? [1, 10] : [0, 1];
  let low = Math.min(...known);
  let high = Math.max(...known);
  if (logarithmic) {
    const grow = Math.max((high / low) ** pad, 1.15);
    return [low / grow, high * grow];
  }
  if (zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
  const span = high - low || Math.abs(high) || 1;
  if (!(zero && low === 0)) low -= span * pad;
  if (!(zero && high === 0)) high += span * pad;
  return [low, high];
}
