// Who is logged in in this browser.

const PATH = "/api/session";
// What pages of other sites cannot send along: the server takes no change from a browser without it.
const OWN = { "x-thunderline": "1" };
// Where the dashboard notes why it left; see ui/src/data/api.ts.
const ENDED = "thunderline.ended";
const GIVE_UP_MS = 20_000;

// What the server said instead of doing it; the message is meant for people.
export class Problem extends Error {
  constructor(status, { code = "", detail = "" } = {}) {
    super(detail || `the server answers ${status}`);
    this.status = status;
    this.code = code;
  }
}

// {auth, session}: whether anybody has to log in here, and {name, scopes, expires_at} of who has, or null.
export function readSession() {
  return told("GET");
}

export function logIn(token) {
  return told("POST", { token });
}

async function told(method, body) {
  const response = await fetch(PATH, {
    method,
    cache: "no-store",
    headers: body === undefined ? OWN : { ...OWN, "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Problem(response.status, problemOf(text));
  return text === "" ? null : JSON.parse(text);
}

// The problem that a refusal tells, as far as it is one.
function problemOf(text) {
  try {
    const { code, detail } = JSON.parse(text);
    return { code: String(code ?? ""), detail: String(detail ?? "").slice(0, 300) };
  } catch {
    return { code: "", detail: "" };
  }
}

// Why the page before this one was left, once; null if it was not left like that.
export function whyLeft() {
  try {
    const why = sessionStorage.getItem(ENDED);
    sessionStorage.removeItem(ENDED);
    return why;
  } catch {
    return null;
  }
}
