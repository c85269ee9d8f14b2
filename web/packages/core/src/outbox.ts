// Messages on their way: kept before they are sent, sent in order, each until it is known to be delivered or refused.

import type { Message } from "./api.ts";
import type { Env } from "./env.ts";
import { AwError, type AwErrorCode, toAwError } from "./errors.ts";
import { lead } from "./lead.ts";
import { retryDelay } from "./pace.ts";
import type { Shelf } from "./shelf.ts";
import type { Undo } from "./store.ts";

/** A message that the server has not answered for yet, as it is kept on the device. */
export interface Outgoing {
  /** The client's own name for it: the Idempotency-Key of every try. */
  key: string;
  conversationId: string;
  text: string;
  attachmentIds: string[];
  /** The names of its files, to show. */
  fileNames: string[];
  /** Milliseconds; no two messages of a tab have the same. */
  at: number;
  tries: number;
  /** Its files are still being uploaded. Until then this tab alone has it. */
  waiting: boolean;
  failed: { code: AwErrorCode; message: string } | null;
}

/** What the outbox asks of the client. */
export interface Post {
  /** One try. */
  reply(item: Outgoing, signal: AbortSignal): Promise<Message>;
  /** Milliseconds until requests may be made at all: infinity while the user is not signed in. */
  blockedMs(): number;
  /** `item` was delivered as `message`. */
  delivered(item: Outgoing, message: Message): void;
  /** The messages on their way to this conversation have changed. */
  changed(conversationId: string): void;
  /** Tells the other tabs. */
  tell(news: OutboxNews): void;
}

/** That what is kept has changed, and if so by which message's delivery. */
export type OutboxNews = { item: Outgoing; message: Message } | null;

export interface Outbox {
  /** Takes up what an earlier run left, and sends from now on. */
  start(lockName: string): Promise<void>;
  stop(): void;
  forget(): void;
  /** In the order they were written. */
  of(conversationId: string): Outgoing[];
  isSending(item: Outgoing): boolean;
  /** Puts a message at the end. It waits until `uploads` has answered the ids of its files. */
  add(conversationId: string, text: string, fileNames: string[], uploads: Uploads | null): Outgoing;
  /** One that has failed, once more: under the same key, so that it is delivered once even if it had been. */
  retry(key: string): void;
  discard(key: string): void;
  /** Tries now what can be tried. */
  flush(): void;
  /** What another tab tells. */
  hear(news: OutboxNews): void;
}

/** Brings a message's files to the server; answers their ids. */
export type Uploads = () => Promise<string[]>;

const MAX_AGE_MS = 24 * 3_600_000;

export function createOutbox(env: Env, shelf: Shelf, post: Post): Outbox {
  let items: Outgoing[] = [];
  let leading: AbortController | null = null;
  let alive: AbortController | null = null;
  let stopLeading: Undo | null = null;
  let lastAt = 0;
  /** The request under way, and the timer until the next, by conversation. */
  const sending = new Map<string, string>();
  const resting = new Map<string, Undo>();
  const uploading = new Map<string, Uploads>();
  /** What only this tab has: files are on their way, or the device would not keep it. */
  const own = new Set<string>();

  const find = (key: string) => items.find((item) => item.key === key);

  function replace(key: string, item: Outgoing | null): void {
    const old = find(key);
    items = items.filter((other) => other !== old);
    if (item) items.push(item);
    items.sort((a, b) => a.at - b.at);
    const id = (item ?? old)?.conversationId;
    if (id) post.changed(id);
  }

  /** On the device first; then it is everybody's. */
  async function keep(item: Outgoing): Promise<void> {
    replace(item.key, item);
    if (item.waiting || !(await shelf.write(`out:${item.key}`, item))) own.add(item.key);
    else own.delete(item.key);
    post.tell(null);
    pump(item.conversationId);
  }

  function change(key: string, fields: Partial<Outgoing>): void {
    const item = find(key);
    if (item) void keep({ ...item, ...fields });
  }

  function drop(key: string): void {
    replace(key, null);
    void shelf.write(`out:${key}`, null);
  }

  const fail = (key: string, { code, message }: AwError) => change(key, { waiting: false, failed: { code, message } });

  function upload(key: string, uploads: Uploads): void {
    uploading.set(key, uploads);
    uploads().then(
      (attachmentIds) => {
        uploading.delete(key);
        change(key, { waiting: false, attachmentIds });
      },
      (error) => fail(key, toAwError(error)),
    );
  }

  /** Reads what all tabs have kept. What has changed here meanwhile is newer. */
  async function reload(): Promise<void> {
    const before = new Map(items.map((item) => [item.key, item]));
    const kept = await shelf.all<Outgoing>("out:");
    const isNewer = ({ key }: Outgoing) => own.has(key) || find(key) !== before.get(key);
    items = [...kept.filter((item) => !isNewer(item)), ...items.filter(isNewer)].sort((a, b) => a.at - b.at);
    for (const { conversationId } of [...before.values(), ...items]) post.changed(conversationId);
  }

  function wakeAll(): void {
    for (const undo of resting.values()) undo();
    resting.clear();
  }

  function rest(id: string, ms: number): void {
    const undo = env.timer(() => {
      resting.delete(id);
      pump(id);
    }, ms);
    resting.set(id, undo);
  }

  /** Sends the first message to this conversation, and after it the others. */
  function pump(id: string): void {
    const item = items.find((item) => item.conversationId === id && !item.failed);
    // What only this tab has, only this tab can send.
    const mine = leading ?? (item && own.has(item.key) ? alive : null);
    if (!mine || !item || item.waiting || sending.has(id) || resting.has(id)) return;
    const blockedMs = post.blockedMs();
    if (env.now() - item.at > MAX_AGE_MS) fail(item.key, new AwError("expired"));
    else if (blockedMs > 0) rest(id, blockedMs);
    else void send(id, { ...item, tries: item.tries + 1 }, mine.signal);
  }

  async function send(id: string, item: Outgoing, signal: AbortSignal): Promise<void> {
    sending.set(id, item.key);
    replace(item.key, item);
    await shelf.write(`out:${item.key}`, item);
    try {
      const message = await post.reply(item, signal);
      drop(item.key);
      post.delivered(item, message);
      post.tell({ item, message });
    } catch (cause) {
      const error = toAwError(cause);
      // Once aborted it is no longer ours: whoever leads now goes on, with the same key.
      if (!signal.aborted) {
        if (error.retryable || error.code === "unauthorized") rest(id, retryDelay(error, item.tries, env.random()));
        else fail(item.key, error);
      }
    }
    sending.delete(id);
    post.changed(id);
    pump(id);
  }

  function flush(): void {
    wakeAll();
    for (const { conversationId } of items) pump(conversationId);
  }

  function stop(): void {
    stopLeading?.();
    stopLeading = null;
    alive?.abort();
    alive = null;
    wakeAll();
  }

  return {
    start(lockName) {
      alive ??= new AbortController();
      stopLeading ??= lead(env, lockName, () => {
        const mine = new AbortController();
        void reload().then(() => {
          if (mine.signal.aborted) return;
          leading = mine;
          flush();
        });
        return () => {
          mine.abort();
          leading = null;
          wakeAll();
        };
      });
      return reload();
    },
    stop,
    forget() {
      stop();
      for (const { key } of items) replace(key, null);
    },
    of: (id) => items.filter((item) => item.conversationId === id),
    isSending: ({ conversationId, key }) => sending.get(conversationId) === key,
    add(conversationId, text, fileNames, uploads) {
      lastAt = Math.max(env.now(), lastAt + 1);
      const waiting = uploads !== null;
      const key = env.uuid();
      const item = {
        key,
        conversationId,
        text,
        attachmentIds: [],
        fileNames,
        at: lastAt,
        tries: 0,
        waiting,
        failed: null,
      };
      void keep(item);
      if (uploads) upload(key, uploads);
      return item;
    },
    retry(key) {
      const item = find(key);
      if (!item?.failed) return;
      const uploads = uploading.get(key);
      // One that has expired gets half of its time again.
      change(key, { failed: null, waiting: Boolean(uploads), at: Math.max(item.at, env.now() - MAX_AGE_MS / 2) });
      if (uploads) upload(key, uploads);
    },
    discard(key) {
      const id = find(key)?.conversationId;
      drop(key);
      post.tell(null);
      if (id) pump(id);
    },
    flush,
    hear(news) {
      if (news) {
        replace(news.item.key, null);
        post.delivered(news.item, news.message);
      } else void reload().then(flush);
    },
  };
}
