// Turn an answer's text into elements: paragraphs, lists, tables, code, and chips for citations.

import { h } from "./dom.js";

const MARK = /\s*[\[［【]\s*(\d+(?:\s*[,;，；、]\s*\d+)*)\s*[\]］】]/;
const INLINE = new RegExp(`(\`+)(.+?)\\1(?!\`)|\\*\\*(?=\\S)(.+?)\\*\\*|${MARK.source}`, "gs");
const UNFINISHED = /\s*[\[［【][\s\d,;，；、]*$/; // may become a citation with the next piece
const FENCE = /^\s*(```+|~~~+)/;
const ITEM = /^(\s*)(?:[-*•]|(\d+)[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

// The numbers that an answer cites, among those that a passage has.
export function citedNumbers(answer, known) {
  const texts = blocksOf(answer).filter(block => block.kind !== "code").map(block => block.lines.join("\n"));
  return new Set(texts.flatMap(numbersIn).filter(number => known.has(number)));
}

function numbersIn(text) {
  return [...text.matchAll(INLINE)].flatMap(([, , , strong, marks]) => (strong ? numbersIn(strong) : numbersOf(marks)));
}

function numbersOf(marks) {
  return (marks?.match(/\d+/g) ?? []).map(Number);
}

// An answer without the numbers that no passage has, as text.
export function withoutUnknown(answer, known) {
  return answer.replaceAll(INLINE, (whole, ticks, code, strong, marks) => {
    if (strong) return `**${withoutUnknown(strong, known)}**`;
    if (!marks) return whole;
    const kept = numbersOf(marks).filter(number => known.has(number));
    return kept.length ? ` [${kept.join(", ")}]` : "";
  });
}

export function unfinishedAway(answer) {
  return answer.replace(UNFINISHED, "");
}

// Split a text into blocks; those that a longer text begins with stay the same.
export function blocksOf(answer) {
  const blocks = [];
  let fence = null;
  let open = null; // the block that the next line may go on with
  const add = (kind, line) => {
    if (open?.kind !== kind) blocks.push(open = { kind, lines: [] });
    open.lines.push(line);
  };
  for (const line of answer.split("\n")) {
    const mark = line.match(FENCE)?.[1];
    if (fence) {
      if (mark?.startsWith(fence)) fence = open = null;
      else open.lines.push(line);
    } else if (mark) {
      fence = mark;
      blocks.push(open = { kind: "code", lines: [] });
    } else if (!line.trim()) open = null;
    else if (HEADING.test(line)) {
      open = null;
      add("heading", line.match(HEADING)[1]);
      open = null;
    } else if (ITEM.test(line)) {
      const [, indent, number] = line.match(ITEM);
      if (indent && isList(open)) open.lines.push(line);
      else add(number ? "numbered" : "list", line);
    }
    else if (/^\s*\|.*\|\s*$/.test(line)) add("table", line);
    else if (/^\s/.test(line) && isList(open)) open.lines.push(line);
    else add("paragraph", line);
  }
  return blocks;
}

function isList(block) {
  return block?.kind === "list" || block?.kind === "numbered";
}

// `chip(number)` gives the element of a citation, or null where no passage has the number.
export function elementOf({ kind, lines }, chip) {
  const inline = line => inlineOf(line, chip);
  if (kind === "code") return h("pre", { tabindex: "0" }, h("code", {}, lines.join("\n")));
  if (kind === "heading") return h("h3", { dir: "auto" }, inline(lines[0]));
  if (kind === "table") return tableOf(lines, inline);
  if (kind === "paragraph") return h("p", { dir: "auto" }, inline(lines.join("\n")));
  return listOf(kind, lines, inline);
}

function listOf(kind, lines, inline) {
  const items = [];
  for (const line of lines) {
    const item = line.match(ITEM);
    if (item) items.push({ depth: item[1].length, text: item[3] });
    else items.at(-1).text += ` ${line.trim()}`;
  }
  const first = lines[0].match(ITEM)[2];
  const start = first && first !== "1" ? { start: first } : {};
  return h(kind === "numbered" ? "ol" : "ul", { dir: "auto", ...start },
    items.map(item => h(item.depth > items[0].depth ? "li.deeper" : "li", { dir: "auto" }, inline(item.text))));
}

function tableOf(lines, inline) {
  const rows = lines.map(line => line.trim().slice(1, -1).split("|").map(cell => cell.trim()));
  const ruled = rows.length > 1 && rows[1].every(cell => /^:?-+:?$/.test(cell));
  const body = ruled ? rows.slice(2) : rows;
  const row = (cells, tag) => h("tr", {}, cells.map(cell => h(tag, { dir: "auto" }, inline(cell))));
  return h("div.scrolling", { tabindex: "0", role: "region", "aria-label": "Table" }, h("table", {},
    ruled && h("thead", {}, row(rows[0], "th")), h("tbody", {}, body.map(cells => row(cells, "td")))));
}

function inlineOf(line, chip) {
  const parts = [];
  let end = 0;
  for (const mark of line.matchAll(INLINE)) {
    const [whole, , code, strong, marks] = mark;
    parts.push(line.slice(end, mark.index));
    end = mark.index + whole.length;
    if (code) parts.push(h("code", {}, code));
    else if (strong) parts.push(h("strong", {}, inlineOf(strong, chip)));
    else {
      const chips = numbersOf(marks).map(chip).filter(Boolean);
      if (chips.length) parts.push("\u202f", ...chips); // no line begins with a chip
    }
  }
  return [...parts, line.slice(end)].filter(part => part !== "");
}
