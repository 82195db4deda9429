// Add documents to the index and remove them, where the server allows it.

import { Refusal, remove, upload } from "./api.js";
import { $, button, count, h, say, text } from "./dom.js";
import { openPane, shownInPane } from "./pane.js";
import { problem, why } from "./problems.js";
import { all, finder } from "./sources.js";
import { page } from "./state.js";

const jobs = h("ul.jobs", { "aria-label": "Documents being added" });
let queue = Promise.resolve(); // the server writes one document at a time

export function showDocuments() {
  const input = h("input", { type: "file", multiple: true, class: "hidden", tabindex: "-1", "aria-hidden": "true", id: "file" });
  input.onchange = () => {
    add([...input.files]);
    input.value = "";
  };
  const adding = page.can.upload
    ? [h("div.row.adding", {}, button("Add documents", { icon: "plus", class: "primary", onclick: () => input.click() }),
      h("span.quiet", {}, "or drop files anywhere on the page")), input, jobs]
    : [h("p.quiet", {}, "This server's documents can't be changed here.")];
  const list = h("div", { id: "document-list" }, h("p.quiet", {}, "Loading …"));
  openPane("documents", "Documents", [...adding, list]);
  drawList();
}

async function drawList() {
  const place = $("document-list");
  if (!place) return;
  try {
    const documents = await all("/documents");
    const rows = bySource(documents).map(of => row(nameOf(of[0]), of));
    place.replaceChildren(
      h("div.row", {}, h("p.quiet", {}, count(documents.length, "document")), rows.length > 8 && finder(rows)),
      h("ul.documents", {}, rows));
  } catch (error) {
    place.replaceChildren(problem(error, drawList));
  }
}

const nameOf = ({ source, title, id }) => source || title || id;

// Documents of one source are removed together; those without one are told apart by their ids.
function bySource(documents) {
  const found = new Map();
  for (const each of documents) {
    const key = each.source ? `source ${each.source}` : `id ${each.id}`;
    found.set(key, [...(found.get(key) ?? []), each]);
  }
  return [...found.values()];
}

function row(name, documents) {
  const passages = documents.reduce((sum, each) => sum + each.passages, 0);
  const [{ id, source, title, pages }] = documents;
  const named = documents.length > 1 ? count(documents.length, "document") : title !== name && title;
  const item = h("li", { "data-source": name.toLowerCase() },
    h("div.about", {}, text("span.title", name), named && text("span.quiet.place", named),
      h("span.quiet", {}, [count(passages, "passage"), pages && count(pages, "page")].filter(Boolean).join(" · "))));
  if (!page.can.upload) return item;
  const path = source ? `/documents?source=${encodeURIComponent(source)}` : `/documents/${encodeURIComponent(id)}`;
  const bin = button("", { icon: "bin", label: `Remove ${name}` });
  const asks = h("div.row.asks", { hidden: true }, h("span", {}, "Remove it from the index?"),
    button("Remove", { class: "danger", onclick: () => removeDocument(item, asks, name, path) }),
    button("Keep", { onclick: () => confirm(false) }));
  const confirm = open => {
    asks.hidden = !open;
    bin.hidden = open;
    (open ? asks.querySelector("button") : bin).focus();
  };
  bin.onclick = () => confirm(true);
  item.append(bin, asks);
  return item;
}

async function removeDocument(item, asks, name, path) {
  asks.replaceChildren(h("span.quiet", {}, "Removing …"));
  try {
    await remove(path);
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    say(`${name} is removed.`);
    (next?.querySelector("button") ?? $("pane-title")).focus();
    drawList();
  } catch (error) {
    asks.replaceChildren(problem(error, () => removeDocument(item, asks, name, path)));
  }
}

// Adding

export function add(files) {
  for (const file of files) {
    const bar = h("progress", { max: "1", "aria-label": `Progress of ${file.name}` });
    const told = h("span.quiet", {}, "Waiting …");
    const job = h("li", {}, text("span.title", file.name), bar, told);
    jobs.append(job);
    queue = queue.then(() => send(file, job, bar, told));
  }
  if (shownInPane() !== "documents") showDocuments();
}

async function send(file, job, bar, told) {
  const form = new FormData();
  form.append("file", file);
  told.textContent = "Sending …";
  try {
    const most = page.upload_megabytes; // of a larger one the server breaks off the connection
    if (file.size > most * 1_000_000) throw new Refusal(413, `the file is larger than ${most} MB; split it`);
    const added = await upload("/documents", form, part => {
      if (part < 1) bar.value = part;
      else bar.removeAttribute("value");
      told.textContent = part < 1 ? `Sending … ${Math.round(part * 100)} %` : "Reading and indexing …";
    });
    told.textContent = outcome(added);
    say(`${file.name}: ${told.textContent}`);
    drawList();
  } catch (error) {
    told.replaceWith(h("span.not-kept", {}, `Not added: ${why(error)}`),
      button("Try again", { class: "again", onclick: () => { job.remove(); add([file]); } }));
    say(`${file.name} is not added.`);
  }
  bar.remove();
}

function outcome({ passages, unchanged, deleted, skipped_total: skipped }) {
  if (passages === unchanged && !deleted) return "Nothing has changed: it is in the index already.";
  const left = skipped ? ` ${count(skipped, "part")} couldn't be read.` : "";
  return `Added: ${count(passages, "passage")}.${left}`;
}

// Files may be dropped anywhere.
export function takeDrops() {
  const carriesFiles = event => page.can.upload && event.dataTransfer?.types.includes("Files");
  const over = on => document.body.classList.toggle("is-dropping", on);
  addEventListener("dragover", event => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", event => event.relatedTarget === null && over(false));
  addEventListener("drop", event => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    over(false);
    add([...event.dataTransfer.files]);
  });
}
