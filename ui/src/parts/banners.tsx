import { feedState, guards, heardAt, now, overCapacity, problem, storeAwayFor, wall } from "../data/live.ts";
import { isPastLoading, past, pastProblem } from "../data/past.ts";
import { lookAt, wantedAt } from "../data/route.ts";
import { age, ago, clock, count, fullTime, plural } from "../data/words.ts";

/** What everybody must know before believing the page. */
export function Banners() {
  const at = wantedAt.value;
  // What the server tells of itself is of now, whichever moment is looked at.
  const when = at === null ? "" : "Now: ";
  return (
    <>
      {at === null ? null : (
        <div class="banner past" role="status">
          <p>
            <b>{pastProblem.value === null ? `The past: ${fullTime(at)}` : "This moment cannot be shown"}</b>{" "}
            {pastProblem.value === null
              ? `${ago(at, now.value)}. ${isPastLoading.value ? `Loading${past.value === null ? "" : `; what is shown is ${clock(past.value.at)}`}…` : "Statuses and links are as they were; actions are off."}`
              : `${pastProblem.value}.`}
          </p>
          <button type="button" class="button" onClick={() => lookAt(null)}>
            Back to live
          </button>
        </div>
      )}
      {feedState.value === "stale" ? (
        <div class="banner stale" role="alert">
          <p>
            <b>Stale since {heardAt.value === null ? "the start" : clock(heardAt.value)}</b> What is shown is{" "}
            {age(wall.value - (heardAt.value ?? 0))} old, because {problem.value}. It goes on by itself.
          </p>
        </div>
      ) : null}
      {feedState.value === "waiting" && problem.value !== null ? (
        <div class="banner stale" role="alert">
          <p>
            <b>Nothing is known yet</b> because {problem.value}. It is asked again.
          </p>
        </div>
      ) : null}
      {storeAwayFor.value !== null && feedState.value === "live" ? (
        <div class="banner watch" role="alert">
          <p>
            <b>{when}The server's store is away</b> for {age(storeAwayFor.value * 1000)}. What is shown is what the
            server remembers; nobody is given up meanwhile.
          </p>
        </div>
      ) : null}
      {guards.value.map((guard) => (
        <div key={guard.id} class="banner watch" role="alert">
          <p>
            <b>
              {when}Guard engaged in {guard.scope}
            </b>{" "}
            {count(guard.fallen)} of {plural(guard.nodes, "node")} fell silent at once
            {guard.held === 0
              ? "."
              : `; ${count(guard.held)} more ${guard.held === 1 ? "waits" : "wait"} up to ${age(guard.max_delay_s * 1000)} before being given up.`}
          </p>
        </div>
      ))}
      {overCapacity.value ? (
        <div class="banner watch" role="alert">
          <p>
            <b>{when}Over capacity</b> More heartbeats arrive than the server is set for.
          </p>
        </div>
      ) : null}
    </>
  );
}
