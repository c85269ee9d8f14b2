// What one user's client keeps on the device, under one prefix.

import type { Env } from "./env.ts";

export interface Shelf {
  /** What was written as `name`; null for nothing, or nothing readable. */
  read<T>(name: string): Promise<T | null>;
  /** Everything whose name begins with `start`. */
  all<T>(start: string): Promise<T[]>;
  /** Null removes. Answers whether it was done: nothing fails because a storage is full or forbidden. */
  write(name: string, value: unknown): Promise<boolean>;
  /** Removes everything, and lets nothing be written any more. */
  clear(): Promise<void>;
}

export function createShelf({ storage }: Env, prefix: string): Shelf {
  /** Writes still under way, where the storage answers by promises: they happen in order. */
  let writes: Promise<unknown> | null = null;
  let isClosed = false;

  /** At once if nothing is under way: an app may end right after. */
  async function put(write: () => unknown): Promise<boolean> {
    try {
      const done = writes ? writes.then(write) : write();
      if (done instanceof Promise) {
        writes = done.catch(() => {});
        await done;
      }
      return true;
    } catch {
      return false;
    }
  }

  async function get<T>(key: string): Promise<T | null> {
    try {
      await writes;
      return JSON.parse((await storage.get(key)) ?? "null");
    } catch {
      return null;
    }
  }

  async function keys(start: string): Promise<string[]> {
    try {
      await writes;
      return await storage.keys(prefix + start);
    } catch {
      return [];
    }
  }

  return {
    read: (name) => get(prefix + name),
    async all<T>(start: string) {
      const values = await Promise.all((await keys(start)).map((key) => get<T>(key)));
      return values.filter((value) => value !== null);
    },
    async write(name, value) {
      const key = prefix + name;
      return !isClosed && put(() => (value === null ? storage.remove(key) : storage.set(key, JSON.stringify(value))));
    },
    async clear() {
      isClosed = true;
      for (const key of await keys("")) await put(() => storage.remove(key));
    },
  };
}
