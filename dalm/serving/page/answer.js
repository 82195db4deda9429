// Draw an answer as it grows: blocks that stay are left alone, with their chips and selections.

import { button, h } from "./dom.js";
import { blocksOf, elementOf, unfinishedAway } from "./formatting.js";
import { previews } from "./preview.js";

export class AnswerView {
  // `pin(number)` shows the passage of a chip.
  constructor(pin) {
    this.element = h("div.answer", { "aria-busy": "true" });
    this.pin = pin;
    this.hits = new Map();
    this.drawn = [];
  }

  know(hits) {
    this.hits = new Map(hits.map(hit => [hit.number, hit]));
    this.drawn = [];
  }

  draw(text, { busy = false } = {}) {
    const blocks = blocksOf(unfinishedAway(text)); // a stopped answer may end in one, too
    const sources = blocks.map(block => `${block.kind}\n${block.lines.join("\n")}`);
    const same = sources.findIndex((source, place) => source !== this.drawn[place]);
    const kept = same < 0 ? sources.length : same;
    while (this.element.childNodes.length > kept) this.element.lastChild.remove();
    this.element.append(...blocks.slice(kept).map(block => elementOf(block, number => this.chip(number))));
    this.drawn = sources;
    this.element.setAttribute("aria-busy", String(busy));
  }

  // A citation's chip; null for a number that no passage has.
  chip(number) {
    const hit = this.hits.get(number);
    if (!hit) return null;
    const chip = button(String(number), { class: "chip", "data-number": number });
    chip.setAttribute("aria-label", `passage ${number}`);
    chip.onclick = () => this.pin(number);
    previews(chip, hit);
    return chip;
  }
}
