// Making a toy network smaller: units are cut out, weights are rounded, and what that saves is counted.

import { cutUnits } from "./cut.js";
import { quantize } from "./grid.js";

/** Return the L2 norm of each hidden unit of a layer: of the weights it reads, its bias and the weights that read it. */
export function unitNorms(net, layer) {
  const [inputs, units, outputs] = [net.widths[layer], net.widths[layer + 1], net.widths[layer + 2]];
  return Array.from({ length: units }, (_, u) => {
    let sum = net.biases[layer][u] ** 2;
    for (let k = 0; k < inputs; k++) sum += net.weights[layer][u * inputs + k] ** 2;
    for (let o = 0; o < outputs; o++) sum += net.weights[layer + 1][o * units + u] ** 2;
    return Math.sqrt(sum);
  });
}

/** Return a network without a share of the hidden units of each layer, those of least norm; the shapes really shrink. */
export function pruned(net, share) {
  let result = net;
  for (let layer = 0; layer < net.widths.length - 2; layer++) {
    result = keepUnits(result, layer, cutUnits(unitNorms(net, layer), share).kept);
  }
  return result;
}

/** Return a network that keeps these units of one hidden layer: their rows, their biases, and what reads them. */
export function keepUnits(net, layer, kept) {
  const widths = [...net.widths];
  const [inputs, units, outputs] = widths.slice(layer, layer + 3);
  widths[layer + 1] = kept.length;
  const weights = [...net.weights];
  const biases = [...net.biases];
  weights[layer] = Float64Array.from({ length: kept.length * inputs }, (_, i) => {
    return net.weights[layer][kept[Math.floor(i / inputs)] * inputs + (i % inputs)];
  });
  biases[layer] = Float64Array.from(kept, (u) => net.biases[layer][u]);
  weights[layer + 1] = Float64Array.from({ length: outputs * kept.length }, (_, i) => {
    return net.weights[layer + 1][Math.floor(i / kept.length) * units + kept[i % kept.length]];
  });
  return { widths, weights, biases };
}

/** Return a network with rounded weights (symmetric, one step a row); biases stay; 32 bits is the network itself. */
export function roundedNet(net, bits, perChannel = true) {
  if (bits >= 32) return net;
  const weights = net.weights.map((w, l) => quantize(w, net.widths[l], bits, perChannel).values);
  return { ...net, weights };
}

/**
 * Count what a network needs. Nothing is timed: on so small a net a clock would show the browser, not the model.
 *
 * @returns {{parameters: number, operations: number, bytes: number}} operations: multiply-adds of one point; bytes:
 *   weights at `bits` (a 4-byte step a row when below 32), biases at 4 bytes
 */
export function counted(net, bits = 32) {
  const operations = net.weights.reduce((sum, w) => sum + w.length, 0);
  const biases = net.biases.reduce((sum, b) => sum + b.length, 0);
  const rows = net.widths.slice(1).reduce((sum, width) => sum + width, 0);
  const weightBytes = net.weights.reduce((sum, w) => sum + Math.ceil((w.length * bits) / 8), 0);
  return { parameters: operations + biases, operations, bytes: weightBytes + 4 * biases + (bits < 32 ? 4 * rows : 0) };
}
