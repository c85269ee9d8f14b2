// When to ask again. Plain numbers in, plain numbers out; all times in milliseconds.

import type { AwError } from "./errors.ts";

export interface Transport {
  /** `auto`: long polls where the server holds them. `poll`: short ones always. */
  mode: "auto" | "poll";
  /** Between short polls of an open conversation. */
  active: number;
  /** What that grows to while nothing comes. */
  idle: number;
  /** Between polls while the app is not in front. */
  hidden: number;
  /** Between looks at the list, while it is open. */
  listOpen: number;
  /** Between looks at the list, while it is not. */
  listClosed: number;
  /** How long to go on when the app is not in front. */
  giveUpHidden: number;
}

export const TRANSPORT: Transport = {
  mode: "auto",
  active: 2500,
  idle: 15_000,
  hidden: 60_000,
  listOpen: 30_000,
  listClosed: 60_000,
  giveUpHidden: 600_000,
};

/** Polls in a row without news that change nothing yet. */
const PATIENT_POLLS = 3;
const BACKOFF_FLOOR_MS = 200;
const BACKOFF_BASE_MS = 1000;
const BACKOFF_CAP_MS = 60_000;

/** Between short polls: the same at first, then half as much again each time nothing has come. */
export function pollDelay(transport: Transport, emptyPolls: number): number {
  return Math.min(transport.idle, transport.active * 1.5 ** Math.max(0, emptyPolls - PATIENT_POLLS + 1));
}

/** So that many clients do not ask in step: 85 % to 115 %. */
export function jittered(ms: number, chance: number): number {
  return ms * (0.85 + 0.3 * chance);
}

/** After the `failures`th failure in a row. What the server asks for is kept to, plus up to a second. */
export function retryDelay(error: AwError, failures: number, chance: number): number {
  if (error.retryAfterMs !== null) return error.retryAfterMs + chance * 1000;
  return BACKOFF_FLOOR_MS + chance * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** failures);
}
