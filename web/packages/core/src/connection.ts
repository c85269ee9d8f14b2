// How things stand with the server, as the last requests have told.

import type { Env } from "./env.ts";
import type { AwError } from "./errors.ts";
import { Store } from "./store.ts";

export interface Connection {
  /**
   * `degraded`: the server answers, but cannot do its work; support is temporarily unavailable. `unauthorized`: no token
   * that the server takes; nothing is asked until `start` or the app comes to the front.
   */
  status: "connecting" | "online" | "degraded" | "offline" | "unauthorized" | "rate_limited";
  /** With `rate_limited`: when it is over, in milliseconds since 1970. */
  until: number | null;
}

/** Without a `Retry-After`, which the server always sends. */
const RATE_LIMIT_MS = 5000;

export interface Gate {
  readonly state: Store<Connection>;
  /** How long no request should be made: 0 is none, infinity until `unlock`. */
  blockedMs(): number;
  unlock(): void;
  heard(error: AwError | null): void;
}

function meaning(error: AwError | null): Connection["status"] {
  if (!error) return "online";
  const { code, status } = error;
  if (code === "rate_limited") return code;
  if (code === "unauthorized" || code === "token") return "unauthorized";
  if (code === "network" || code === "timeout") return "offline";
  return status > 499 || code === "invalid_answer" ? "degraded" : "online";
}

export function createGate(env: Env): Gate {
  const state = new Store<Connection>({ status: "connecting", until: null });
  let untilMs = 0;
  return {
    state,
    blockedMs: () => Math.max(0, untilMs - env.now()),
    unlock() {
      if (untilMs === Number.POSITIVE_INFINITY) untilMs = 0;
    },
    heard(error) {
      if (error?.code === "aborted") return;
      const status = meaning(error);
      const now = env.now();
      if (status === "rate_limited") untilMs = Math.max(untilMs, now + (error?.retryAfterMs ?? RATE_LIMIT_MS));
      // Refused twice, the second time with a new token.
      else if (error?.code === "unauthorized") untilMs = Number.POSITIVE_INFINITY;
      // An answer to an earlier request does not lift a limit. Signed in again, all is well again.
      else if (untilMs > now && untilMs < Number.POSITIVE_INFINITY) return;
      else if (status === "online") untilMs = 0;
      state.patch({ status, until: status === "rate_limited" ? untilMs : null });
    },
  };
}
