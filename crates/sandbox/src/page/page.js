// The operator's inbox. Polls once a second; whatever users wrote goes through textContent only.

import { ask, at, complain, element, fit, keepUp, showLink, timeOf } from "./dom.js";

const FAULTS = [
  [
    "The answer is lost, the message is not",
    { kind: "lost_answer", method: "POST", path: "/conversations/{id}/reply", times: 1 },
  ],
  ["Connections are refused", { kind: "refuse" }],
  [
    "The message arrives 5 s after the connection broke",
    { kind: "applied_late", after_ms: 5000, method: "POST", path: "*/reply", times: 1 },
  ],
  ["503 with an HTML page", { kind: "error", status: 503, html: true, probability: 0.5 }],
  ["429, try again in 5 s", { kind: "rate_limit", reset_after_s: 5, times: 10 }],
  ["Silence for 15 s", { kind: "hang", ms: 15000, times: 1 }],
  ["Answers break off", { kind: "truncated_body", times: 1 }],
  ["Everything takes 2 s", { kind: "slow", ms: 2000 }],
  ["Searches are 10 s behind", { kind: "search_lag", ms: 10000 }],
  ["Webhooks are dropped", { kind: "drop" }],
  ["Webhooks come twice", { kind: "double" }],
  ["Webhooks come 10 s late", { kind: "late", ms: 10000 }],
  ["Webhooks overtake each other", { kind: "reorder", probability: 0.5 }],
  ["Forged webhooks", { kind: "forge" }],
  ["FCM answers 503", { kind: "error", status: 503, path: "/v1/projects/*" }],
  ["A push arrives, its answer does not", { kind: "lost_answer", path: "/v1/projects/*", times: 1 }],
  ["Google gives no tokens", { kind: "error", status: 500, path: "/token" }],
  ["Telegram is silent for 15 s", { kind: "hang", ms: 15000, path: "/bot*", times: 1 }],
  ["Telegram says 429, try again in 5 s", { kind: "rate_limit", reset_after_s: 5, path: "/bot*", times: 10 }],
];

let chosen = null;
// The conversation a new ticket is made of; null: of none.
let converting = null;
// Files that go with the next answer.
let picked = [];

async function act(what) {
  try {
    const done = await ask("POST", "act", what);
    at("trouble").hidden = true;
    await refresh();
    return done;
  } catch (error) {
    complain(error);
    return null;
  }
}

// The API takes a teammate's HTML; here people type text.
function toHtml(text) {
  const escaped = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `<p>${escaped.replaceAll("\n", "<br>")}</p>`;
}

const person = (contact) => (contact && (contact.name || contact.external_id || contact.id)) || "Somebody";
const clock = (seconds) => timeOf(seconds * 1000);

// Makes the options of a choice; their values are ids.
function fill(select, items, label) {
  select.replaceChildren(
    ...items.map((item) => {
      const option = element("option", "", label(item));
      option.value = item.id;
      return option;
    }),
  );
}

/* The list */

function drawList(list) {
  at("none").hidden = list.length > 0;
  fit(
    at("conversations"),
    list.map((one) => ({ ...one, current: one.id === chosen })),
    (one) => {
      const item = element("button", "item");
      item.type = "button";
      item.setAttribute("aria-current", String(one.current));
      const [kind, label] = one.ticket ? [one.ticket.stage, one.ticket.state_label] : [one.state, one.state];
      item.append(element("span", "person", person(one.contact)), element("span", `state ${kind}`, label));
      if (one.ticket) item.append(element("span", "about", `#${one.ticket.number} ${one.ticket.title}`));
      item.append(element("span", "last", one.last_line || "…"));
      if (one.unread > 0) {
        const badge = element("span", "badge", String(one.unread));
        badge.setAttribute("aria-label", `${one.unread} unread`);
        item.append(badge);
      }
      item.addEventListener("click", () => choose(one.id));
      const row = element("li");
      row.append(item);
      return row;
    },
  );
}

function choose(id) {
  if (id !== chosen) pick([]);
  chosen = id;
  at("parts").replaceChildren();
  document.body.classList.toggle("reading", id !== null);
  at("open").hidden = id === null;
  at("nothing").hidden = id !== null;
  refresh();
  if (id !== null) at("text").focus();
}

/* The thread */

function drawThread(thread) {
  const { conversation } = thread;
  at("name").textContent = person(thread.contact);
  const until = thread.state === "snoozed" && thread.snoozed_until ? ` until ${clock(thread.snoozed_until)}` : "";
  const about = thread.ticket ? `ticket #${thread.ticket.number}, ${thread.ticket.type} · ` : "";
  at("sub").textContent = `${about}${thread.state}${until} · no. ${thread.id}`;
  drawTicket(thread.ticket);
  for (const button of document.querySelectorAll("[data-act]")) {
    button.disabled = { close: "closed", snooze: "snoozed", reopen: "open" }[button.dataset.act] === thread.state;
  }
  const opening = { ...conversation.source, part_type: "comment", created_at: conversation.created_at };
  const parts = conversation.conversation_parts.conversation_parts.map((part) => ({
    ...part,
    moved: thread.moves[part.id],
  }));
  // A ticket made from nothing has an empty opening message.
  const all = opening.body || opening.attachments.length > 0 ? [opening, ...parts] : parts;
  const list = at("parts");
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  fit(list, all, drawPart);
  if (wasAtEnd) list.scrollTop = list.scrollHeight;
}

function drawPart(part) {
  const files = part.attachments || [];
  const mine = part.author.type === "admin" || part.author.type === "bot";
  const known = mine || part.author.name;
  const by = known ? part.author.name || part.author.type : at("name").textContent;
  if (!part.body && files.length === 0) {
    const what = part.moved || part.part_type;
    return element("li", "part event", `${what.replaceAll("_", " ")} · ${by} · ${clock(part.created_at)}`);
  }
  const note = part.part_type === "note";
  const made = element(
    "li",
    ["part", note ? "note" : mine && "mine", part.redacted && "redacted"].filter(Boolean).join(" "),
  );
  const meta = element("div", "meta");
  const kind = note
    ? " · internal note"
    : part.part_type === "comment"
      ? ""
      : ` · ${part.part_type.replaceAll("_", " ")}`;
  meta.append(element("span", "", `${by} · ${clock(part.created_at)}${kind}`));
  if (!part.redacted) {
    const redact = element("button", "redact", "Redact");
    redact.type = "button";
    redact.setAttribute("aria-label", `Redact this message of ${by}`);
    redact.addEventListener("click", () => act({ act: "redact", conversation: chosen, part: part.id }));
    meta.append(redact);
  }
  made.append(meta);
  if (part.body) made.append(element("div", "text", part.body));
  made.append(...files.map(drawFile));
  return made;
}

async function send(kind) {
  const text = at("text").value.trim();
  const files = kind === "reply" ? picked : [];
  if ((!text && files.length === 0) || chosen === null) return;
  const what = { act: kind, conversation: chosen, body: text && toHtml(text) };
  try {
    if (files.length > 0) what.attachments = await Promise.all(files.map(asUpload));
  } catch (error) {
    // It is no longer where it was picked.
    complain(error);
    return;
  }
  const done = await act(what);
  if (done) {
    at("text").value = "";
    pick(picked.filter((file) => !files.includes(file)));
  }
  at("text").focus();
}

/* Files */

function drawFile(file) {
  const link = element("a", "file", `${file.name} (${file.filesize} bytes)`);
  if (/^https?:/.test(file.url)) link.href = file.url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  // Until it was fetched from the app there is nothing to see.
  if (link.href && file.filesize > 0 && file.content_type.startsWith("image/")) {
    const picture = element("img");
    picture.alt = "";
    picture.src = file.url;
    link.prepend(picture);
  }
  return link;
}

// What goes with the next answer.
function pick(files) {
  picked = files;
  at("files").value = "";
  at("picked").hidden = files.length === 0;
  at("picked").replaceChildren(
    ...files.map((file) => {
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.addEventListener("click", () => pick(picked.filter((one) => one !== file)));
      const item = element("li", "", file.name);
      item.append(remove);
      return item;
    }),
  );
}

function asUpload(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      const data = reader.result.split(",")[1] || "";
      resolve({ name: file.name, content_type: file.type || "application/octet-stream", data });
    });
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/* Tickets */

function drawTicket(ticket) {
  for (const [id, shown] of [
    ["convert", !ticket],
    ["ticket", ticket],
    ["share", ticket && ticket.category !== "Customer"],
  ]) {
    at(id).hidden = !shown;
  }
  if (!ticket) return;
  at("ticket-title").textContent = ticket.title || "No title";
  at("ticket-description").textContent = ticket.description;
  at("share").setAttribute("aria-pressed", String(ticket.shared));
  fit(at("ticket-state"), ticket.states, (state) => {
    const same = state.label === state.shown;
    const option = element("option", "", same ? state.label : `${state.label} (shown: ${state.shown})`);
    option.value = state.id;
    return option;
  });
  if (document.activeElement !== at("ticket-state")) at("ticket-state").value = ticket.state;
}

async function move() {
  await act({ act: "move_ticket", ticket: chosen, state: at("ticket-state").value });
  at("ticket-state").blur();
  await refresh();
}

async function offerTicket(conversation) {
  converting = conversation;
  const [contacts, types] = await Promise.all([ask("GET", "contacts"), ask("GET", "ticket_types")]);
  // Only customers' tickets can be made of conversations.
  const fitting = types.filter((type) => conversation === null || type.category === "Customer");
  at("ticketing-title").textContent = conversation === null ? "New ticket" : "Make a ticket of this";
  at("ticket-for").hidden = conversation !== null;
  fill(at("ticket-contact"), contacts, person);
  fill(at("ticket-type"), fitting, (type) => `${type.name} (${type.category})`);
  at("ticketing").showModal();
}

async function makeTicket(event) {
  event.preventDefault();
  const title = at("new-title").value.trim();
  const ticket = { ticket_type: at("ticket-type").value, title, description: at("new-description").value.trim() };
  const done = await act(
    converting === null
      ? { act: "create_ticket", contact: at("ticket-contact").value, ticket }
      : { act: "convert_to_ticket", conversation: converting, ticket },
  );
  if (!done) return;
  at("ticket-form").reset();
  at("ticketing").close();
  choose(done.ticket);
}

/* Faults */

function drawFaults(faults) {
  at("fault-count").hidden = faults.length === 0;
  at("fault-count").textContent = String(faults.length);
  fit(at("fault-list"), faults, ({ hits, ...rule }) => element("li", "", `${hits} × ${JSON.stringify(rule)}`));
}

async function addFault(event) {
  event.preventDefault();
  const error = at("fault-error");
  error.hidden = true;
  try {
    await ask("POST", "faults", JSON.parse(at("fault-rule").value));
    await refresh();
  } catch (why) {
    error.textContent = why.message;
    error.hidden = false;
  }
}

/* Starting a conversation */

async function offerStart() {
  fill(at("start-contact"), await ask("GET", "contacts"), person);
  at("starting").showModal();
}

async function start(event) {
  event.preventDefault();
  const done = await act({
    act: "start",
    contact: at("start-contact").value,
    body: toHtml(at("start-text").value.trim()),
  });
  if (!done) return;
  at("start-text").value = "";
  at("starting").close();
  choose(done.conversation);
}

/* Keeping up */

const refresh = () => showLink(look);

async function look() {
  const asked = chosen;
  const view = document.visibilityState === "visible" ? "?view=true" : "";
  const [list, faults, thread] = await Promise.all([
    ask("GET", "conversations"),
    ask("GET", "faults"),
    asked === null ? null : ask("GET", `conversations/${asked}${view}`).catch(() => null),
  ]);
  drawList(list);
  drawFaults(faults);
  if (asked !== chosen) return;
  if (thread) drawThread(thread);
  else if (asked !== null) choose(null);
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send("reply");
});
at("note").addEventListener("click", () => send("note"));
at("attach").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", () => pick([...picked, ...at("files").files]));
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send("reply");
  }
});
at("back").addEventListener("click", () => choose(null));
for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => {
    const until = button.dataset.act === "snooze" ? { until: Math.floor(Date.now() / 1000) + 3600 } : {};
    act({ act: button.dataset.act, conversation: chosen, ...until });
  });
}
at("convert").addEventListener("click", () => offerTicket(chosen));
at("ticket-state").addEventListener("change", move);
at("share").addEventListener("click", () => {
  const shared = at("share").getAttribute("aria-pressed") !== "true";
  act({ act: "share_ticket", ticket: chosen, shared });
});
at("new-ticket").addEventListener("click", () => offerTicket(null));
at("ticket-form").addEventListener("submit", makeTicket);
at("ticket-cancel").addEventListener("click", () => at("ticketing").close());
at("new").addEventListener("click", offerStart);
at("start-form").addEventListener("submit", start);
at("start-cancel").addEventListener("click", () => at("starting").close());
at("show-faults").addEventListener("click", () => {
  const hidden = at("faults").toggleAttribute("hidden");
  at("show-faults").setAttribute("aria-expanded", String(!hidden));
});
at("fault-kind").replaceChildren(
  ...FAULTS.map(([label], index) => {
    const option = element("option", "", label);
    option.value = String(index);
    return option;
  }),
);
const fillRule = () => {
  at("fault-rule").value = JSON.stringify(FAULTS[Number(at("fault-kind").value)][1]);
};
at("fault-kind").addEventListener("change", fillRule);
fillRule();
at("fault-form").addEventListener("submit", addFault);
at("fault-clear").addEventListener("click", async () => {
  await ask("DELETE", "faults");
  await refresh();
});
keepUp(refresh);
