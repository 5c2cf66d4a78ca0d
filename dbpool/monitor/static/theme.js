// Theme: what was chosen, or the system's; set before anything is painted, so that nothing flashes.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("dbpool.theme");
  } catch {} // no storage here: the system's
  const isDark = chosen === "dark" || (chosen !== "light" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.dispatchEvent(new Event("theme"));
}

dark.addEventListener("change", applyTheme);
applyTheme();
