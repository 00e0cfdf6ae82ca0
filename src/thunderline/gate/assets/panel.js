// One node in full: its record, its latest heartbeats, its open sessions.

import { element, glyph, setHidden, setText } from "./dom.js";
import { ask, words } from "./feed.js";
import { UNKNOWN, age, ago, clockTime, count, fullTime, kindOf, lastSeen, mebibytes, milliseconds, noteOf, percent, toMs } from "./nodes.js";
import { sparkline } from "./sparkline.js";

const GIVE_UP_MS = 10_000;
const BEATS_LISTED = 12;
const SECTIONS = ["Status", "Heartbeats", "Open sessions", "Record", "Labels", "Capabilities", "Meta", "As JSON"];

export class Panel {
  name = null; // of the node that is shown; null while closed
  #root;
  #parts;
  #sections = new Map();
  #node = null;
  #listed;
  #complete = false;
  #now = 0;
  #history = null; // {heartbeats, sessions, asOf} of the newest answer
  #problem = null;
  #asking = null;

  constructor(root) {
    this.#root = root;
    const part = (id) => root.querySelector(`#panel-${id}`);
    this.#parts = { name: part("name"), status: part("status"), note: part("note"), body: part("body") };
  }

  // Show the node of that name, or nothing for null. True when that is another than before.
  open(name) {
    if (name === this.name) return false;
    this.#asking?.abort();
    this.#asking = null;
    this.name = name;
    this.#node = this.#history = this.#problem = null;
    this.#listed = undefined;
    this.#sections.clear();
    this.#parts.body.replaceChildren();
    setText(this.#parts.name, name ?? "");
    this.#parts.status.replaceChildren();
    setHidden(this.#parts.note, true);
    setHidden(this.#root, name === null);
    return true;
  }

  focus() {
    this.#parts.name.focus({ preventScroll: true });
  }

  // `listed`: the node as the newest list has it, undefined where it has not; `complete`: the list holds every node.
  show(listed, { now, complete, live }) {
    if (this.name === null) return;
    this.#listed = listed;
    this.#complete = complete;
    if (listed) this.#node = this.#isDetailed(listed) ? { ...listed, meta: this.#node.meta } : listed;
    this.tick(now);
    if (live && !(complete && listed === undefined)) this.#ask();
  }

  // The ages again.
  tick(now) {
    if (this.name === null) return;
    this.#now = now;
    this.#tell();
    if (this.#node !== null) this.#draw(this.#node, now);
  }

  // The list is read without care for integers beyond what a double holds; a meta that was read with care is kept.
  #isDetailed(listed) {
    return this.#history !== null && this.#node.id === listed.id && this.#node.revision === listed.revision;
  }

  async #ask() {
    if (this.#asking) return;
    const asking = (this.#asking = new AbortController());
    const timer = setTimeout(() => asking.abort(), GIVE_UP_MS);
    try {
      const { text, headers } = await ask(`/api/nodes/${encodeURIComponent(this.name)}?load=sessions,heartbeats`, asking.signal);
      if (this.#asking !== asking) return;
      const { node, heartbeats, sessions } = JSON.parse(text, exactly);
      if (!node || !heartbeats || !sessions) throw new SyntaxError("no node with its heartbeats and sessions");
      this.#node = node;
      this.#history = { heartbeats, sessions, asOf: Date.now() };
      this.#problem = null;
    } catch (error) {
      if (this.#asking !== asking) return;
      this.#problem = error;
    } finally {
      clearTimeout(timer);
      if (this.#asking === asking) {
        this.#asking = null;
        this.tick(this.#now);
      }
    }
  }

  #tell() {
    const missing = this.#listed === undefined && (this.#complete || this.#problem?.status === 404);
    const gone = missing && this.#node !== null;
    let note = null;
    if (gone) note = "This node is not registered any more. What stands here is the last that was known of it.";
    else if (missing) note = "There is no node of this name.";
    else if (this.#problem) {
      const since = this.#history ? `heartbeats and sessions are those of ${clockTime(this.#history.asOf)}` : "heartbeats and sessions are unknown";
      note = `The server gives no details (${words(this.#problem)}); ${since}.`;
    }
    setHidden(this.#parts.note, note === null);
    setText(this.#parts.note, note ?? "");
    this.#root.classList.toggle("gone", gone);
  }

  #draw(node, now) {
    const kind = kindOf(node);
    this.#section("status", [kind.key, noteOf(node, kind), since(node.status_since, now)], this.#parts.status, () => [
      glyph(kind), element("b", {}, kind.word), noteOf(node, kind), element("span", {}, `for ${since(node.status_since, now)}`),
    ]);
    this.#facts("Status", statusFacts(node, now));
    const history = this.#history;
    if (history) {
      // The line moves on by the second only while it is looked at in seconds: a tenth of an interval will do.
      const step = Math.floor(now / Math.max(1000, node.heartbeat_interval_ms / 10));
      const newest = history.heartbeats.at(-1);
      this.#list("Heartbeats", [newest?.at, newest?.seq, history.heartbeats.length, step], () => beatParts(node, history.heartbeats, now));
      this.#list("Open sessions", history.sessions, () => sessionParts(history.sessions));
    }
    this.#facts("Record", recordFacts(node));
    this.#list("Labels", node.labels, () => labelParts(node.labels));
    this.#list("Capabilities", node.capabilities, () => capabilityParts(node.capabilities));
    this.#list("Meta", node.meta, () => [element("pre", { tabindex: "0" }, JSON.stringify(node.meta, null, 2))]);
    this.#list("As JSON", node.id, () => [element("p", {}, element("a", { href: `/api/nodes/${node.id}?load=sessions,heartbeats` }, `/api/nodes/${node.id}`))]);
  }

  #facts(title, pairs) {
    this.#list(title, pairs, () => [element("dl", {}, ...pairs.flatMap(([term, fact, help]) => [
      element("dt", {}, term), element("dd", { title: help ?? null, class: fact === UNKNOWN ? "unknown" : null }, fact),
    ]))]);
  }

  #list(title, key, build) {
    if (!this.#sections.has(title)) {
      const content = element("div");
      const whole = element("section", {}, element("h3", {}, title), content);
      const later = SECTIONS.slice(SECTIONS.indexOf(title) + 1).map((one) => this.#sections.get(one)).find(Boolean);
      this.#parts.body.insertBefore(whole, later?.whole ?? null);
      this.#sections.set(title, { content, whole, key: null });
    }
    this.#section(title, key, this.#sections.get(title).content, build);
  }

  // Build anew only what differs: what a person has marked or scrolled stays as it is.
  #section(title, key, content, build) {
    const known = this.#sections.get(title) ?? { key: null };
    const text = JSON.stringify(key);
    if (known.key === text) return;
    this.#sections.set(title, { ...known, key: text });
    content.replaceChildren(...build());
  }
}

function statusFacts(node, now) {
  const facts = [["Reason", node.status_reason], ["Observed", `${node.observed_status} (${node.observed_reason})`]];
  const override = node.override;
  if (override) {
    facts.push(["Override", `${override.status} by ${override.by}`], ["Override's reason", override.reason], ["Override since", fullTime(Date.parse(override.at))]);
    if (override.expires_at) facts.push(["Override until", fullTime(Date.parse(override.expires_at))]);
  }
  const beatAt = toMs(node.presence?.last_heartbeat_at);
  const seen = lastSeen(node);
  facts.push(["Last seen", ago(seen, now), seen === null ? null : fullTime(seen)]);
  facts.push(["Last heartbeat", ago(beatAt, now), beatAt === null ? null : fullTime(beatAt)]);
  facts.push(["Beats every", milliseconds(node.heartbeat_interval_ms).replace(/\.0 s$/, " s")]);
  return facts;
}

function recordFacts(node) {
  return [
    ["Id", node.id],
    ["Role", node.role],
    ["Domain", node.domain],
    ["Cluster", node.cluster_type.replaceAll("_", " ")],
    ["Address", node.address ?? UNKNOWN],
    ["Peer id", node.peer_id ?? UNKNOWN],
    ["DID", node.did ?? UNKNOWN],
    ["Groups", node.groups.join(", ") || UNKNOWN],
    ["Incarnation", node.incarnation === 1 ? "1" : `${count(node.incarnation)} (restarted)`],
    ["Instance", node.instance ?? UNKNOWN],
    ["Answered for by", node.presence?.owner ?? UNKNOWN],
    ["Registered", fullTime(Date.parse(node.inserted_at))],
    ["Changed", fullTime(Date.parse(node.updated_at))],
    ["Revision", count(node.revision)],
  ];
}

function beatParts(node, beats, now) {
  if (beats.length === 0) return [element("p", { class: "unknown" }, "None in the last hour.")];
  const line = (title, field, format, ceiling) => sparkline({
    title, now, format, ceiling,
    interval: node.heartbeat_interval_ms,
    beats: beats.map((beat) => ({ at: Date.parse(beat.at), value: beat[field] })),
  });
  const rows = beats.slice(-BEATS_LISTED).reverse().map((beat) => element("tr", {},
    element("td", { title: fullTime(Date.parse(beat.at)) }, clockTime(Date.parse(beat.at), now)),
    element("td", {}, beat.status),
    element("td", {}, percent(beat.cpu_load)),
    element("td", {}, mebibytes(beat.mem_used_mb)),
    element("td", {}, milliseconds(beat.latency_ms)),
    element("td", {}, exactText(beat.seq)),
  ));
  const head = ["At", "Status", "CPU", "Memory", "Latency", "Seq"].map((word) => element("th", { scope: "col" }, word));
  return [
    line("CPU", "cpu_load", percent, 100),
    line("Memory", "mem_used_mb", mebibytes),
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
  ];
}

function sessionParts(sessions) {
  if (sessions.length === 0) return [element("p", { class: "unknown" }, "None.")];
  return sessions.map((session) => element("dl", {}, ...[
    ["Session", session.session_id],
    ["To", session.remote_node_id ?? "the registry"],
    ["Kind", `${session.session_type}, ${session.connection_type}`],
    ["Status", session.status],
    ["Latency", milliseconds(session.latency_ms)],
    ["Established", session.established_at ? fullTime(Date.parse(session.established_at)) : UNKNOWN],
  ].flatMap(([term, fact]) => [element("dt", {}, term), element("dd", {}, fact)])));
}

function labelParts(labels) {
  const pairs = Object.entries(labels);
  if (pairs.length === 0) return [element("p", { class: "unknown" }, "None.")];
  return [element("ul", { class: "labels" }, ...pairs.map(([key, value]) => element("li", {}, element("span", {}, `${key}=`), value)))];
}

function capabilityParts(capabilities) {
  const pairs = Object.entries(capabilities);
  if (pairs.length === 0) return [element("p", { class: "unknown" }, "None.")];
  return [element("ul", { class: "labels" }, ...pairs.map(([key, { value, enabled }]) =>
    element("li", {}, element("span", {}, value === null ? key : `${key}=`), value ?? "", enabled ? "" : " (off)")))];
}

const since = (text, now) => age(now - Date.parse(text));

// JSON as it was written: an integer that a double cannot hold stays what it is, where the browser knows how.
function exactly(key, value, context) {
  const isRounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return isRounded && context && JSON.rawJSON && /^-?\d+$/.test(context.source) ? JSON.rawJSON(context.source) : value;
}

function exactText(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return typeof value === "object" ? value.rawJSON : String(value);
}
