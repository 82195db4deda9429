// Ask: send questions, show what comes, and keep the conversation.

import { events, post } from "./api.js";
import { compare, ComparisonTurn } from "./compare.js";
import { $, count, h, say } from "./dom.js";
import { remember } from "./history.js";
import { hidePreview } from "./preview.js";
import { closePane } from "./pane.js";
import { chosen, condition, page } from "./state.js";
import { learn, tellGeneration } from "./served.js";
import { busyTurn, Turn } from "./turn.js";

const REMEMBERED = 20; // messages sent along with a follow-up question
const MOST_HITS = 30; // where no generator is asked

let shown = { id: null, at: null, turns: [] }; // `id` and `at` are those in the history
let running = null; // the AbortController of what is being answered
let onrunning = () => {};

export const isRunning = () => running !== null;
export const stop = () => running?.abort();
export const lastTurn = () => shown.turns.at(-1);
export const shownConversation = () => shown;

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
  const place = shown.turns.indexOf(turn);
  shown.turns.splice(place, 1);
  const { question, view, search, sources, where } = turn.record;
  const next = turn.element.nextSibling;
  turn.element.remove();
  run({ ...recordOf(question), view, search, sources, where }, place, next);
}

function turnOf(record, conversation) {
  const kind = record.view === "compare" ? ComparisonTurn : Turn;
  const turn = new kind(record, { changed: () => saved(conversation), again: () => again(turn) });
  return turn;
}

// `place` is that among the turns, and `next` the element that comes after it.
async function run(record, place = shown.turns.length, next = null) {
  const conversation = shown; // another one may be shown by the end
  const turn = turnOf(record, conversation);
  hidePreview();
  closePane();
  $("empty").hidden = true;
  $("trouble").replaceChildren();
  busyTurn(turn);
  if (next) $("turns").insertBefore(turn.element, next);
  running = new AbortController();
  onrunning(true);
  let problem = null;
  try {
    await { answer: answered, search: searched, compare }[record.view](turn, running.signal, conversation.turns.slice(0, place));
    record.ended = "whole";
  } catch (error) {
    record.ended = error.name === "AbortError" ? "stopped" : "failed";
    if (record.ended === "failed") problem = error;
  }
  running = null;
  turn.finish(problem);
  conversation.turns.splice(place, 0, turn);
  onrunning(false, problem);
  if (!problem && conversation === shown) say(told(record));
  if (record.ended !== "failed") saved(conversation);
}

function told(record) {
  if (record.ended === "stopped") return "Stopped.";
  if (record.view === "search") return `${count(record.hits.length, "passage")} found.`;
  if (record.view === "compare") return "Both answers are here.";
  if (record.notFound || !record.hits.length) return "Not in the documents.";
  return `The answer is ${record.cut ? "cut off" : "complete"}. ${count(record.cited.length, "passage")} cited, ${record.hits.length} read.`;
}

async function answered(turn, signal, before) {
  if (!page.model) await learn(); // the server wasn't there when the page was opened
  try {
    await streamed(turn, signal, before);
  } catch (error) {
    if (error.code !== "model_not_found") throw error;
    await learn(); // it was started again with another one
    await streamed(turn, signal, before);
  }
}

async function streamed(turn, signal, before) {
  const { record } = turn;
  const body = { model: page.model, messages: messagesOf(before, record), stream: true, where: record.where };
  if (record.search) body.search = record.search;
  for await (const event of events("/v1/chat/completions", body, signal)) {
    if (event.citations && !record.id) {
      turn.know(event.citations, event.searched, event.query_cut_at);
      Object.assign(record, { id: event.id, notFound: event.not_found ?? false, generation: event.generation });
      tellGeneration(event.generation);
    }
    if (event.choices?.[0]?.finish_reason === "length") record.cut = true;
    record.hits = event.citations ?? record.hits; // the last ones may say what supports the answer
    if (event.not_found) record.notFound = true;
    const piece = event.choices?.[0]?.delta?.content;
    if (piece) turn.grow(piece);
  }
}

// A follow-up question may refer to what was asked and answered before.
function messagesOf(turns, record) {
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
  tellGeneration(found.generation);
  turn.know(found.hits.map((hit, place) => ({ ...hit, number: place + 1 })), null, found.query_cut_at);
}

// Conversations

function saved(conversation) {
  remember(conversation, conversation.turns.map(turn => turn.record));
}

export function newConversation() {
  showConversation([]);
}

// Show turns that were kept: nothing is asked again. What is being answered stays in its conversation.
export function showConversation(records, { id = null, at = null } = {}) {
  running?.abort();
  hidePreview();
  closePane();
  const conversation = shown = { id, at, turns: [] };
  shown.turns = records.map(record => {
    const turn = turnOf(record, conversation);
    turn.know(record.hits, record.searched);
    turn.finish();
    return turn;
  });
  $("turns").replaceChildren(...shown.turns.map(turn => turn.element));
  $("empty").hidden = shown.turns.length > 0;
  onrunning(false);
}

// Show an answer that a link names.
export function showKept(answer) {
  const hits = (answer.hits ?? []).map((hit, place) => ({ ...hit, number: place + 1 }));
  showConversation([{
    view: "answer", question: answer.question, searched: answer.searched, text: answer.answer, hits, id: answer.id,
    notFound: answer.not_found, generation: answer.generation, at: answer.asked_at,
    ended: answer.stopped ? "stopped" : "whole", cut: answer.settings?.finish_reason === "length",
  }]);
  $("turns").prepend(h("p.quiet.kept", {}, `An answer of ${new Date(answer.asked_at).toLocaleString()}, as it was given.`));
}
