// What a passage is called, where it stands, and which of its text supports the answer.

import { h } from "./dom.js";

const FEW = 280; // characters of a preview

export function titleOf(hit) {
  return hit.title || hit.headings?.at(-1) || hit.source || hit.id;
}

// manual.pdf, page 12
export function placeOf(hit) {
  const source = hit.source === titleOf(hit) ? "" : hit.source;
  return [source, hit.page == null ? "" : `page ${hit.page}`].filter(Boolean).join(", ");
}

// The headings above a passage; the title, if it is the first of them, is shown already.
export function headingsOf(hit) {
  const headings = hit.headings ?? [];
  return (headings[0] === titleOf(hit) ? headings.slice(1) : headings).join(" › ");
}

// The text for one line of a list: without the headings that it begins with.
export function lineOf(hit) {
  return hit.text.replace(/^(?:#+ .*\n+)+(?=.)/, "");
}

// The spans [start, end] of a passage's text that the server is certain about, in order.
export function spansOf(hit) {
  return (hit.support ?? []).map(span => (Array.isArray(span) ? span : [span.start, span.end]));
}

// A passage's text from `start` to `end`, its supporting spans marked.
export function markedText(hit, start = 0, end = hit.text.length) {
  const parts = [];
  let place = start;
  for (const [from, to] of spansOf(hit)) {
    if (to <= start || from >= end) continue;
    parts.push(hit.text.slice(place, Math.max(from, start)));
    place = Math.min(to, end);
    parts.push(h("mark", {}, hit.text.slice(Math.max(from, start), place)));
  }
  return [...parts, hit.text.slice(place, end)].filter(Boolean);
}

// The beginning of a passage, or what is around the supporting span.
export function previewOf(hit) {
  const [first] = spansOf(hit);
  const start = first && first[0] > FEW / 2 ? hit.text.lastIndexOf(" ", first[0] - FEW / 4) + 1 : 0;
  const end = Math.min(hit.text.length, Math.max(start + FEW, first ? first[1] + 40 : 0));
  return [start ? "… " : "", ...markedText(hit, start, end), end < hit.text.length ? " …" : ""];
}
