// Keep conversations in this browser, and show them again; the server has no part in it.

import { button, count, h, say, text } from "./dom.js";
import { closePane, openPane } from "./pane.js";
import { keep, read } from "./state.js";

const HISTORY = "dalm-history";
const MOST = 50; // conversations
const VIEWS = new Set(["answer", "search", "compare"]);

// What others wrote there, or an older page, is left out.
function kept() {
  const { on, conversations } = read(HISTORY, {});
  return { on: on !== false, conversations: Array.isArray(conversations) ? conversations.filter(isConversation) : [] };
}

function isConversation(each) {
  return typeof each?.id === "string" && Array.isArray(each.records) && each.records.length > 0 && each.records.every(isRecord);
}

function isRecord(each) {
  return VIEWS.has(each?.view) && typeof each.question === "string" && typeof each.text === "string" && Array.isArray(each.hits);
}

// Keep the records of a conversation, whose `id` and `at` are set; the oldest ones make room.
// One that another tab has gone on with, too, becomes another one.
export function remember(conversation, records) {
  const history = kept();
  if (!history.on || !records.length) return;
  const stored = history.conversations.find(each => each.id === conversation.id);
  if (stored?.at !== conversation.at) conversation.id = null;
  conversation.id ??= `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`;
  conversation.at = new Date().toISOString();
  const { id, at } = conversation;
  const others = history.conversations.filter(each => each.id !== id);
  const conversations = [{ id, at, records }, ...others].slice(0, MOST);
  while (conversations.length && !keep(HISTORY, { ...history, conversations })) conversations.pop();
}

// `show(records, conversation)` shows one again; `current()` is that which is shown.
export function showHistory(show, current) {
  const draw = () => openPane("history", "History", body(show, current, draw), { label: "History" });
  draw();
}

function body(show, current, draw) {
  const history = kept();
  const change = made => { // of what is kept by now: answers come in while the list is open
    const now = kept();
    keep(HISTORY, { ...now, ...made(now) });
    draw();
  };
  const on = h("input", { type: "checkbox", checked: history.on });
  on.onchange = () => change(() => ({ on: on.checked }));
  const list = history.conversations.map(conversation => row(conversation, show, current, () =>
    change(({ conversations }) => ({ conversations: conversations.filter(each => each.id !== conversation.id) }))));
  return [
    h("label.choice", {}, on, "Keep questions and answers in this browser"),
    list.length ? h("ol.history", {}, list) : h("p.quiet", {}, "Nothing is kept yet."),
    list.length > 0 && button("Clear the history", {
      icon: "bin",
      onclick: () => {
        change(() => ({ conversations: [] }));
        say("The history is empty.");
      },
    }),
  ];
}

function row(conversation, show, current, forget) {
  const { id, at, records } = conversation;
  const more = records.length > 1 ? `, ${count(records.length, "question")}` : "";
  const open = h("button.conversation", { type: "button" }, text("span.title", records[0].question),
    h("span.quiet", {}, new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) + more));
  open.onclick = () => {
    closePane();
    show(records, { id, at });
  };
  return h("li", { class: id === current().id ? "is-current" : null }, open,
    button("", { icon: "bin", label: `Forget: ${records[0].question}`, onclick: forget }));
}
