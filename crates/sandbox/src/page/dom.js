// What both pages are made with: elements, lists that keep their focus, and questions to the sandbox.

const EVERY_MS = 1000;
const drawn = new WeakMap();

export const at = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export async function ask(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(`/_sandbox/${path}`, options);
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error || `status ${answer.status}`);
  return json;
}

export function timeOf(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// Makes the children of a list fit the items, touching only what changed: a reader's focus stays, and what a screen reader has
// announced is not announced again.
export function fit(list, items, make) {
  items.forEach((item, index) => {
    const text = asText(item);
    const old = list.children[index];
    if (old && drawn.get(old) === text) return;
    const made = make(item);
    drawn.set(made, text);
    if (old) old.replaceWith(made);
    else list.append(made);
  });
  while (list.children.length > items.length) list.lastChild.remove();
}

// Addresses of files are signed anew each time. That alone is no change, but for once in ten minutes: they run out.
const asText = (item) => {
  const age = Math.floor(Date.now() / 600_000);
  return JSON.stringify(item, (key, value) => (key === "url" && value ? `${value.split("?")[0]} ${age}` : value));
};

// Looks once, and says whether anything was to be seen.
export async function showLink(look) {
  try {
    await look();
    at("link").textContent = "live";
    at("link").classList.remove("lost");
  } catch {
    at("link").textContent = "no connection";
    at("link").classList.add("lost");
  }
}

export async function keepUp(refresh) {
  await refresh();
  setTimeout(keepUp, EVERY_MS, refresh);
}

// Says what went wrong, for a while.
export function complain(error) {
  at("trouble").textContent = error.message;
  at("trouble").hidden = false;
  setTimeout(() => {
    at("trouble").hidden = true;
  }, 4000);
}
