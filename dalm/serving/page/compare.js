// Answer with two systems side by side, blind; a vote tells which is which.

import { events } from "./api.js";
import { AnswerView } from "./answer.js";
import { button, h, say, text } from "./dom.js";
import { vote } from "./feedback.js";
import { citedNumbers } from "./formatting.js";
import { pinPassage } from "./passage_pane.js";
import { passageList } from "./passage_list.js";
import { problem, why } from "./problems.js";
import { keep, read } from "./state.js";

const OUTCOMES = "dalm-comparisons";
const CHOICES = [["a", "A is better"], ["b", "B is better"], ["tie", "Tie"], ["neither", "Neither is good"]];

export async function compare(turn, signal) {
  const { record } = turn;
  for await (const event of events("/v1/comparisons", { question: record.question }, signal)) {
    if (event.delta) turn.grow(event.side, event.delta);
    if (event.a && event.b) {
      record.id = event.id;
      for (const side of ["a", "b"]) record.sides[side] = { text: event[side].answer, hits: event[side].citations };
    }
  }
}

export class ComparisonTurn {
  constructor(record, { changed, again }) {
    Object.assign(this, { record, changed, again });
    record.sides ??= { a: { text: "", hits: [] }, b: { text: "", hits: [] } };
    this.views = { a: this.view("a"), b: this.view("b") };
    this.heads = { a: h("h3", {}, "A"), b: h("h3", {}, "B") };
    this.lists = { a: h("div", {}), b: h("div", {}) };
    this.note = h("div.note", { hidden: true });
    this.voting = h("div.voting", { hidden: true });
    const side = name => h("section.side", { "aria-label": `Answer ${name.toUpperCase()}` },
      this.heads[name], this.views[name].element, this.lists[name]);
    this.element = h("article.turn.comparison", { "aria-label": record.question },
      text("h2.question", record.question), h("div.sides", {}, side("a"), side("b")), this.note, this.voting);
    this.answer = { draw: (_, options) => { for (const each of "ab") this.views[each].draw("", options); } };
  }

  view(side) {
    return new AnswerView(number => {
      const { hits } = this.record.sides[side];
      this.pin(side, hits.find(hit => hit.number === number));
    });
  }

  pin(side, hit) {
    pinPassage(this.recordOf(side), hit, this.record.sides[side].hits);
  }

  // Passages of a comparison aren't judged one by one: that would tell the sides apart.
  recordOf(side) {
    const { hits, text: answer } = this.record.sides[side];
    return { view: "compare", id: null, hits, cited: [...citedNumbers(answer, new Set(hits.map(hit => hit.number)))] };
  }

  know() {}

  grow(side, piece) {
    this.record.sides[side].text += piece;
    this.views[side].draw(this.record.sides[side].text, { busy: true });
  }

  finish(error = null) {
    const { record } = this;
    for (const side of ["a", "b"]) this.drawSide(side);
    const state = error ? problem(error, this.again, Boolean(record.sides.a.text)) : record.ended === "stopped" && h("p.quiet", {}, "Stopped.");
    this.note.replaceChildren(...(state ? [state] : []));
    this.note.hidden = !state;
    this.voting.hidden = record.ended !== "whole";
    this.drawVote();
  }

  drawSide(side) {
    const { hits, text: answer } = this.record.sides[side];
    const shown = this.recordOf(side);
    this.views[side].know(hits);
    this.views[side].draw(answer);
    const cited = hits.filter(hit => shown.cited.includes(hit.number));
    const others = hits.filter(hit => !cited.includes(hit));
    const groups = [["Cited", cited, true], [`Read${cited.length ? ", not cited" : ""}: ${others.length}`, others, false]];
    this.lists[side].replaceChildren(passageList(shown, groups, hit => this.pin(side, hit)));
  }

  drawVote(told = "") {
    const { choice, tuned } = this.record;
    const buttons = CHOICES.map(([value, label]) => button(label, {
      "aria-pressed": String(choice === value), disabled: Boolean(choice), onclick: () => this.vote(value),
    }));
    this.voting.replaceChildren(h("div.row", { role: "group", "aria-label": "Which answer is better?" }, buttons),
      choice ? this.outcome() : h("p.quiet", {}, told || "Which is which is told after the vote."));
    for (const side of ["a", "b"]) {
      this.heads[side].textContent = side.toUpperCase() + (choice ? (side === tuned ? " · tuned" : " · base") : "");
    }
  }

  async vote(value) {
    try {
      this.record.tuned = await vote(this.record, value);
      this.record.choice = value;
    } catch (error) {
      this.drawVote(`Not kept: ${why(error)}`);
      say("Not kept.");
      return;
    }
    const { question, choice, tuned, at } = this.record;
    keep(OUTCOMES, [...read(OUTCOMES, []), { question, choice, tuned, at }]);
    this.drawVote();
    this.voting.querySelector(".outcome").focus();
    this.changed();
  }

  outcome() {
    const { choice, tuned } = this.record;
    const preferred = { tie: "You called it a tie.", neither: "You took neither." }[choice]
      ?? `You preferred the ${choice === tuned ? "tuned" : "base"} system.`;
    return h("p.outcome", { tabindex: "-1" }, h("strong", {}, `${tuned.toUpperCase()} is the tuned system. ${preferred}`),
      h("span.quiet", {}, ` ${tally(read(OUTCOMES, []))}`));
  }
}

function tally(outcomes) {
  const count = check => outcomes.filter(check).length;
  const tuned = count(({ choice, tuned: side }) => choice === side);
  const base = count(({ choice, tuned: side }) => "ab".includes(choice) && choice !== side);
  const tie = count(({ choice }) => choice === "tie");
  return `In this browser so far: tuned ${tuned}, base ${base}, tie ${tie}, neither ${outcomes.length - tuned - base - tie}.`;
}
