// A world in which time stands still until it is told to move, chance is a seed, and the server is a function.

import { memoryStore } from "./browser.ts";
import type { AwStorage, Env, HttpAnswer, HttpInit, Tabs } from "./env.ts";
import type { Undo } from "./store.ts";

export interface TestRequest {
  method: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  /** Of a JSON body; a form is handed over as it is. */
  body: unknown;
  /** Of the world, when it was made. */
  atMs: number;
}

/** `lost`: the request had no answer. `hang`: none comes, and no end. */
export type TestAnswer =
  | { status?: number; body?: unknown; headers?: Record<string, string>; delayMs?: number }
  | "lost"
  | "hang";

export type TestServer = (request: TestRequest) => TestAnswer | Promise<TestAnswer>;

export interface TestEnv extends Env {
  /** What was asked, in order. */
  readonly requests: TestRequest[];
  setVisible(isVisible: boolean): void;
  setOnline(isOnline: boolean): void;
}

export interface TestEnvOptions {
  server: TestServer;
  /** Of another env: a reload, or another tab. */
  storage?: AwStorage;
  /** `shared`: a tab among the world's other tabs. */
  tabs?: "shared" | "alone" | "unknown";
  visible?: boolean;
}

export interface TestWorld {
  now(): number;
  random(): number;
  /** Lets so many milliseconds pass, and all that is due in them happen. */
  advance(ms: number): Promise<void>;
  env(options: TestEnvOptions): TestEnv;
  /** A storage that tabs can share. */
  storage(): AwStorage;
}

/** A small generator of chance (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** After all that needs no time has happened. */
const settled = () =>
  new Promise<void>((resolve) => (typeof setImmediate === "function" ? setImmediate(resolve) : setTimeout(resolve, 0)));

/** The same seed is the same world. It begins at `startMs`. */
export function createTestWorld({ seed = 1, startMs = 1_700_000_000_000 } = {}): TestWorld {
  let now = startMs;
  let ids = 0;
  const random = chance(seed);
  const timers = new Map<number, { at: number; run: () => void }>();
  const tabs = testTabs();

  const timer = (run: () => void, ms: number): Undo => {
    ids += 1;
    const id = ids;
    timers.set(id, { at: now + Math.max(0, ms), run });
    return () => timers.delete(id);
  };

  const advance = async (ms: number) => {
    const end = now + ms;
    await settled();
    for (;;) {
      let next: [number, { at: number; run: () => void }] | undefined;
      for (const entry of timers) if (entry[1].at <= end && (!next || entry[1].at < next[1].at)) next = entry;
      if (!next) break;
      timers.delete(next[0]);
      now = Math.max(now, next[1].at);
      next[1].run();
      await settled();
    }
    now = end;
  };

  const env = ({ server, storage = memoryStore(), tabs: kind = "alone", visible = true }: TestEnvOptions): TestEnv => {
    const requests: TestRequest[] = [];
    const listeners = new Set<() => void>();
    const state = { visible, online: true };
    const change = (fields: Partial<typeof state>) => {
      Object.assign(state, fields);
      for (const listener of [...listeners]) listener();
    };
    const send = (url: string, init: HttpInit): Promise<HttpAnswer> =>
      new Promise((resolve, reject) => {
        const request = asRequest(url, init, now);
        requests.push(request);
        init.signal.addEventListener("abort", () => reject(new Error("aborted")));
        void Promise.resolve(server(request)).then((answer) => {
          if (answer === "lost") reject(new Error("connection lost"));
          else if (answer !== "hang" && answer.delayMs) timer(() => resolve(asAnswer(answer)), answer.delayMs);
          else if (answer !== "hang") resolve(asAnswer(answer));
        });
      });
    return {
      requests,
      now: () => now,
      random,
      uuid: () => {
        ids += 1;
        return `key-${ids}`;
      },
      timer,
      fetch: send,
      upload: (url, init, onProgress) => {
        onProgress(0, 100);
        return send(url, init).then((answer) => {
          onProgress(100, 100);
          return answer;
        });
      },
      storage,
      visible: () => state.visible,
      online: () => state.online,
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      tabs: kind === "shared" ? tabs() : kind,
      setVisible: (visible) => change({ visible }),
      setOnline: (online) => change({ online }),
    };
  };

  return { now: () => now, random, advance, env, storage: () => ({ ...memoryStore(), shared: true }) };
}

function asRequest(url: string, init: HttpInit, atMs: number): TestRequest {
  const { pathname, searchParams } = new URL(url);
  return {
    method: init.method,
    path: pathname,
    query: Object.fromEntries(searchParams),
    headers: { ...init.headers },
    body: typeof init.body === "string" ? JSON.parse(init.body) : init.body,
    atMs,
  };
}

function asAnswer({ status = 200, body, headers = {} }: Exclude<TestAnswer, string>): HttpAnswer {
  const lower = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
  return { status, headers: { get: (name) => lower.get(name.toLowerCase()) ?? null }, text: async () => text };
}

/** Locks and channels as browsers have them. A function that gives each tab its own view of them. */
function testTabs(): () => Tabs {
  type Waiting = { grant: () => void };
  const locks = new Map<string, { lost: () => void; queue: Waiting[] }>();
  const channels = new Map<string, Set<(message: unknown) => void>>();

  const lock: Tabs["lock"] = (name, steal, signal, lost) =>
    new Promise((resolve) => {
      const grant = () => {
        const entry = { lost, queue: locks.get(name)?.queue ?? [] };
        locks.set(name, entry);
        resolve(() => {
          if (locks.get(name) !== entry) return;
          locks.delete(name);
          const next = entry.queue.shift();
          if (!next) return;
          locks.set(name, { lost: () => {}, queue: entry.queue });
          next.grant();
        });
      };
      const held = locks.get(name);
      if (!held) return grant();
      if (steal) {
        grant();
        return held.lost();
      }
      const waiting = { grant };
      held.queue.push(waiting);
      signal.addEventListener("abort", () => {
        const queue = locks.get(name)?.queue ?? [];
        if (queue.includes(waiting)) queue.splice(queue.indexOf(waiting), 1);
      });
    });

  return () => ({
    lock,
    channel(name, listener) {
      const all = channels.get(name) ?? new Set();
      channels.set(name, all.add(listener));
      return {
        post(message) {
          const copy = JSON.stringify(message);
          for (const other of all)
            if (other !== listener) queueMicrotask(() => all.has(other) && other(JSON.parse(copy)));
        },
        close: () => void all.delete(listener),
      };
    },
  });
}
