// Ask: send questions, show what comes, and keep the conversation.

import { events, post } from "./api.js";
import { compare, ComparisonTurn } from "./compare.js";
import { $, count, h, say } from "./dom.js";
import { forgetCurrent, remember } from "./history.js";
import { hidePreview } from "./preview.js";
import { closePane } from "./pane.js";
import { chosen, condition, page } from "./state.js";
import { busyTurn, Turn } from "./turn.js";

const REMEMBERED = 20; // messages sent along with a follow-up question
const MOST_HITS = 30; // where no generator is asked

let turns = [];
let running = null; // the AbortController of what is being answered
let onrunning = () => {};

export const isRunning = () => running !== null;
export const stop = () => running?.abort();
export const lastTurn = () => turns.at(-1);

// `change(busy)` is called when something begins or ends to be answered.
export function watchRunning(change) {
  onrunning = change;
}

function recordOf(question) {
  return {
    view: chosen.view, question, at: new Date().toISOString(), search: chosen.search,
    sources: [...chosen.sources.keys()], where: condition(), text: "", hits: [], id: null, ended: null,
  };
}

export async function ask(question) {
  if (running) return;
  await run(recordOf(question));
}

function again(turn) {
  if (running) return;
  turns = turns.filter(each => each !== turn);
  const { question, view, search, sources, where } = turn.record;
  const place = turn.element.nextSibling;
  turn.element.remove();
  run({ ...recordOf(question), view, search, sources, where }, place);
}

async function run(record, place = null) {
  const kind = record.view === "compare" ? ComparisonTurn : Turn;
  const turn = new kind(record, { changed: saved, again: () => again(turn) });
  hidePreview();
  closePane();
  $("empty").hidden = true;
  busyTurn(turn);
  if (place) $("turns").insertBefore(turn.element, place);
  running = new AbortController();
  onrunning(true);
  let problem = null;
  try {
    await { answer: answered, search: searched, compare }[record.view](turn, running.signal);
    record.ended = "whole";
  } catch (error) {
    record.ended = error.name === "AbortError" ? "stopped" : "failed";
    if (record.ended === "failed") problem = error;
  }
  running = null;
  turn.finish(problem);
  turns.push(turn);
  onrunning(false, problem);
  if (!problem) say(told(record));
  if (record.ended !== "failed") saved();
}

function told(record) {
  if (record.ended === "stopped") return "Stopped.";
  if (record.view === "search") return `${count(record.hits.length, "passage")} found.`;
  if (record.view === "compare") return "Both answers are complete.";
  if (record.notFound || !record.hits.length) return "Not in the documents.";
  return `The answer is complete. ${count(record.cited.length, "passage")} cited, ${record.hits.length} read.`;
}

async function answered(turn, signal) {
  const { record } = turn;
  const body = { model: page.model, messages: messagesBefore(record), stream: true, where: record.where };
  if (record.search) body.search = record.search;
  for await (const event of events("/v1/chat/completions", body, signal)) {
    if (event.citations && !record.id) {
      turn.know(event.citations, event.searched);
      Object.assign(record, { id: event.id, notFound: event.not_found ?? false, generation: event.generation });
    }
    record.hits = event.citations ?? record.hits; // the last ones may say what supports the answer
    if (event.not_found) record.notFound = true;
    const piece = event.choices?.[0]?.delta?.content;
    if (piece) turn.grow(piece);
  }
}

// A follow-up question may refer to what was asked and answered before.
function messagesBefore(record) {
  const before = turns.filter(({ record: { view, text, ended } }) => view === "answer" && text && ended !== "failed");
  const messages = before.flatMap(({ record: { question, text } }) => [
    { role: "user", content: question }, { role: "assistant", content: text },
  ]);
  return [...messages, { role: "user", content: record.question }].slice(-REMEMBERED);
}

async function searched(turn, signal) {
  const { question, search, where } = turn.record;
  const body = { query: question, top_k: MOST_HITS, where };
  if (search) body.search = search;
  const found = await post("/search", body, { signal });
  turn.record.generation = found.generation;
  turn.know(found.hits.map((hit, place) => ({ number: place + 1, ...hit })));
}

// Conversations

function saved() {
  remember(turns.map(turn => turn.record));
}

export function newConversation() {
  running?.abort();
  forgetCurrent();
  showConversation([]);
}

// Show turns that were kept: nothing is asked again.
export function showConversation(records) {
  running?.abort();
  hidePreview();
  closePane();
  turns = records.map(record => {
    const kind = record.view === "compare" ? ComparisonTurn : Turn;
    const turn = new kind(record, { changed: saved, again: () => again(turn) });
    turn.know(record.hits, record.searched);
    turn.finish();
    return turn;
  });
  $("turns").replaceChildren(...turns.map(turn => turn.element));
  $("empty").hidden = turns.length > 0;
  onrunning(false);
}

// Show an answer that a link names.
export function showKept(answer) {
  const hits = (answer.hits ?? []).map((hit, place) => ({ number: place + 1, ...hit }));
  showConversation([{
    view: "answer", question: answer.question, searched: answer.searched, text: answer.answer, hits, id: answer.id,
    notFound: answer.not_found, generation: answer.generation, at: answer.asked_at, ended: "whole",
  }]);
  $("turns").prepend(h("p.quiet.kept", {}, `An answer of ${new Date(answer.asked_at).toLocaleString()}, as it was given.`));
}
