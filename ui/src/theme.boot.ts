// The theme that was chosen in this browser, or the system's, before anything is painted.
(() => {
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem("thunderline.theme");
  } catch {
    // A browser that keeps nothing for pages follows the system.
  }
  const system = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : system;
})();
