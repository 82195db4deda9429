"use strict";
// Turn a passage's text into elements: headings, lists, tables, code, emphasis. Texts are set as
// text nodes only, so that nothing in them can become markup.

const ENTITY = /&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,30});/gi;
// code, image, link, bold, italics; a star or underscore inside a word or beside a space is none
const INLINE = /(`+)(.+?)\1(?!`)|!\[([^\]\n]*)\]\([^)\n]*\)|\[([^\]\n]+)\]\([^)\n]*\)|(\*\*|(?<!\w)__)(?=\S)(.+?)(?<=\S)\5(?![\w*])|(?<![\w*])(\*|_)(?=[^\s*_])([^*_]+?)(?<=\S)\7(?![\w*])/s;
const BLOCKS = [
  ["fence", /^\s*(?:```|~~~)/],
  ["heading", /^#{1,6}\s+/],
  ["table", /^\s*\|.*\|\s*$/],
  ["list", /^\s*[-*+•]\s+/],
  ["quote", /^\s*>\s?/],
];
const RULE = /^\s*([-*_])(?:\s*\1){2,}\s*$/;
const DELIMITERS = /^\s*\|(?:\s*:?-+:?\s*\|)+\s*$/;

function make(tag, fields = {}, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children.filter(each => each !== null));
  return element;
}

// The character of `&nbsp;`, `&#176;` or `&eacute;`; the pattern leaves no room for a tag.
function decoded(text) {
  return text.replace(ENTITY, entity => {
    const area = document.createElement("textarea");
    area.innerHTML = entity;
    return area.value;
  });
}

function passageElements(text) {
  return blocksOf(decoded(text.replace(/<br\s*\/?>/gi, "\n").replace(/<!--.*?-->/gs, ""))).map(blockElement);
}

function blocksOf(text) {
  const blocks = [];
  let open = null, fenced = false;
  for (const line of text.split("\n")) {
    const kind = BLOCKS.find(([, pattern]) => pattern.test(line))?.[0] ?? "paragraph";
    if (kind === "fence") {
      fenced = !fenced;
      open = null;
    } else if (!fenced && (!line.trim() || RULE.test(line))) {
      open = null;
    } else {
      const wanted = fenced ? "code" : kind;
      if (open?.kind !== wanted || wanted === "heading") blocks.push(open = {kind: wanted, lines: []});
      open.lines.push(line);
    }
  }
  return blocks;
}

function blockElement({kind, lines}) {
  const bare = pattern => lines.map(line => line.replace(BLOCKS.find(([name]) => name === pattern)[1], ""));
  if (kind === "code") return make("pre", {textContent: lines.join("\n")});
  if (kind === "heading") return make("p", {className: "title"}, ...inline(bare("heading")[0].replace(/\s+#+\s*$/, "")));
  if (kind === "list") return make("ul", {}, ...bare("list").map(line => make("li", {}, ...inline(line))));
  if (kind === "quote") return make("blockquote", {}, ...inline(bare("quote").join("\n")));
  if (kind === "table") return tableOf(lines);
  return make("p", {}, ...inline(lines.join("\n")));
}

function tableOf(lines) {
  const rows = lines.filter(line => !DELIMITERS.test(line)).map(
    line => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/));
  const head = DELIMITERS.test(lines[1] ?? "");
  return make("table", {}, make("tbody", {}, ...rows.map((cells, row) => make("tr", {}, ...cells.map(
    cell => make(head && row === 0 ? "th" : "td", {}, ...inline(cell.trim().replaceAll("\\|", "|"))))))));
}

function inline(text) {
  const found = text.match(INLINE);
  if (!found) return text ? [text.replace(/\\([\\`*_[\]#|])/g, "$1")] : [];
  const [whole, ticks, code, image, link, , bold, , italic] = found;
  const before = inline(text.slice(0, found.index)), after = inline(text.slice(found.index + whole.length));
  const element = ticks ? [make("code", {textContent: code})]
    : bold !== undefined ? [make("strong", {}, ...inline(bold))]
    : italic !== undefined ? [make("em", {}, ...inline(italic))]
    : inline(image ?? link);
  return [...before, ...element, ...after];
}
