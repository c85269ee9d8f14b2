// A list that grows at its end: it stays at the end if it was there, and is never moved under a reader's eyes.

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const NEAR_PX = 48;

export interface Tail {
  area: RefObject<HTMLElement | null>;
  /** How many have come since the reader left the end. */
  unseen: number;
  toEnd(): void;
}

/** `count` is how many there are; `isOwnLast` if the last is the reader's own, who wants to see it. */
export function useTail(count: number, isOwnLast: boolean): Tail {
  const area = useRef<HTMLElement>(null);
  const isAtEnd = useRef(true);
  const seen = useRef(0);
  const [unseen, setUnseen] = useState(0);

  const toEnd = () => {
    area.current?.scrollTo({ top: area.current.scrollHeight });
    isAtEnd.current = true;
    setUnseen(0);
  };

  useLayoutEffect(() => {
    const added = count - seen.current;
    const isFirst = seen.current === 0;
    seen.current = count;
    if (isFirst || isAtEnd.current || (isOwnLast && added > 0)) toEnd();
    else if (added > 0) setUnseen((before) => before + added);
  }, [count]);

  useEffect(() => {
    const { current } = area;
    if (!current) return;
    const onScroll = () => {
      isAtEnd.current = current.scrollHeight - current.scrollTop - current.clientHeight < NEAR_PX;
      if (isAtEnd.current) setUnseen(0);
    };
    // Pictures that arrive, and a keyboard that opens, move the end.
    const observer = new ResizeObserver(() => isAtEnd.current && toEnd());
    observer.observe(current);
    if (current.firstElementChild) observer.observe(current.firstElementChild);
    current.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      current.removeEventListener("scroll", onScroll);
    };
  }, []);

  return { area, unseen, toEnd };
}
