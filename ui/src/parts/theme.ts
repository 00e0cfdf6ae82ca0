import { signal } from "@preact/signals";

export type Theme = "dark" | "light";

export const theme = signal<Theme>(document.documentElement.dataset.theme === "light" ? "light" : "dark");

export function setTheme(chosen: Theme): void {
  document.documentElement.dataset.theme = chosen;
  theme.value = chosen;
  try {
    localStorage.setItem("thunderline.theme", chosen);
  } catch {
    // A browser that keeps nothing for pages: it holds until the next load.
  }
}
