// Requests of the user that are tried more than once, and have their effect once.

import type { Answer, Input, Route } from "./api.ts";
import { toAwError } from "./errors.ts";
import type { Host } from "./host.ts";
import type { RequestOptions } from "./http.ts";
import { retryDelay } from "./pace.ts";
import { within } from "./within.ts";

const TRIES = 3;
/** Whoever waits for an answer does not wait longer than this for the next try. */
const MAX_WAIT_MS = 10_000;
const REMEMBERED_MS = 24 * 3_600_000;
const REMEMBERED = 20;

/** Calls `attempt` again while it fails with what may be well in a moment. */
export async function patiently<T>(host: Host, signal: AbortSignal | undefined, attempt: () => Promise<T>): Promise<T> {
  const { env } = host;
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (cause) {
      const error = toAwError(cause);
      const delay = retryDelay(error, tries, env.random());
      if (!error.retryable || error.code === "token" || tries === TRIES || delay > MAX_WAIT_MS) throw error;
      await within(
        env,
        [signal, host.over()],
        delay + 1000,
        () => new Promise<void>((resolve) => void env.timer(resolve, delay)),
      );
    }
  }
}

type Remembered = [what: string, key: string, at: number];

/** Asks for something to be made, once: the same request after a failure has the same key, even after a reload. */
export async function once<R extends Route>(
  host: Host,
  route: R,
  input: Input<R>,
  { signal }: RequestOptions = {},
): Promise<Answer<R>> {
  const { env, shelf, http } = host;
  const what = JSON.stringify([route, input]);
  const now = env.now();
  const others = async () => ((await shelf.read<Remembered[]>("once")) ?? []).filter(([other]) => other !== what);
  const kept = (await shelf.read<Remembered[]>("once"))?.find(
    ([other, , at]) => other === what && now - at < REMEMBERED_MS,
  );
  const key = kept?.[1] ?? env.uuid();
  const entry: Remembered = [what, key, kept?.[2] ?? now];
  await shelf.write("once", [...(await others()), entry].slice(-REMEMBERED));
  const forget = async () => {
    const left = await others();
    await shelf.write("once", left.length ? left : null);
  };
  try {
    const { data } = await patiently(host, signal, () => http.request(route, input, { signal, key }));
    await forget();
    return data;
  } catch (error) {
    if (!toAwError(error).retryable && toAwError(error).code !== "aborted") await forget();
    throw error;
  }
}
