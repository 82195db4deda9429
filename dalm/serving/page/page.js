// Ask the server's chat completions, show the answer as it arrives and the passages it was read from.
// Whatever comes from the server is inserted as text, never as markup.

const $ = id => document.getElementById(id);
const MARK = /[\[［【]\s*(\d+(?:\s*[,;，；、]\s*\d+)*)\s*[\]］】]/g;
const KEY = "dalm-api-key";
const REMEMBERED = 20; // messages sent along with a follow-up question

let messages = [];
let running = null; // the AbortController of the question that is being answered

// Requests

function headers() {
  const key = sessionStorage.getItem(KEY);
  const found = { "Content-Type": "application/json" };
  return key ? { ...found, Authorization: `Bearer ${key}` } : found;
}

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function refusal(response) {
  let message = `The server answers with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch { /* no JSON: a proxy's page */ }
  const wait = response.headers.get("Retry-After");
  return new Refusal(response.status, wait ? `${message} (again in ${wait} s)` : message);
}

// Yield the JSON objects of a stream of server-sent events.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The connection ended before the answer did.");
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

async function models() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) throw await refusal(response);
  return (await response.json()).data;
}

// What is shown

function citedNumbers(text) {
  const numbers = [...text.matchAll(MARK)].flatMap(mark => mark[1].match(/\d+/g));
  return new Set(numbers.map(Number));
}

// Insert an answer, its citations as buttons that lead to the passages.
function showAnswer(turn, text) {
  const parts = [];
  let end = 0;
  for (const mark of text.matchAll(MARK)) {
    parts.push(`${text.slice(end, mark.index).trimEnd()}\u202f`); // no line begins with a mark
    for (const number of mark[1].match(/\d+/g).map(Number)) {
      if (turn.passages.has(number)) parts.push(markButton(turn, number));
    }
    end = mark.index + mark[0].length;
  }
  turn.answer.replaceChildren(...parts, text.slice(end));
}

function markButton(turn, number) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "mark";
  button.textContent = number;
  button.ariaLabel = `passage ${number}`;
  button.onclick = () => {
    turn.details.open = true;
    const passage = turn.passages.get(number);
    passage.scrollIntoView({ block: "nearest" });
    passage.focus({ preventScroll: true });
  };
  return button;
}

function fill(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

function showPassages(turn, citations) {
  if (!citations.length || turn.passages.size) return;
  for (const citation of citations) {
    const item = $("passage").content.cloneNode(true).firstElementChild;
    const place = [citation.source, citation.page == null ? "" : `page ${citation.page}`];
    fill(item.querySelector(".number"), `${citation.number}.`);
    fill(item.querySelector(".title"), citation.title || citation.source || citation.id);
    fill(item.querySelector(".headings"), (citation.headings ?? []).join(" › "));
    fill(item.querySelector(".text"), citation.text);
    fill(item.querySelector(".origin"), place.filter(Boolean).join(", "));
    turn.passages.set(citation.number, item);
  }
  turn.details.querySelector("ol").replaceChildren(...turn.passages.values());
  turn.details.hidden = false;
  countPassages(turn, 0);
}

function countPassages(turn, cited) {
  const count = turn.passages.size;
  const read = `${count} passage${count === 1 ? "" : "s"} read`;
  turn.details.querySelector("summary").textContent = cited ? `${read}, ${cited} cited` : read;
}

function markCited(turn, text) {
  let cited = 0;
  for (const number of citedNumbers(text)) {
    const passage = turn.passages.get(number);
    if (!passage) continue;
    cited += 1;
    passage.classList.add("is-cited");
    passage.querySelector(".cited").hidden = false;
  }
  countPassages(turn, cited);
}

function newTurn(question) {
  const item = $("turn").content.cloneNode(true).firstElementChild;
  item.querySelector(".question").textContent = question;
  $("turns").append(item);
  $("hint").hidden = true;
  $("new").hidden = false;
  item.scrollIntoView({ block: "start" });
  return {
    answer: item.querySelector(".answer"),
    note: item.querySelector(".note"),
    details: item.querySelector(".passages"),
    passages: new Map(),
  };
}

function note(turn, text, bad = false) {
  fill(turn.note, text);
  turn.note.classList.toggle("bad", bad);
}

function askForKey(message) {
  $("key-form").hidden = false;
  if (message) $("key-note").textContent = message;
  $("key").focus();
}

// Asking

async function answer(turn, asked, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST", headers: headers(), signal,
    body: JSON.stringify({ model: $("model").textContent || "dalm", messages: asked, stream: true }),
  });
  if (!response.ok) throw await refusal(response);
  let text = "";
  for await (const event of events(response.body)) {
    if (event.error) throw new Refusal(0, event.error.message);
    if (event.citations) showPassages(turn, event.citations);
    text += event.choices?.[0]?.delta?.content ?? "";
    turn.text = text;
    showAnswer(turn, text);
  }
}

async function ask(question) {
  const turn = newTurn(question);
  turn.text = "";
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  const asked = [...messages, { role: "user", content: question }].slice(-REMEMBERED);
  try {
    await answer(turn, asked, running.signal);
    const found = turn.passages.size > 0;
    turn.answer.classList.toggle("absent", !found);
    if (!turn.text) note(turn, found ? "The answer is empty." : "This is not in the documents.");
    else if (!found) note(turn, "Not in the documents: no passage was read for this.");
  } catch (error) {
    if (error.name === "AbortError") note(turn, "Stopped.");
    else note(turn, error instanceof TypeError ? "The server can't be reached." : error.message, true);
    if (error.status === 401) askForKey(error.message);
  } finally {
    running = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    turn.answer.ariaBusy = "false";
    markCited(turn, turn.text);
    $("status").textContent = turn.note.textContent || "The answer is complete.";
  }
  if (turn.text) messages = [...asked, { role: "assistant", content: turn.text }];
}

$("ask").onsubmit = event => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  $("question").value = "";
  ask(question);
};
$("question").onkeydown = event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
};
$("stop").onclick = () => running?.abort();
$("new").onclick = () => {
  running?.abort();
  messages = [];
  $("turns").replaceChildren();
  $("hint").hidden = false;
  $("new").hidden = true;
  $("question").focus();
};
$("key-form").onsubmit = event => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  connect();
};

async function connect() {
  try {
    const [first] = await models();
    $("model").textContent = first?.id ?? "";
    $("key-form").hidden = true;
    $("question").focus();
  } catch (error) {
    if (error.status === 401) {
      askForKey(sessionStorage.getItem(KEY) ? error.message : "");
      sessionStorage.removeItem(KEY);
    } else {
      $("hint").textContent = error instanceof TypeError ? "The server can't be reached." : error.message;
    }
  }
}

connect();
