// What a status is to people: its word, its explanation, its rank. `offline` is two kinds, one that detection found and
// one that was meant, and a third where this page does not know which.

import type { Override, Status } from "./api.ts";

export type Kind = "lost" | "disconnected" | "degraded" | "connecting" | "offline" | "online" | "left";

export interface KindInfo {
  key: Kind;
  status: Status;
  word: string;
  help: string;
}

/** Worst first. */
export const KINDS: readonly KindInfo[] = [
  { key: "lost", status: "offline", word: "Lost", help: "Offline: no sign of life for so long that it was given up" },
  {
    key: "disconnected",
    status: "disconnected",
    word: "Disconnected",
    help: "Missed its deadline or lost its link; not yet given up",
  },
  {
    key: "degraded",
    status: "degraded",
    word: "Degraded",
    help: "Up, and says so itself or an operator says that it is impaired",
  },
  { key: "connecting", status: "connecting", word: "Connecting", help: "Registered, not heard yet" },
  {
    key: "offline",
    status: "offline",
    word: "Offline",
    help: "Offline; whether it was lost or left is not known here",
  },
  { key: "online", status: "online", word: "Online", help: "Up" },
  { key: "left", status: "offline", word: "Left", help: "Offline: said goodbye, or was taken down by an operator" },
];

export const KIND = Object.fromEntries(KINDS.map((kind) => [kind.key, kind])) as Record<Kind, KindInfo>;
export const RANK = Object.fromEntries(KINDS.map((kind, rank) => [kind.key, rank])) as Record<Kind, number>;
/** What somebody should look at. */
export const TROUBLED = ["lost", "disconnected", "degraded"] as const satisfies readonly Kind[];
export type Troubled = (typeof TROUBLED)[number];

export function isTroubled(kind: Kind): kind is Troubled {
  return (TROUBLED as readonly Kind[]).includes(kind);
}

export function isKind(word: string): word is Kind {
  return word in KIND;
}

/** `reason` null: it is not known why. */
export function kindOf(status: Status, override: Pick<Override, "status"> | null, observedReason: string | null): Kind {
  if (status !== "offline") return status;
  if (observedReason === null) return "offline";
  return override?.status === "offline" || isGoodbye(observedReason) ? "left" : "lost";
}

/** A goodbye may say why: `goodbye: maintenance`. */
const isGoodbye = (reason: string) => reason === "goodbye" || reason.startsWith("goodbye:");

const REASONS: Record<string, string> = {
  registered: "registered, and not heard since",
  announced: "the node announced itself",
  heartbeat: "a heartbeat arrived",
  reported: "the node reports it of itself",
  silent: "no sign of life within its deadline",
  goodbye: "the node said goodbye",
  never_seen: "registered, and never heard",
  link_lost: "its link broke off and did not come back in time",
};

/** The registry's own reasons in words; anything else is somebody's own words. */
export function reasonWords(reason: string): string {
  return REASONS[reason] ?? reason.replaceAll("_", " ");
}
