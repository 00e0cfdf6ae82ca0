// What an operator may do with a node: each is confirmed, and what the server refuses is shown with its reason.

import { useState } from "preact/hooks";
import { change, Refusal, sentence } from "../data/api.ts";
import type { FleetNode } from "../data/fleet.ts";
import { mayOperate } from "../data/session.ts";
import { isPast, shownVersion } from "../data/view.ts";
import { Dialog } from "./dialog.tsx";

type Action = "offline" | "degraded" | "lift" | "deregister";

const ACTIONS: Record<Action, { word: string; title: string; does: string; confirm: string }> = {
  degraded: {
    word: "Mark degraded",
    title: "Mark as degraded",
    does: "The node shows as degraded, whatever it says of itself, until this is lifted. If it falls silent, that shows.",
    confirm: "Mark degraded",
  },
  offline: {
    word: "Mark offline",
    title: "Mark as offline",
    does: "The node shows as offline, even while it beats, until this is lifted. Its process is not stopped.",
    confirm: "Mark offline",
  },
  lift: {
    word: "Lift override",
    title: "Lift the override",
    does: "The node shows again as what is observed of it.",
    confirm: "Lift",
  },
  deregister: {
    word: "Deregister…",
    title: "Deregister",
    does: "The registry forgets the node, and its name is free. A node that still runs may register again.",
    confirm: "Deregister",
  },
};

export function Actions({ node }: { node: FleetNode }) {
  shownVersion.value; // a node changes in place
  const [chosen, choose] = useState<Action | null>(null);
  if (!mayOperate.value) return null;
  const offered: Action[] = node.override
    ? ["lift", "degraded", "offline", "deregister"]
    : ["degraded", "offline", "deregister"];
  return (
    <div class="actions">
      {offered
        .filter((action) => node.override?.status !== action)
        .map((action) => (
          <button
            key={action}
            type="button"
            class={`button${action === "deregister" ? " danger" : ""}`}
            disabled={isPast.value}
            title={isPast.value ? "Nothing can be done in the past" : undefined}
            onClick={() => choose(action)}
          >
            {ACTIONS[action].word}
          </button>
        ))}
      {chosen && !isPast.value ? (
        <Confirmation key={chosen} node={node} action={chosen} onClose={() => choose(null)} />
      ) : null}
    </div>
  );
}

function Confirmation({ node, action, onClose }: { node: FleetNode; action: Action; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [refused, setRefused] = useState("");
  const [isForced, setForced] = useState(false);
  const [needsForce, setNeedsForce] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const { title, does, confirm } = ACTIONS[action];
  const needsReason = action === "offline" || action === "degraded";
  const path = `/api/nodes/${encodeURIComponent(node.id)}`;
  const act = async () => {
    if (needsReason && reason.trim() === "") {
      setRefused("Say why: it stands in the node's history.");
      return;
    }
    setBusy(true);
    setRefused("");
    try {
      if (action === "lift") await change("DELETE", `${path}/override`);
      else if (action === "deregister") await change("DELETE", `${path}${isForced ? "?force=true" : ""}`);
      else await change("POST", `${path}/status`, { status: action, reason: reason.trim() });
      onClose();
    } catch (error) {
      setRefused(sentence(error));
      if (action === "deregister" && error instanceof Refusal && error.status === 409) setNeedsForce(true);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`${title}: ${node.name}`} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isBusy) void act();
        }}
      >
        <p>{does}</p>
        {needsReason ? (
          <label class="field">
            Reason
            <input autofocus maxLength={255} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
        ) : null}
        {refused ? (
          <p class="refused" role="alert">
            {refused}
          </p>
        ) : null}
        {needsForce ? (
          <label class="check">
            <input type="checkbox" checked={isForced} onChange={(event) => setForced(event.currentTarget.checked)} />{" "}
            Cut its links and deregister it all the same
          </label>
        ) : null}
        <footer>
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class={`button ${action === "deregister" ? "danger" : "primary"}`} disabled={isBusy}>
            {confirm}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
