// DOM: makes and updates elements. Text is only ever set as text: no name of a pool, thread or server becomes markup.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

export function set(element, name, value) {
  if (value == null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  return element;
}

// What is selected or read aloud is left alone, as long as it says the same.
export function put(element, text) {
  if (element.textContent !== String(text ?? "")) element.textContent = text ?? "";
  return element;
}

// Make the children of *parent* show *items*: one element each, which is kept as long as its item has the same key.
export function keyed(parent, items, key, make, update) {
  const before = parent.kept ?? new Map();
  const kept = new Map();
  for (const item of items) {
    let id = String(key(item));
    while (kept.has(id)) id += "+";
    kept.set(id, before.get(id) ?? make(item));
    update(kept.get(id), item);
  }
  for (const [id, element] of before) if (!kept.has(id)) element.remove();
  let place = parent.firstElementChild;
  for (const element of kept.values()) {
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  parent.kept = kept;
}

// A row of buttons of which one is chosen.
export function choice(label, options, chosen, pick) {
  const buttons = options.map(([value, text, title]) =>
    h("button", { type: "button", "data-value": value, title, "aria-pressed": value === chosen,
      onclick: () => pick(value) }, text));
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

export function recall(name, fallback) {
  try {
    return localStorage.getItem(`dbpool.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`dbpool.${name}`, value);
  } catch {} // no storage here: it holds until the page is closed
}
