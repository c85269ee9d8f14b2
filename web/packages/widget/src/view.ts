// What screens share: the app around them, values that change, and requests with their states.

import type { AwChat, AwError, Resource, ServerConfig } from "@aw-chat/core";
import { createContext } from "preact";
import { useContext, useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import type { Language } from "./i18n.ts";
import type { Router } from "./router.ts";

/** Whether the device lets the app notify, and how to ask: the app knows, not the page. */
export interface Notices {
  state: "granted" | "denied" | "ask";
  /** Asks the user; answers the new state. */
  request(): Promise<"granted" | "denied" | "ask">;
}

export type Mode = "bubble" | "inline" | "page";

/** What all screens have. */
export interface App {
  chat: AwChat;
  language: Language;
  router: Router;
  mode: Mode;
  notices: Notices | null;
  /** Says it to who cannot see it: politely, in the one place for that. */
  announce(text: string): void;
  /** Closes the panel; null where it is always open. */
  close: (() => void) | null;
  /** The place has a back button of its own, as Telegram does. */
  hasBack: boolean;
  /** Topics, categories, limits. */
  config: Loaded<ServerConfig>;
}

export const AppContext = createContext<App>(null as unknown as App);

export const useApp = (): App => useContext(AppContext);

/** The value of a resource, drawn anew when it changes. */
export function useResource<T>({ get, subscribe }: Resource<T>): T {
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const value = get();
  useLayoutEffect(() => {
    if (get() !== value) redraw(undefined);
    return subscribe(() => redraw(undefined));
  }, [subscribe]);
  return value;
}

export interface Loaded<T> {
  value: T | null;
  /** Why the last try failed, if there is nothing to show. */
  error: AwError | null;
  reload(): void;
}

/** What `load` answers: again whenever `deps` change, and every `everyMs` while the page is in front. */
export function useLoad<T>(
  load: (signal: AbortSignal) => Promise<T>,
  deps: readonly unknown[],
  everyMs = 0,
): Loaded<T> {
  const [turn, reload] = useReducer((turn: number) => turn + 1, 0);
  const [state, setState] = useState<{ value: T | null; error: AwError | null }>({ value: null, error: null });
  useEffect(() => {
    const over = new AbortController();
    load(over.signal).then(
      (value) => over.signal.aborted || setState({ value, error: null }),
      (error: AwError) => over.signal.aborted || setState(({ value }) => ({ value, error })),
    );
    return () => over.abort();
  }, [...deps, turn]);
  useEffect(() => {
    if (!everyMs) return;
    const again = () => document.visibilityState !== "hidden" && reload(undefined);
    const timer = setInterval(again, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return { value: state.value, error: state.value ? null : state.error, reload: () => reload(undefined) };
}

/** Runs one request at a time; `error` is why the last has failed. */
export function useTask(): {
  isBusy: boolean;
  error: AwError | null;
  /** Answers whether it went well. */
  run(task: (signal: AbortSignal) => Promise<void>): Promise<boolean>;
} {
  const [state, setState] = useState<{ isBusy: boolean; error: AwError | null }>({ isBusy: false, error: null });
  const over = useRef(new AbortController());
  useEffect(() => () => over.current.abort(), []);
  return {
    ...state,
    async run(task) {
      const { signal } = over.current;
      setState({ isBusy: true, error: null });
      try {
        await task(signal);
        if (!signal.aborted) setState({ isBusy: false, error: null });
        return true;
      } catch (error) {
        if (!signal.aborted) setState({ isBusy: false, error: error as AwError });
        return false;
      }
    },
  };
}

/** Seconds left until a time in milliseconds, counted down; 0 when it is over. */
export function useCountdown(untilMs: number | null): number {
  const left = () => Math.max(0, Math.ceil(((untilMs ?? 0) - Date.now()) / 1000));
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const isOver = !left();
  useEffect(() => {
    if (isOver) return;
    const timer = setInterval(() => redraw(undefined), 1000);
    return () => clearInterval(timer);
  }, [isOver, untilMs]);
  return left();
}
