// A limit of time, and an end on demand, for anything that takes long.

import type { Env } from "./env.ts";
import { AwError, aborted, toAwError } from "./errors.ts";
import type { Undo } from "./store.ts";

/**
 * Runs `work` until it ends, one of `signals` aborts, or `limitMs` pass without a call of `alive`. It ends at once, even
 * if `work` ignores the signal it is given. Fails with an `AwError`.
 */
export function within<T>(
  env: Env,
  signals: (AbortSignal | undefined)[],
  limitMs: number,
  work: (signal: AbortSignal, alive: () => void) => T | Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let stopTimer: Undo = () => {};
  let unlisten: Undo = () => {};
  return new Promise<T>((resolve, reject) => {
    const end = (error: AwError) => {
      reject(error);
      controller.abort();
    };
    const stop = () => end(aborted());
    const alive = () => {
      stopTimer();
      if (limitMs < Number.POSITIVE_INFINITY) stopTimer = env.timer(() => end(new AwError("timeout")), limitMs);
    };
    for (const signal of signals) {
      if (signal?.aborted) stop();
      signal?.addEventListener("abort", stop);
    }
    unlisten = () => {
      for (const signal of signals) signal?.removeEventListener("abort", stop);
    };
    alive();
    if (controller.signal.aborted) return;
    (async () => work(controller.signal, alive))().then(resolve, (cause) => reject(toAwError(cause)));
  }).finally(() => {
    stopTimer();
    unlisten();
  });
}
