// What an operator may do about an alert, each confirmed; and alerts in a few words, for other pages.

import { useState } from "preact/hooks";
import {
  type Alert,
  alertProblem,
  firing,
  matchersOf,
  matcherWords,
  readAlerts,
  type Severity,
  type Silence,
  summaryWords,
} from "../data/alerts.ts";
import { change, sentence } from "../data/api.ts";
import { href } from "../data/route.ts";
import { isPast, shownNow } from "../data/view.ts";
import { ago, count } from "../data/words.ts";
import { Dialog } from "./dialog.tsx";

export type AlertChoice =
  | { act: "acknowledge"; alert: Alert }
  | { act: "silence"; alert: Alert }
  | { act: "unsilence"; silence: Silence };

const REASON_MAX = 500;
const LENGTHS: [seconds: number, word: string][] = [
  [3_600, "1 hour"],
  [4 * 3_600, "4 hours"],
  [86_400, "1 day"],
  [7 * 86_400, "7 days"],
  [30 * 86_400, "30 days"],
];
const ACTS = {
  acknowledge: {
    title: "Acknowledge",
    does: "Others see that you have taken it on. It fires on, and is resolved when its cause is gone.",
    field: "Comment",
    confirm: "Acknowledge",
  },
  silence: {
    title: "Silence",
    does: "Alerts that have all of these are not told to anybody for so long. They stand here and in the log all the same; what fires still when it ends is told then.",
    field: "Reason",
    confirm: "Silence",
  },
  unsilence: {
    title: "End the silence",
    does: "What fires still and has all of these is told at once.",
    field: null,
    confirm: "End it",
  },
} as const;

export function AlertDialog({ choice, onClose }: { choice: AlertChoice; onClose: () => void }) {
  const [text, setText] = useState("");
  const [seconds, setSeconds] = useState(LENGTHS[0]?.[0] ?? 0);
  const [refused, setRefused] = useState("");
  const [isBusy, setBusy] = useState(false);
  const { title, does, field, confirm } = ACTS[choice.act];
  const said = text.trim() === "" ? null : text.trim();
  const act = async () => {
    setBusy(true);
    setRefused("");
    try {
      if (choice.act === "acknowledge") await change("POST", `/api/alerts/${choice.alert.id}/ack`, { note: said });
      else if (choice.act === "unsilence") await change("DELETE", `/api/alerts/silences/${choice.silence.id}`);
      else
        await change("POST", "/api/alerts/silences", {
          matchers: matchersOf(choice.alert),
          for_s: seconds,
          reason: said,
        });
      void readAlerts();
      onClose();
    } catch (error) {
      setRefused(sentence(error));
      setBusy(false);
    }
  };
  return (
    <Dialog
      title={choice.act === "unsilence" ? title : `${title}: ${choice.alert.labels.node ?? choice.alert.rule}`}
      onClose={onClose}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isBusy) void act();
        }}
      >
        <p>{does}</p>
        {choice.act === "acknowledge" ? (
          <p class="about">{summaryWords(choice.alert)}</p>
        ) : (
          <p class="about">
            <code>{matcherWords(choice.act === "silence" ? matchersOf(choice.alert) : choice.silence.matchers)}</code>
          </p>
        )}
        {choice.act === "silence" ? (
          <label class="field">
            For
            <select value={seconds} onChange={(event) => setSeconds(Number(event.currentTarget.value))}>
              {LENGTHS.map(([length, word]) => (
                <option key={length} value={length}>
                  {word}
                </option>
              ))}
            </select>
          </label>
        ) : null}
        {field === null ? null : (
          <label class="field">
            {field}
            <input
              autofocus
              maxLength={REASON_MAX}
              value={text}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </label>
        )}
        {refused ? (
          <p class="refused" role="alert">
            {refused}
          </p>
        ) : null}
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={isBusy}>
            {confirm}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function SeverityWord({ severity }: { severity: Severity }) {
  return <span class={`severity v-${severity}`}>{severity}</span>;
}

/** What fires, in a few lines that lead to its page. */
export function FiringAlerts({ most }: { most: number }) {
  const known = firing.value;
  if (isPast.value) return <p class="none">Alerts are known only for now.</p>;
  if (known === null)
    return (
      <p class="none">{alertProblem.value === null ? "Asking the server…" : `Not known: ${alertProblem.value}.`}</p>
    );
  if (known.length === 0) return <p class="none">None.</p>;
  return (
    <ol class="attention">
      {known.slice(0, most).map((alert) => (
        <li key={alert.id}>
          <p>
            <a href={href("alerts")}>{summaryWords(alert)}</a>
            <small>
              <SeverityWord severity={alert.severity} /> {alert.rule}
              {alert.silenced_by === null ? "" : " · silenced"}
              {alert.acknowledged === null ? "" : ` · taken on by ${alert.acknowledged.by}`}
            </small>
          </p>
          <time>{ago(Date.parse(alert.starts_at), shownNow.value)}</time>
        </li>
      ))}
      {known.length > most ? (
        <li>
          <p>
            <a href={href("alerts")}>{count(known.length - most)} more</a>
          </p>
        </li>
      ) : null}
    </ol>
  );
}
