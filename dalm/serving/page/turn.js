// Draw one question with what came of it: answer, state, passages, and what can be done with them.

import { AnswerView } from "./answer.js";
import { detailsOf } from "./details.js";
import { $, button, count, h, text } from "./dom.js";
import { canJudge, correction, judgeAnswer } from "./feedback.js";
import { citedNumbers } from "./formatting.js";
import { pinPassage } from "./passage_pane.js";
import { passageList } from "./passage_list.js";
import { problem } from "./problems.js";
import { ranksOf } from "./ranks.js";
import { copyMenu, linkButton } from "./sharing.js";

const NEAREST = 5; // passages shown where the answer isn't in the documents

// `record` is what is known of the question, as JSON; it is kept in the history.
export class Turn {
  constructor(record, { changed = () => {}, again = null } = {}) {
    this.record = record;
    this.changed = changed;
    this.again = again;
    this.answer = new AnswerView(number => this.pin(number));
    this.note = h("div.note", { hidden: true });
    this.tools = h("div.tools", { hidden: true });
    this.folds = h("div.folds", {});
    this.list = h("div", {});
    this.searched = h("p.searched.quiet", { hidden: true, dir: "auto" });
    this.element = h("article.turn", { "aria-label": record.question },
      text("h2.question", record.question), this.searched,
      record.view === "search" ? null : this.answer.element, this.note, this.tools, this.folds, this.list);
  }

  get hits() {
    return this.record.hits;
  }

  know(hits, searched, queryCutAt = this.record.queryCutAt) {
    this.record.hits = hits;
    this.record.queryCutAt = queryCutAt;
    this.answer.know(hits);
    const other = searched && searched.trim() !== this.record.question.trim();
    const told = [
      other && `Searched for: ${searched}`,
      queryCutAt && `Only the first ${queryCutAt} tokens of it were searched by meaning.`,
    ].filter(Boolean);
    this.searched.textContent = told.join(" ");
    this.searched.hidden = !told.length;
  }

  grow(piece) {
    this.record.text += piece;
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      if (!this.record.ended) this.answer.draw(this.record.text, { busy: true });
    });
  }

  // Draw everything, once the answer is whole, stopped or failed.
  finish(error = null) {
    const { record } = this;
    const known = new Set(this.hits.map(hit => hit.number));
    this.answer.know(this.hits);
    record.cited = record.notFound ? [] : [...citedNumbers(record.text, known)].sort((a, b) => a - b);
    const absent = record.view === "answer" && record.ended === "whole" && (record.notFound || !this.hits.length);
    if (record.view !== "search") this.answer.draw(absent ? "" : record.text);
    this.answer.element.hidden = absent || !record.text;
    this.note.replaceChildren(...this.states(absent, error));
    this.note.hidden = !this.note.hasChildNodes();
    this.drawTools();
    this.drawPassages(absent);
  }

  states(absent, error) {
    const { record } = this;
    if (error) return [problem(error, this.again, Boolean(record.text))];
    if (record.ended === "stopped") return [h("p.quiet", {}, "Stopped."), this.againButton()].filter(Boolean);
    if (record.view === "search") return this.hits.length ? [] : [h("p", {}, "No passage was found.")];
    const cut = record.cut && h("p.quiet", {}, "The answer is cut off: it has the greatest length that this server allows.");
    if (!absent) return record.text ? [cut].filter(Boolean) : [h("p", {}, "The answer is empty.")];
    const nearest = this.hits.length ? "What came nearest is below." : "Nothing was found.";
    const filtered = record.sources?.length ? ` Only ${count(record.sources.length, "source")} was searched.` : "";
    return [h("div.absent", {}, h("p", {}, h("strong", {}, "Not in the documents.")),
      h("p.quiet", {}, `The passages found do not answer this. ${nearest}${filtered}`))];
  }

  againButton() {
    return this.again && button("Ask again", { class: "again", onclick: this.again });
  }

  drawTools() {
    const { record } = this;
    const tools = [];
    const fold = (label, drawing, make) => this.fold(label, drawing, make);
    if (canJudge(record)) tools.push(judgeAnswer(record, this.changed));
    if (canJudge(record)) tools.push(fold("Correct", "edit", () => correction(record, this.changed)));
    if (record.view === "answer" && record.text) tools.push(copyMenu(record));
    if (record.ended === "whole") tools.push(linkButton(record));
    if (this.hits.length) tools.push(fold("Ranks", "ranks", () => ranksOf(this.hits, new Set(record.cited))));
    if (record.id && record.view === "answer") tools.push(fold("Details", "gear", () => detailsOf(record)));
    this.tools.replaceChildren(...tools);
    this.tools.hidden = !tools.length;
  }

  // A button that opens what is made when it is first wanted.
  fold(label, drawing, make) {
    const place = h("div.fold", { hidden: true });
    this.folds.append(place);
    const opens = button(label, { icon: drawing, "aria-expanded": "false" });
    opens.onclick = () => {
      if (!place.hasChildNodes()) place.append(make());
      place.firstChild.hidden = false;
      place.hidden = !place.hidden;
      opens.setAttribute("aria-expanded", String(!place.hidden));
      if (!place.hidden) place.querySelector("textarea")?.focus();
    };
    return opens;
  }

  drawPassages(absent) {
    const cited = this.hits.filter(hit => this.record.cited.includes(hit.number));
    const read = this.hits.filter(hit => !this.record.cited.includes(hit.number));
    this.list.replaceChildren(passageList(this.record, this.groups(absent, cited, read),
      hit => this.pin(hit.number), this.changed));
  }

  groups(absent, cited, read) {
    if (this.record.view === "search") return [[count(read.length, "passage"), read, true]];
    if (absent) return [["Nearest passages", read.slice(0, NEAREST), true]];
    if (!cited.length) return [[`${count(read.length, "passage")} read`, read, read.length <= NEAREST]];
    return [["Cited", cited, true], [`Read, not cited: ${read.length}`, read, false]];
  }

  pin(number) {
    const hit = this.hits.find(each => each.number === number);
    if (hit) pinPassage(this.record, hit, this.hits, this.changed);
  }
}

export function busyTurn(turn) {
  turn.answer.draw("", { busy: true });
  $("turns").append(turn.element);
  turn.element.scrollIntoView({ block: "start" });
}
