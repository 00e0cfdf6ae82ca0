// The search language: bare words are looked for in name, id, address, role, domain, groups and labels; `key:value` in
// that field, one or the other of `key:a,b`, all of the field for `key:=a`; a minus sign in front excludes. All must hold. The same text dims in Topology and filters in Nodes.

import type { FleetNode } from "./fleet.ts";
import { KIND } from "./kinds.ts";

export type Test = (node: FleetNode) => boolean;

const FIELDS: Record<string, (node: FleetNode) => string> = {
  name: (node) => node.name,
  id: (node) => node.id,
  role: (node) => node.role,
  domain: (node) => node.domain,
  cluster: (node) => node.cluster,
  status: (node) => `${node.status} ${KIND[node.kind].word}`,
  reason: (node) => node.reason,
  address: (node) => node.record?.address ?? "",
  group: (node) => node.record?.groups.join(" ") ?? "",
  label: (node) => pairs(node.record?.labels ?? {}),
  capability: (node) =>
    pairs(
      Object.fromEntries(Object.entries(node.record?.capabilities ?? {}).map(([key, { value }]) => [key, value ?? ""])),
    ),
  cap: (node) => FIELDS.capability?.(node) ?? "",
};

function pairs(of: Record<string, string>): string {
  return Object.entries(of)
    .map(([key, value]) => (value === "" ? key : `${key}=${value} ${key}:${value}`))
    .join(" ");
}

export function readQuery(query: string): Test {
  const tests = query
    .trim()
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "" && word !== "-")
    .map(readWord);
  return (node) => tests.every((test) => test(node));
}

function readWord(word: string): Test {
  if (word.startsWith("-")) {
    const test = readWord(word.slice(1));
    return (node) => !test(node);
  }
  const colon = word.indexOf(":");
  if (colon > 0 && colon < word.length - 1) {
    const key = word.slice(0, colon);
    const value = word.slice(colon + 1);
    const holds = readValue(value);
    const field = FIELDS[key] ?? ((node: FleetNode) => metaText(node, key));
    // A name may hold a colon: then the whole word may be meant.
    return (node) => holds(field(node).toLowerCase()) || (!(key in FIELDS) && node.text.includes(word));
  }
  return (node) => node.text.includes(word);
}

function readValue(value: string): (text: string) => boolean {
  const parts = value.split(",").filter((part) => part !== "" && part !== "=");
  return (text) => parts.some((part) => (part.startsWith("=") ? text === part.slice(1) : text.includes(part)));
}

function metaText(node: FleetNode, key: string): string {
  const label = node.record?.labels[key];
  if (label !== undefined) return label;
  const value = node.meta[key];
  return value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}
