import { useEffect, useRef, useState } from "preact/hooks";
import { firing, untended } from "../data/alerts.ts";
import { words } from "../data/api.ts";
import { feedState, heardAt, now, problem, revision, wall } from "../data/live.ts";
import { go, href, lookAt, PAGES, route, set } from "../data/route.ts";
import { logOut, who } from "../data/session.ts";
import { isPast, matching, query, shownNow } from "../data/view.ts";
import { age, count, fullTime, moment } from "../data/words.ts";
import { Icon } from "./glyph.tsx";
import { Help } from "./help.tsx";
import { setTheme, theme } from "./theme.ts";

/** How long after `g` a letter still names a page. */
const CHORD_MS = 1_200;

export function Header() {
  const search = useRef<HTMLInputElement>(null);
  const [isHelping, setHelping] = useState(false);
  useEffect(() => {
    let chordUntil = 0;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as HTMLElement;
      if (target.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
      const page = Date.now() < chordUntil ? PAGES.find(({ letter }) => letter === event.key) : undefined;
      chordUntil = event.key === "g" ? Date.now() + CHORD_MS : 0;
      if (page) go(href(page.key));
      else if (event.key === "/") search.current?.focus();
      else if (event.key === "?") setHelping(true);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  return (
    <header class="top">
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to content
      </button>
      <a class="brand" href={href("overview", { node: null })}>
        <img src="/assets/favicon.svg" width="24" height="24" alt="" />
        <b>Thunderline</b>
      </a>
      <nav aria-label="Pages">
        {PAGES.map(({ key, word }) => (
          <a key={key} href={href(key)} aria-current={route.value.page === key ? "page" : undefined}>
            {word}
            {key === "alerts" ? <FiringCount /> : null}
          </a>
        ))}
        <a href="/docs">API</a>
      </nav>
      <search class="search">
        <Icon name="search" />
        <input
          ref={search}
          type="search"
          aria-label="Search nodes"
          aria-keyshortcuts="/"
          autocomplete="off"
          spellcheck={false}
          placeholder="Search: gpu role:gateway -status:online"
          value={query.value}
          onInput={(event) => set({ q: event.currentTarget.value }, { step: false })}
          onKeyDown={(event) => {
            if (event.key === "Escape") event.currentTarget.blur();
            const [first] = matching.value;
            if (event.key !== "Enter" || !first) return;
            if (route.value.page === "topology") set({ node: first.name });
            else go(href("nodes", {}, matching.value.length === 1 ? first.name : null));
          }}
        />
        <kbd>/</kbd>
      </search>
      <Pill />
      <Session />
      <button
        type="button"
        class="square"
        aria-label={theme.value === "dark" ? "Light theme" : "Dark theme"}
        title={theme.value === "dark" ? "Light theme" : "Dark theme"}
        onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}
      >
        <Icon name={theme.value === "dark" ? "moon" : "sun"} />
      </button>
      <button
        type="button"
        class="square"
        aria-label="Keys and search"
        title="Keys and search"
        onClick={() => setHelping(true)}
      >
        ?
      </button>
      {isHelping ? <Help onClose={() => setHelping(false)} /> : null}
    </header>
  );
}

/** How many alerts fire now; in the past it is not said, since it would be of another time. */
function FiringCount() {
  const known = firing.value?.length ?? 0;
  if (known === 0 || isPast.value) return null;
  return (
    <span class={`tally${untended.value.length === 0 ? " tended" : ""}`}>
      {count(known)}
      <span class="unseen"> firing</span>
    </span>
  );
}

/** Whether what is seen is the present, how fresh it is, or which moment it is. */
function Pill() {
  if (isPast.value) {
    return (
      <button type="button" class="pill past" onClick={() => lookAt(null)}>
        <i />
        {moment(shownNow.value, now.value)} <span>back to live</span>
      </button>
    );
  }
  const state = feedState.value;
  const heard = heardAt.value;
  return (
    <span
      class={`pill ${state}`}
      data-feed={state}
      title={heard === null ? undefined : `Last heard ${fullTime(heard)}`}
    >
      <i />
      {state === "live"
        ? "Live"
        : state === "waiting"
          ? problem.value === null
            ? "Asking"
            : "No answer"
          : `Stale, ${age(wall.value - (heard ?? wall.value))}`}
      {state === "live" ? <span class="num">r{count(revision.value)}</span> : null}
    </span>
  );
}

function Session() {
  const [refused, setRefused] = useState("");
  const session = who.value?.session;
  if (!session) return null;
  return (
    <span class="session">
      {refused ? <span role="alert">{refused}</span> : null}
      <b
        id="who-name"
        title={`${session.scopes.length === 1 ? "scope" : "scopes"} ${session.scopes.join(", ")}; until ${session.expires_at.slice(0, 16).replace("T", " ")} UTC`}
      >
        {session.name}
      </b>
      <button type="button" class="ghost" onClick={() => logOut().catch((error: unknown) => setRefused(words(error)))}>
        Log out
      </button>
    </span>
  );
}
