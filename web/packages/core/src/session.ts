// The session token: asked for once at a time, renewed before it ends, kept in memory only.

import type { Env } from "./env.ts";
import { AwError } from "./errors.ts";
import { within } from "./within.ts";

export interface TokenRequest {
  /** Why: there is none yet, it ends soon, or the server refuses it. */
  reason: "initial" | "expiring" | "rejected";
  /** Aborts after half a minute, and at `logout`. */
  signal: AbortSignal;
}

/** Gives a session token of the app's signed-in user, from the app's own backend. */
export type GetToken = (request: TokenRequest) => Promise<string> | string;

export interface Session {
  /** A token to send. However many ask at once, `getToken` is called once. */
  token(): Promise<string>;
  /** The server refuses `token`. Whoever heard so of an older one than ours takes ours. */
  reject(token: string): void;
  /** Asks again even shortly after a failure. */
  retry(): void;
  /** For good. */
  forget(): void;
}

const RENEW_BEFORE_MS = 60_000;
const COOLDOWN_MS = 60_000;
const TIMEOUT_MS = 30_000;

/** The claims of a JWT, unchecked; none where they cannot be read: then the server says when the token is over. */
export function claims(token: string): { exp?: number; sub?: string } {
  try {
    return JSON.parse(atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/")));
  } catch {
    return {};
  }
}

export function createSession(env: Env, getToken: GetToken): Session {
  const over = new AbortController();
  let current: string | null = null;
  let reason: TokenRequest["reason"] = "initial";
  let renewAtMs = 0;
  let endsAtMs = 0;
  let coolUntilMs = 0;
  let pending: Promise<string> | null = null;
  let user: string | undefined;

  function accept(token: unknown): string {
    if (typeof token !== "string" || !token) throw new Error("no token");
    const { exp, sub } = claims(token);
    // One client is one user's: what it holds must not be shown to, or sent as, another.
    if (user && sub && sub !== user) throw new Error("a token of another user");
    user = sub ?? user;
    const now = env.now();
    const leftMs = exp ? exp * 1000 - now : Number.POSITIVE_INFINITY;
    // Over already? Then it is this device's clock that is wrong: the server will say when to renew.
    renewAtMs = leftMs > 0 ? now + leftMs - Math.min(RENEW_BEFORE_MS, leftMs / 2) : Number.POSITIVE_INFINITY;
    endsAtMs = now + leftMs;
    reason = "expiring";
    current = token;
    return token;
  }

  async function renew(): Promise<string> {
    const retryAfterMs = coolUntilMs - env.now();
    if (retryAfterMs > 0) throw new AwError("token", "getToken has just failed", { retryAfterMs });
    try {
      return accept(await within(env, [over.signal], TIMEOUT_MS, (signal) => getToken({ reason, signal })));
    } catch (cause) {
      coolUntilMs = env.now() + COOLDOWN_MS;
      throw new AwError(over.signal.aborted ? "aborted" : "token", `getToken: ${(cause as Error).message}`, { cause });
    }
  }

  return {
    async token() {
      const old = current;
      if (old && env.now() < renewAtMs) return old;
      try {
        pending ??= renew().finally(() => {
          pending = null;
        });
        return await pending;
      } catch (error) {
        if (old && old === current && env.now() < endsAtMs) return old;
        throw error;
      }
    },
    reject(token) {
      if (token !== current) return;
      current = null;
      reason = "rejected";
    },
    retry() {
      coolUntilMs = 0;
    },
    forget() {
      over.abort();
      current = null;
    },
  };
}
