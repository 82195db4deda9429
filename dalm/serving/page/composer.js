// The box: Enter asks; beside it what is searched, and how.

import { ask, isRunning, lastTurn, stop, watchRunning } from "./conversation.js";
import { $, button, h, icon, text } from "./dom.js";
import { showChosen, showSources } from "./sources.js";
import { togglePane } from "./pane.js";
import { chosen, page } from "./state.js";

const VIEWS = { answer: ["Ask", "Ask a question"], search: ["Find", "Find passages"], compare: ["Compare", "Ask two systems"] };
const MODES = { hybrid: "Text and vectors", dense: "Vectors alone", text: "Text alone" };

export function startComposer() {
  const box = $("question");
  $("ask").onsubmit = event => {
    event.preventDefault();
    submit(box.value.trim());
  };
  box.onkeydown = event => {
    if (event.isComposing || event.shiftKey) return;
    if (event.key === "Enter") {
      event.preventDefault();
      $("ask").requestSubmit();
    } else if (event.key === "ArrowUp" && !box.value && lastTurn()) {
      event.preventDefault();
      box.value = lastTurn().record.question;
    }
  };
  $("stop").onclick = stop;
  $("sources").prepend(icon("funnel"));
  $("sources").onclick = () => togglePane("sources", showSources);
  $("mode").onchange = () => { chosen.search = $("mode").value; };
  for (const radio of document.querySelectorAll("[name=view]")) {
    radio.onchange = () => choose(radio.value);
  }
  watchRunning(draw);
}

function submit(question) {
  if (!question || isRunning()) return;
  $("question").value = "";
  ask(question);
}

function choose(view) {
  chosen.view = view;
  [$("send").textContent, $("question").placeholder] = VIEWS[view];
  // Both systems of a comparison search as they do by themselves.
  for (const id of ["sources", "mode"]) $(id).hidden = view === "compare";
}

function draw(busy, problem) {
  $("send").hidden = busy;
  if (!busy && document.activeElement === $("stop")) $("question").focus();
  $("stop").hidden = !busy;
  $("new").hidden = !busy && !lastTurn();
  $("loading").hidden = !busy;
  if (problem?.status === 401) dispatchEvent(new Event("dalm-key"));
}

// Show what this server offers.
export function offer() {
  $("compare-view").hidden = !page.can.compare;
  $("mode").replaceChildren(...page.modes.map(mode => h("option", { value: mode }, MODES[mode] ?? mode)));
  if (page.modes.includes(chosen.search)) $("mode").value = chosen.search;
  chosen.search = $("mode").value;
  $("mode").disabled = page.modes.length < 2;
  offerExamples();
  showChosen();
}

export function offerExamples() {
  $("examples").replaceChildren(...page.examples.map(example => {
    const asks = text("button", example, { type: "button" });
    asks.onclick = () => submit(example);
    return h("li", {}, asks);
  }));
  $("examples-head").hidden = !page.examples.length;
}
