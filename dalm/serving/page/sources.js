// Choose the sources that are searched.

import { get } from "./api.js";
import { $, button, count, h, text } from "./dom.js";
import { closePane, openPane } from "./pane.js";
import { problem } from "./problems.js";
import { chosen } from "./state.js";

const PAGE = 1000; // of a list that is asked for at once

// Everything that a path lists.
export async function all(path) {
  const found = [];
  for (;;) {
    const { data, has_more: more } = await get(`${path}?limit=${PAGE}&offset=${found.length}`);
    found.push(...data);
    if (!more || !data.length) return found;
  }
}

export function showChosen() {
  const size = chosen.sources.size;
  const opens = $("sources");
  opens.querySelector(".label").textContent = size ? count(size, "source") : "All sources";
  opens.classList.toggle("is-on", size > 0);
}

export async function showSources() {
  const place = h("div", {}, h("p.quiet", {}, "Loading …"));
  openPane("sources", "Sources to search", place);
  try {
    place.replaceChildren(...choice(await all("/v1/sources")));
  } catch (error) {
    place.replaceChildren(problem(error, showSources));
  }
}

function choice(sources) {
  if (!sources.length) return [h("p.quiet", {}, "The documents of this index name no sources.")];
  const rows = sources.map(({ source, where, passages }) => {
    const box = h("input", { type: "checkbox", checked: chosen.sources.has(source) });
    box.onchange = () => {
      if (box.checked) chosen.sources.set(source, where);
      else chosen.sources.delete(source);
      showChosen();
    };
    return h("li", { "data-source": source.toLowerCase() }, h("label.choice", {}, box, text("span", source),
      h("span.quiet", {}, count(passages, "passage"))));
  });
  const everything = button("Search all sources", {
    onclick: () => {
      chosen.sources.clear();
      showChosen();
      closePane();
    },
  });
  return [h("div.row", {}, finder(rows), everything), h("ul.choices", {}, rows)];
}

// A box that leaves the rows whose data-source contains what is typed.
export function finder(rows) {
  const box = h("input", { type: "search", placeholder: "Find a source", "aria-label": "Find a source" });
  box.oninput = () => {
    const wanted = box.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.dataset.source.includes(wanted);
  };
  return box;
}
