// Use the page by keys alone, and list them.

import { isRunning, lastTurn, newConversation, stop } from "./conversation.js";
import { $, h } from "./dom.js";
import { person, rename } from "./feedback.js";
import { closePane, isOpen, openPane, togglePane } from "./pane.js";
import { stepThrough } from "./passage_list.js";
import { hidePreview, isPreviewed } from "./preview.js";
import { keep, page, read } from "./state.js";

const SINGLE_KEYS = "dalm-single-keys";
const KEYS = [
  ["Enter", "ask; Shift+Enter begins a line"],
  ["/", "to the question", true],
  ["↑", "in the empty box: the last question again"],
  ["↑ ↓", "from passage to passage in a list"],
  ["1 … 9", "pin that passage of the last answer", true],
  ["← →", "in the pane: the passage before, the next one"],
  ["Esc", "close what is open; stop the answer; leave the box"],
  ["n", "a new conversation", true],
  ["?", "this list", true],
];

const singleKeys = () => read(SINGLE_KEYS, true);

export function showHelp() {
  const on = h("input", { type: "checkbox", checked: singleKeys() });
  on.onchange = () => keep(SINGLE_KEYS, on.checked);
  openPane("help", "Help", [
    h("h3", {}, "Keys"),
    h("dl.keys", {}, KEYS.map(([key, meaning]) =>
      h("div", {}, h("dt", {}, key.split(" ").map(each => (each === "…" ? " … " : h("kbd", {}, each)))), h("dd", {}, meaning)))),
    h("label.choice", {}, on, h("span", {}, "Single keys (", KEYS.filter(each => each[2]).map(each => each[0]).join(", "), ") work outside the box")),
    page.can.feedback && h("h3", {}, "Your judgments"),
    page.can.feedback && nameForm(),
  ]);
}

function nameForm() {
  const box = h("input", { id: "name", autocomplete: "name", maxlength: 60, value: person().name ?? "" });
  const told = h("span.quiet", { role: "status" });
  const form = h("form.row", {}, h("label", { for: "name" }, "Name"), box, h("button", {}, "Keep"), told,
    h("p.quiet", {}, `They are kept under this name; without one under the random id ${person().id}.`));
  form.onsubmit = event => {
    event.preventDefault();
    told.textContent = rename(box.value) ? "Kept." : "Not kept: this browser keeps nothing for this page.";
  };
  return form;
}

export function listen() {
  addEventListener("keydown", event => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
    if (event.key === "Escape") escape(event, typing);
    else if (!typing && (arrow(event) || (singleKeys() && single(event)))) event.preventDefault();
  });
}

function escape(event, typing) {
  if (isPreviewed()) hidePreview();
  else if (isOpen()) closePane();
  else if (isRunning()) stop();
  else if (typing) event.target.blur();
}

// Return whether the key was one of these.
function arrow({ key, target }) {
  const by = { ArrowUp: -1, ArrowDown: 1 }[key];
  const row = target.closest("button.passage");
  if (by && row) {
    stepThrough(row.closest(".passages"), row, by);
    return true;
  }
  const step = { ArrowLeft: "pane-previous", ArrowRight: "pane-next" }[key];
  const scrolls = target.closest("pre, .scrolling");
  if (!step || !$(step) || scrolls || target.matches("input")) return false;
  $(step).click();
  return true;
}

function single({ key }) {
  if (key === "/") $("question").focus();
  else if (key === "?") togglePane("help", showHelp);
  else if (key === "n" && !isRunning()) newConversation();
  else if (/^[1-9]$/.test(key) && lastTurn()?.pin && lastTurn().record.view !== "compare") lastTurn().pin(Number(key));
  else return false;
  if (key === "n") $("question").focus();
  return true;
}
