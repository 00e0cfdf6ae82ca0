// Server-sent events read by fetch and not by EventSource: that one hides the messages which break a silence, so that a
// dead connection would look like a quiet one, and the status of an answer that refuses.

import { refusal } from "./api.ts";

export interface Message {
  id: string | null;
  event: string;
  data: string;
}

/** How long the stream may be silent; the server breaks silences after 15 s. */
export const SILENT_MS = 25_000;

export class Silence extends Error {
  constructor() {
    super(`nothing was heard for ${SILENT_MS / 1000} s`);
  }
}

/** Hand over messages as they arrive, those that came together together, until the stream ends. Throws what ends it early. */
export async function readStream(path: string, onHeard: (messages: Message[]) => void): Promise<void> {
  const control = new AbortController();
  let timer = 0;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => control.abort(new Silence()), SILENT_MS);
  };
  listen();
  try {
    const response = await fetch(path, {
      cache: "no-store",
      headers: { accept: "text/event-stream", "x-thunderline": "1" },
      signal: control.signal,
    });
    if (!response.ok || response.body === null) throw refusal(response.status, await response.text());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parse = parser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      listen();
      onHeard(parse(value));
    }
  } catch (error) {
    throw control.signal.aborted ? control.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

/** Gives the whole messages in what has arrived so far. Source: WHATWG HTML, section 9.2. */
export function parser(): (chunk: string) => Message[] {
  let rest = "";
  return (chunk) => {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop() ?? "";
    return blocks.map(readMessage);
  };
}

function readMessage(block: string): Message {
  const message: Message = { id: null, event: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const field = line.slice(0, colon);
    if (field === "id") message.id = value;
    else if (field === "event") message.event = value;
    else if (field === "data") message.data = message.data === "" ? value : `${message.data}\n${value}`;
  }
  return message;
}
