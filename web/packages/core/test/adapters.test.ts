import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it, vi } from "vitest";
import { createAwChat } from "../src/index.ts";
import { reactNative } from "../src/react-native.ts";
import { contrast, readTheme, type TelegramWebApp, telegram, telegramTheme, telegramToken } from "../src/telegram.ts";

const source = fileURLToPath(new URL("../src/", import.meta.url));

/** React Native's modules, and what has been told to them. */
function phone() {
  const values = new Map<string, string>();
  const appListeners = new Set<(state: string) => void>();
  const netListeners = new Set<(state: { isConnected: boolean | null }) => void>();
  // Slow and in no order of its own, as a bridge to another thread is.
  let calls = 0;
  const later = <T>(run: () => T) => {
    calls += 1;
    return new Promise<T>((resolve) => setTimeout(() => resolve(run()), (calls * 7) % 5));
  };
  const AppState = {
    currentState: "active",
    addEventListener: (_: "change", listener: (state: string) => void) => {
      appListeners.add(listener);
      return { remove: () => void appListeners.delete(listener) };
    },
  };
  return {
    values,
    AppState,
    modules: {
      AppState,
      AsyncStorage: {
        getAllKeys: () => later(() => [...values.keys()]),
        getItem: (key: string) => later(() => values.get(key) ?? null),
        setItem: (key: string, value: string) => later(() => values.set(key, value)),
        removeItem: (key: string) => later(() => values.delete(key)),
      },
      NetInfo: {
        addEventListener: (listener: (state: { isConnected: boolean | null }) => void) => {
          netListeners.add(listener);
          return () => void netListeners.delete(listener);
        },
      },
      uuid: () => crypto.randomUUID(),
    },
    goesTo(state: string) {
      AppState.currentState = state;
      for (const listener of appListeners) listener(state);
    },
    hasNetwork(isConnected: boolean) {
      for (const listener of netListeners) listener({ isConnected });
    },
    listeners: () => appListeners.size + netListeners.size,
  };
}

it("React Native: behind is hidden, a system sheet is not, and no listener is left", () => {
  const device = phone();
  const env = reactNative(device.modules);
  let changes = 0;
  const off = env.onChange(() => {
    changes += 1;
  });
  device.goesTo("inactive");
  expect(env.visible()).toBe(true);
  device.goesTo("background");
  expect(env.visible()).toBe(false);
  device.hasNetwork(false);
  expect([env.online(), changes]).toEqual([false, 3]);
  off();
  expect(device.listeners()).toBe(0);
});

it("React Native: the last of many quick writes is what is kept, and logout comes after all of them", async () => {
  const device = phone();
  const env = {
    ...reactNative(device.modules),
    fetch: async () => ({ status: 404, headers: { get: () => null }, text: async () => "{}" }),
  };
  const chat = createAwChat({ serverUrl: "http://x", getToken: () => "t", userScope: "ada", env });
  for (let i = 0; i < 30; i += 1) chat.draft.set(`draft ${i}`);
  await vi.waitFor(() => expect([...device.values.values()]).toEqual(['"draft 29"']), { timeout: 20_000 });
  for (let i = 0; i < 30; i += 1) chat.draft.set(`secret ${i}`);
  await chat.logout();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(device.values.size).toBe(0);
});

/** Telegram's WebApp, with listeners that can be called. */
function webApp(fields: Partial<TelegramWebApp> = {}) {
  const listeners = new Map<string, Set<() => void>>();
  const app = {
    initData: "query_id=1&hash=2",
    colorScheme: "light" as "light" | "dark",
    themeParams: {} as Record<string, string>,
    isActive: true,
    onEvent: (event: string, listener: () => void) =>
      void listeners.set(event, (listeners.get(event) ?? new Set()).add(listener)),
    offEvent: (event: string, listener: () => void) => void listeners.get(event)?.delete(listener),
    ...fields,
  };
  const fire = (event: string) => {
    for (const listener of listeners.get(event) ?? []) listener();
  };
  return { app, fire };
}

it("Telegram: a Mini App that is not shown is behind", () => {
  const { app, fire } = webApp();
  const env = telegram(app);
  let changes = 0;
  const off = env.onChange(() => {
    changes += 1;
  });
  expect(env.visible()).toBe(true);
  app.isActive = false;
  fire("deactivated");
  expect([env.visible(), changes]).toEqual([false, 1]);
  off();
  fire("activated");
  expect(changes).toBe(1);
  expect(telegram({ ...app, isActive: undefined }).visible()).toBe(true);
});

it("Telegram: the theme follows, and text that could not be read is black or white", () => {
  const { app, fire } = webApp({
    themeParams: {
      bg_color: "#ffffff",
      text_color: "#111111",
      hint_color: "#eeeeee",
      button_color: "#2481cc",
      button_text_color: "#2080c0",
      link_color: "nonsense",
    },
  });
  const theme = telegramTheme(app);
  expect(theme.get()).toEqual({
    scheme: "light",
    colors: { accent: "#2481cc", "on-accent": "#000000", bg: "#ffffff", text: "#111111", muted: "#000000" },
  });
  const seen: string[] = [];
  const off = theme.subscribe(({ scheme }) => seen.push(scheme));
  app.colorScheme = "dark";
  fire("themeChanged");
  off();
  fire("themeChanged");
  expect(seen).toEqual(["dark"]);
  expect(readTheme(app).scheme).toBe("dark");
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
});

it("Telegram: a token is had for initData, and a refusal says why", async () => {
  const before = globalThis.fetch;
  const asked: unknown[] = [];
  globalThis.fetch = async (url, init) => {
    asked.push([url, init?.method, JSON.parse(String(init?.body))]);
    return asked.length === 1
      ? Response.json({ token: "t1", expiresAt: 1 })
      : Response.json({ error: "unauthorized", message: "initData is too old" }, { status: 401 });
  };
  try {
    const getToken = telegramToken("https://support.test/", webApp().app);
    const request = { reason: "initial", signal: new AbortController().signal } as const;
    expect(await getToken(request)).toBe("t1");
    await expect(getToken(request)).rejects.toThrow("initData is too old");
    expect(asked[0]).toEqual(["https://support.test/api/session/telegram", "POST", { initData: "query_id=1&hash=2" }]);
  } finally {
    globalThis.fetch = before;
  }
});

it("nothing runs when a module is loaded, and no global is touched: in a place with hardly any", () => {
  const folder = mkdtempSync(join(tmpdir(), "awchat-"));
  try {
    // Node's own type stripping came after Node 20, so the built package is what is loaded.
    const dist = fileURLToPath(new URL("../dist/", import.meta.url));
    const script = `
      const touched = [];
      for (const name of ["window", "document", "navigator", "localStorage", "XMLHttpRequest", "BroadcastChannel", "location", "fetch", "setTimeout", "crypto"]) {
        Object.defineProperty(globalThis, name, { configurable: true, get() { touched.push(name); return undefined; } });
      }
      await import(${JSON.stringify(`${dist}index.js`)});
      await import(${JSON.stringify(`${dist}telegram.js`)});
      await import(${JSON.stringify(`${dist}react-native.js`)});
      console.log(JSON.stringify(touched));
    `;
    const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
      cwd: folder,
    });
    expect(JSON.parse(printed)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it("the sources import nothing but each other", () => {
  for (const file of readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  )) {
    const imports = [...readFileSync(join(source, file), "utf8").matchAll(/(?:from|import\()\s*"([^"]+)"/g)].map(
      ([, from]) => from,
    );
    expect(
      imports.filter((from) => !from?.startsWith("./")),
      file,
    ).toEqual([]);
  }
});

it("the house's habits: no any, no default export, no TypeScript that is switched off", () => {
  for (const file of readdirSync(source, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  )) {
    if (file.startsWith("generated")) continue;
    const text = readFileSync(join(source, file), "utf8");
    expect(text.match(/\bas any\b|: any\b|export default|@ts-|console\./), file).toBeNull();
    expect(text.split("\n").length, file).toBeLessThan(400);
  }
});
