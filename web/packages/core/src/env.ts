// What the engine needs of the place it runs in. Each adapter gives one; nothing else touches the outside.

import type { Undo } from "./store.ts";

/** The part of fetch's `Response` that is used. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  text(): Promise<string>;
}

export interface HttpInit {
  method: string;
  headers: Record<string, string>;
  body?: string | FormData;
  signal: AbortSignal;
  credentials: "omit";
  cache: "no-store";
}

/** Strings under names, for one device. Answers may come at once or as promises. */
export interface AwStorage {
  /** All tabs see the same: then one of them sends for all. */
  readonly shared: boolean;
  keys(prefix: string): string[] | Promise<string[]>;
  get(key: string): string | null | Promise<string | null>;
  set(key: string, value: string): void | Promise<void>;
  remove(key: string): void | Promise<void>;
}

/** How the tabs of one browser agree on who polls and who sends. */
export interface Tabs {
  /**
   * Waits for the lock called `name`; with `steal`, takes it at once. Resolves with its release; `lost` is called when
   * another tab steals it. Never rejects: when `signal` aborts, it does not resolve.
   */
  lock(name: string, steal: boolean, signal: AbortSignal, lost: () => void): Promise<Undo>;
  /** Messages among the tabs; a tab does not get its own. */
  channel(name: string, listener: (message: unknown) => void): { post(message: unknown): void; close(): void };
}

/** The outside. */
export interface Env {
  /** Milliseconds since 1970. */
  now(): number;
  /** From 0 up to, but not, 1. */
  random(): number;
  /** A new id, never given before. */
  uuid(): string;
  /** Calls `run` once, after so many milliseconds, unless undone. Infinity is never. */
  timer(run: () => void, ms: number): Undo;
  fetch(url: string, init: HttpInit): Promise<HttpAnswer>;
  /** As `fetch`, but tells of the bytes sent. Without it, XMLHttpRequest is used where there is one, else `fetch`. */
  upload?(url: string, init: HttpInit, onProgress: (sent: number, total: number) => void): Promise<HttpAnswer>;
  storage: AwStorage;
  visible(): boolean;
  online(): boolean;
  /** Calls `listener` whenever the app may have come to the front or gone, or the network. */
  onChange(listener: () => void): Undo;
  /** `alone`: there are no other tabs. `unknown`: there may be, but they cannot agree; each polls half as often. */
  tabs: Tabs | "alone" | "unknown";
}
