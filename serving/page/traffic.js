// The traffic of the service, live: how much is rejected, and whether it still looks like the calibration images.

import { byId, make, strongThen } from "./dom.js";
import { ask } from "./server.js";
import { atMost, count, number } from "./words.js";

const EVERY = 2000; // milliseconds

let keepsOutcomes = true;

const nearest = (share) => `${Math.round(1000 * share) / 10}%`;

function ago(seconds) {
  const [size, unit] = seconds < 90 ? [1, "second"] : seconds < 5400 ? [60, "minute"] : seconds < 129600 ? [3600, "hour"] : [86400, "day"];
  const many = Math.max(1, Math.round(seconds / size));
  return `${many} ${unit}${many === 1 ? "" : "s"}`;
}

/** The interval of the rejection rate beside what was promised. */
function drawRate(drift) {
  const [low, high] = drift.rejection_interval;
  const end = Math.min(1, Math.max(4 * drift.alpha, 1.1 * (drift.rejection_rate ?? 0)));
  const rate = byId("rate");
  const shares = { "--low": low, "--high": high, "--rate": drift.rejection_rate ?? 0, "--alpha": drift.alpha };
  for (const [name, share] of Object.entries(shares)) rate.style.setProperty(name, `${Math.min(100, (100 * share) / end)}%`);
  rate.hidden = !drift.images;
}

function showState(alarm, text) {
  const state = byId("state");
  if (state.textContent === text) return; // it is read aloud when it changes
  state.dataset.alarm = alarm;
  state.textContent = text;
}

function show(drift) {
  const known = `Promised: at most ${atMost(drift.alpha)} of known images.`;
  if (drift.images) {
    const [low, high] = drift.rejection_interval.map(nearest);
    const images = drift.images === 1 ? "the last image" : `the last ${count(drift.images)} images`;
    strongThen(byId("traffic"), `${nearest(drift.rejection_rate)} rejected as out of distribution`, `of ${images}, in ${ago(drift.seconds)} (95% interval ${low} to ${high}).`, known);
  } else {
    strongThen(byId("traffic"), "No images lately", known);
  }
  drawRate(drift);
  if (drift.alarm) {
    const since = new Date(1000 * drift.alarm_changed).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    showState(true, `Drift since ${since}`);
  } else {
    showState(false, "No sign of drift");
  }
  byId("uniformity").textContent = drift.images ? `Uniformity of p-values: p\u00a0=\u00a0${number(drift.uniformity.p_value, 2)}` : "";
}

function showOutcomes({ answers, error_rate, error_upper, confidence, promised }) {
  const element = byId("outcomes");
  element.hidden = !answers;
  if (!answers) return;
  const least = promised === null ? "" : ` Promised: at most ${atMost(promised)} of known images.`;
  element.textContent = `${nearest(error_rate)} of ${count(answers)} accepted answers whose label came were wrong, ${atMost(error_upper)} at most (${nearest(confidence)} sure, at any time).${least}`;
}

/** Whether the model in service may have outcomes; there is nothing to ask for once the server has said that it has none. */
export function askForOutcomes(may = true) {
  keepsOutcomes = may;
  if (!may) byId("outcomes").hidden = true;
}

/** Keep the numbers fresh while somebody looks. */
export async function watchTraffic() {
  if (!document.hidden) {
    try {
      show(await ask("drift"));
      if (keepsOutcomes) showOutcomes(await ask("outcomes"));
    } catch (error) {
      if (error.code === "not_found") askForOutcomes(false);
      else showUnknown(error);
    }
  }
  setTimeout(watchTraffic, EVERY);
}

function showUnknown(error) {
  byId("traffic").replaceChildren(make("b", { textContent: "Unknown" }), error.message);
  byId("rate").hidden = true;
  showState(false, "");
  for (const id of ["uniformity", "outcomes"]) byId(id).textContent = "";
}
