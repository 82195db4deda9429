// Build elements: whatever comes from the server is inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  up: "M5 14V7M5 7l3-5c1.2 0 1.8.9 1.5 2L9 6.5h3.4c.9 0 1.5.8 1.3 1.6l-1.1 4.6c-.2.8-.8 1.3-1.6 1.3H5M5 7H2.5v7H5",
  down: "M11 2v7M11 9l-3 5c-1.2 0-1.8-.9-1.5-2L7 9.5H3.6c-.9 0-1.5-.8-1.3-1.6l1.1-4.6C3.6 2.5 4.2 2 5 2h6M11 9h2.5V2H11",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  link: "M6.5 9.5l3-3M7 4.5l1.5-1.5a3.2 3.2 0 0 1 4.5 4.5L11.5 9M9 11.5L7.5 13A3.2 3.2 0 0 1 3 8.5L4.5 7",
  check: "M3 8.5l3.5 3.5L13 4.5",
  plus: "M8 3v10M3 8h10",
  clock: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z",
  file: "M4 2h5.5L12.5 5v9H4zM9 2v3.5h3.5",
  open: "M9.5 2.5h4v4M13.5 2.5L7.5 8.5M11.5 9.5v4h-9v-9h4",
  bin: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.6 9h5.8l.6-9",
  ranks: "M2.5 4.5h2c4 0 3 7 7 7h2M2.5 11.5h2c4 0 3-7 7-7h2",
  gear: "M2.5 4.5h6M12 4.5h1.5M2.5 11.5H4M7.5 11.5h6M10.2 2.8v3.400M5.8 9.8v3.400",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  edit: "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3zM9 4.700l2.3 2.3",
  funnel: "M2.5 3.5h11l-4.3 5v4l-2.400 1v-5z",
  key: "M9.5 9.5a3.5 3.5 0 1 0-3-3L2 11v3h3v-2h2v-2z",
};

export const $ = id => document.getElementById(id);

// h("p.note", { hidden: true, onclick }, "text", node, [nodes], null)
export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  set(element, properties);
  element.append(...children.flat(2).filter(each => each != null && each !== false));
  return element;
}

export function set(element, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (value == null || value === false) element.removeAttribute(key);
    else if (key.startsWith("on")) element[key] = value;
    else if (key === "value" || key === "disabled" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  return element;
}

export function svg(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElementNS(SVG, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function icon(name) {
  return svg("svg.icon", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

// A button with an icon; `label` is its name for screen readers where `text` is empty.
export function button(text, { icon: drawing, label, ...properties } = {}) {
  const named = label ? { "aria-label": label, title: label } : {};
  return h("button", { type: "button", ...named, ...properties }, drawing && icon(drawing),
    text && h("span.label", {}, text));
}

// Text of the documents, of whatever script: its direction is its own.
export function text(name, content, properties = {}) {
  return h(name, { dir: "auto", ...properties }, content);
}

// What screen readers say once, without moving the focus.
export function say(message) {
  const region = $("status");
  region.textContent = region.textContent === message ? `${message}\u00a0` : message;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
