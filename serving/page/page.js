// The page of the service: sends images to `classify` and draws the decisions.

import { byId, make, part, stamp, strongThen } from "./dom.js";
import { drawGauge } from "./gauge.js";
import { ask } from "./server.js";
import { askForOutcomes, watchTraffic } from "./traffic.js";
import { apart, atMost, compact, count, inWords, number, percent } from "./words.js";

const AT_ONCE = 2; // requests
const KEPT = 40; // cards
const SHOWN = 12; // labels
const TOP = 3; // of which the likeliest

const MEANING = {
  msp: "probability of the likeliest class",
  max_logit: "largest logit",
  energy: "log-sum-exp of the logits",
  joint_energy: "evidence summed over all labels",
  nan: "mean of the active features",
  feature_norm: "sum of the features",
  confidence: "calibrated probability of the likeliest class",
};

const cards = byId("cards");
const gauges = new Map(); // card -> decision
const queue = [];
let active = 0;
let model = null;

// The server

function decide(image) {
  const form = new FormData();
  form.append("image", image);
  const coverage = model?.gate?.sets?.at(-1)?.coverage;
  const set = coverage ? `&set=${coverage}` : "";
  return ask(`classify?top=${TOP}${set}`, { method: "POST", body: form });
}

async function classify(image) {
  const start = performance.now();
  const decision = await decide(image).catch(async (error) => {
    if (error.code !== "unknown_set") throw error;
    await loadModel(); // another bundle serves, which has other sets or none
    return decide(image);
  });
  const milliseconds = performance.now() - start;
  if (!/^(accept|reject)$/.test(decision.decision) || !decision.score) throw new Error("The server's answer is no decision.");
  if (!modelOf(decision)) await loadModel();
  return { decision, milliseconds };
}

/** The model that decided, as far as it is known here: null after another bundle took its place. */
function modelOf(decision) {
  return decision.model?.sha256 === model?.sha256 ? model : null;
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer(); // fails for a folder, or a file that is gone
  } catch {
    throw new Error("This can't be read; choose an image file.");
  }
  return file;
}

async function download(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new Error("The sample can't be loaded from the server.");
  return response.blob();
}

// Cards

function write(card, state, texts) {
  card.dataset.state = state;
  for (const [selector, text] of Object.entries(texts)) part(card, selector).textContent = text;
}

function say(text) {
  const log = byId("log");
  log.append(make("p", { textContent: text }));
  while (log.children.length > 10) log.firstChild.remove();
}

function className(decision) {
  return decision.label ?? decision.top[0]?.label;
}

/** What a known image lacks for an answer. */
function doubt(decision) {
  const { selection } = decision;
  const [value, threshold] = apart(selection.value, selection.threshold);
  const bound = modelOf(decision)?.gate.max_error;
  const why = bound ? `, so that at most ${atMost(bound.rate)} of accepted answers are wrong` : "";
  return `Its ${selection.name} is ${value}; an answer takes ${threshold}${why}.`;
}

function showDecision(card, name, { decision, milliseconds }) {
  const accepted = decision.decision === "accept";
  const state = decision.reason === "uncertain" ? "uncertain" : decision.decision;
  const likeliest = `${className(decision)} (${percent(decision.confidence)})`;
  let title = "Not something this model knows";
  let said = `Without the gate it would have said ${likeliest}.`;
  if (decision.class_index === null) {
    if (accepted) title = "Something this model knows";
    said = "It has no classes: it tells known images from others.";
  } else if (state === "uncertain") {
    title = "Known, but not certain enough";
    said = `It would have said ${likeliest}. ${doubt(decision)}`;
  } else if (accepted && decision.labels) {
    title = decision.labels.join(", ") || "No label";
    said = `Likeliest: ${likeliest}.`;
  } else if (accepted) {
    title = className(decision);
    said = `${percent(decision.confidence)} confident`;
  }
  write(card, state, { ".word": state, h3: title, ".said": said });
  say(`${name}: ${state}. ${title}. ${said}`);
  showLikeliest(card, decision);
  showSet(card, decision);
  showScores(card, decision);
  const time = milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds);
  part(card, ".latency").textContent = `${time} ms, there and back`;
}

function showLikeliest(card, { top }) {
  const items = top.map(({ label, probability }) => {
    const item = make("li", { textContent: label });
    item.append(make("b", { textContent: percent(probability) }));
    item.style.setProperty("--share", Number.isFinite(probability) ? probability : 0);
    return item;
  });
  part(card, ".top").replaceChildren(...items);
}

function showSet(card, { set }) {
  const names = set?.labels.map(({ label }) => label).join(", ");
  part(card, ".set").textContent = set ? `One of: ${names}. True of ${percent(set.coverage)} of known images.` : "";
}

function showScores(card, decision) {
  const { score, scores } = decision;
  const [value, threshold] = apart(score.value, score.threshold);
  const gauge = part(card, ".gauge");
  gauge.ariaLabel = `${score.name} ${value}, accepted from ${threshold}`;
  part(gauge, ".value").textContent = `${score.name} ${value}`;
  part(gauge, ".least").textContent = `threshold ${threshold}`;
  part(gauge, ".marker").hidden = !Number.isFinite(score.value);
  const rows = Object.entries(scores).map(([key, figure]) => {
    const gates = key === score.name;
    const head = make("th", { scope: "row", textContent: gates ? `${key} (gate)` : key });
    const cells = [number(figure, 4), MEANING[key] ?? ""].map((textContent) => make("td", { textContent }));
    const row = make("tr", { className: gates ? "gate" : "" });
    row.append(head, ...cells);
    return row;
  });
  part(card, "tbody").replaceChildren(...rows);
  part(card, ".result").hidden = false;
  gauges.set(card, decision);
  place(card);
}

/** What a score is compared with: the calibration images, or those predicted as the same class where it has a threshold of its own. */
function knownTo(decision) {
  const histogram = modelOf(decision)?.calibration_histogram;
  const own = histogram?.classes[className(decision)];
  return histogram && { edges: histogram.edges, counts: own ?? histogram.counts };
}

/** Set a card's score beside those of the calibration images. */
function place(card) {
  const decision = gauges.get(card);
  const known = knownTo(decision);
  const n = known?.counts.reduce((a, b) => a + b, 0);
  drawGauge(part(card, ".gauge"), decision.score, known);
  part(card, ".known").textContent = known ? `Bars: ${count(n)} known images by score; those left of the threshold would be rejected.` : "";
  part(card, ".p-value").textContent = `${inWords(decision.score.p_value, n)} (p\u00a0=\u00a0${number(decision.score.p_value, 2)})`;
}

function showError(card, name, error) {
  const said = error.code ? `${error.message} (${error.code})` : error.message;
  write(card, "error", { ".word": "Error", h3: "No verdict", ".said": said });
  part(card, ".retry").hidden = false;
  say(`${name}: no verdict. ${said}`);
}

function forget(card) {
  const { src } = part(card, "img");
  if (src.startsWith("blob:")) URL.revokeObjectURL(src);
  gauges.delete(card);
  card.remove();
}

/** A card for an image: `read` promises its bytes, `preview` is an address to show it from. */
function makeCard(name, preview, read) {
  const card = stamp("card");
  const image = part(card, "img");
  image.onerror = () => part(card, "figure").classList.add("blank");
  image.src = preview;
  part(card, "figcaption").textContent = name;
  card.ariaLabel = name;
  const run = async () => {
    if (card.dataset.state !== "pending" || !card.isConnected) return;
    try {
      const answer = await classify(await read());
      if (card.isConnected) showDecision(card, name, answer);
    } catch (error) {
      if (card.isConnected) showError(card, name, error);
    }
    card.ariaBusy = "false";
  };
  part(card, ".retry").onclick = (event) => {
    event.target.hidden = true;
    card.focus(); // the button that had it is gone
    write(card, "pending", { ".word": "Looking", h3: "One moment", ".said": "" });
    enqueue(run);
  };
  return { card, run };
}

function enqueue(...runs) {
  queue.push(...runs);
  while (active < AT_ONCE && queue.length) {
    active++;
    queue.shift()().finally(() => {
      active--;
      enqueue();
    });
  }
}

function add(made) {
  if (!made.length) return;
  byId("verdicts").hidden = false;
  byId("notice").textContent = "";
  cards.prepend(...made.map(({ card }) => card));
  [...cards.children].slice(KEPT).forEach(forget);
  if (made.length > KEPT) byId("notice").textContent = `Only the first ${KEPT} images are shown.`;
  enqueue(...made.map(({ run }) => run));
  made[0].card.scrollIntoView({ block: "nearest" });
}

function addFiles(files) {
  add([...files].map((file) => makeCard(file.name, URL.createObjectURL(file), () => readable(file))));
}

// What a person does

byId("files").onchange = ({ target }) => {
  addFiles(target.files);
  target.value = ""; // the same file may be chosen again
};

byId("clear").onclick = () => {
  [...cards.children].forEach(forget);
  byId("verdicts").hidden = true;
  byId("files").focus();
};

document.onpaste = (event) => {
  if (event.clipboardData.files.length) addFiles(event.clipboardData.files);
};

document.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
};

document.ondragleave = (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
};

document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files.length) addFiles(event.dataTransfer.files);
  else byId("notice").textContent = "That was no file. Save the image first, or copy and paste it.";
};

// What the server says of itself

function showModel() {
  const { gate, input, labels } = model;
  const { name, arch, method, parameters } = model.model;
  const size = input?.width && `, sees ${input.width} × ${input.height} pixels`;
  strongThen(byId("model"), name, `${arch}, ${method}, ${compact(parameters)} parameters${size || ""}`);
  if (gate) {
    const [low, high] = gate.tpr_interval.map(percent);
    strongThen(
      byId("gate"),
      `${gate.score} ≥ ${number(gate.threshold)}`,
      `Set on ${count(gate.n_calibration)} known images to accept ${percent(gate.tpr_target)} of their kind`,
      `(expect ${low} to ${high}).`,
    );
    byId("promise").textContent = gate.promise;
  }
  const more = labels.length > SHOWN ? [`and ${count(labels.length - SHOWN)} more`] : [];
  const known = labels.length ? labels : ["Images like those that calibrated it, without classes"];
  const items = [...known.slice(0, SHOWN), ...more].map((textContent) => make("li", { textContent }));
  byId("labels").replaceChildren(...items);
  byId("rejects").hidden = !model.keeps_rejects;
  byId("footer").textContent = `oodgate ${model.version} on ${model.engine}, model ${model.sha256.slice(0, 12)}`;
}

async function loadModel() {
  try {
    model = await ask("model");
    showModel();
    for (const [card, decision] of gauges) if (modelOf(decision)) place(card);
    askForOutcomes();
  } catch (error) {
    strongThen(byId("model"), "Unknown", error.message);
    for (const id of ["gate", "labels"]) byId(id).textContent = "Unknown";
  }
  byId("facts").ariaBusy = "false";
}

async function loadSamples() {
  const samples = await ask("page/samples.json").catch(() => []);
  const items = samples.map(({ file, title }) => {
    const url = `page/samples/${encodeURIComponent(file)}`;
    const onclick = () => add([makeCard(title, url, () => download(url))]);
    const button = make("button", { type: "button", title, onclick });
    button.append(make("img", { src: url, alt: title, width: 192, height: 192 }));
    const item = make("li");
    item.append(button);
    return item;
  });
  byId("samples").replaceChildren(...items);
}

loadModel();
watchTraffic();
loadSamples();
