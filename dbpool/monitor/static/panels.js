// Panels: what is known of one pool at this moment; each is {element, update(pool, state)}.

import { h, keyed, put, set } from "./dom.js";
import { clock, duration, number, t, verdictOf, word } from "./text.js";

export function panel(title, name, ...children) {
  const heading = h("h2", {}, t(title));
  return { heading, element: h("section", { class: `panel ${name}`, "aria-label": t(title) }, heading, children) };
}

// ---- the verdict and the figures ----

export function verdict(tools) {
  const [said, name, since] = [h("strong"), h("b"), h("span")];
  const [text, more] = [h("p", { lang: "en" }), h("small", { lang: "en" })];
  const [place, meaning] = [h("code"), h("p", { class: "meaning" })];
  const told = h("div", {}, h("div", { class: "head" }, said, name, since), text, more, place, meaning);
  const element = h("section", { class: "verdict", "aria-label": t("State") }, told, h("div", { class: "tools" }, tools));
  return {
    element,
    update({ verdict: found, name: pool, endpoint }) {
      const [label, explained] = verdictOf(found.code);
      const [, first, others] = found.text.match(/^(?:pool '.*?': )?(.*?)(?:[;:] (.*))?$/s);
      set(element, "data-code", found.code);
      put(said, label);
      put(name, endpoint ? `${pool} · ${endpoint}` : pool);
      put(since, found.since == null ? "" : t("for {0}", duration(found.since)));
      put(text, first);
      put(more, others);
      put(place, others?.includes(found.place) ? "" : found.place);
      put(meaning, explained);
    },
  };
}

const p99 = (times) => (times.p99 == null ? t("last 60 s") : `p99 ${duration(times.p99)}`);

// Of each figure: its name, its value, what stands below it, and whether it is one to look at.
const FIGURES = [
  ["In use", ({ stats }) => `${number(stats.used)} / ${number(stats.maxconn)}`, ({ stats }) => t("idle {0}", number(stats.idle)),
    ({ stats }) => stats.used >= stats.maxconn],
  ["Waiting", ({ stats }) => number(stats.waiting),
    ({ waiters: [first] }) => (first ? t("first: {0}", duration(first.seconds)) : t("nobody")),
    ({ stats }) => stats.waiting > 0],
  ["Wait p95", ({ percentiles: { wait } }) => duration(wait.p95), ({ percentiles: { wait } }) => p99(wait)],
  ["Connect p95", ({ percentiles: { connect } }) => duration(connect.p95), ({ percentiles: { connect } }) => p99(connect)],
  ["Leases/s", (pool, rate) => number(rate, rate < 10 ? 1 : 0), ({ stats }) => t("{0} in all", number(stats.leases))],
  ["Connect errors", ({ stats }) => number(stats.connect_errors), ({ stats }) => t("opened {0}", number(stats.opened)),
    ({ stats }) => stats.failing_since != null],
  ["Time-outs", ({ stats }) => number(stats.timeouts), ({ stats }) => t("refused {0}", number(stats.refused))],
  ["Leaks", ({ stats }) => number(stats.leaks + stats.long_leases), ({ stats }) => t("dropped {0}", number(stats.leaks)),
    ({ verdict }) => verdict.code === "leak_suspected"],
];

export function figures() {
  let before = null;
  const tiles = FIGURES.map(([name]) => h("div", {}, h("dt", {}, t(name)), h("dd", {}, h("b"), h("small"))));
  return {
    element: h("dl", { class: "figures" }, tiles),
    update(pool, { now }) {
      const { leases } = pool.stats;
      const seconds = now - (before?.now ?? now);
      const rate = seconds > 0 ? Math.max(0, leases - before.leases) / seconds : before?.rate;
      before = { now, leases, rate };
      tiles.forEach((tile, at) => {
        const [, value, below, isNotable] = FIGURES[at];
        const [main, small] = tile.lastChild.children;
        put(main, value(pool, rate));
        put(small, below(pool));
        set(tile, "data-notable", Boolean(isNotable?.(pool)));
      });
    },
  };
}

// ---- tables and lists ----

// *read(pool)* gives the rows: [key, code, texts ...]. A text may be several, one below the other; the code is a colour.
function rows(name, title, empty, body, whole, make, fill, read) {
  const none = h("p", { class: "none" }, t(empty));
  const scroll = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t(title) }, whole);
  const { element, heading } = panel(title, name, scroll, none);
  const count = heading.appendChild(h("small"));
  return {
    element,
    update(pool) {
      const found = read(pool);
      scroll.hidden = !found.length;
      none.hidden = found.length > 0;
      put(count, found.length || "");
      keyed(body, found, ([key]) => key, make, (row, [, code, ...texts]) => {
        set(row, "data-code", code);
        texts.forEach((text, at) => fill(row.children[at], text));
      });
    },
  };
}

function fillCell(cell, text) {
  if (cell.firstElementChild?.tagName === "BUTTON") return;
  if (!Array.isArray(text)) return put(cell, text ?? "–");
  while (cell.children.length < text.length) cell.append(h(cell.firstChild ? "code" : "span"));
  text.forEach((line, at) => put(cell.children[at], line));
}

// *columns*: [heading, class]; with *act*, the last one is a button.
function table(name, title, empty, columns, read, act) {
  const body = h("tbody");
  const head = columns.map(([heading, kind]) => h("th", { scope: "col", class: kind }, t(heading)));
  const whole = h("table", {}, h("caption", { class: "unseen" }, t(title)), h("thead", {}, h("tr", {}, head)), body);
  const button = (id) =>
    h("button", { type: "button", "aria-label": `${t(act[0])} ${id}`, onclick: () => act[1](id) }, t(act[0]));
  const make = ([id]) =>
    h("tr", {}, columns.map(([, kind]) => h("td", { class: kind }, kind === "act" ? button(id) : null)));
  return rows(name, title, empty, body, whole, make, fillCell, read);
}

function list(name, title, empty, parts, read) {
  const body = h("ul");
  const make = () => h("li", {}, parts.map((part) => h(...part.split(".").map((kind, at) => (at ? { class: kind } : kind)))));
  return rows(name, title, empty, body, body, make, put, read);
}

const standing = ({ holder, who, at, site }) =>
  [holder ?? who ?? "", at ?? "", site && site !== at ? t("got it at {0}", site) : ""];

export function connections(evict) {
  const columns = [["#", "n"], ["Backend", "n"], ["State", "badge"], ["For", "n"], ["Holder, and where it stands now", "wide"],
    ["Key", "key"], ["Age", "n"], ["Uses", "n"], ["Retires in", "n"], ...(evict ? [["Evict", "act"]] : [])];
  const row = (conn) => [conn.id, conn.state, conn.id, conn.backend_pid, word(conn.state), duration(conn.held ?? conn.idle_for),
    standing(conn), conn.key, duration(conn.age), number(conn.uses), duration(conn.retires_in)];
  const made = table("connections", "Connections", "No connection is open.", columns, (pool) => {
    set(made.element, "data-keys", pool.connections.some((conn) => conn.key != null));
    return pool.connections.map(row);
  }, ["Evict", evict]);
  return made;
}

const LISTS = {
  connecting: ["Connecting", "No connect is under way, and none has failed of late.", ["span", "b"],
    ({ connecting: tickets, backoff }) => [
    ["under way", tickets.length ? tickets.map((ticket) => duration(ticket.seconds)).join(" · ") : null],
    ["failing for", backoff.failing_for == null ? null : duration(backoff.failing_for)],
    ["next try in", backoff.next_try_in == null ? null : duration(backoff.next_try_in)],
    ["last error", backoff.last_error],
  ].flatMap(([name, text]) => (text == null ? [] : [[name, null, t(name), text]]))],
  events: ["Events", "Nothing has happened yet.", ["time", "span.badge", "span.wide", "b"], ({ events }) => events.map((event) =>
    [event.event + event.text, event.event, clock(event.at), word(event.event), event.text,
      event.n > 1 ? `×${number(event.n)}` : ""]).reverse()],
  leaks: ["Leaks by place", "No leak was seen.", ["b", "code.wide", "small"], ({ leaks }) => leaks.map(({ place, count, last }) =>
    [place, null, `${number(count)}×`, place, last == null ? "" : t("{0} ago", duration(last))])],
  configuration: ["Configuration", "–", ["code", "b", "small"], ({ config }) => config.map(({ name, value, source }) =>
    [name, source === "default" ? source : "given", name, value, word(source)])
    .sort(([, one], [, other]) => other.localeCompare(one))],
  findings: ["Findings", "Nothing to find fault with.", ["span.badge", "span"], ({ lint }) =>
    lint.map(({ code, severity, text }) =>
    [code + text, severity, word(severity), text])],
  advice: ["Advice on the size", "Not enough was seen yet.", ["span", "b"], ({ advice }) => (advice == null ? [] : [
    ["demand", number(advice.demand, 1)], ["peak", number(advice.peak)], ["mean hold", duration(advice.mean_hold)],
    ["suggested maxconn", number(advice.suggested)], [advice.text, ""]]
    .map(([name, text]) => [name, null, t(name), text]))],
};

export function lists() {
  const waiters = table("waiters", "Waiters", "Nobody waits.", [["#", "n"], ["Caller, and where it stands", "wide"], ["For", "n"]],
    (pool) => pool.waiters.map((row, at) => [row.who, null, at + 1, standing(row), duration(row.seconds)]));
  return { waiters, ...Object.fromEntries(Object.entries(LISTS).map(([name, spec]) => [name, list(name, ...spec)])) };
}
