// Copy an answer with its sources, as plain text or Markdown, and a link to it.

import { button, h, say } from "./dom.js";
import { unfinishedAway, withoutUnknown } from "./formatting.js";
import { placeOf, titleOf } from "./hits.js";
import { page } from "./state.js";

export function plainText(record) {
  return [record.question, "", answerOf(record), ...sources(record, hit => `[${hit.number}] ${named(hit)}`)].join("\n");
}

export function markdown(record) {
  const list = sources(record, hit => `${hit.number}. ${escaped(named(hit))}`);
  return [`**${escaped(record.question)}**`, "", answerOf(record), ...list].join("\n");
}

function answerOf(record) {
  if (record.notFound) return "Not in the documents.";
  return withoutUnknown(unfinishedAway(record.text), new Set(record.hits.map(hit => hit.number))).trim();
}

function named(hit) {
  const headings = (hit.headings ?? []).filter(each => each !== titleOf(hit)).join(" › ");
  return [titleOf(hit), headings, placeOf(hit)].filter(Boolean).join(", ").replace(/\s+/g, " ");
}

// The cited passages; if none is, those that were read.
function sources(record, line) {
  const cited = record.hits.filter(hit => record.cited?.includes(hit.number));
  const listed = record.notFound ? [] : cited.length ? cited : record.hits;
  return listed.length ? ["", cited.length ? "Sources:" : "Read:", "", ...listed.map(line)] : [];
}

function escaped(content) {
  return content.replace(/[\\`*_{}[\]<>#|]/g, "\\$&");
}

export function addressOf(record) {
  const kept = page.can.feedback && record.id && record.view === "answer";
  const query = new URLSearchParams(kept ? { answer: record.id } : { q: record.question });
  return `${location.origin}/?${query}`;
}

// Returns whether it is in the clipboard, which needs https or localhost; else an old way is tried.
async function copy(content) {
  try {
    await navigator.clipboard.writeText(content);
    return true;
  } catch {
    const area = h("textarea", { class: "hidden", readonly: true });
    area.value = content;
    const had = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    had?.focus();
    return copied;
  }
}

function copying(label, drawing, name, content) {
  const made = button(label, { icon: drawing, label: name });
  made.onclick = async () => {
    const copied = await copy(content());
    const shown = made.querySelector(".label");
    shown.textContent = copied ? "Copied" : "Can't copy here";
    say(shown.textContent);
    setTimeout(() => { shown.textContent = label; }, 1500);
  };
  return made;
}

export function copyMenu(record) {
  return h("span.pair", { role: "group", "aria-label": "Copy with sources" },
    copying("Copy", "copy", "Copy with sources, as plain text", () => plainText(record)),
    copying("Markdown", null, "Copy with sources, as Markdown", () => markdown(record)));
}

export function linkButton(record) {
  return copying("Link", "link", "Copy a link to this", () => addressOf(record));
}
