import { useMemo } from "preact/hooks";
import { now } from "../data/live.ts";
import { go, href, kinds, route, set } from "../data/route.ts";
import { isFiltered, isPast, matches, query, shown, shownNow } from "../data/view.ts";
import { ago, count, fullTime, moment } from "../data/words.ts";
import { tell, useEvents } from "../parts/events.tsx";
import { StatusWord } from "../parts/glyph.tsx";

const SHOWN_MAX = 300;
const ABOUT = {
  "": "All",
  node: "Nodes",
  link: "Links",
  group: "Groups",
  alert: "Alerts",
  registry: "Registry",
} as const;

export function Events() {
  const about = route.value.params.about ?? "";
  const of = useEvents();
  const found = useMemo(
    () =>
      of.events.filter((event) => {
        const kind = event.entitykind === "guard" || event.entitykind === "capacity" ? "registry" : event.entitykind;
        if (about && kind !== about) return false;
        if (kinds.value.size > 0) {
          const told = tell(event).kind;
          if (told === null || !kinds.value.has(told)) return false;
        }
        if (!query.value.trim() && !route.value.params.domain && !route.value.params.role) return true;
        const node = shown.value?.named.get(event.subject);
        return node
          ? matchesApartFromStatus(node)
          : event.subject.toLowerCase().includes(query.value.trim().toLowerCase());
      }),
    [of.events, about, matches.value, kinds.value, query.value],
  );
  const at = shownNow.value;
  return (
    <div class="page events">
      <section class="card full" aria-label="Events">
        <div class="listbar">
          <h1>{isPast.value ? "Events before this moment" : "Latest events"}</h1>
          <span class="muted">
            {count(Math.min(found.length, SHOWN_MAX))} of the newest {count(of.events.length)}
          </span>
          {isFiltered.value ? (
            <button
              type="button"
              class="ghost"
              onClick={() => set({ q: null, status: null, domain: null, role: null })}
            >
              Clear filters
            </button>
          ) : null}
          <span class="grow" />
          <fieldset class="segments" aria-label="About">
            {Object.entries(ABOUT).map(([key, word]) => (
              <button key={key} type="button" aria-pressed={about === key} onClick={() => set({ about: key })}>
                {word}
              </button>
            ))}
          </fieldset>
        </div>
        {of.problem ? (
          <p class="refused" role="alert">
            Not shown, because {of.problem}.
          </p>
        ) : null}
        <table class="events">
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">About</th>
              <th scope="col">What</th>
              <th scope="col">Reason</th>
              <th scope="col">By</th>
              <th scope="col">Revision</th>
              <th scope="col">
                <span class="unseen">Look at it</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {found.slice(0, SHOWN_MAX).map((event) => {
              const { kind, what, why, node } = tell(event);
              const time = Date.parse(event.time);
              return (
                <tr key={event.id}>
                  <td title={fullTime(time)}>
                    {moment(time, now.value)} <small>{ago(time, at)}</small>
                  </td>
                  <td title={event.subject}>
                    {node === null ? event.subject : <a href={href("nodes", {}, node)}>{node}</a>}
                  </td>
                  <td>
                    {kind !== null && /\.(online|offline|status_changed)$/.test(event.type) ? (
                      <StatusWord kind={kind} />
                    ) : (
                      what
                    )}
                  </td>
                  <td>{why}</td>
                  <td class="muted" title={event.actor}>
                    {event.actor}
                  </td>
                  <td class="num muted">{count(event.revision)}</td>
                  <td>
                    <button
                      type="button"
                      class="ghost"
                      aria-label={`Show then: the cluster at ${moment(time, now.value)}`}
                      onClick={() => go(href("topology", { at: event.time, node }))}
                    >
                      Show then
                    </button>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
        {found.length === 0 && of.problem === null ? (
          <p class="empty">{of.isLoading ? "Asking the server…" : "No event matches."}</p>
        ) : null}
      </section>
    </div>
  );
}

/** The status filter is about the event here, not about what the node is now. */
function matchesApartFromStatus(
  node: NonNullable<ReturnType<NonNullable<typeof shown.value>["named"]["get"]>>,
): boolean {
  const { domain, role } = route.value.params;
  if ((domain && node.domain !== domain) || (role && node.role !== role)) return false;
  return query.value.trim() === "" || kinds.value.size > 0 || matches.value(node);
}
