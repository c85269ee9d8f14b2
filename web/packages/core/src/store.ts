// Values that can be watched.

/** Undoes what returned it. Calling it twice is harmless. */
export type Undo = () => void;

/** A value that changes over time. Both functions may be passed around without their object. */
export interface Resource<T> {
  /** The value now: the same object until it changes. */
  readonly get: () => T;
  /** Calls `listener` with each new value, until undone. A listener that throws does not disturb the others. */
  readonly subscribe: (listener: (value: T) => void) => Undo;
}

/** Calls all; what one throws surfaces as an uncaught error, after the others were called. */
export function tell<A extends unknown[]>(listeners: Iterable<(...args: A) => void>, ...args: A): void {
  for (const listener of [...listeners]) {
    try {
      listener(...args);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** A resource that its owner sets. */
export class Store<T> implements Resource<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  readonly get = (): T => this.#value;

  readonly subscribe = (listener: (value: T) => void): Undo => {
    const own = (value: T) => listener(value);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  };

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    tell(this.#listeners, value);
  }

  /** Sets some fields; nothing happens where none of them differs. */
  patch(fields: Partial<T>): void {
    const value = this.#value;
    for (const name in fields) {
      if (!Object.is(value[name], fields[name])) {
        this.set({ ...value, ...fields });
        return;
      }
    }
  }
}
