import { Gate } from './gate.js'

const state = document.querySelector('#state')
const files = document.querySelector('#files')
const REASONS = { ood: 'It is of no kind that the model was trained on', uncertain: 'It is known, but the answer would be wrong too often' }

function say(text, failed = false) {
  state.textContent = text
  state.classList.toggle('failed', failed)
}

async function start() {
  const bundle = new URLSearchParams(location.search).get('bundle') ?? 'bundle'
  try {
    const gate = await Gate.load(new URL(`${bundle.replace(/\/$/, '')}/`, location.href), say)
    const agree = gate.golden.length ? `${gate.golden.length} golden images agree` : 'no golden images to check'
    say(`${gate.manifest.model.name} · ${gate.engine}, onnxruntime-web ${gate.version} · ${agree}`)
    listen(gate)
  } catch (error) {
    say(error.message, true)
  }
}

function listen(gate) {
  const take = list => [...list].filter(file => file.type.startsWith('image/')).forEach(file => show(gate, file))
  files.disabled = false
  document.querySelector('#drop').removeAttribute('aria-disabled')
  files.addEventListener('change', () => {
    take(files.files)
    files.value = ''
  })
  document.addEventListener('drop', event => take(event.dataTransfer.files))
  document.addEventListener('paste', event => take(event.clipboardData.files))
}

async function show(gate, file) {
  const card = document.querySelector('#card').content.firstElementChild.cloneNode(true)
  const part = selector => card.querySelector(selector)
  const address = URL.createObjectURL(file)
  card.setAttribute('aria-label', file.name)
  card.dataset.state = 'waiting'
  part('h2').textContent = file.name
  part('img').src = address
  part('img').addEventListener('load', () => URL.revokeObjectURL(address))
  document.querySelector('#cards').prepend(card)
  try {
    fill(part, gate.manifest, await gate.decide(file), card)
  } catch (error) {
    card.dataset.state = 'failed'
    part('.verdict').textContent = 'No answer'
    part('.said').textContent = `Not an image that this browser decodes: ${error.message}`
  }
}

function fill(part, manifest, found, card) {
  const { score } = found
  card.dataset.state = found.decision
  part('.verdict').textContent = found.decision
  part('h2').textContent = found.label ?? (found.decision === 'accept' ? 'Known' : 'Unknown')
  if (found.reason === 'uncertain') part('h2').textContent = 'Uncertain'
  part('.said').textContent =
    `${found.reason ? `${REASONS[found.reason]}. ` : ''}${found.width} × ${found.height}, ${found.milliseconds.toFixed(1)} ms`
  for (const [name, probability] of top(manifest, found.probabilities ?? [])) {
    const item = document.createElement('li')
    item.style.setProperty('--share', probability)
    item.append(element('span', name), element('span', `${(100 * probability).toFixed(1)} %`))
    part('.top').append(item)
  }
  part('meter').value = score.p_value
  part('meter').low = manifest.gate.alpha
  part('meter').setAttribute('aria-label', 'p-value')
  const share = (100 * score.p_value).toPrecision(2)
  part('.p-value span').textContent = `p = ${score.p_value.toPrecision(2)}: ${share} % of known images score as low or lower`
  for (const [name, value] of Object.entries(found.scores)) {
    const row = element('tr', '')
    const limit = name === score.name ? `at least ${score.threshold.toPrecision(6)}` : ''
    row.append(element('th', name), element('td', value.toPrecision(6)), element('td', limit))
    row.firstChild.scope = 'row'
    part('tbody').append(row)
  }
}

function top(manifest, probabilities) {
  const named = Array.from(probabilities, (probability, k) => [manifest.labels[k], probability])
  return named.sort((a, b) => b[1] - a[1]).slice(0, 3)
}

function element(name, text) {
  const made = document.createElement(name)
  made.textContent = text
  return made
}

for (const kind of ['dragover', 'drop']) document.addEventListener(kind, event => event.preventDefault())
start()
