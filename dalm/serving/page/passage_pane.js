// Show a passage in the pane: where it stands, what supports the answer, its neighbours, the original.

import { get, key, request } from "./api.js";
import { button, h, icon, text } from "./dom.js";
import { canJudge, judgePassage } from "./feedback.js";
import { headingsOf, markedText, placeOf, spansOf, titleOf } from "./hits.js";
import { openPane } from "./pane.js";
import { short, stagesOf } from "./ranks.js";
import { page } from "./state.js";

const NEIGHBOUR = 420; // characters shown of a neighbour
const WORDS = 6; // of a text fragment's beginning

// `hits` are those to step through with the arrows.
export function pinPassage(record, hit, hits, changed) {
  const before = h("p.neighbour.before", { dir: "auto", hidden: true });
  const after = h("p.neighbour.after", { dir: "auto", hidden: true });
  const original = h("div.original", {});
  const body = [
    headingsOf(hit) && text("p.path", headingsOf(hit)),
    placeOf(hit) && text("p.quiet", placeOf(hit)),
    stepper(record, hit, hits, changed),
    h("div.reading", {}, before, h("p.pinned", { dir: "auto" }, markedText(hit)), after),
    original,
    canJudge(record) && judgePassage(record, hit, { right: true, changed }),
    scores(hit),
  ];
  openPane(`passage ${record.id ?? ""} ${hit.id}`, titleOf(hit), body, {
    label: `Passage ${hit.number}: ${titleOf(hit)}`,
    onclose: () => current(null),
  });
  current(hit, record);
  showNeighbours(hit, before, after);
  if (page.can.originals && hit.source) offerOriginal(hit, original);
}

// Mark the chips and rows of what is pinned.
function current(hit) {
  for (const each of document.querySelectorAll("[aria-current]")) each.removeAttribute("aria-current");
  if (!hit) return;
  for (const each of document.querySelectorAll("button.passage")) {
    if (each.dataset.id === hit.id) each.setAttribute("aria-current", "true");
  }
}

function stepper(record, hit, hits, changed) {
  const place = hits.indexOf(hit);
  const step = (by, drawing, label, id) => {
    const next = hits[place + by];
    return button("", {
      icon: drawing, label, id, disabled: !next,
      onclick: () => {
        pinPassage(record, next, hits, changed);
        document.getElementById(id).focus();
      },
    });
  };
  if (hits.length < 2) return null;
  return h("div.row.stepper", {}, step(-1, "left", "Previous passage (←)", "pane-previous"),
    h("span.quiet", {}, `${place + 1} of ${hits.length}`), step(1, "right", "Next passage (→)", "pane-next"));
}

async function showNeighbours(hit, before, after) {
  let context;
  try {
    context = await get(`/v1/passages/${encodeURIComponent(hit.id)}/context`);
  } catch {
    return; // the passage may be gone since; it is shown as it was read
  }
  const above = context.before?.text ?? "";
  const below = context.after?.text ?? "";
  before.textContent = above.length > NEIGHBOUR ? `… ${above.slice(-NEIGHBOUR)}` : above;
  after.textContent = below.length > NEIGHBOUR ? `${below.slice(0, NEIGHBOUR)} …` : below;
  before.hidden = !above;
  after.hidden = !below;
}

function scores(hit) {
  const stages = stagesOf([hit]);
  if (!stages.length) return null;
  return h("dl.stages", { "aria-label": "Rank and score by stage" }, stages.map(([stage, label]) =>
    h("div", {}, h("dt", {}, label), h("dd", {}, `#${hit.ranks[stage]}`,
      hit.scores?.[stage] != null && h("span.quiet", {}, ` ${short(hit.scores[stage])}`)))));
}

// The original

async function offerOriginal(hit, place) {
  const address = `/v1/passages/${encodeURIComponent(hit.id)}/original`;
  let type;
  try {
    type = (await request(address, { method: "HEAD" })).headers.get("Content-Type") ?? "";
  } catch {
    return; // the server has no such file
  }
  const pdf = type.startsWith("application/pdf");
  const at = pdf ? (hit.page == null ? "" : `#page=${hit.page}`) : fragmentOf(hit);
  const label = `Open the original${pdf && hit.page != null ? ` at page ${hit.page}` : ""}`;
  const link = h("a", { href: address + at, target: "_blank", rel: "noopener" }, icon("open"), label);
  if (key.get()) link.onclick = event => openWithKey(event, address, pdf ? at : "", pdf);
  place.replaceChildren(link);
}

// The first words of what supports the answer, or of the passage: browsers scroll there.
function fragmentOf(hit) {
  const [start] = spansOf(hit)[0] ?? [0];
  const line = hit.text.slice(start).split("\n").find(each => each.trim()) ?? "";
  const words = line.trim().split(/\s+/).slice(0, WORDS).join(" ").slice(0, 80);
  return words && `#:~:text=${encodeURIComponent(words).replaceAll("-", "%2D")}`;
}

// A link carries no key: fetch the file with it. What isn't a PDF is saved, not run here.
async function openWithKey(event, address, at, pdf) {
  event.preventDefault();
  const link = event.currentTarget;
  const opened = pdf ? open("", "_blank") : null;
  try {
    const file = URL.createObjectURL(await (await request(address)).blob());
    if (opened) opened.location = file + at;
    else h("a", { href: file, download: "original" }).click();
    setTimeout(() => URL.revokeObjectURL(file), 60_000);
  } catch (error) {
    opened?.close();
    link.after(h("span.not-kept", {}, ` ${error.message}`));
  }
}
