// Show how passages were ranked by each stage of a search, and how far they moved.

import { h, svg, text } from "./dom.js";
import { titleOf } from "./hits.js";

const STAGES = [["text", "Text"], ["dense", "Dense"], ["fused", "Fused"], ["reranked", "Reranked"]];
const MOVED_FROM = { fused: "dense", reranked: "fused" };
const ROW = 22; // pixels between two ranks that are drawn
const COLUMN = 96;
const DRAWN = 10; // passages whose lines can be told apart

export function stagesOf(hits) {
  return STAGES.filter(([stage]) => hits.some(hit => hit.ranks?.[stage] != null));
}

export function ranksOf(hits, cited = new Set()) {
  const stages = stagesOf(hits);
  if (!stages.length) return h("p.quiet", {}, "The server tells no ranks of these passages.");
  return h("div.ranks", {}, stages.length > 1 && slope(hits.slice(0, DRAWN), stages, cited), table(hits, stages, cited));
}

function table(hits, stages, cited) {
  const names = new Set(stages.map(([stage]) => stage));
  return h("div.scrolling", { tabindex: "0", role: "region", "aria-label": "Ranks and scores" },
    h("table.scores", {},
      h("caption", {}, "Rank by each stage, with its score",
        names.has("fused") && names.has("dense") && "; ▲ and ▼: places moved",
        hits.length > DRAWN && `; the best ${DRAWN} are drawn`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Passage"),
        stages.map(([, label]) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, hits.map((hit, place) => h(cited.has(hit.number) ? "tr.is-cited" : "tr", {},
        h("th", { scope: "row" }, h("span.number", {}, `${hit.number ?? place + 1} `), text("span", titleOf(hit))),
        stages.map(([stage]) => cell(hit, stage, names)))))));
}

function cell(hit, stage, names) {
  const rank = hit.ranks?.[stage];
  if (rank == null) return h("td", {}, h("span.quiet", { title: "not among those that this stage found" }, "–"));
  const before = names.has(MOVED_FROM[stage]) ? hit.ranks[MOVED_FROM[stage]] : null;
  const moved = before == null ? 0 : before - rank;
  const score = hit.scores?.[stage];
  return h("td", {}, h("b", {}, rank),
    moved !== 0 && h(moved > 0 ? "span.rose" : "span.fell", {},
      h("span", { "aria-hidden": "true" }, moved > 0 ? ` ▲${moved}` : ` ▼${-moved}`),
      h("span.hidden", {}, moved > 0 ? ` up ${moved}` : ` down ${-moved}`)),
    score != null && h("span.score", {}, ` ${short(score)}`));
}

export function short(score) {
  const size = Math.abs(score);
  return score.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

// Lines from stage to stage. Ranks are drawn in order, not to scale: 2 and 87 are neighbours.
function slope(hits, stages, cited) {
  const orders = stages.map(([stage]) => hits.filter(hit => hit.ranks?.[stage] != null)
    .sort((one, other) => one.ranks[stage] - other.ranks[stage]));
  const at = (hit, column) => {
    const place = orders[column].indexOf(hit);
    return place < 0 ? null : [48 + column * COLUMN, 30 + place * ROW];
  };
  const width = 96 + (stages.length - 1) * COLUMN;
  const height = 40 + Math.max(...orders.map(order => order.length)) * ROW;
  const drawing = svg("svg.slope", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  stages.forEach(([, label], column) => drawing.append(svgText(48 + column * COLUMN, 12, label, "stage")));
  for (const hit of [...hits].sort((one, other) => cited.has(one.number) - cited.has(other.number))) {
    const kind = cited.has(hit.number) ? "line is-cited" : "line";
    const points = stages.map((_, column) => at(hit, column)).filter(Boolean);
    if (points.length > 1) drawing.append(svg("polyline", { points: points.map(String).join(" "), class: kind }));
    for (const [column, [stage]] of stages.entries()) {
      const point = at(hit, column);
      if (point) drawing.append(...knot(point, hit.ranks[stage], kind));
    }
  }
  return drawing;
}

function knot([x, y], rank, kind) {
  const radius = String(rank).length > 2 ? 12 : 9;
  return [svg("circle", { cx: x, cy: y, r: radius, class: kind }), svgText(x, y + 4, rank, kind)];
}

function svgText(x, y, content, kind) {
  return svg("text", { x, y, "text-anchor": "middle", class: kind }, String(content));
}
