// The app's own script on its page: whoever the address says is signed in.

const asked = new URLSearchParams(location.search);
const chat = document.querySelector("aw-chat");
let tokens = 0;

/** Tokens from the app's own backend. */
async function getToken({ reason, signal }) {
  tokens += 1;
  window.host.reasons.push(reason);
  const life = asked.get("life") ?? "";
  const answer = await fetch(`/token?user=${window.host.user}&life=${life}`, { signal });
  return answer.text();
}

window.host = {
  user: asked.get("user"),
  reasons: [],
  events: [],
  violations: [],
  tokens: () => tokens,
  begin(user) {
    window.host.user = user;
    chat.boot({ userScope: user, getToken });
  },
};

document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile }) => {
  window.host.violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}`);
});
for (const name of ["ready", "open", "close", "unread", "message", "error"]) {
  chat.addEventListener(`aw-${name}`, () => window.host.events.push(name));
}
chat.addEventListener("aw-ready", ({ detail }) => {
  window.host.client = detail.client;
});
for (const name of ["locale", "theme", "mode", "position"]) {
  if (asked.has(name)) chat.setAttribute(name, asked.get(name));
}
if (asked.get("locale") === "ar") document.documentElement.dir = "rtl";
if (window.host.user) window.host.begin(window.host.user);
