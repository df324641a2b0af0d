// Soft targets: softmax with a temperature, the distillation loss and its gradient. All in log space.

/** Return log softmax(logits / temperature), an array as long as the logits, in nats. */
export function logSoftmax(logits, temperature = 1) {
  const scaled = Array.from(logits, (z) => z / temperature);
  const most = Math.max(...scaled);
  const total = most + Math.log(scaled.reduce((sum, z) => sum + Math.exp(z - most), 0));
  return scaled.map((z) => z - total);
}

/** Return softmax(logits / temperature). */
export function softmax(logits, temperature = 1) {
  return logSoftmax(logits, temperature).map(Math.exp);
}

/** Return KL(p || q) in nats, given log-probabilities; outcomes that p forbids add nothing. */
export function divergence(logP, logQ) {
  return logP.reduce((sum, lp, i) => (lp === -Infinity ? sum : sum + Math.exp(lp) * (lp - logQ[i])), 0);
}

/** Return the entropy of a distribution in nats, given log-probabilities. */
export function entropy(logP) {
  return logP.reduce((sum, lp) => (lp === -Infinity ? sum : sum - Math.exp(lp) * lp), 0);
}

/**
 * Return the terms of the distillation loss of one sample, as lessen computes them.
 *
 * total = alpha · T² · KL(teacher_T || student_T) + (1 − alpha) · (−log student_1[label])
 *
 * @param {{teacher: number[], student: number[], label: number, temperature: number, alpha: number}} sample logits
 * @returns {{kl: number, soft: number, hard: number, total: number}} kl without T², soft with it; nats
 */
export function distillation({ teacher, student, label, temperature, alpha }) {
  const kl = divergence(logSoftmax(teacher, temperature), logSoftmax(student, temperature));
  const soft = temperature ** 2 * kl;
  const hard = -logSoftmax(student)[label];
  return { kl, soft, hard, total: alpha * soft + (1 - alpha) * hard };
}

/**
 * Return the gradient of `distillation(...).total` by the student's logits.
 *
 * The soft term's is T · (student_T − teacher_T): T² against the 1/T of each softened logit and the 1/T of the KL.
 */
export function distillationGradient({ teacher, student, label, temperature, alpha }) {
  const p = softmax(teacher, temperature);
  const q = softmax(student, temperature);
  const plain = softmax(student);
  return plain.map(
    (value, i) => alpha * temperature * (q[i] - p[i]) + (1 - alpha) * (value - (i === label ? 1 : 0)),
  );
}

/** Return what the student is pulled towards: alpha · teacher_T + (1 − alpha) · one-hot label. */
export function mixedTarget(teacher, label, temperature, alpha) {
  return softmax(teacher, temperature).map((p, i) => alpha * p + (1 - alpha) * (i === label ? 1 : 0));
}
