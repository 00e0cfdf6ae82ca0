// Figures and times in words.

export const UNKNOWN = "–";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT_CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const count = (value: number): string => WHOLE.format(value);
export const plural = (value: number, word: string): string => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
export const clock = (ms: number): string => CLOCK.format(ms);
export const shortClock = (ms: number): string => SHORT_CLOCK.format(ms);
export const day = (ms: number): string => DAY.format(ms);
export const fullTime = (ms: number): string => FULL.format(ms);

/** The time of day, and the day where it is another. */
export function moment(ms: number, now: number): string {
  return new Date(ms).toDateString() === new Date(now).toDateString() ? clock(ms) : `${day(ms)} ${clock(ms)}`;
}

export function percent(value: number | null): string {
  return value === null ? UNKNOWN : `${TENTHS.format(value)} %`;
}

export function mebibytes(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value < 1024) return `${WHOLE.format(value)} MiB`;
  return value < 1024 * 1024 ? `${TENTHS.format(value / 1024)} GiB` : `${TENTHS.format(value / (1024 * 1024))} TiB`;
}

export function milliseconds(value: number | null): string {
  if (value === null) return UNKNOWN;
  if (value > 0 && value < 0.05) return "< 0.1 ms";
  return value < 10_000 ? `${(value < 100 ? TENTHS : WHOLE).format(value)} ms` : `${TENTHS.format(value / 1000)} s`;
}

/** A length of time in one unit, rounded down: an age never claims more than has passed. */
export function age(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.floor(seconds / 3600)} h` : `${count(Math.floor(seconds / 86_400))} d`;
}

export function ago(ms: number | null, now: number): string {
  if (ms === null) return UNKNOWN;
  return now - ms < 1000 ? "now" : `${age(now - ms)} ago`;
}
