// The side pane (a sheet from below on a phone): it shows one thing, and gives the focus back.

import { $, button, h, text } from "./dom.js";

let opener = null;
let shown = ""; // what is open: a passage's key, "history", "documents", "help" …
let closed = () => {};

export const isOpen = () => !$("pane").hidden;
export const shownInPane = () => shown;

// Show `body` in the pane. `onclose` is called when it is closed or shows something else.
export function openPane(key, title, body, { label = title, onclose = () => {} } = {}) {
  const pane = $("pane");
  closed();
  closed = onclose;
  if (!pane.contains(document.activeElement)) opener = document.activeElement;
  shown = key;
  const heading = text("h2", title, { tabindex: "-1", id: "pane-title" });
  pane.replaceChildren(
    button("", { icon: "close", label: "Close (Esc)", onclick: closePane, id: "pane-close" }),
    heading, h("div.pane-body", {}, body));
  pane.setAttribute("aria-label", label);
  pane.hidden = false;
  pane.scrollTop = 0;
  document.body.classList.add("has-pane");
  // A sheet from below would cover what it was opened from.
  if (opener?.closest("main") && matchMedia("(max-width: 40rem)").matches) opener.scrollIntoView({ block: "start" });
  heading.focus({ preventScroll: true });
}

export function closePane() {
  const pane = $("pane");
  if (pane.hidden) return;
  const had = pane.contains(document.activeElement) || document.activeElement === document.body;
  pane.hidden = true;
  document.body.classList.remove("has-pane");
  shown = "";
  closed();
  closed = () => {};
  pane.replaceChildren();
  if (had) (opener?.isConnected ? opener : $("question")).focus({ preventScroll: true });
  opener = null;
}

// Open it, or close it if it shows this already.
export function togglePane(key, open) {
  if (shown === key) closePane();
  else open();
}
