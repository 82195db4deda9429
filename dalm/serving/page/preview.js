// Show a passage beside its chip while the pointer or the focus is on it.

import { $, h, text } from "./dom.js";
import { placeOf, previewOf, titleOf } from "./hits.js";

const SOON = 120; // milliseconds
let timer = 0;
let chip = null;

function later(action) {
  clearTimeout(timer);
  timer = setTimeout(action, SOON);
}

export const isPreviewed = () => chip !== null;

export function hidePreview() {
  clearTimeout(timer);
  chip?.removeAttribute("aria-describedby");
  chip = null;
  $("preview").hidden = true;
}

function show(element, hit) {
  hidePreview();
  if (!element.isConnected) return;
  chip = element;
  const preview = $("preview");
  preview.replaceChildren(
    text("p.title", titleOf(hit)),
    placeOf(hit) ? text("p.quiet", placeOf(hit)) : "",
    h("p.text", { dir: "auto" }, previewOf(hit)));
  chip.setAttribute("aria-describedby", "preview");
  preview.hidden = false;
  place(preview, chip.getBoundingClientRect());
}

// Above the chip if there is room, else below; never beyond the window.
function place(preview, at) {
  const { offsetWidth: width, offsetHeight: height } = preview;
  const room = document.documentElement.clientWidth - width - 8;
  const above = at.top - height - 6;
  preview.style.left = `${Math.max(8, Math.min(at.left - 16, room))}px`;
  preview.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}

// Preview `hit` beside `element`.
export function previews(element, hit) {
  element.onpointerenter = event => event.pointerType === "mouse" && later(() => show(element, hit));
  element.onpointerleave = () => later(hidePreview);
  element.onfocus = () => element.matches(":focus-visible") && show(element, hit);
  element.onblur = hidePreview;
}

// The pointer may rest on the preview itself, to read it.
export function startPreviews() {
  $("preview").onpointerenter = () => clearTimeout(timer);
  $("preview").onpointerleave = () => later(hidePreview);
  addEventListener("scroll", hidePreview, { passive: true, capture: true });
}
