// What follows from the graph's outputs and the manifest; the counterpart of runtime/rule.py. `accept` is the graph's own.

// outputs: {logits: Float32Array or null, scores: Float32Array, accept: boolean}
export function decision(manifest, { logits, scores, accept }) {
  const { gate, labels } = manifest
  const named = Object.fromEntries(manifest.scores.map((name, column) => [name, scores[column]]))
  const index = logits && argmax(logits)
  const label = logits ? labels[index] : null
  const threshold = ofClass(gate.classes, label)?.threshold ?? gate.threshold
  const known = named[gate.score] >= threshold && scores.every(Number.isFinite)
  return {
    decision: accept ? 'accept' : 'reject',
    reason: accept ? null : known ? 'uncertain' : 'ood',
    label: accept ? label : null,
    class_index: index,
    score: { name: gate.score, value: named[gate.score], threshold, p_value: pValue(manifest, label, named[gate.score]) },
    scores: named,
    probabilities: logits && probabilities(manifest, logits),
  }
}

// (1 + how many calibration scores are at most this one) / (n + 1), rounded up to a stored rank.
export function pValue({ gate, calibration }, label, value) {
  const own = ofClass(gate.classes, label) && ofClass(calibration.classes, label)
  const ranks = own ? own.ranks : calibration.ranks
  const quantiles = own ? own.quantiles : calibration.quantiles[gate.score]
  const n = ranks.at(-1)
  if (!Number.isFinite(value)) return 1 / (n + 1)
  const at = quantiles.findIndex(quantile => Math.fround(quantile) > value)
  return (1 + (at < 0 ? n : ranks[at] - 1)) / (n + 1)
}

// softmax(f / T), or a sigmoid a label
export function probabilities({ task, confidence }, logits) {
  const scaled = Array.from(logits, logit => logit / (confidence?.temperature ?? 1))
  if (task === 'multilabel') return scaled.map(f => 1 / (1 + Math.exp(-f)))
  const most = Math.max(...scaled)
  const exponentials = scaled.map(f => Math.exp(f - most))
  const sum = exponentials.reduce((a, b) => a + b)
  return exponentials.map(e => e / sum)
}

// A class may be called as what every object has: constructor, toString ..
function ofClass(classes, label) {
  return Object.hasOwn(classes, label) ? classes[label] : undefined
}

function argmax(values) {
  return values.reduce((best, value, k) => (value > values[best] ? k : best), 0)
}
