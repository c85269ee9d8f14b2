// The user's conversations, and how much of them is unread.

import type { Conversation, ConversationList, ConversationSummary } from "./api.ts";
import { type AwError, toAwError } from "./errors.ts";
import { type Host, nextTurn } from "./host.ts";
import { createLoop } from "./loop.ts";
import { type Resource, Store, type Undo } from "./store.ts";

export interface ConversationsState {
  /** `error`: nothing to show yet, and the last try failed. What was shown stays `ready`. */
  status: "idle" | "loading" | "ready" | "error";
  /** Why the last try failed. */
  error: AwError | null;
  /** Latest activity first. */
  items: readonly ConversationSummary[];
  hasMore: boolean;
}

export interface Unread {
  total: number;
  /** Of the conversations listed so far, those with unread messages. */
  byConversation: Readonly<Record<string, number>>;
}

/** The list of conversations. */
export interface Conversations extends Resource<ConversationsState> {
  /** Someone looks at it: it is asked for more often, until undone. */
  open(): Undo;
  refresh(signal?: AbortSignal): Promise<void>;
  /** The next page. */
  more(signal?: AbortSignal): Promise<void>;
}

/** The list, and what the client alone may do with it. */
export interface ListModel {
  readonly state: Store<ConversationsState>;
  readonly unread: Store<Unread>;
  start(): Promise<void>;
  stop(): void;
  forget(): void;
  open(): Undo;
  refresh(signal?: AbortSignal): Promise<void>;
  more(signal?: AbortSignal): Promise<void>;
  /** Looks now; `dead`: what is under way may hang. */
  hurry(dead?: boolean): void;
  /** An answer's first page, asked for at `asked`, by this tab or another. */
  hear(answer: ConversationList, asked: number): void;
  /** What else was heard of a conversation; null takes it off the list. */
  note(id: string, fields: Partial<ConversationSummary> | null): void;
  /** A conversation that was begun here. */
  begun(conversation: Conversation): void;
}

const NOTHING: ConversationsState = { status: "idle", error: null, items: [], hasMore: false };
const NONE: Unread = { total: 0, byConversation: {} };

export function createList(host: Host): ListModel {
  const { env, http, shelf, transport } = host;
  const state = new Store(NOTHING);
  const unread = new Store(NONE);
  /** When this client last changed an entry by itself: an answer to an earlier request is older. */
  const touched = new Map<string, number>();
  let cursor: string | null = null;
  let watchers = 0;
  let total = 0;

  function show(items: ConversationSummary[]): void {
    state.set({ status: "ready", error: null, items, hasMore: cursor !== null });
    const isUnread = items.filter((item) => item.unreadCount);
    const value: Unread = {
      total: Math.max(0, total),
      byConversation: Object.fromEntries(isUnread.map((item) => [item.id, item.unreadCount])),
    };
    if (JSON.stringify(value) === JSON.stringify(unread.get())) return;
    unread.set(value);
    void shelf.write("unread", value);
  }

  function hear(answer: ConversationList, asked: number): void {
    const { status, items } = state.get();
    const isNewer = ({ id }: ConversationSummary) => (touched.get(id) ?? -1) >= asked;
    const own = new Map(items.filter(isNewer).map((item) => [item.id, item]));
    total = answer.unreadTotal;
    const page = answer.conversations.map((item) => {
      const mine = own.get(item.id) ?? item;
      total += mine.unreadCount - item.unreadCount;
      return mine;
    });
    for (const { id, lastMessage } of page) if (lastMessage) host.seen(id, lastMessage, status === "ready");
    const listed = new Set(page.map((item) => item.id));
    const last = page.at(-1);
    const others = items.filter((item) => !listed.has(item.id));
    // What would stand on this page and does not is gone, unless it was begun since. What stands on later pages stays.
    const begun = others.filter(isNewer);
    const isLater = (item: ConversationSummary) => answer.nextCursor && last && item.updatedAt <= last.updatedAt;
    const later = others.filter((item) => !isNewer(item) && isLater(item));
    if (!later.length) cursor = answer.nextCursor;
    show([...begun, ...page, ...later]);
  }

  async function refresh(signal?: AbortSignal): Promise<void> {
    const asked = env.now();
    const { status } = state.get();
    const isReady = status === "ready";
    if (!isReady) state.patch({ status: "loading" });
    try {
      const { data } = await http.request("GET /api/conversations", {}, { signal });
      hear(data, asked);
      host.tell({ kind: "list", answer: data, asked });
    } catch (cause) {
      const error = toAwError(cause);
      if (error.code !== "aborted") state.patch(isReady ? { error } : { error, status: "error" });
      else if (!isReady) state.patch({ status });
      throw error;
    }
  }

  const loop = createLoop(
    host,
    "list",
    async (signal, isLeading) => {
      if (!isLeading && state.get().status === "ready") return Number.POSITIVE_INFINITY;
      await refresh(signal);
      return nextTurn(host, watchers ? transport.listOpen : transport.listClosed);
    },
    () => true,
  );

  return {
    state,
    unread,
    async start() {
      loop.start();
      const kept = await shelf.read<Unread>("unread");
      if (kept && state.get().status !== "ready") unread.set(kept);
    },
    stop: loop.stop,
    forget() {
      cursor = null;
      total = 0;
      state.set(NOTHING);
      unread.set(NONE);
    },
    open() {
      watchers += 1;
      if (watchers === 1) loop.hurry();
      let isOpen = true;
      return () => {
        if (isOpen) watchers -= 1;
        isOpen = false;
      };
    },
    refresh,
    async more(signal) {
      const from = cursor;
      if (!from) return;
      const { data } = await http.request("GET /api/conversations", { query: { cursor: from } }, { signal });
      if (cursor !== from) return;
      const { items } = state.get();
      const known = new Set(items.map((item) => item.id));
      cursor = data.nextCursor;
      show([...items, ...data.conversations.filter((item) => !known.has(item.id))]);
    },
    hurry: loop.hurry,
    hear,
    note(id, fields) {
      const { items } = state.get();
      const item = items.find((item) => item.id === id);
      if (!item) return;
      const changed = fields && { ...item, ...fields };
      if (JSON.stringify(changed) === JSON.stringify(item)) return;
      touched.set(id, env.now());
      total += (changed?.unreadCount ?? 0) - item.unreadCount;
      show(items.flatMap((other) => (other === item ? (changed ?? []) : other)));
    },
    begun({ messages: _messages, latestTimestamp: _latest, rating: _rating, ...summary }) {
      touched.set(summary.id, env.now());
      show([summary, ...state.get().items.filter((item) => item.id !== summary.id)]);
    },
  };
}
