// What phones and Telegram show. Polls once a second; whatever was sent goes through textContent only.

import { ask, at, complain, element, fit, keepUp, showLink, timeOf } from "./dom.js";

const SERVICES = [
  ["fcm", "FCM"],
  ["google", "Google's tokens"],
  ["telegram", "Telegram"],
];
const PLATFORMS = { android: "Android", iphone: "iPhone" };
const REGISTRATIONS = { installed: "Installed", gone: "Uninstalled", foreign: "Another project's" };
const CHAT_STATES = {
  open: "Open",
  blocked: "Bot blocked",
  deactivated: "User deleted",
  never_started: "Never started",
  unknown: "No such user",
};

async function act(what) {
  try {
    await ask("POST", "phones", what);
    await refresh();
  } catch (error) {
    complain(error);
  }
}

function button(label, what) {
  const made = element("button", "", label);
  made.type = "button";
  made.addEventListener("click", () => act(what));
  return made;
}

// A labelled choice of what `names` has; choosing does what `act` makes of it.
function choice(label, names, value, what) {
  const made = element("label", "", label);
  const select = element("select");
  for (const [name, shown] of Object.entries(names)) {
    const option = element("option", "", shown);
    option.value = name;
    option.selected = name === value;
    select.append(option);
  }
  select.addEventListener("change", () => act(what(select.value)));
  made.append(select);
  return made;
}

function card(title, badge, settings, notices) {
  const made = element("li", "device");
  const heading = element("h3", "", title);
  if (badge !== null) {
    const count = element("span", "badge", String(badge));
    count.setAttribute("aria-label", `${badge} on the app's icon`);
    heading.append(count);
  }
  const controls = element("div", "settings");
  controls.append(...settings);
  const list = element("ol", "shown");
  list.append(...notices);
  made.append(heading, controls, notices.length > 0 ? list : element("p", "nothing", "Nothing to be seen."));
  return made;
}

function drawPhone(phone) {
  const { token } = phone;
  const set = (what) => ({ act: "set_phone", token, ...what });
  const settings = [
    choice("Kind", PLATFORMS, phone.platform, (platform) => set({ platform })),
    choice("App", REGISTRATIONS, phone.registration, (registration) => set({ registration })),
    button(phone.online ? "Take offline" : "Bring online", set({ online: !phone.online })),
    button("Clear", { act: "clear_screen", to: { phone: token } }),
  ];
  return card(token, phone.badge, settings, phone.screen.toReversed().map(drawNotification));
}

function drawNotification(shown) {
  const made = element("li", "notice");
  made.append(element("strong", "", shown.title), element("span", "text", shown.body));
  const data = Object.entries(shown.data).map(([name, value]) => `${name}: ${value}`);
  made.append(element("span", "meta", [timeOf(shown.at_ms), ...data].join(" · ")));
  return made;
}

function drawChat(chat) {
  const settings = [
    choice("User", CHAT_STATES, chat.state, (state) => ({ act: "set_chat", chat: chat.chat, state })),
    button("Clear", { act: "clear_screen", to: { chat: chat.chat } }),
  ];
  return card(`User ${chat.chat}`, null, settings, chat.messages.toReversed().map(drawMessage));
}

function drawMessage(message) {
  const made = element("li", "notice");
  made.append(element("span", "text", message.text));
  for (const [label, leads] of message.buttons) {
    const link = element("a", "", label);
    if (/^https?:/.test(leads)) link.href = leads;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    made.append(link);
  }
  made.append(element("span", "meta", `${timeOf(message.at_ms)}${message.silent ? " · without a sound" : ""}`));
  return made;
}

function drawService([name, label, down, count]) {
  const made = button(`${label}: ${down ? "down" : "up"}, requests: ${count}`, {
    act: down ? "up" : "down",
    service: name,
  });
  made.setAttribute("aria-pressed", String(down));
  made.title = down ? "Bring it up again" : "Take it down: it breaks every connection";
  const row = element("li");
  row.append(made);
  return row;
}

const refresh = () => showLink(look);

async function look() {
  const seen = await ask("GET", "phones");
  const services = SERVICES.map(([name, label]) => [name, label, seen.down.includes(name), seen.counts[name]]);
  fit(at("services"), services, drawService);
  fit(at("phones"), seen.phones, drawPhone);
  fit(at("chats"), seen.chats, drawChat);
  at("no-phones").hidden = seen.phones.length > 0;
  at("no-chats").hidden = seen.chats.length > 0;
}

keepUp(refresh);
