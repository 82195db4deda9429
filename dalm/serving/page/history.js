// Keep conversations in this browser, and show them again; the server has no part in it.

import { button, count, h, say, text } from "./dom.js";
import { closePane, openPane } from "./pane.js";
import { keep, read } from "./state.js";

const HISTORY = "dalm-history";
const MOST = 50; // conversations

let current = null; // the id of the conversation that is shown

const kept = () => read(HISTORY, { on: true, conversations: [] });
export const forgetCurrent = () => { current = null; };

// Keep the records of the conversation that is shown; the oldest ones make room.
export function remember(records) {
  const history = kept();
  if (!history.on || !records.length) return;
  current ??= `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`;
  const others = history.conversations.filter(each => each.id !== current);
  const conversations = [{ id: current, at: new Date().toISOString(), records }, ...others].slice(0, MOST);
  while (conversations.length && !keep(HISTORY, { ...history, conversations })) conversations.pop();
}

export function showHistory(show) {
  const draw = () => openPane("history", "History", body(show, draw), { label: "History" });
  draw();
}

function body(show, draw) {
  const history = kept();
  const change = changes => {
    keep(HISTORY, { ...history, ...changes });
    draw();
  };
  const on = h("input", { type: "checkbox", checked: history.on });
  on.onchange = () => change({ on: on.checked });
  const list = history.conversations.map(conversation => row(conversation, show, () =>
    change({ conversations: history.conversations.filter(each => each !== conversation) })));
  return [
    h("label.choice", {}, on, "Keep questions and answers in this browser"),
    list.length ? h("ol.history", {}, list) : h("p.quiet", {}, "Nothing is kept yet."),
    list.length > 0 && button("Clear the history", {
      icon: "bin",
      onclick: () => {
        change({ conversations: [] });
        say("The history is empty.");
      },
    }),
  ];
}

function row(conversation, show, forget) {
  const { id, at, records } = conversation;
  const more = records.length > 1 ? `, ${count(records.length, "question")}` : "";
  const open = h("button.conversation", { type: "button" }, text("span.title", records[0].question),
    h("span.quiet", {}, new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) + more));
  open.onclick = () => {
    closePane();
    show(records);
    current = id;
  };
  return h("li", { class: id === current ? "is-current" : null }, open,
    button("", { icon: "bin", label: `Forget: ${records[0].question}`, onclick: forget }));
}
