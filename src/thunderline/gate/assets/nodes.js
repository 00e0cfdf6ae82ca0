// What a node of the API is to this page: its kind, its figures, its words, and how nodes are filtered and ordered.
// Nothing here touches the document.

export const UNKNOWN = "–";

// Worst first, which is also the order of the status column. `offline` is two kinds: one that detection found, and one
// that was meant.
export const KINDS = [
  { key: "lost", status: "offline", word: "Offline", label: "Offline, lost", help: "No sign of life for so long that it was given up" },
  { key: "disconnected", status: "disconnected", word: "Disconnected", label: "Disconnected", help: "Missed its deadline; not yet given up" },
  { key: "degraded", status: "degraded", word: "Degraded", label: "Degraded", help: "Up, and says so itself or an operator says that it is impaired" },
  { key: "connecting", status: "connecting", word: "Connecting", label: "Connecting", help: "Registered, not heard yet" },
  { key: "online", status: "online", word: "Online", label: "Online", help: "Up" },
  { key: "left", status: "offline", word: "Offline", label: "Offline, left", help: "Said goodbye, or was taken down by an operator" },
];
export const KIND = Object.fromEntries(KINDS.map((kind, rank) => [kind.key, { ...kind, rank }]));
export const NEEDS_ATTENTION = ["lost", "disconnected", "degraded"];

// Reasons that the registry itself gives; anything else is somebody's own words.
const REASONS = {
  registered: "Registered, and not heard since",
  announced: "The node announced itself",
  heartbeat: "A heartbeat arrived",
  reported: "The node reports it of itself",
  silent: "No sign of life within its deadline",
  goodbye: "The node said goodbye",
  never_seen: "Registered, and never heard",
};

export function kindOf(node) {
  if (node.status !== "offline") return KIND[node.status] ?? KIND.lost;
  const meant = node.override?.status === "offline" || node.observed_reason === "goodbye";
  return meant ? KIND.left : KIND.lost;
}

// A word beside the status that tells the two kinds of `offline` apart.
export function noteOf(node, kind) {
  if (kind.key === "lost") return "lost";
  if (kind.key === "left") return node.override?.status === "offline" ? "by operator" : "left";
  if (node.flapping) return "flapping";
  return "";
}

const UP = new Set(["online", "degraded"]);

// The figures of the newest heartbeat, or null when they no longer say how the node is: it is not up, or the beat is
// more than three intervals old.
export function figuresOf(node, now) {
  const beat = node.presence?.last_heartbeat;
  if (!beat || !UP.has(node.observed_status)) return null;
  return now - Date.parse(beat.at) > Math.max(3 * node.heartbeat_interval_ms, 5000) + 2000 ? null : beat;
}

export function lastSeen(node) {
  return toMs(node.presence?.last_seen_at);
}

export function toMs(text) {
  return text ? Date.parse(text) : null;
}

// Why a node has its status, in words: what the cell says, what stands dimmed behind it, and the tooltip.
export function reasonOf(node, now) {
  const since = age(now - Date.parse(node.status_since));
  const known = REASONS[node.status_reason];
  const help = `${known ? `${known} (${node.status_reason})` : node.status_reason}, for ${since}`;
  const override = node.override;
  if (!override) return { why: node.status_reason, rest: since, help, tagged: false };
  const will = `override: ${override.status} by ${override.by}, ${override.reason}`;
  const inForce = node.status === override.status;
  const rest = inForce ? `by ${override.by}, observed ${node.observed_status}, ${since}` : `${override.status} by ${override.by} does not show`;
  return { why: node.status_reason, rest, help: `${help}; ${will}; observed: ${node.observed_status} (${node.observed_reason})`, tagged: true };
}

// Words

const number = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const WHOLE = number(0);
const TENTHS = number(1);
const HUNDREDTHS = number(2);
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const count = (value) => WHOLE.format(value);

export function percent(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return `${value < 10000 ? TENTHS.format(value) : SHORT.format(value)} %`;
}

export function mebibytes(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 1024) return `${WHOLE.format(value)} MiB`;
  if (value < 1024 * 1024) return `${TENTHS.format(value / 1024)} GiB`;
  const tebibytes = value / (1024 * 1024);
  return `${tebibytes < 10000 ? TENTHS.format(tebibytes) : SHORT.format(tebibytes)} TiB`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value === 0) return "0 ms";
  if (value < 0.01) return "< 0.01 ms";
  if (value < 1) return `${HUNDREDTHS.format(value)} ms`;
  if (value < 10000) return `${(value < 100 ? TENTHS : WHOLE).format(value)} ms`;
  return value < 1e7 ? `${TENTHS.format(value / 1000)} s` : `${SHORT.format(value / 1000)} s`;
}

// A length of time in one unit, rounded down: an age never claims more than has passed.
export function age(ms) {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${count(Math.floor(seconds / 86400))} d`;
}

export function ago(ms, now) {
  if (ms === null) return UNKNOWN;
  return now - ms < 1000 ? "now" : `${age(now - ms)} ago`;
}

const two = (value) => String(value).padStart(2, "0");

// The time of day here, with the date unless that is today's.
export function clockTime(ms, today = Date.now()) {
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return at.toDateString() === new Date(today).toDateString() ? time : `${day(at)} ${time}`;
}

export function fullTime(ms) {
  const at = new Date(ms);
  return `${day(at)} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

// Filter

const FIELDS = {
  name: (node) => node.name,
  role: (node) => node.role,
  domain: (node) => node.domain,
  status: (node) => `${node.status} ${kindOf(node).key}`,
  label: (node) => labelLines(node.labels),
};

const labelLines = (labels) => Object.entries(labels).map(([key, value]) => `${key}=${value}`).join("\n");

export function readQuery(text) {
  return text.toLowerCase().split(/\s+/).filter((word) => word && word !== "-").map((word) => {
    const excludes = word.startsWith("-");
    const bare = excludes ? word.slice(1) : word;
    const [, field, needle] = /^([a-z]+):(.+)$/.exec(bare) ?? [];
    // A name may hold a colon, so what is not a field in front of one is part of the word.
    return field in FIELDS ? { field, needle, excludes } : { field: null, needle: bare, excludes };
  });
}

export function holds(node, terms) {
  return terms.every(({ field, needle, excludes }) => {
    const where = field ? FIELDS[field](node) : Object.values(FIELDS).map((read) => read(node)).join("\n");
    return where.toLowerCase().includes(needle) !== excludes;
  });
}

// Order

const byWord = new Intl.Collator("en", { numeric: true, sensitivity: "variant" }).compare;

// `falls`: the direction of the first click is from high to low.
export const SORTS = {
  status: { value: (node) => kindOf(node).rank },
  name: { value: (node) => node.name },
  role: { value: (node) => node.role },
  domain: { value: (node) => node.domain },
  cpu: { value: (node, now) => figuresOf(node, now)?.cpu_load ?? null, falls: true },
  memory: { value: (node, now) => figuresOf(node, now)?.mem_used_mb ?? null, falls: true },
  latency: { value: (node, now) => figuresOf(node, now)?.latency_ms ?? null, falls: true },
  seen: { value: (node, now) => (lastSeen(node) === null ? null : now - lastSeen(node)), falls: true },
  reason: { value: (node) => node.status_reason },
};

// What is unknown comes last in both directions; equals are in the order of their names.
export function sorted(nodes, { key, falls }, now) {
  const { value } = SORTS[key];
  const keyed = nodes.map((node) => ({ node, value: value(node, now) }));
  keyed.sort((a, b) => {
    if (a.value === null || b.value === null) {
      if (a.value !== b.value) return a.value === null ? 1 : -1;
    } else {
      const order = typeof a.value === "string" ? byWord(a.value, b.value) : a.value - b.value;
      if (order !== 0) return falls ? -order : order;
    }
    return byWord(a.node.name, b.node.name) || (a.node.id < b.node.id ? -1 : 1);
  });
  return keyed.map((item) => item.node);
}
