// Start the page: ask the server what it offers, and open what the address names.

import { get, key } from "./api.js";
import { offer, offerExamples, startComposer } from "./composer.js";
import { ask, newConversation, showConversation, showKept } from "./conversation.js";
import { showDocuments, takeDrops } from "./documents.js";
import { $, icon } from "./dom.js";
import { showHistory } from "./history.js";
import { listen, showHelp } from "./keyboard.js";
import { togglePane } from "./pane.js";
import { startPreviews } from "./preview.js";
import { problem } from "./problems.js";
import { page } from "./state.js";

const [TRIES, PAUSE] = [5, 2000]; // of asking for examples; milliseconds between

function askForKey(message) {
  $("key-form").hidden = false;
  if (message) $("key-note").textContent = message;
  $("key").focus();
}

async function connect() {
  $("trouble").replaceChildren();
  try {
    Object.assign(page, await get("/v1/page"));
  } catch (error) {
    if (error.status !== 401) {
      $("trouble").replaceChildren(problem(error, connect));
      return;
    }
    askForKey(key.get() ? error.message : "");
    key.forget();
    return;
  }
  $("key-form").hidden = true;
  $("model").textContent = page.model;
  $("generation").textContent = page.generation == null ? "" : `index generation ${page.generation}`;
  offer();
  document.body.classList.add("is-ready");
  awaitExamples(TRIES);
  $("question").focus();
  openAddress();
}

// A server that has just started is still choosing them.
function awaitExamples(tries) {
  if (page.examples.length || !tries) return;
  setTimeout(async () => {
    if ($("empty").hidden) return;
    const { examples } = await get("/v1/page").catch(() => page);
    page.examples = examples;
    offerExamples();
    awaitExamples(tries - 1);
  }, PAUSE);
}

// /?answer=ID shows a kept answer, /?q=QUESTION asks.
async function openAddress() {
  const address = new URLSearchParams(location.search);
  const [id, question] = [address.get("answer"), address.get("q")?.trim()];
  if (!id && !question) return;
  history.replaceState(null, "", "/");
  if (!id) {
    ask(question);
    return;
  }
  try {
    showKept(await get(`/v1/answers/${encodeURIComponent(id)}`));
  } catch (error) {
    $("trouble").replaceChildren(problem(error, null));
  }
}

$("key-form").onsubmit = event => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  connect();
};
addEventListener("dalm-key", () => askForKey("The key is missing or wrong."));

const BUTTONS = {
  new: ["plus", () => { newConversation(); $("question").focus(); }],
  history: ["clock", () => togglePane("history", () => showHistory(showConversation))],
  documents: ["file", () => togglePane("documents", showDocuments)],
  help: [null, () => togglePane("help", showHelp)],
};
for (const [id, [drawing, action]] of Object.entries(BUTTONS)) {
  if (drawing) $(id).prepend(icon(drawing));
  $(id).onclick = action;
}
// What is folded up is printed, too.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
startComposer();
startPreviews();
takeDrops();
listen();
connect();
