// Who is logged in in this browser, and what they may do.

import { computed, signal } from "@preact/signals";
import { ask, change, type Who } from "./api.ts";

export const who = signal<Who | null>(null);

/** Whether this browser may change the cluster; unknown counts as no. */
export const mayOperate = computed(() => {
  const known = who.value;
  if (known === null) return false;
  return !known.auth || known.session?.scopes.some((scope) => scope === "operator" || scope === "admin") === true;
});

export async function readWho(): Promise<void> {
  try {
    who.value = (await ask<Who>("/api/session")).body;
  } catch {
    setTimeout(() => void readWho(), 5_000);
  }
}

export async function logOut(): Promise<void> {
  await change("DELETE", "/api/session");
  location.reload();
}
