// Talk to the server: JSON, streams of events, uploads; every failure is a Refusal.

const KEY = "dalm-api-key"; // of this tab alone

let held = ""; // where the browser keeps nothing

export const key = {
  get() {
    try {
      return held || sessionStorage.getItem(KEY);
    } catch {
      return held;
    }
  },
  set(value) {
    try {
      sessionStorage.setItem(KEY, value);
    } catch {
      held = value;
    }
  },
  forget() {
    held = "";
    try {
      sessionStorage.removeItem(KEY);
    } catch { /* it isn't there */ }
  },
};

// What went wrong. `status` is that of HTTP; 0: the server wasn't reached, or broke off.
export class Refusal extends Error {
  constructor(status, message, { wait = 0, code = null, param = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param });
    this.wait = wait; // seconds after which to ask again
  }
}

export const LOST = "The connection was lost.";

function headers(more = {}) {
  return key.get() ? { ...more, Authorization: `Bearer ${key.get()}` } : more;
}

function refusalOf(status, body, wait) {
  let told = { message: `The server answers with status ${status}.` };
  try {
    told = JSON.parse(body).error ?? told;
  } catch { /* no JSON: a proxy's page */ }
  return new Refusal(status, told.message, { wait: Number(wait) || 0, code: told.code, param: told.param });
}

export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, LOST);
  }
  if (response.ok) return response;
  throw refusalOf(response.status, await response.text().catch(() => ""), response.headers.get("Retry-After"));
}

export async function get(path, options) {
  return (await request(path, options)).json();
}

function posting(body, options) {
  return {
    ...options, method: "POST", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  };
}

export async function post(path, body, options = {}) {
  return (await request(path, posting(body, options))).json();
}

export async function remove(path) {
  return (await request(path, { method: "DELETE" })).json();
}

// Yield the objects of a stream of server-sent events.
export async function* events(path, body, signal) {
  const response = await request(path, posting(body, { signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await read(reader);
    if (done) throw new Refusal(0, LOST);
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(event.error.code === "timeout" ? 504 : 500, event.error.message);
      yield event;
    }
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, LOST);
  }
}

// Send a form; `progress` is called with the part sent, from 0 to 1. fetch doesn't tell it.
export function upload(path, form, progress) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", path);
    for (const [name, value] of Object.entries(headers())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = event => event.lengthComputable && progress(event.loaded / event.total);
    sending.upload.onload = () => progress(1);
    sending.onerror = () => reject(new Refusal(0, LOST));
    sending.onload = () => {
      const { status, responseText } = sending;
      if (status >= 300) {
        reject(refusalOf(status, responseText, sending.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(JSON.parse(responseText));
      } catch { // a proxy's page
        reject(new Refusal(status, "What answers isn't this server."));
      }
    };
    sending.send(form);
  });
}
