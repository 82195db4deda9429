// List the passages of an answer: those it cites, and apart those that were merely read.

import { h, icon, text } from "./dom.js";
import { canJudge, judgePassage } from "./feedback.js";
import { headingsOf, lineOf, placeOf, titleOf } from "./hits.js";

// `groups`: [[heading, hits, open]]; `pin(hit)` shows one in the pane.
export function passageList(record, groups, pin, changed) {
  return h("div.passages", {}, groups.filter(([, hits]) => hits.length).map(([heading, hits, open]) => {
    const list = h("ol", {}, hits.map(hit => row(record, hit, pin, changed)));
    if (open) return h("section", {}, h("h3", {}, heading), list);
    return h("details", {}, h("summary", {}, h("h3", {}, heading)), list);
  }));
}

function row(record, hit, pin, changed) {
  const place = [placeOf(hit), headingsOf(hit)].filter(Boolean).join(" · ");
  const open = h("button.passage", { type: "button", "data-id": hit.id, "data-number": hit.number },
    h("span.number", {}, h("span.hidden", {}, "passage "), hit.number),
    h("span.about", {}, text("span.title", titleOf(hit)), place && text("span.quiet.place", place)),
    text("span.snippet", lineOf(hit)),
    icon("right"));
  open.onclick = () => pin(hit);
  return h("li", { class: record.cited?.includes(hit.number) ? "is-cited" : null }, open,
    canJudge(record) && judgePassage(record, hit, { changed }));
}

// ↑ and ↓ go from passage to passage, also into what is folded up next.
export function stepThrough(list, current, by) {
  const rows = [...list.querySelectorAll("button.passage")].filter(each => each.checkVisibility());
  rows[rows.indexOf(current) + by]?.focus();
}
