// Actions: what may be changed from here, if the monitor was started so; each is asked for once more before it is done.

import { h, put } from "./dom.js";
import { t } from "./text.js";

async function post(csrf, action, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  const answer = await fetch(`actions/${action}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.status);
}

// Ask *question*, with *fields* to fill in; then do it.
function ask(label, question, fields, act) {
  const said = h("p", { role: "alert" });
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, t("Cancel"));
  const form = h("form", { method: "dialog", onsubmit }, h("h2", {}, t(label)), h("p", {}, question), fields, said,
    h("div", { class: "buttons" }, cancel, h("button", { class: "main" }, t(label))));
  const dialog = document.body.appendChild(h("dialog", { "aria-label": t(label), onclose: () => dialog.remove() }, form));

  async function onsubmit(event) {
    event.preventDefault();
    try {
      await act(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      put(said, t("It failed: {0}", error.message));
    }
  }
  dialog.showModal();
}

// *now()* gives the pool and the state of this moment.
export function actions(now) {
  function act(action, body = {}) {
    const { pool, state } = now();
    return post(state.csrf, action, { pool: pool.id, ...body });
  }

  function drain() {
    ask("Drain", t("Replace every connection of {0}? Those in use are closed when they come back.", now().pool.name), [],
      () => act("drain"));
  }

  function resize() {
    const { pool: { name, stats } } = now();
    const fields = ["minconn", "maxconn"].map((field) =>
      h("label", {}, h("code", {}, field),
        h("input", { name: field, type: "number", min: Number(field === "maxconn"), required: "", value: stats[field] })));
    ask("Resize", t("The sizes of {0}, from now on:", name), fields,
      ({ minconn, maxconn }) => act("resize", { minconn: Number(minconn), maxconn: Number(maxconn) }));
  }

  function evict(id) {
    ask("Evict", t("Close connection {0}? One in use is closed when it comes back.", id), [],
      () => act("evict", { connection: id }));
  }

  const button = (label, onclick) => h("button", { type: "button", onclick }, t(label));
  return { evict, buttons: [button("Resize", resize), button("Drain", drain)] };
}
