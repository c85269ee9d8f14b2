// A browser. In a place without one, such as plain Node, it is a lone client that keeps nothing.

import type { AwStorage, Env, Tabs } from "./env.ts";
import type { Undo } from "./store.ts";

/** The default place. Looks at no global until it is called. */
export function browser(): Env {
  const page = typeof document === "undefined" ? null : document;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    // `randomUUID` is for secure pages only. It need not be secret, but must never come twice.
    uuid: () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}-${Math.random()}`,
    timer: startTimer,
    fetch: (url, init) => fetch(url, init),
    storage: localStore() ?? memoryStore(),
    visible: () => page?.visibilityState !== "hidden",
    online: () => typeof navigator === "undefined" || navigator.onLine !== false,
    onChange(listener) {
      if (!page) return () => {};
      const names = ["visibilitychange", "online", "offline"];
      // The page's own event passes the window as well.
      for (const name of names) window.addEventListener(name, listener);
      return () => {
        for (const name of names) window.removeEventListener(name, listener);
      };
    },
    tabs: page ? (browserTabs() ?? "unknown") : "alone",
  };
}

export function startTimer(run: () => void, ms: number): Undo {
  // Longer ones fire at once. Almost a month is as good as never.
  const timer = setTimeout(run, Math.min(ms, 0x7fffffff));
  return () => clearTimeout(timer);
}

/** Keeps until the page is left. */
export function memoryStore(): AwStorage {
  const values = new Map<string, string>();
  return {
    shared: false,
    keys: (prefix) => [...values.keys()].filter((key) => key.startsWith(prefix)),
    get: (key) => values.get(key) ?? null,
    set: (key, value) => void values.set(key, value),
    remove: (key) => void values.delete(key),
  };
}

/** Null where it is forbidden, as in some private windows and frames. */
function localStore(): AwStorage | null {
  try {
    const { localStorage } = window;
    localStorage.setItem("awchat", "");
    localStorage.removeItem("awchat");
    return {
      shared: true,
      keys: (prefix) => Object.keys(localStorage).filter((key) => key.startsWith(prefix)),
      get: (key) => localStorage.getItem(key),
      set: (key, value) => localStorage.setItem(key, value),
      remove: (key) => localStorage.removeItem(key),
    };
  } catch {
    return null;
  }
}

/** Null where there is neither: old browsers, and pages that are not secure. */
function browserTabs(): Tabs | null {
  if (!navigator.locks || typeof BroadcastChannel === "undefined") return null;
  return {
    lock: (name, steal, signal, lost) =>
      new Promise((resolve) => {
        let isHeld = false;
        const hold = () =>
          new Promise<void>((release) => {
            isHeld = true;
            resolve(release);
          });
        // It ends when released, and fails when stolen, aborted, or where the page may have no locks: then it is alone.
        navigator.locks.request(name, steal ? { steal } : { signal }, hold).catch(() => {
          if (isHeld) lost();
          else if (!signal.aborted) resolve(() => {});
        });
      }),
    channel(name, listener) {
      const channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => listener(data);
      return { post: (message) => channel.postMessage(message), close: () => channel.close() };
    },
  };
}
