// Start the page: ask the server what it offers, and open what the address names.

import { get, key, Refusal } from "./api.js";
import { offer, offerExamples, startComposer } from "./composer.js";
import { ask, newConversation, showConversation, showKept, shownConversation } from "./conversation.js";
import { showDocuments, takeDrops } from "./documents.js";
import { $, icon } from "./dom.js";
import { showHistory } from "./history.js";
import { listen, showHelp } from "./keyboard.js";
import { togglePane } from "./pane.js";
import { startPreviews } from "./preview.js";
import { problem } from "./problems.js";
import { learn } from "./served.js";
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
    await learn();
  } catch (error) {
    if (error.status !== 401) {
      $("trouble").replaceChildren(problem(error, connect));
      return;
    }
    askForKey(key.get() ? error.message : "");
    key.forget();
    return;
  }
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
    const gone = new Refusal(404, "This server doesn't keep the answer that the link names. Ask its question here.");
    $("trouble").replaceChildren(problem(error.status === 404 ? gone : error, null));
  }
}

addEventListener("dalm-served", () => {
  $("key-form").hidden = true;
  $("trouble").replaceChildren();
  offer();
  document.body.classList.add("is-ready");
});

$("key-form").onsubmit = event => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  connect();
};
addEventListener("dalm-key", () => askForKey("The key is missing or wrong."));

const BUTTONS = {
  new: ["plus", () => { newConversation(); $("question").focus(); }],
  history: ["clock", () => togglePane("history", () => showHistory(showConversation, shownConversation))],
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
