// One request: its address, its token, its time limit, and what its answer means.

import type { Answer, Input, Route } from "./api.ts";
import type { Env, HttpAnswer, HttpInit } from "./env.ts";
import { AwError, fromAnswer, retryAfterMs, toAwError } from "./errors.ts";
import type { Session } from "./session.ts";
import { within } from "./within.ts";

export interface RequestOptions {
  signal?: AbortSignal;
  /** Idempotency-Key: the same for each try of one thing. */
  key?: string;
  timeoutMs?: number;
}

export interface Reply<T> {
  data: T;
  headers: HttpAnswer["headers"];
}

interface Parameters {
  path?: Record<string, string>;
  query?: Record<string, unknown>;
  body?: unknown;
}

/** Sends, and calls `alive` whenever there is a sign of life: it begins the time limit anew. */
export type Send = (url: string, init: HttpInit, alive: () => void) => Promise<HttpAnswer>;

export interface Http {
  /** One request, and once more with a new token where the server refuses the first. */
  request<R extends Route>(route: R, input: Input<R>, options?: RequestOptions): Promise<Reply<Answer<R>>>;
  /** The same with another body than JSON, and a way to send it of one's own. */
  send<T>(
    route: string,
    input: Parameters,
    options: RequestOptions,
    body: HttpInit["body"],
    send: Send,
  ): Promise<Reply<T>>;
}

const TIMEOUT_MS = 15_000;

/** Every request ends with `over()`; `heard` hears how each went, null for well. */
export function createHttp(
  env: Env,
  session: Session,
  serverUrl: string,
  over: () => AbortSignal,
  heard: (error: AwError | null) => void,
): Http {
  const base = serverUrl.replace(/\/+$/, "");

  function read<T>(status: number, text: string, headers: HttpAnswer["headers"]): Reply<T> {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch {}
    if (status > 299) {
      throw fromAnswer(status, data, retryAfterMs(headers.get("Retry-After"), env.now()), headers.get("X-Request-Id"));
    }
    // An empty 200 is a proxy's, not this server's, and so is a page.
    if (data === undefined && status !== 204) throw new AwError("invalid_answer", "the answer is no JSON", { status });
    return { data: data as T, headers };
  }

  async function send<T>(
    route: string,
    { path = {}, query = {} }: Parameters,
    { signal, key, timeoutMs = TIMEOUT_MS }: RequestOptions,
    body: HttpInit["body"],
    send: Send,
  ): Promise<Reply<T>> {
    const [method = "", template = ""] = route.split(" ");
    // By hand: React Native's URLSearchParams is not whole.
    const parts = Object.entries(query).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${encodeURIComponent(String(value))}`,
    );
    const url = `${base}${template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name] ?? ""))}?${parts.join("&")}`;
    const limits = [signal, over()];
    const attempt = async (isLast: boolean): Promise<Reply<T>> => {
      const token = await within(env, limits, Number.POSITIVE_INFINITY, session.token);
      const headers: Record<string, string> = { Accept: "application/json", Authorization: `Bearer ${token}` };
      if (typeof body === "string") headers["Content-Type"] = "application/json";
      if (key) headers["Idempotency-Key"] = key;
      const [answer, text] = await within(env, limits, timeoutMs, async (signal, alive) => {
        const answer = await send(
          url.replace(/\?$/, ""),
          { method, credentials: "omit", cache: "no-store", headers, body, signal },
          alive,
        );
        return [answer, await answer.text()] as const;
      });
      if (answer.status !== 401 || isLast) return read(answer.status, text, answer.headers);
      session.reject(token);
      return attempt(true);
    };
    try {
      const reply = await attempt(false);
      heard(null);
      return reply;
    } catch (cause) {
      const error = toAwError(cause);
      heard(error);
      throw error;
    }
  }

  return {
    request: (route, input: Parameters, options = {}) =>
      send(route, input, options, input.body === undefined ? undefined : JSON.stringify(input.body), env.fetch),
    send,
  };
}
