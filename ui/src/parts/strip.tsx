import { useMemo } from "preact/hooks";
import { untended } from "../data/alerts.ts";
import { KINDS, TROUBLED, type Troubled } from "../data/kinds.ts";
import { guards, isListed, now, recent } from "../data/live.ts";
import { kinds, toggleKind } from "../data/route.ts";
import { counts, isPast, isStale, isWaiting, nodes, shownNow, shownVersion } from "../data/view.ts";
import { count, milliseconds, plural, UNKNOWN } from "../data/words.ts";
import { Glyph } from "./glyph.tsx";

const CHURN_MS = 900_000;
const CHURN = new Set([
  "cluster.node.online",
  "cluster.node.offline",
  "cluster.node.registered",
  "cluster.node.deregistered",
]);

/** The fleet in one line; the same on every page, and each status a filter. */
export function Strip() {
  const figures = counts.value;
  const verdict = verdictOf();
  return (
    <section class={`strip${isStale.value && !isPast.value ? " faded" : ""}`} aria-label="Statuses">
      <div class={`verdict v-${verdict.level}`}>
        <i />
        <p role="status">
          <b>{verdict.word}</b>
          <small>{verdict.detail}</small>
        </p>
      </div>
      <div class="bar" aria-hidden="true">
        {KINDS.map(({ key }) =>
          figures[key] > 0 ? <i key={key} class={`b-${key}`} style={{ flexGrow: figures[key] }} /> : null,
        )}
      </div>
      <fieldset class="chips" aria-label="Filter by status">
        {KINDS.filter(
          ({ key }) =>
            figures[key] > 0 || kinds.value.has(key) || (key !== "offline" && key !== "left" && key !== "connecting"),
        ).map(({ key, word, help }) => (
          <button
            key={key}
            type="button"
            class="chip"
            data-kind={key}
            aria-pressed={kinds.value.has(key)}
            title={help}
            onClick={() => toggleKind(key)}
          >
            <Glyph kind={key} />
            <b>{isWaiting.value ? UNKNOWN : count(figures[key])}</b> {word}
          </button>
        ))}
      </fieldset>
      <Figures />
    </section>
  );
}

function verdictOf(): { level: "good" | "watch" | "bad" | "unknown"; word: string; detail: string } {
  const figures = counts.value;
  if (isWaiting.value) return { level: "unknown", word: "Unknown", detail: "No answer yet" };
  if (isStale.value && !isPast.value) return { level: "unknown", word: "Unknown", detail: "What is shown may be old" };
  if (figures.total === 0) return { level: "good", word: "Empty", detail: "No node is registered" };
  const domains = (kind: Troubled) =>
    new Set(nodes.value.filter((node) => node.kind === kind).map((node) => node.domain)).size;
  if (figures.lost > 0)
    return {
      level: "bad",
      word: "Nodes lost",
      detail: `${count(figures.lost)} in ${plural(domains("lost"), "domain")}`,
    };
  if (!isPast.value && guards.value.length > 0)
    return { level: "bad", word: "Guard engaged", detail: "Many nodes fell silent at once" };
  for (const kind of TROUBLED) {
    if (figures[kind] > 0)
      return {
        level: "watch",
        word: "Watch",
        detail: `${count(figures[kind])} ${kind} in ${plural(domains(kind), "domain")}`,
      };
  }
  if (figures.offline > 0)
    return { level: "watch", word: "Some offline", detail: `${count(figures.offline)} offline, why is not known here` };
  if (!isPast.value && untended.value.length > 0)
    return { level: "watch", word: "Watch", detail: `${plural(untended.value.length, "alert")} firing` };
  return {
    level: "good",
    word: "All well",
    detail: figures.left > 0 ? `${count(figures.left)} left on purpose` : "No node needs attention",
  };
}

function Figures() {
  const at = shownNow.value;
  const latency = useMemo(() => {
    const figures = isPast.value
      ? []
      : nodes.value
          .filter((node) => node.latency !== null && node.hasFigures(at))
          .map((node) => node.latency as number);
    figures.sort((one, other) => one - other);
    const part = (share: number) => figures[Math.min(figures.length - 1, Math.floor(share * figures.length))] ?? null;
    return figures.length === 0 ? null : `${milliseconds(part(0.5))} / ${milliseconds(part(0.95))}`;
  }, [shownVersion.value]);
  const since = now.value - CHURN_MS;
  const oldest = recent.value.at(-1);
  const isWhole = oldest === undefined || recent.value.length < 500 || Date.parse(oldest.time) < since;
  const changes = recent.value.filter((event) => CHURN.has(event.type) && Date.parse(event.time) >= since).length;
  return (
    <dl class="figures">
      <div>
        <dt>Nodes</dt>
        <dd id="total">{isWaiting.value ? UNKNOWN : count(counts.value.total)}</dd>
      </div>
      <div>
        <dt>Latency p50 / p95</dt>
        <dd>{latency ?? UNKNOWN}</dd>
      </div>
      <div>
        <dt>Came or went, 15 min</dt>
        <dd>{isPast.value || !isListed.value ? UNKNOWN : `${isWhole ? "" : "≥ "}${count(changes)}`}</dd>
      </div>
    </dl>
  );
}
