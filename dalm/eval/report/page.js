// The tables of questions, one for each evaluation: sort, filter, search, page, open a question.

const evaluations = JSON.parse(document.getElementById("data").textContent);
const PAGE = evaluations.length > 1 ? 10 : 50, PREVIEW = 240;
const NARROW = window.matchMedia("(max-width: 40rem)");

const MINUS = "\u2212";
const fixed = number => number === null ? "" : number.toFixed(3);
const signed = number => number === null ? "" : (number > 0 ? "+" : "") + number.toFixed(3).replace("-", MINUS);
const scored = score => Math.abs(score) < 100 ? score.toPrecision(3) : score.toFixed();
const ranked = rank => rank === Infinity ? "–" : String(rank);

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);  // undefined ones last
  if (a === b) return 0;
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
}

function questions(root, data) {
  const one = name => root.querySelector(`.${name}`);
  const names = Object.keys(data.measures);
  const base = data.baseline ? data.systems[0] : null;
  const state = {
    search: "", show: "all", measure: names[0], system: base ? 1 : 0,
    sort: base ? "change" : "value", down: false, page: 0, open: new Set(),
  };

  const system = () => data.systems[state.system];
  const compared = () => base ? [base, system()] : [system()];
  const value = (of, query, measure = state.measure) => of?.measures[measure]?.[query] ?? null;

  function change(query, measure = state.measure) {
    const now = value(system(), query, measure), before = value(base, query, measure);
    if (now === null || before === null) return null;
    return data.measures[measure].higher_is_better ? now - before : before - now;
  }

  // Columns and filters

  const answered = "found" in data.systems.at(-1).answers;
  const columns = [
    {key: "place", name: "#", of: query => query + 1},
    {key: "text", name: "question", of: query => data.queries[query].text},
    base && {key: "before", name: "baseline rank", of: query => base.ranks[query] ?? Infinity},
    {key: "rank", name: base ? "rank" : "rank of first relevant", of: query => system().ranks[query] ?? Infinity},
    {key: "value", name: () => data.measures[state.measure].label, of: query => goodness(query)},
    base && {key: "change", name: "change", of: query => change(query)},
    answered && {key: "answer", name: "answer", of: query => system().answers.found[query]},
  ].filter(Boolean);
  const nameOf = column => typeof column.name === "function" ? column.name() : column.name;

  function goodness(query) {
    const found = value(system(), query);
    return found !== null && !data.measures[state.measure].higher_is_better ? -found : found;
  }

  const filters = {
    moved: base && ["changed", query => change(query)],
    worse: base && ["got worse", query => change(query) < 0],
    better: base && ["got better", query => change(query) > 0],
    all: ["all questions", () => true],
    lost: ["relevant passage not found", query => judged(query) && system().ranks[query] === null],
    first: ["relevant passage first", query => system().ranks[query] === 1],
    ...Object.fromEntries(names.filter(name => data.measures[name].failures).map(name => [name, failures(name)])),
    unanswerable: answered && data.queries.some(query => query.answerable === false)
      && ["unanswerable", query => data.queries[query].answerable === false],
    unjudged: data.queries.some((_, query) => !judged(query)) && ["without a relevant passage", query => !judged(query)],
  };

  function failures(name) {
    const {failures, higher_is_better} = data.measures[name];
    const worst = higher_is_better ? 0 : 1;
    return [failures, query => value(system(), query, name) === worst];
  }

  function judged(query) {
    return Object.values(data.queries[query].relevant).some(grade => grade >= 1);
  }

  const haystacks = data.queries.map((query, place) => [
    query.id, query.text, query.group, ...query.references,
    ...data.systems.map(each => each.answers.found?.[place] ?? ""),
  ].join("\n").toLowerCase());

  function wanted() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = filters[state.show][1];
    const column = columns.find(each => each.key === state.sort);
    const rows = [...data.queries.keys()].filter(
      query => holds(query) && words.every(word => haystacks[query].includes(word)));
    const keys = new Map(rows.map(query => [query, column.of(query)]));
    const sign = state.down ? -1 : 1;
    return rows.sort((a, b) => compare(keys.get(a), keys.get(b), sign) || a - b);
  }

  // Rows

  function draw() {
    const rows = wanted();
    const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
    state.page = Math.min(state.page, last);
    const from = state.page * PAGE, shown = rows.slice(from, from + PAGE);
    root.querySelector("thead").replaceChildren(heading());
    root.querySelector("tbody").replaceChildren(...shown.flatMap(rowsOf));
    const total = rows.length < data.queries.length ? `, ${data.queries.length} in all` : "";
    one("count").textContent = rows.length
      ? `${from + 1} to ${from + shown.length} of ${rows.length} questions${total}`
      : `no matching question${total}`;
    one("pager").hidden = last === 0;
    one("previous").disabled = state.page === 0;
    one("next").disabled = state.page === last;
  }

  function heading() {
    return make("tr", {}, ...columns.map(column => {
      const sorted = state.sort === column.key;
      const arrow = sorted ? (state.down ? " ↓" : " ↑") : "";
      const button = make("button", {type: "button", textContent: nameOf(column) + arrow, onclick: () => sortBy(column.key)});
      const cell = make("th", {scope: "col", className: column.key}, button);
      if (sorted) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      return cell;
    }));
  }

  function sortBy(key) {
    state.down = state.sort === key ? !state.down : false;
    state.sort = key;
    state.page = 0;
    draw();
    root.querySelector(`th.${key} button`).focus();
  }

  function rowsOf(query) {
    const moved = change(query), open = state.open.has(query);
    const cells = columns.map(column => cell(column, query, moved));
    const row = make("tr", {className: moved > 0 ? "better" : moved < 0 ? "worse" : ""}, ...cells);
    return open ? [row, detail(query)] : [row];
  }

  function cell(column, query, moved) {
    const {key} = column, found = column.of(query);
    if (key === "text") return make("td", {className: key}, opener(query, found));
    const text = {
      place: () => String(found), before: () => ranked(found), rank: () => ranked(found), answer: () => found,
      value: () => fixed(value(system(), query)), change: () => signed(moved),
    }[key]();
    const made = make("td", {className: key === "answer" ? key : `number ${key}`, textContent: text});
    made.dataset.name = nameOf(column);
    return made;
  }

  function opener(query, text) {
    const button = make("button", {type: "button", className: "open", textContent: text});
    button.dataset.query = query;
    button.setAttribute("aria-expanded", String(state.open.has(query)));
    button.onclick = () => {
      if (!state.open.delete(query)) state.open.add(query);
      draw();
      root.querySelector(`.open[data-query="${query}"]`).focus();
    };
    return button;
  }

  // One question

  function detail(query) {
    const facts = make("dl");
    const add = (name, text) => facts.append(make("dt", {textContent: name}), make("dd", {textContent: text}));
    const {id, group, references, answerable} = data.queries[query];
    add("id", id);
    if (group) add("document", group);
    if (answerable === false) add("answerable", "no");
    if (references.length) add("expected", references.join(" | "));
    const sides = make("div", {className: "sides"}, ...compared().map(each => side(each, query)), missing(query));
    const inside = make("div", {className: "inside"}, facts, answers(query), ...verdicts(id), sides);
    return make("tr", {className: "detail"}, make("td", {colSpan: columns.length}, inside));
  }

  function answers(query) {
    if (!answered) return null;
    const row = (tag, name, texts) => make("tr", {},
      make("th", {textContent: name}), ...texts.map(text => make(tag, {textContent: text})));
    const contexts = Object.keys(data.contexts).filter(context => context in system().answers);
    return make("table", {},
      row("th", "answer from", compared().map(each => each.name)),
      ...contexts.map(context => row(
        "td", data.contexts[context], compared().map(each => each.answers[context]?.[query] ?? ""))));
  }

  function verdicts(id) {
    return compared().flatMap(each => (each.verdicts[id] ?? []).map(([asked, , words, reason]) =>
      make("p", {className: "quiet", textContent: `judge on ${asked} of ${each.name}: ${words}. ${reason}`})));
  }

  function side(each, query) {
    const before = each === base ? null : base;
    const hits = (ranking, others) => ranking.map(([rank, id, score]) => hit(id, query, rank, [
      `score ${scored(score)}`, others ? placeIn(others, id) : "",
    ]));
    const found = hits(each.hits[query], before?.hits[query]);
    const reranked = hits(each.reranked[query] ?? [], before?.reranked[query]);
    const none = !found.length ? "no passage found" : judged(query) && each.ranks[query] === null ? "no relevant passage found" : "";
    if (none) found.push(make("p", {className: "quiet", textContent: none}));
    if (reranked.length) reranked.unshift(make("h4", {textContent: "reranked"}));
    return make("div", {}, make("h4", {textContent: each.name}), ...found, ...reranked);
  }

  function placeIn(others, id) {
    const rank = others.find(([, other]) => other === id)?.[0];
    return rank ? `baseline rank ${rank}` : "";
  }

  function missing(query) {
    const found = new Set(compared().flatMap(each => [...each.hits[query], ...each.reranked[query] ?? []]).map(([, id]) => id));
    const relevant = Object.entries(data.queries[query].relevant);
    const lost = relevant.filter(([id, grade]) => grade >= 1 && !found.has(id));
    if (!lost.length) return null;
    return make("div", {}, make("h4", {textContent: "relevant, not found"}), ...lost.map(([id]) => hit(id, query, null, [])));
  }

  // A passage: its place and source; its text on a click, and at once where it is relevant or first.
  function hit(id, query, rank, facts) {
    const [title, text, source, page] = data.passages[id] ?? ["", "", "", null];
    const grade = data.queries[query].relevant[id] ?? 0;
    const mark = grade >= 1 ? `relevant${grade > 1 ? `, grade ${grade}` : ""}` : "";
    const head = [rank === null ? "" : `${rank}.`, mark, title, text ? "" : id].filter(Boolean).join(" · ").replace(". ·", ".");
    const origin = [source, page === null ? "" : `page ${page}`].filter(Boolean).join(", ");
    const body = make("div", {className: "passage"}, ...passageElements(text));
    const plain = [...body.children].map(each => each.textContent).join(" ").slice(0, PREVIEW);
    const lines = [
      make("span", {className: "head", textContent: head}),
      ...(facts.some(Boolean) ? [make("span", {className: "facts", textContent: facts.filter(Boolean).join(" · ")})] : []),
      ...(origin ? [make("span", {className: "origin", textContent: origin})] : []),
    ];
    const className = grade >= 1 ? "hit relevant" : "hit";
    if (!text) return make("div", {className}, ...lines);
    const open = !NARROW.matches && (grade >= 1 || rank === 1);
    return make("details", {className, open},
      make("summary", {}, ...lines, make("span", {className: "preview", textContent: plain})), body);
  }

  // Controls

  function fill(id, options) {
    const select = one(id);
    select.append(...options.map(([key, name]) => make("option", {value: key, textContent: name})));
    select.value = state[id];
    select.onchange = () => {
      state[id] = id === "system" ? Number(select.value) : select.value;
      state.page = 0;
      draw();
    };
  }

  function turn(by) {
    state.page += by;
    draw();
    root.scrollIntoView();
  }

  if (base && data.queries.some((_, query) => change(query))) state.show = "moved";
  fill("show", Object.entries(filters).filter(([, filter]) => filter).map(([key, [name]]) => [key, name]));
  fill("measure", names.map(name => [name, data.measures[name].label]));
  fill("system", data.systems.map((each, place) => [place, each.name]).slice(base ? 1 : 0));
  one("systems").hidden = data.systems.length - (base ? 1 : 0) < 2;
  one("search").oninput = event => {
    state.search = event.target.value;
    state.page = 0;
    draw();
  };
  one("controls").onsubmit = event => event.preventDefault();
  one("previous").onclick = () => turn(-1);
  one("next").onclick = () => turn(1);
  draw();
}

document.querySelectorAll("section.questions").forEach((root, place) => questions(root, evaluations[place]));
