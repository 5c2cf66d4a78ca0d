// Main: builds the page, follows the server, and shows what it says. The page is built anew for a language or a theme.

import { actions } from "./actions.js";
import { charts } from "./charts.js";
import { choice, h, keyed, put, recall, remember, set } from "./dom.js";
import { connections, figures, lists, panel, verdict } from "./panels.js";
import { follow } from "./stream.js";
import { clock, duration, GRAVE, LANGUAGES, speak, t, verdictOf } from "./text.js";

const ROWS = 900; // seconds of history that are kept
const RANGES = [60, 300, 900];

let state = null; // what the server said last ...
let histories = {}; // ... and the rows of each pool since the page was opened
let chosen = null; // the pool that is looked at
let isLost = false;
let view = null; // what is on the page

const pools = () => state?.pools ?? [];
const current = () => pools().find((pool) => pool.id === chosen) ?? pools()[0];
const codeOf = ({ verdict: { code } }) => verdictOf(code)[0];

// ---- building ----

const language = () => recall("language", navigator.language.startsWith("zh") ? "zh" : "en");

function switchTo(name, value) {
  remember(name, value);
  if (name === "theme") applyTheme(); // which has the page built anew
  else build();
  document.querySelector(`[data-choice=${name}] [aria-pressed=true]`)?.focus();
}

const chosenBy = (name, label, options, value) =>
  set(choice(t(label), options, value, (picked) => switchTo(name, picked)), "data-choice", name);

function build() {
  speak(language());
  view?.charts?.end();
  const themes = ["Auto", "Light", "Dark"].map((theme) => [theme.toLowerCase(), t(theme)]);
  const stream = h("span", { class: "stream", role: "status" });
  const processes = h("ul");
  const tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("Pools"), onkeydown: turn });
  const others = h("p");
  const main = h("main", { id: "pool", role: "tabpanel" });
  const spoken = h("p", { class: "unseen", "aria-live": "assertive" });
  const nav = h("nav", {}, h("a", { href: "bundle", download: "" }, t("Diagnostic bundle")),
    chosenBy("language", "Language", LANGUAGES, language()),
    chosenBy("theme", "Theme", themes, recall("theme", "auto")));
  document.body.replaceChildren(h("header", {}, h("h1", {}, "dbpool"), stream, processes, nav), tabs, others, main, spoken);
  view = { stream, processes, tabs, others, main, spoken };
  update();
}

function buildPool(pool) {
  const acts = state.actions && pool.stats ? actions(() => ({ pool: current(), state })) : null;
  const range = Number(recall("range", 300));
  const ranges = RANGES.map((seconds) => [String(seconds), t("{0} min", seconds / 60)]);
  const drawn = charts(range);
  const graphs = panel("Charts", "graphs", drawn.element);
  graphs.heading.append(chosenBy("range", "Time range", ranges, String(range)));
  const said = verdict(acts?.buttons ?? []);
  const parts = { figures: figures(), connections: connections(acts?.evict), ...lists() };
  const column = (...names) => h("div", {}, names.map((name) => parts[name].element));
  view.main.replaceChildren(said.element, parts.figures.element, graphs.element, h("div", { class: "columns" },
    column("connections", "events", "configuration"), column("waiters", "connecting", "leaks", "advice", "findings")));
  Object.assign(view, { said, parts: Object.values(parts), charts: drawn, shown: `${pool.id} ${state.actions}` });
}

// ---- showing ----

function update() {
  set(document.body, "data-lost", isLost);
  put(view.stream, isLost ? t("The stream is lost: this is from {0}. Trying again.", state ? clock(state.now) : "–")
    : t(state ? "Live" : "Connecting to the monitor"));
  if (!state || document.hidden) return;
  const pool = current();
  chosen = pool?.id;
  keyed(view.processes, state.processes, (each) => each.pid, () => h("li", {}, h("b"), h("span")), fillProcess);
  keyed(view.tabs, pools(), (each) => each.id, makeTab, fillTab);
  put(view.others, state.left_out ? t("and {0} more", state.left_out) : "");
  updateIcon();
  if (view.shown !== (pool ? `${pool.id} ${state.actions}` : "")) {
    view.charts?.end();
    if (pool) buildPool(pool);
    else {
      view.main.replaceChildren(h("p", { class: "panel nothing" }, t("No pool is open in this process.")));
      Object.assign(view, { charts: null, shown: "" });
    }
  }
  if (pool) updatePool(pool);
}

function updatePool(pool) {
  set(view.main, "aria-labelledby", `tab-${pool.id}`);
  view.said.update(pool);
  if (pool.stats) view.parts.forEach((part) => part.update(pool, state));
  if (histories[pool.id]?.t.length) view.charts.update(histories[pool.id]);
  const said = `${pool.name}: ${codeOf(pool)}`;
  if (view.heard && view.heard !== said) put(view.spoken, said); // for those who listen: only what is new
  view.heard = said;
}

function fillProcess({ children: [pid, more] }, process) {
  const about = [t("up {0}", duration(process.uptime)), process.stale && t("stale")];
  if (state.process.pid === process.pid) about.push(`Python ${state.process.python}`, `dbpool ${state.process.dbpool}`);
  put(pid, t("pid {0}", process.pid));
  put(more, about.filter(Boolean).join(" · "));
}

function makeTab(pool) {
  const parts = [h("i", { class: "dot" }), h("b"), h("small"), h("span"), h("i", { class: "bar" }, h("i"))];
  const id = `tab-${pool.id}`;
  return h("button", { type: "button", role: "tab", id, "aria-controls": "pool", onclick: () => pick(pool.id) }, parts);
}

function fillTab(tab, pool) {
  const [, name, load, said, bar] = tab.children;
  const { used, maxconn } = pool.stats ?? { used: 0, maxconn: 0 };
  set(tab, "data-code", pool.verdict.code);
  set(tab, "aria-selected", pool.id === chosen);
  set(tab, "tabindex", pool.id === chosen ? 0 : -1);
  put(name, [pool.name, pool.endpoint, state.processes.length > 1 && pool.pid].filter(Boolean).join(" · "));
  put(load, `${used}/${maxconn}`);
  put(said, codeOf(pool));
  bar.firstChild.style.width = `${Math.min(100, (100 * used) / (maxconn || 1))}%`;
}

// The browser's own tab shows the worst of all pools.
function updateIcon() {
  const grave = (pool) => GRAVE.indexOf(pool.verdict.code);
  const [worst] = [...pools()].sort((one, other) => grave(one) - grave(other));
  document.title = worst ? `${codeOf(worst)} · ${worst.name} · dbpool` : "dbpool";
  const colour = worst ? getComputedStyle(view.tabs.kept.get(worst.id)).getPropertyValue("--accent") : "gray";
  const drawing = `<svg xmlns="http://www.w3.org/2000/svg"><circle cx="50%" cy="50%" r="45%" fill="${colour}"/></svg>`;
  set(document.querySelector("[rel=icon]"), "href", `data:image/svg+xml,${encodeURIComponent(drawing)}`);
}

// ---- what the user does ----

function pick(id) {
  chosen = id;
  history.replaceState(null, "", `#${encodeURIComponent(current().name)}`);
  update();
}

function turn(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = pools();
  pick(all[(all.indexOf(current()) + step + all.length) % all.length].id);
  view.tabs.querySelector("[aria-selected=true]").focus();
}

// ---- what the server says ----

function append(id, row) {
  const kept = (histories[id] ??= { t: [], closed: {} });
  const put = (series, value) => [...(series ?? kept.t.map(() => 0)), value].slice(-ROWS);
  const { closed = {}, t: at, ...others } = row;
  for (const reason of Object.keys({ ...kept.closed, ...closed })) {
    kept.closed[reason] = put(kept.closed[reason], closed[reason] ?? 0);
  }
  for (const [name, value] of Object.entries(others)) kept[name] = put(kept[name], value);
  kept.t = put(kept.t, at);
}

function hear(kind, data) {
  state = data.state;
  if (kind === "history") histories = data.history;
  else for (const [id, row] of Object.entries(data.rows)) if (histories[id]?.t.at(-1) !== row.t) append(id, row);
  for (const { id, stats } of pools()) if (histories[id] && stats) histories[id].max = stats.maxconn;
  chosen ??= pools().find((pool) => encodeURIComponent(pool.name) === location.hash.slice(1))?.id;
  update();
}

document.addEventListener("theme", build);
document.addEventListener("visibilitychange", update);
build();
follow(hear, (lost) => {
  isLost = lost;
  update();
});
