// The page of the rejected images: lists them, shows them, deletes them.

import { byId, make, part, stamp } from "./dom.js";
import { ask } from "./server.js";
import { apart, compact, count, number, percent } from "./words.js";

const AT_ONCE = 48; // images

const list = byId("list");
const more = byId("more");
let after = null;

const tell = (text) => (byId("notice").textContent = text);

function card({ id, time, request_id, predicted, bytes, decision }) {
  const item = stamp("reject");
  const when = new Date(1000 * time);
  const address = `rejects/${encodeURIComponent(id)}`;
  const { name, value, threshold } = (decision.reason === "uncertain" && decision.selection) || decision.score;
  const [score, least] = apart(value, threshold);
  const why = decision.reason === "uncertain" ? "Known, but uncertain" : "Out of distribution";
  const image = part(item, "img");
  image.onerror = () => part(item, ".picture").replaceChildren(make("span", { className: "small", textContent: "no preview" }));
  image.src = `${address}/image`;
  image.alt = `Rejected on ${when.toLocaleString()}`;
  part(item, "a").href = image.src;
  const classless = decision.class_index === null;
  const sure = classless ? "" : `: ${percent(decision.confidence)} confident`;
  part(item, "h2").textContent = classless ? "Not something the model knows" : `Without the gate: ${predicted}`;
  part(item, ".figures").textContent = `${why}${sure}. ${name} ${score} is below ${least}, p\u00a0=\u00a0${number(decision.score.p_value, 2)}.`;
  part(item, "time").textContent = when.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  part(item, "time").dateTime = when.toISOString();
  part(item, ".request").textContent = `${compact(bytes)}B, request ${request_id}`;
  const button = part(item, "button");
  button.ariaLabel = `Delete the image of ${part(item, "time").textContent}`;
  button.onclick = () => remove(item, button, address);
  return item;
}

async function remove(item, button, address) {
  if (!confirm("Delete this image for good?")) return;
  button.disabled = true;
  try {
    await ask(address, { method: "DELETE" });
  } catch (error) {
    if (error.code !== "not_found") {
      button.disabled = false;
      tell(`Not deleted. ${error.message}`);
      return;
    }
  }
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  tell("Deleted.");
  (next ? part(next, "h2") : byId("title")).focus(); // the button that had it is gone
  if (!next) await load();
}

async function load() {
  more.disabled = true;
  try {
    const query = new URLSearchParams({ limit: AT_ONCE, ...(after && { after }) });
    const { rejects, next } = await ask(`rejects?${query}`);
    list.append(...rejects.map(card));
    after = next;
    more.hidden = next === null;
    if (!list.children.length) tell("None yet: nothing that was rejected is kept.");
    return rejects.length;
  } catch (error) {
    tell(error.message);
    return 0;
  } finally {
    list.ariaBusy = "false";
    more.disabled = false;
  }
}

more.onclick = async () => {
  const shown = list.children.length;
  const added = await load();
  if (!added) return;
  tell(`${count(added)} more.`);
  part(list.children[shown], "h2").focus();
};

load();
