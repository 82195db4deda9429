// Judge answers and passages; every judgment can be taken back.

import { post } from "./api.js";
import { button, h, say, set } from "./dom.js";
import { why } from "./problems.js";
import { keep, page, read } from "./state.js";

const PERSON = "dalm-person";

let me = null; // where the browser keeps nothing

// Who judges: a random id, and a name if one was given.
export function person() {
  const kept = read(PERSON, {});
  if (typeof kept.id === "string" && kept.id) return kept;
  me ??= { id: randomId() };
  keep(PERSON, me);
  return me;
}

// crypto.randomUUID exists on https and localhost alone.
function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

// Return whether the browser keeps it.
export function rename(name) {
  return keep(PERSON, { ...person(), name: name.trim() });
}

// A judgment that holds is changed and taken back under the name that it was given under.
async function judge(record, key, kind, more) {
  const { id, name } = person();
  const people = record.people ??= {};
  const by = (judgments(record)[key] && people[key]) || name || id;
  const told = await post("/v1/feedback", { answer_id: record.id, person: by, kind, ...more });
  people[key] = by;
  return told;
}

export const canJudge = record => page.can.feedback && Boolean(record.id) && record.ended === "whole";

function judgments(record) {
  return record.judgments ??= {};
}

// A button of a judgment: pressed while it holds; pressed again it is taken back.
function toggle({ record, key, kind, value, body = next => ({ value: next }), drawing, label, text = "", changed }) {
  const holds = () => judgments(record)[key] === value;
  const made = button(text, { icon: drawing, label, class: "judge", "data-key": key, "data-value": value });
  made.dataset.answer = record.id;
  const draw = () => made.setAttribute("aria-pressed", String(holds()));
  made.refresh = draw;
  made.onclick = async () => {
    const next = holds() ? 0 : value;
    made.disabled = true;
    try {
      await judge(record, key, kind, body(next));
      judgments(record)[key] = next;
      say(next ? `${label ?? text}: kept.` : `${label ?? text}: taken back.`);
      failed(made, null);
    } catch (error) {
      failed(made, error);
    } finally {
      made.disabled = false;
      refresh(record, key);
      changed?.();
      if (document.activeElement === document.body) made.focus();
    }
  };
  draw();
  return made;
}

// The same judgment may be shown in the list and in the pane.
function refresh(record, key) {
  for (const each of document.querySelectorAll(".judge")) {
    if (each.dataset.answer === record.id && each.dataset.key === key) each.refresh();
  }
}

function failed(element, error) {
  const group = element.closest(".judging") ?? element.parentElement;
  group.querySelector(".not-kept")?.remove();
  if (!error) return;
  const told = notKept(error);
  say(told);
  group.append(h("span.not-kept", {}, told));
}

function notKept(error) {
  const gone = error.status === 404 && error.param === "answer_id";
  return `Not kept: ${gone ? "the server doesn't keep this answer. Ask again, and judge the new one." : why(error)}`;
}

export function judgeAnswer(record, changed) {
  const thumb = (value, drawing, label) =>
    toggle({ record, key: "answer", kind: "answer", value, drawing, label, changed });
  return h("span.judging", { role: "group", "aria-label": "This answer" },
    thumb(1, "up", "Good answer"), thumb(-1, "down", "Bad answer"));
}

// `right`: offer "this is the right passage", too.
export function judgePassage(record, hit, { right = false, changed } = {}) {
  const name = `passage ${hit.number}`;
  const passage_id = hit.id;
  const thumb = (value, drawing, label) => toggle({
    record, key: `passage:${hit.id}`, kind: "passage", value, drawing, label, changed,
    body: next => ({ value: next, passage_id }),
  });
  return h("span.judging", { role: "group", "aria-label": `Passage ${hit.number}` },
    thumb(1, "up", `Helpful: ${name}`), thumb(-1, "down", `Not helpful: ${name}`),
    right && toggle({ // one of an answer: another takes its place
      record, key: "right", kind: "right_passage", value: hit.id, drawing: "check", changed,
      text: "This is the right passage", body: next => ({ passage_id: next ? passage_id : "" }),
    }));
}

// A form for a better answer, which an empty text takes back.
export function correction(record, changed) {
  const kept = () => judgments(record).correction ?? "";
  const area = h("textarea", { rows: 4, maxlength: 20000, dir: "auto", "aria-label": "A corrected answer" });
  area.value = kept() || record.text;
  const back = button("Take it back", { hidden: !kept() });
  const told = h("span.quiet", { role: "status" });
  const form = h("form.correction", { hidden: true }, area,
    h("div.row", {}, h("button.primary", {}, "Keep this answer"), back, told));
  const send = async text => {
    try {
      await judge(record, "correction", "correction", { text });
      judgments(record).correction = text;
      set(back, { hidden: !text });
      told.textContent = text ? "Kept." : "Taken back.";
      changed();
    } catch (error) {
      told.textContent = notKept(error);
    }
  };
  form.onsubmit = event => {
    event.preventDefault();
    if (area.value.trim()) send(area.value.trim());
  };
  back.onclick = async () => {
    await send("");
    area.value = record.text;
  };
  return form;
}

// Return which side is the tuned system: "a" or "b".
export async function vote(record, value) {
  return (await judge(record, "comparison", "comparison", { value })).tuned;
}
