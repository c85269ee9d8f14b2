// Something that is asked for again and again, one request at a time.

import { type AwError, toAwError } from "./errors.ts";
import { blocked, type Host } from "./host.ts";
import { lead } from "./lead.ts";
import { retryDelay } from "./pace.ts";
import type { Undo } from "./store.ts";

export interface Loop {
  start(): void;
  stop(): void;
  /** The next turn now, or as soon as this one is over; `dead`: what is under way may hang, and is given up. */
  hurry(dead?: boolean): void;
}

/**
 * `turn` answers in how many milliseconds it wants to be called again; infinity is not by itself. It is told whether this
 * tab is the one that asks for all. When it fails, `failed` says whether to go on, later and later. No turn begins while
 * requests are not to be made.
 */
export function createLoop(
  host: Host,
  name: string,
  turn: (signal: AbortSignal, isLeading: boolean) => Promise<number>,
  failed: (error: AwError) => boolean,
): Loop {
  const { env } = host;
  let controller: AbortController | null = null;
  let cancelTimer: Undo = () => {};
  let unlead: Undo = () => {};
  let isLeading = false;
  let isBusy = false;
  let isAgain = false;
  let failures = 0;

  async function once(signal: AbortSignal): Promise<number> {
    const wait = blocked(host);
    if (wait) return wait;
    try {
      const delay = await turn(signal, isLeading);
      failures = 0;
      return delay;
    } catch (cause) {
      const error = toAwError(cause);
      if (error.code === "aborted" || !failed(error)) return Number.POSITIVE_INFINITY;
      host.emit("error", error);
      failures += 1;
      return Math.max(blocked(host), retryDelay(error, failures, env.random()));
    }
  }

  async function run(): Promise<void> {
    const mine = controller;
    if (!mine || isBusy) return;
    const wasLeading = isLeading;
    cancelTimer();
    isBusy = true;
    isAgain = false;
    const delay = await once(mine.signal);
    if (controller !== mine) return;
    isBusy = false;
    // Waiting for nothing, because it was not this tab's to ask: now it is.
    const isCalled = isLeading !== wasLeading && delay === Number.POSITIVE_INFINITY;
    if (isAgain || isCalled) void run();
    else if (delay < Number.POSITIVE_INFINITY) cancelTimer = env.timer(run, delay);
  }

  function halt(): void {
    controller?.abort();
    controller = null;
    cancelTimer();
    isBusy = false;
  }

  return {
    start() {
      if (controller) return;
      controller = new AbortController();
      unlead = lead(env, host.name + name, () => {
        isLeading = true;
        void run();
        return () => {
          isLeading = false;
        };
      });
      void run();
    },
    stop() {
      halt();
      unlead();
    },
    hurry(dead) {
      if (dead && controller) {
        halt();
        controller = new AbortController();
      }
      isAgain = isBusy;
      void run();
    },
  };
}
