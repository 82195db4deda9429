// Learn what this server offers, and show what it answers with.

import { get } from "./api.js";
import { $ } from "./dom.js";
import { page } from "./state.js";

export async function learn() {
  Object.assign(page, await get("/v1/page"));
  $("model").textContent = page.model;
  tellGeneration(page.generation);
  dispatchEvent(new Event("dalm-served"));
}

// The index may have changed since the page was opened.
export function tellGeneration(number) {
  page.generation = number;
  $("generation").textContent = number == null ? "" : `index generation ${number}`;
}
