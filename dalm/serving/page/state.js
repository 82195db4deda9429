// What the server offers, and what this browser keeps.

export const page = {
  model: "", generation: null, examples: [], modes: [], reranker: false, upload_megabytes: 0,
  can: { upload: false, feedback: false, compare: false, originals: false },
};

// What is chosen beside the box; the sources with the conditions that their passages fulfil.
export const chosen = { view: "answer", search: "", sources: new Map() };

// The condition that passages of the chosen sources fulfil; undefined for all.
export function condition() {
  const conditions = [...chosen.sources.values()];
  return conditions.length ? conditions.map(each => `(${each})`).join(" or ") : undefined;
}

export function read(name, otherwise) {
  try {
    const value = JSON.parse(localStorage.getItem(name)) ?? otherwise;
    return kindOf(value) === kindOf(otherwise) ? value : otherwise;
  } catch {
    return otherwise; // not ours, or no storage
  }
}

const kindOf = value => (Array.isArray(value) ? "array" : typeof value);

// Return whether it is kept: the browser may have no room, or none to give.
export function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
