// The one class of errors, and what a server's answer makes of it.

import type { components } from "./generated/api.ts";

/** What the server says: the table is the schema `Error` of its OpenAPI document. */
export type ServerErrorCode = components["schemas"]["Error"]["error"];

/** What went wrong. All of them, so that a screen can have a text for each. */
export type AwErrorCode =
  | ServerErrorCode
  /** No answer: offline, refused, cut off, or hidden by the browser. */
  | "network"
  /** No answer in time. */
  | "timeout"
  /** The caller's `AbortSignal`, or the client was stopped or logged out. */
  | "aborted"
  /** `getToken` failed, took too long, or gave a token of another user. */
  | "token"
  /** An answer that is not the server's, such as a proxy's page. */
  | "invalid_answer"
  /** A message that could not be sent within a day. */
  | "expired"
  /** Neither text nor file. */
  | "empty"
  | "file_too_large"
  | "file_type"
  | "too_many_files";

export interface AwErrorDetails {
  /** HTTP status; 0 without an answer. */
  status?: number;
  /** How long to wait before the next try, in milliseconds, where the server says so. */
  retryAfterMs?: number | null;
  /** Names the request in the server's log. */
  requestId?: string | null;
  cause?: unknown;
}

/** Every promise of this package that fails, fails with this. `message` is for developers, `code` for programs. */
export class AwError extends Error {
  override readonly name = "AwError";
  readonly code: AwErrorCode;
  readonly status: number;
  readonly retryAfterMs: number | null;
  readonly requestId: string | null;

  constructor(
    code: AwErrorCode,
    message: string = code,
    { status = 0, retryAfterMs = null, requestId = null, cause }: AwErrorDetails = {},
  ) {
    super(message, { cause });
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
    this.requestId = requestId;
  }

  /** Whether the same request may succeed later. */
  get retryable(): boolean {
    return RETRYABLE.includes(this.code);
  }
}

const RETRYABLE: AwErrorCode[] = [
  "network",
  "timeout",
  "token",
  "invalid_answer",
  "conflict",
  "rate_limited",
  "internal_error",
  "service_unavailable",
];

/** Any failure as an `AwError`. */
export function toAwError(error: unknown): AwError {
  return error instanceof AwError
    ? error
    : new AwError("network", String((error as Error)?.message ?? error), { cause: error });
}

export const aborted = (): AwError => new AwError("aborted");

/** `Retry-After` in milliseconds: whole seconds or a date; null where there is none. At most an hour. */
export function retryAfterMs(value: string | null, nowMs: number): number | null {
  if (!value) return null;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), 3_600_000);
}

const CODES: Record<number, ServerErrorCode> = { 401: "unauthorized", 404: "not_found", 429: "rate_limited" };

/** The error that an answer with a status beyond 299 means, whoever wrote its body. */
export function fromAnswer(status: number, body: unknown, retryAfter: number | null, id: string | null): AwError {
  const { error, message = `HTTP ${status}`, requestId = id, retryAfterMs = null } = (body ?? {}) as Partial<Told>;
  const guess = CODES[status] ?? (status > 499 ? "service_unavailable" : "bad_request");
  return new AwError(error ?? guess, message, { status, retryAfterMs: retryAfter ?? retryAfterMs, requestId });
}

/** An error's body, if it is this server's. */
interface Told {
  error: ServerErrorCode;
  message: string;
  requestId: string | null;
  /** For where the header is hidden. */
  retryAfterMs: number | null;
}
