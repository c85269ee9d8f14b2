// The host page of the demo: what an app does to have the chat, and a few switches to try it with.

const $ = (id) => document.getElementById(id);
const chat = $("chat");
const asked = new URLSearchParams(location.search);

/** In an app, its own backend signs the token of whoever is signed in there. */
const tokenOf = (user) => async () => (await (await fetch(`/dev/token?user=${user}`)).json()).token;

function begin(user) {
  $("greeting").textContent = user[0].toUpperCase() + user.slice(1);
  chat.boot({ userScope: user, getToken: tokenOf(user) });
}

function remember(name, value) {
  asked.set(name, value);
  history.replaceState(null, "", `?${asked}`);
}

/** A switch that is kept in the address, and what it does. */
function choice(name, apply) {
  const select = $(name);
  const values = [...select.options].map((option) => option.value);
  if (values.includes(asked.get(name))) select.value = asked.get(name);
  select.addEventListener("change", () => {
    remember(name, select.value);
    apply(select.value);
  });
  apply(select.value);
}

choice("locale", (locale) => {
  document.documentElement.dir = locale === "ar" ? "rtl" : "ltr";
  chat.setAttribute("locale", locale);
});
choice("theme", (theme) => {
  document.documentElement.dataset.theme = theme;
  chat.setAttribute("theme", theme);
});

let user = null;
choice("user", async (next) => {
  // Nothing of the one stays for the other.
  if (user) await chat.shutdown();
  user = next;
  if (customElements.get("aw-chat")) begin(user);
  else $("missing").hidden = false;
});

fetch("/dev/info")
  .then((answer) => answer.json())
  .then(({ operatorUrl }) => {
    $("operator").href = operatorUrl;
    $("operator").hidden = false;
  });
