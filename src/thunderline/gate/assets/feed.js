// Where the page's data comes from: all nodes, asked for every two seconds, and how far they can be trusted.

import { problemOf, sessionOver } from "./session.js";

export const PERIOD_MS = 2000;
export const PAGE_SIZE = 1000;
export const SHOWN_MAX = 5000;
const SLOW_MS = 5000;
const GIVE_UP_MS = 20_000;
const PAUSE_MIN_MS = 500;
const WATCH_MS = 500;
// The `date` header counts whole seconds; less than this is no difference between two clocks.
const CLOCK_SLACK_MS = 2500;
const AWAY_JITTER_MS = 3000;

// An answer that is none: what the server said instead.
export class Refused extends Error {
  constructor(status, detail) {
    super(`it answers ${status}${detail ? `: ${detail}` : ""}`);
    this.status = status;
  }
}

// The text of a JSON answer, with its headers. Throws Refused, or what fetch throws.
export async function ask(url, signal) {
  const response = await fetch(url, { cache: "no-store", headers: { accept: "application/json" }, signal });
  const text = await response.text();
  if (!response.ok) {
    const problem = problemOf(text);
    if (response.status === 401) sessionOver(problem);
    throw new Refused(response.status, problem.detail);
  }
  return { text, headers: response.headers };
}

export function words(error) {
  if (error instanceof Refused) return error.message;
  if (error?.name === "AbortError") return `no answer within ${GIVE_UP_MS / 1000} s`;
  if (error instanceof TypeError) return "it cannot be reached";
  return "its answer makes no sense to this page";
}

// How long ago the store went away, in seconds, or null while it is there.
export function awayFor(headers) {
  const text = headers.get("x-thunderline-stale-seconds");
  return text === null ? null : Number(text);
}

export class Feed {
  nodes = [];
  revision = null;
  guards = []; // that hold back the expiry of nodes
  more = false; // there are nodes beyond SHOWN_MAX
  asOf = null; // when the newest good answer was asked for: what it tells was true then or later
  awaySince = null; // when the store went away
  #offset = 0;
  #problem = null;
  #pollingSince = null;
  #createdAt = Date.now();
  #timer = null;
  #onAnswer;
  #onState;

  // `onAnswer` is called after each good answer, `onState` whenever `state` may be another.
  constructor({ onAnswer, onState }) {
    this.#onAnswer = onAnswer;
    this.#onState = onState;
  }

  start() {
    setInterval(this.#onState, WATCH_MS);
    document.addEventListener("visibilitychange", () => this.#poll());
    this.#poll();
  }

  // `waiting` and `never` before the first good answer, then `live` or `stale`.
  get state() {
    if (this.asOf === null) return this.#problem !== null || Date.now() - this.#createdAt > SLOW_MS ? "never" : "waiting";
    return this.#problem !== null || this.#isSlow || Date.now() - this.asOf > SLOW_MS + PERIOD_MS ? "stale" : "live";
  }

  // Why there is nothing new, in words.
  get problem() {
    return this.#problem ?? `no answer for more than ${SLOW_MS / 1000} s`;
  }

  // The server's clock, by which all ages are; while nothing new comes it stands still, as the data does.
  get now() {
    return (this.state === "stale" ? this.asOf : Date.now()) + this.#offset;
  }

  get #isSlow() {
    return this.#pollingSince !== null && Date.now() - this.#pollingSince > SLOW_MS;
  }

  async #poll() {
    // A page that nobody sees asks for nothing; it asks at once when it is seen again.
    if (this.#pollingSince !== null || document.hidden) return;
    clearTimeout(this.#timer);
    const startedAt = (this.#pollingSince = Date.now());
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), GIVE_UP_MS);
    try {
      const answer = await readNodes(giveUp.signal);
      Object.assign(this, { nodes: answer.nodes, revision: answer.revision, more: answer.more, guards: answer.guards, asOf: startedAt });
      this.#offset = clockOffset(answer.date);
      this.#rememberAway(answer.awayFor);
      this.#problem = null;
      this.#pollingSince = null;
      this.#onAnswer();
    } catch (error) {
      this.#problem = words(error);
      this.#pollingSince = null;
      if (!(error instanceof Refused || error instanceof TypeError || error.name === "AbortError")) console.error(error);
    }
    clearTimeout(timer);
    this.#onState();
    this.#timer = setTimeout(() => this.#poll(), Math.max(PAUSE_MIN_MS, startedAt + PERIOD_MS - Date.now()));
  }

  #rememberAway(seconds) {
    if (seconds === null) {
      this.awaySince = null;
      return;
    }
    const since = Date.now() - seconds * 1000;
    if (this.awaySince === null || Math.abs(since - this.awaySince) > AWAY_JITTER_MS) this.awaySince = since;
  }
}

async function readNodes(signal) {
  const nodes = new Map();
  let cursor = null;
  let newest = null;
  for (let asked = 0; asked < SHOWN_MAX; asked += PAGE_SIZE) {
    const after = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { text, headers } = await ask(`/api/nodes?limit=${PAGE_SIZE}${after}`, signal);
    const body = JSON.parse(text);
    if (!Array.isArray(body.nodes)) throw new SyntaxError("no list of nodes");
    for (const node of body.nodes) nodes.set(node.id, node);
    newest = { revision: body.revision, date: headers.get("date"), awayFor: awayFor(headers) };
    cursor = body.next_cursor;
    if (cursor === null) break;
  }
  const { text } = await ask("/api/summary", signal);
  return { nodes: [...nodes.values()], more: cursor !== null, guards: JSON.parse(text).liveness.guards, ...newest };
}

function clockOffset(date) {
  const at = date === null ? NaN : Date.parse(date);
  if (Number.isNaN(at)) return 0;
  const offset = at + 500 - Date.now();
  return Math.abs(offset) < CLOCK_SLACK_MS ? 0 : offset;
}
