// Show everything that an answer depended on: the exact prompt, settings, models, the index's generation.

import { get } from "./api.js";
import { h, text } from "./dom.js";
import { problem } from "./problems.js";

export function detailsOf(record) {
  const place = h("div.details", { "aria-busy": "true" }, h("p.quiet", {}, "Loading …"));
  load(record, place);
  return place;
}

async function load(record, place) {
  try {
    const answer = await get(`/v1/answers/${encodeURIComponent(record.id)}`);
    place.replaceChildren(facts(answer), h("h3", {}, "Prompt"), answer.prompt
      ? text("pre.prompt", answer.prompt, { tabindex: "0", "aria-label": "Prompt" })
      : h("p.quiet", {}, "No generator was asked."));
  } catch (error) {
    if (error.status === 404) {
      place.replaceChildren(h("p.quiet", {}, "The server no longer keeps the details of this answer."));
    } else {
      place.replaceChildren(problem(error, () => load(record, place)));
    }
  }
  place.removeAttribute("aria-busy");
}

function facts(answer) {
  const rows = [
    ["Question, as searched", answer.searched],
    ["Index generation", answer.generation],
    ...Object.entries(answer.models ?? {}),
    ...Object.entries(answer.settings ?? {}),
    ["answer", answer.id],
  ];
  const told = rows.map(([name, value]) => [name, words(value)]).filter(([, value]) => value);
  return h("dl.facts", {}, told.map(([name, value]) => h("div", {}, h("dt", {}, label(name)), text("dd", value))));
}

// A value as people read it; empty for nothing, and for lists and objects without anything.
function words(value) {
  if (value == null) return "";
  if (Array.isArray(value)) return value.join("; ");
  if (typeof value !== "object") return String(value);
  const known = Object.entries(value).map(([name, each]) => [name.replaceAll("_", " "), words(each)]);
  return known.filter(([, each]) => each).map(pair => pair.join(" ")).join(", ");
}

function label(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
