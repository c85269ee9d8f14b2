// Which screen is shown, and what is behind it.

import type { Attachment, Resource } from "@aw-chat/core";

export type Route =
  | { screen: "home" | "conversations" | "tickets" | "settings" }
  | { screen: "topic"; main: string }
  | { screen: "begin"; main?: string; sub?: string }
  | { screen: "thread" | "ticket"; id: string }
  | { screen: "viewer"; file: Attachment }
  | { screen: "csat"; conversationId?: string; ticketId?: string }
  | { screen: "complaint"; chatId?: string };

export interface Router extends Resource<readonly Route[]> {
  /** One screen further. */
  push(route: Route): void;
  /** In place of the screen that is shown. */
  replace(route: Route): void;
  /** To where all begins, and from there to `route`. */
  reset(route: Route): void;
  back(): void;
}

const HOME: Route = { screen: "home" };
/** Those of the bar at the bottom: there is no way back from them. */
export const ROOTS = ["home", "conversations", "tickets", "settings"] as const;

export const isRoot = ({ screen }: Route): boolean => (ROOTS as readonly string[]).includes(screen);

export function createRouter(kept: readonly Route[] | null): Router {
  let stack: readonly Route[] = kept?.length ? kept : [HOME];
  const listeners = new Set<(stack: readonly Route[]) => void>();
  const set = (next: readonly Route[]) => {
    stack = next;
    for (const listener of [...listeners]) listener(stack);
  };
  return {
    get: () => stack,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    push: (route) => set([...stack, route]),
    replace: (route) => set([...stack.slice(0, -1), route]),
    reset: (route) => set(isRoot(route) ? [route] : [HOME, route]),
    back: () => set(stack.length > 1 ? stack.slice(0, -1) : stack),
  };
}
