// One of the tabs does what need be done only once.

import type { Env } from "./env.ts";
import type { Undo } from "./store.ts";

/**
 * Calls `run` whenever this tab is the one to do what `name` says, and what `run` returned when it no longer is. A tab in
 * front takes it from one behind: browsers let hidden tabs sleep.
 */
export function lead({ tabs, visible, onChange }: Env, name: string, run: () => Undo): Undo {
  if (typeof tabs === "string") return run();
  let leading: Undo | null = null;
  let asking = new AbortController();
  let wasVisible = visible();

  const drop = () => {
    asking.abort();
    leading?.();
    leading = null;
  };
  const ask = async (steal: boolean) => {
    drop();
    const mine = new AbortController();
    asking = mine;
    const release = await tabs.lock(name, steal, mine.signal, () => {
      if (asking === mine && !mine.signal.aborted) void ask(false);
    });
    if (mine.signal.aborted) return release();
    const undo = run();
    leading = () => {
      undo();
      release();
    };
  };

  const off = onChange(() => {
    const isVisible = visible();
    if (isVisible && !wasVisible && !leading) void ask(true);
    wasVisible = isVisible;
  });
  void ask(wasVisible);
  return () => {
    off();
    drop();
  };
}
