// Say what went wrong in plain words, and offer to try again.

import { button, h, say, text } from "./dom.js";

const SENT = {
  0: ["The server can't be reached", "Is it running, and is this machine online?"],
  401: ["An API key is needed", ""],
  429: ["The server is busy", "Others are asking at this moment."],
  503: ["The server is being stopped", "It may be back in a moment."],
  504: ["No answer in time", "The server gave up waiting for it."],
};

export function inWords(error, begun = false) {
  if (begun && error.status === 0) {
    return ["The connection was lost", "The answer above is not complete."];
  }
  const [title, reason] = knownTo(error) ?? ["This didn't work", error.message];
  const wait = error.wait ? `Try again in ${error.wait} s.` : "";
  return [title, [reason, wait].filter(Boolean).join(" ")];
}

// A 503 may also say that something can't be written.
function knownTo({ status, code }) {
  return status === 503 && code !== "stopping" ? null : SENT[status];
}

// The same in one line, to stand behind "Not kept:".
export function why(error) {
  const told = inWords(error);
  return (knownTo(error) ? told : told.slice(1)).filter(Boolean).join(". ");
}

// A block that names a problem; `again` is called to try once more.
export function problem(error, again, begun = false) {
  if (!("status" in error)) console.error(error); // a fault of the page, not a refusal
  const [title, reason] = inWords(error, begun);
  say(`${title}. ${reason}`);
  return h("div.problem", {},
    h("p", {}, h("strong", {}, `${title}.`), reason && " ", reason && text("span", reason)),
    again && button("Try again", { onclick: again, class: "again" }));
}
