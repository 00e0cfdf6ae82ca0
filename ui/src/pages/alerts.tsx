import { useState } from "preact/hooks";
import {
  type Alert,
  alertProblem,
  firing,
  matcherWords,
  namesOf,
  nodesOf,
  type PendingAlert,
  placeOf,
  rest,
  type Silence,
  searchFor,
  summaryWords,
} from "../data/alerts.ts";
import { now } from "../data/live.ts";
import { href, lookAt, route, set } from "../data/route.ts";
import { mayOperate } from "../data/session.ts";
import { isFiltered, isPast, isStale, matches, query, shown, shownVersion } from "../data/view.ts";
import { age, ago, count, fullTime, moment, plural } from "../data/words.ts";
import { type AlertChoice, AlertDialog, SeverityWord } from "../parts/alerts.tsx";

const STATES = { "": "All", firing: "Firing", pending: "Pending", resolved: "Resolved" } as const;
const NAMES_SHOWN = 3;

export function Alerts() {
  const [choice, choose] = useState<AlertChoice | null>(null);
  shownVersion.value; // a node changes in place
  if (isPast.value) return <NotKnownThen />;
  const state = route.value.params.state ?? "";
  const is = (wanted: string) => state === "" || state === wanted;
  const known = firing.value;
  const more = rest.value;
  const fires = (is("firing") && known?.filter(isWanted)) || [];
  const pending = (is("pending") && more?.pending.filter(isWanted)) || [];
  const resolved = (is("resolved") && more?.resolved.filter(isWanted)) || [];
  const isEmpty = fires.length + pending.length + resolved.length === 0;
  return (
    <div class={`page${isStale.value ? " faded" : ""}`}>
      <section class="card full" aria-label="Alerts">
        <div class="listbar">
          <h1>{known === null ? "Alerts" : `${count(known.length)} firing`}</h1>
          {isFiltered.value ? (
            <>
              <span class="muted">
                {count(fires.length + pending.length + resolved.length)} shown: those that match the filter
              </span>
              <button
                type="button"
                class="ghost"
                onClick={() => set({ q: null, status: null, domain: null, role: null })}
              >
                Clear filters
              </button>
            </>
          ) : null}
          <span class="grow" />
          <fieldset class="segments" aria-label="State">
            {Object.entries(STATES).map(([key, word]) => (
              <button key={key} type="button" aria-pressed={state === key} onClick={() => set({ state: key })}>
                {word}
              </button>
            ))}
          </fieldset>
        </div>
        {alertProblem.value === null ? null : (
          <p class="refused" role="alert">
            {known === null ? "Not shown" : "What is shown may be old"}, because {alertProblem.value}.
          </p>
        )}
        {isEmpty ? (
          <Nothing isKnown={known !== null && more !== null} />
        ) : (
          <table class="alerts">
            <thead>
              <tr>
                <th scope="col">Severity</th>
                <th scope="col">Alert</th>
                <th scope="col">Nodes</th>
                <th scope="col">State</th>
                <th scope="col">Since</th>
                <th scope="col">
                  <span class="unseen">What can be done</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {fires.map((alert) => (
                <Fires key={alert.id} alert={alert} onChoose={choose} />
              ))}
              {pending.map((alert) => (
                <Pends key={`${alert.rule} ${JSON.stringify(alert.labels)}`} alert={alert} />
              ))}
              {resolved.map((alert) => (
                <Resolved key={`${alert.id} ${alert.fired_at}`} alert={alert} />
              ))}
            </tbody>
          </table>
        )}
      </section>
      <Silences of={more?.silences ?? null} onChoose={choose} />
      {choice === null ? null : <AlertDialog choice={choice} onClose={() => choose(null)} />}
    </div>
  );
}

/** What is pending is judged from here on, and of what was resolved the last time alone is kept: a moment has no list. */
function NotKnownThen() {
  return (
    <div class="page">
      <section class="card full" aria-label="Alerts">
        <h1>Alerts are known only for now</h1>
        <p class="none">
          What fired, was taken on and was resolved before this moment stands{" "}
          <a href={href("events", { about: "alert" })}>among the events</a>.
        </p>
        <button type="button" class="button" onClick={() => lookAt(null)}>
          Alerts of now
        </button>
      </section>
    </div>
  );
}

function Nothing({ isKnown }: { isKnown: boolean }) {
  if (!isKnown) return alertProblem.value === null ? <p class="empty">Asking the server…</p> : null;
  if (isFiltered.value || route.value.params.state) return <p class="empty">No alert matches.</p>;
  return (
    <p class="empty">
      Nothing fires. Nodes that stay offline, a guard that is engaged, a store that is away, certificates that end soon:
      such things show here, as the server's rules have it, with what is about to fire and what was resolved within a
      day.
    </p>
  );
}

/** The filter is about nodes: an alert is wanted for any that it names, and for its own words. */
function isWanted(alert: PendingAlert | Alert): boolean {
  if (!isFiltered.value) return true;
  if (nodesOf(alert, shown.value).some((node) => matches.value(node))) return true;
  const text = query.value.trim().toLowerCase();
  const { domain, role, status } = route.value.params;
  if (text === "" || domain || role || status) return false;
  const words = [alert.rule, "summary" in alert ? alert.summary : "", ...Object.values(alert.labels)];
  return words.join(" ").toLowerCase().includes(text);
}

function Fires({ alert, onChoose }: { alert: Alert; onChoose: (choice: AlertChoice) => void }) {
  const { acknowledged } = alert;
  return (
    <tr data-alert={alert.id} data-state="firing">
      <td>
        <SeverityWord severity={alert.severity} />
      </td>
      <What alert={alert} />
      <td>
        <Named alert={alert} />
      </td>
      <td>
        {acknowledged === null ? (
          <b>{alert.silenced_by === null ? "Firing" : "Silenced"}</b>
        ) : (
          <span title={fullTime(Date.parse(acknowledged.at))}>
            {alert.silenced_by === null ? "Taken on" : "Silenced, taken on"} by {acknowledged.by}
          </span>
        )}
        <Small text={acknowledged?.note} />
      </td>
      <Since alert={alert} />
      <td>
        {mayOperate.value ? (
          <>
            {acknowledged === null ? (
              <button type="button" class="ghost" onClick={() => onChoose({ act: "acknowledge", alert })}>
                Acknowledge
              </button>
            ) : null}
            {alert.silenced_by === null ? (
              <button type="button" class="ghost" onClick={() => onChoose({ act: "silence", alert })}>
                Silence
              </button>
            ) : null}
          </>
        ) : null}
      </td>
    </tr>
  );
}

function Pends({ alert }: { alert: PendingAlert }) {
  const due = alert.due_at === null ? null : Date.parse(alert.due_at) - now.value;
  return (
    <tr data-state="pending">
      <td>
        <SeverityWord severity={alert.severity} />
      </td>
      <What alert={alert} />
      <td>
        <Named alert={alert} />
      </td>
      <td>
        Pending
        <Small
          text={
            alert.held_by === "guard"
              ? "held back: the guard speaks for it"
              : alert.held_by === "flapping"
                ? "held back: the node flaps"
                : due === null
                  ? "held back"
                  : due > 0
                    ? `fires in ${age(due)}`
                    : "is due"
          }
        />
      </td>
      <Since alert={alert} />
      <td />
    </tr>
  );
}

function Resolved({ alert }: { alert: Alert }) {
  const at = Date.parse(alert.resolved_at ?? "");
  return (
    <tr data-alert={alert.id} data-state="resolved">
      <td>
        <SeverityWord severity={alert.severity} />
      </td>
      <What alert={alert} />
      <td>
        <Named alert={alert} />
      </td>
      <td title={fullTime(at)}>
        Resolved
        <Small text={`${ago(at, now.value)}, after ${age(at - Date.parse(alert.fired_at))}`} />
      </td>
      <Since alert={alert} />
      <td>
        <a
          class="ghost"
          href={href("topology", { at: alert.fired_at, node: alert.labels.node, q: null })}
          aria-label={`Show then: the cluster when ${alert.rule} fired at ${moment(Date.parse(alert.fired_at), now.value)}`}
        >
          Show then
        </a>
      </td>
    </tr>
  );
}

function What({ alert }: { alert: PendingAlert | Alert }) {
  const { node, role, domain, scope, ...told } = alert.labels;
  const place = Object.entries(told).map(([label, value]) => `${label} ${value}`);
  return (
    <td>
      <b>{"summary" in alert ? summaryWords(alert) : `${alert.rule}${node ? ` of ${node}` : ""}`}</b>
      <small>{[alert.rule, ...place, domain].filter(Boolean).join(" · ")}</small>
    </td>
  );
}

/** The nodes that an alert names, each a link, and all of them in the topology. */
function Named({ alert }: { alert: PendingAlert | Alert }) {
  const names = namesOf(alert);
  if (names.length === 0) return <span class="muted">{placeOf(alert) ?? "The registry"}</span>;
  const all = "nodes" in alert ? Math.max(alert.nodes, names.length) : names.length;
  const shownNames = names.slice(0, NAMES_SHOWN);
  const none = { status: null, domain: null, role: null };
  return (
    <>
      <span class="named">
        {shownNames.map((name) => (
          <a key={name} href={href("nodes", {}, name)}>
            {name}
          </a>
        ))}
        {all > shownNames.length ? ` and ${count(all - shownNames.length)} more` : ""}
      </span>
      <small class="named">
        {names.length > 1 ? (
          <a href={href("nodes", { ...none, q: searchFor(names) })}>
            {names.length < all ? `The first ${count(names.length)} in the list` : "In the list"}
          </a>
        ) : null}
        <a
          href={href("topology", {
            ...none,
            q: names.length > 1 ? searchFor(names) : null,
            node: names.length === 1 ? names[0] : null,
          })}
          aria-label={`In the topology: ${names.length > 1 ? plural(names.length, "node") : names[0]}`}
        >
          In the topology
        </a>
      </small>
    </>
  );
}

function Since({ alert }: { alert: PendingAlert | Alert }) {
  const at = Date.parse(alert.starts_at);
  const fired = "fired_at" in alert ? `; fired ${fullTime(Date.parse(alert.fired_at))}` : "";
  return (
    <td title={`${fullTime(at)}${fired}`}>
      {moment(at, now.value)}
      <Small text={ago(at, now.value)} />
    </td>
  );
}

function Small({ text }: { text: string | null | undefined }) {
  return text ? <small>{text}</small> : null;
}

function Silences({ of, onChoose }: { of: Silence[] | null; onChoose: (choice: AlertChoice) => void }) {
  if (of === null || of.length === 0) return null;
  return (
    <section class="card full" aria-label="Silences">
      <h2>Silences</h2>
      <table class="silences">
        <thead>
          <tr>
            <th scope="col">Alerts with</th>
            <th scope="col">Until</th>
            <th scope="col">By</th>
            <th scope="col">Reason</th>
            <th scope="col">
              <span class="unseen">What can be done</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {of.map((silence) => {
            const until = Date.parse(silence.until);
            return (
              <tr key={silence.id} data-silence={silence.id}>
                <td>
                  <code>{matcherWords(silence.matchers)}</code>
                </td>
                <td title={fullTime(until)}>
                  {moment(until, now.value)}{" "}
                  <small>{until > now.value ? `${age(until - now.value)} left` : "over"}</small>
                </td>
                <td class="muted">{silence.by}</td>
                <td>{silence.reason}</td>
                <td>
                  {mayOperate.value ? (
                    <button type="button" class="ghost" onClick={() => onChoose({ act: "unsilence", silence })}>
                      End
                    </button>
                  ) : null}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
