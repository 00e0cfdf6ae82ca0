import { KIND, type Kind } from "../data/kinds.ts";

const SHAPES: Record<Kind, preact.JSX.Element> = {
  online: <circle cx="6" cy="6" r="4.2" />,
  degraded: <path d="M6 1.2 11 10.2H1z" />,
  disconnected: <path d="M6 .9 11.1 6 6 11.1.9 6z" />,
  lost: (
    <>
      <path d="M1.8 1.8h8.4v8.4H1.8z" />
      <path class="cut" d="m4 4 4 4m0-4-4 4" />
    </>
  ),
  connecting: <circle class="ring dash" cx="6" cy="6" r="3.9" />,
  offline: <path class="ring" d="M2.4 2.4h7.2v7.2H2.4z" />,
  left: <circle class="ring thin" cx="6" cy="6" r="3.9" />,
};

export function Glyph({ kind }: { kind: Kind }) {
  return (
    <svg class={`glyph g-${kind}`} width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">
      {SHAPES[kind]}
    </svg>
  );
}

export function StatusWord({ kind, note }: { kind: Kind; note?: string | undefined }) {
  return (
    <span class={`status s-${kind}`} title={KIND[kind].help}>
      <Glyph kind={kind} />
      {KIND[kind].word}
      {note ? <small>{note}</small> : null}
    </span>
  );
}

const ICONS = {
  search: "M7 2.4a4.6 4.6 0 1 0 0 9.2 4.6 4.6 0 0 0 0-9.2Zm3.5 8.1L14 14",
  close: "m3.5 3.5 9 9m0-9-9 9",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6m4 0h3.5V6m0 4v3.5H10m-4 0H2.5V10",
  again: "M13 8a5 5 0 1 1-1.6-3.7M13 1.8v3h-3",
  moon: "M13 9.5A5.6 5.6 0 0 1 6.5 3a5.6 5.6 0 1 0 6.5 6.5Z",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6Zm0-4v1.6m0 10.8V15M1 8h1.6m10.8 0H15M3 3l1.2 1.2m7.6 7.6L13 13M13 3l-1.2 1.2M4.2 11.8 3 13",
  back: "M12 3 6 8l6 5M4.5 3v10",
  forward: "m4 3 6 5-6 5m7.5-10v10",
  play: "M5 3v10l8-5Z",
  pause: "M5.5 3v10M10.5 3v10",
  copy: "M5.5 5.5h8v8h-8Zm-3 5V2.5h8",
  pin: "M3 3h10v10H3Zm2.5 2.5h5v5h-5Z",
} as const;

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class="icon" width="15" height="15" viewBox="0 0 16 16" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}
