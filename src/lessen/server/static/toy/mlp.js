// A small fully connected network: tanh layers, exact gradients, Adam. No library, so that it can be read.

import { distillation, distillationGradient, logSoftmax } from "./soft.js";

/**
 * Make a network, weights normal with variance 1 / inputs (as suits tanh), biases 0.
 *
 * @param {number[]} widths of all layers, inputs and outputs included
 * @param {() => number} normal generator of standard normal numbers
 * @returns {{widths: number[], weights: Float64Array[], biases: Float64Array[]}} weights[l]: [widths[l+1], widths[l]]
 */
export function make(widths, normal) {
  const layers = widths.slice(1);
  return {
    widths: [...widths],
    weights: layers.map((out, l) => Float64Array.from({ length: out * widths[l] }, () => normal() / Math.sqrt(widths[l]))),
    biases: layers.map((out) => new Float64Array(out)),
  };
}

/** Return the values of every layer for n points: [0] the input, the last the logits, each [n, width]. */
export function layersOf(net, x) {
  const n = x.length / net.widths[0];
  const values = [x];
  net.weights.forEach((weight, l) => {
    const [inputs, outputs] = [net.widths[l], net.widths[l + 1]];
    const last = l === net.weights.length - 1;
    const from = values[l];
    const to = new Float64Array(n * outputs);
    for (let i = 0; i < n; i++) {
      for (let o = 0; o < outputs; o++) {
        let sum = net.biases[l][o];
        for (let k = 0; k < inputs; k++) sum += weight[o * inputs + k] * from[i * inputs + k];
        to[i * outputs + o] = last ? sum : Math.tanh(sum);
      }
    }
    values.push(to);
  });
  return values;
}

/** Return the logits for points, [n, classes]. */
export function logits(net, x) {
  return layersOf(net, x).at(-1);
}

/**
 * Return the mean loss over points and its gradients.
 *
 * @param {{x: Float64Array, labels: Uint8Array}} data
 * @param {{teacher: Float64Array|null, alpha: number, temperature: number}} how teacher: its logits [n, classes];
 *   null learns from the labels alone
 * @returns {{loss: number, soft: number, hard: number, weights: Float64Array[], biases: Float64Array[]}}
 */
export function gradients(net, data, how) {
  const values = layersOf(net, data.x);
  const top = lossAtTop(values.at(-1), data.labels, net.widths.at(-1), how);
  const weights = net.weights.map((w) => new Float64Array(w.length));
  const biases = net.biases.map((b) => new Float64Array(b.length));
  let delta = top.delta;
  for (let l = net.weights.length - 1; l >= 0; l--) {
    delta = backOne(net, l, values[l], delta, weights[l], biases[l]);
  }
  return { loss: top.loss, soft: top.soft, hard: top.hard, weights, biases };
}

/** Return the mean loss terms and the gradient by the logits, [n, classes]. */
function lossAtTop(out, labels, classes, { teacher, alpha, temperature }) {
  const n = labels.length;
  const delta = new Float64Array(out.length);
  const sums = { loss: 0, soft: 0, hard: 0 };
  for (let i = 0; i < n; i++) {
    const student = out.subarray(i * classes, (i + 1) * classes);
    const sample = {
      teacher: teacher ? teacher.subarray(i * classes, (i + 1) * classes) : student,
      student,
      label: labels[i],
      temperature,
      alpha: teacher ? alpha : 0,
    };
    const terms = distillation(sample);
    sums.loss += terms.total / n;
    sums.soft += terms.soft / n;
    sums.hard += terms.hard / n;
    distillationGradient(sample).forEach((g, c) => {
      delta[i * classes + c] = g / n;
    });
  }
  return { ...sums, delta };
}

/** Add one layer's gradients into `weight` and `bias`; return the gradient by what it read (through the tanh below). */
function backOne(net, l, from, delta, weight, bias) {
  const [inputs, outputs] = [net.widths[l], net.widths[l + 1]];
  const below = new Float64Array(from.length);
  const n = from.length / inputs;
  for (let i = 0; i < n; i++) {
    for (let o = 0; o < outputs; o++) {
      const d = delta[i * outputs + o];
      bias[o] += d;
      for (let k = 0; k < inputs; k++) {
        weight[o * inputs + k] += d * from[i * inputs + k];
        below[i * inputs + k] += d * net.weights[l][o * inputs + k];
      }
    }
  }
  if (l > 0) for (let i = 0; i < below.length; i++) below[i] *= 1 - from[i] ** 2;
  return below;
}

/** Return a fresh state of Adam for a network. */
export function adamState(net) {
  const zeros = (arrays) => arrays.map((a) => new Float64Array(a.length));
  const pair = () => [zeros(net.weights), zeros(net.biases)];
  return { step: 0, first: pair(), second: pair() };
}

/** Take one step of Adam (Kingma and Ba 2015, beta 0.9 and 0.999), in place. */
export function adam_(net, gradient, state, rate) {
  state.step += 1;
  const [keep1, keep2] = [0.9, 0.999];
  const size = rate / (1 - keep1 ** state.step);
  const warm = 1 - keep2 ** state.step;
  [net.weights, net.biases].forEach((arrays, kind) => {
    const slopes = kind === 0 ? gradient.weights : gradient.biases;
    arrays.forEach((values, l) => {
      const [m, v] = [state.first[kind][l], state.second[kind][l]];
      for (let i = 0; i < values.length; i++) {
        m[i] = keep1 * m[i] + (1 - keep1) * slopes[l][i];
        v[i] = keep2 * v[i] + (1 - keep2) * slopes[l][i] ** 2;
        values[i] -= (size * m[i]) / (Math.sqrt(v[i] / warm) + 1e-8);
      }
    });
  });
}

/** Return accuracy (share) and mean negative log-likelihood (nats) on labelled points. */
export function judged(net, data) {
  const out = logits(net, data.x);
  const classes = net.widths.at(-1);
  let [right, nll] = [0, 0];
  data.labels.forEach((label, i) => {
    const row = logSoftmax(out.subarray(i * classes, (i + 1) * classes));
    nll -= row[label];
    right += row.indexOf(Math.max(...row)) === label ? 1 : 0;
  });
  const n = data.labels.length;
  return { accuracy: right / n, nll: nll / n, n };
}
