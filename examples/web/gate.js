// A bundle in the browser: loaded, verified, and checked on its golden images before it decides on others.

import { decode, sha256 } from './decoding.js'
import { decision } from './rule.js'

const RUNTIME = './node_modules/onnxruntime-web/dist/'
const ENGINES = [
  { name: 'WebGPU', provider: 'webgpu', module: 'ort.webgpu.min.mjs', works: async () => Boolean(await navigator.gpu?.requestAdapter()) },
  { name: 'WebAssembly', provider: 'wasm', module: 'ort.wasm.min.mjs', works: async () => true },
]
const TOLERANCE = 1e-2 // relative, of each score

export class Gate {
  // url: of the bundle's folder, with a slash at its end; say(text) is told what is done.
  static async load(url, say = () => {}) {
    say('Loading the bundle')
    const manifest = await (await get(new URL('manifest.json', url))).json()
    if (!manifest.gate) throw new Error('The bundle has no threshold: calibrate it.')
    const model = await verified(url, manifest, 'pipeline.onnx')
    const problems = []
    for (const engine of ENGINES) {
      if (!(await engine.works())) continue
      say(`Starting ${engine.name}`)
      try {
        const ort = await import(RUNTIME + engine.module).catch(() => {
          throw new Error('onnxruntime-web is not there: run npm install in examples/web.')
        })
        const session = await ort.InferenceSession.create(model, { executionProviders: [engine.provider], logSeverityLevel: 3 })
        const gate = new Gate(manifest, ort, session, engine.name)
        say('Checking golden images')
        gate.golden = await replay(gate, url)
        const [wrong] = gate.golden.filter(one => one.differs)
        if (wrong) throw new Error(`${wrong.file} of the golden images differs in its ${wrong.differs}, so no answer would hold.`)
        return gate
      } catch (error) {
        problems.push(`${engine.name}: ${error.message}`)
      }
    }
    throw new Error(problems.join(' '))
  }

  constructor(manifest, ort, session, engine) {
    Object.assign(this, { manifest, ort, session, engine, version: ort.env.versions.web })
    this.last = Promise.resolve()
  }

  async decide(file) {
    return this.run(await decode(file, this.manifest.input.colour))
  }

  // One image at a time: a session has no two runs at once.
  run(pixels) {
    const next = this.last.then(() => this.#run(pixels))
    this.last = next.catch(() => {})
    return next
  }

  async #run({ data, width, height }) {
    const start = performance.now()
    const found = await this.session.run({ image: new this.ort.Tensor('uint8', data, [height, width, 3]) })
    const outputs = { logits: found.logits?.data ?? null, scores: found.scores.data, accept: Boolean(found.accept.data[0]) }
    return { ...decision(this.manifest, outputs), width, height, milliseconds: performance.now() - start }
  }
}

// What each golden image gives here, and the first stage in which that differs from the bundle's own account; null if none.
export async function replay(gate, url) {
  if (!gate.manifest.files['golden/golden.json']) return []
  const { images } = JSON.parse(new TextDecoder().decode(await verified(url, gate.manifest, 'golden/golden.json')))
  const found = []
  for (const expected of images) {
    const file = new Blob([await verified(url, gate.manifest, `golden/${expected.file}`)])
    const pixels = await decode(file, gate.manifest.input.colour)
    const given = { file: expected.file, decoded: await sha256(pixels.data), ...(await gate.run(pixels)) }
    found.push({ ...given, differs: difference(given, expected) })
  }
  return found
}

function difference(given, expected) {
  if (given.width !== expected.width || given.height !== expected.height) return 'size'
  if (!expected.file.endsWith('.jpg') && given.decoded !== expected.decoded) return 'pixels' // decoders of JPEG differ
  for (const [name, score] of Object.entries(expected.scores)) {
    const off = Math.abs(given.scores[name] - score)
    if (score === null ? Number.isFinite(given.scores[name]) : !(off <= TOLERANCE * Math.max(Math.abs(score), 1e-3))) return 'scores'
  }
  if (given.decision !== expected.decision || given.label !== expected.label) return 'decision'
  return null
}

async function verified(url, manifest, name) {
  const entry = manifest.files[name]
  if (!entry) throw new Error(`The bundle has no ${name}: run oodgate pipeline BUNDLE.`)
  const data = await (await get(new URL(name, url))).arrayBuffer()
  if (!globalThis.crypto?.subtle) throw new Error('Open this page over https or from localhost: hashes need that.')
  if ((await sha256(data)) !== entry.sha256) throw new Error(`${name} is not the one that the manifest lists.`)
  return data
}

async function get(url) {
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`${url} is not there (${answer.status}).`)
  return answer
}
