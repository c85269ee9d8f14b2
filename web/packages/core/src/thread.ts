// One conversation as a screen shows it: what the server has, and what is on its way there.

import type { Conversation, Message } from "./api.ts";
import { AwError, type AwErrorCode } from "./errors.ts";
import type { Upload } from "./files.ts";
import { type Host, nextTurn } from "./host.ts";
import { createLoop } from "./loop.ts";
import { createMerged, type Page, type Standing } from "./merge.ts";
import type { Outbox, Outgoing } from "./outbox.ts";
import { pollDelay } from "./pace.ts";
import { type Resource, Store, type Undo } from "./store.ts";

/** A message as it is shown. One object until it changes. */
export interface ThreadMessage extends Message {
  /** Names it on the screen: the same while a message of one's own is on its way and after. For `retry` and `discard`. */
  readonly key: string;
  readonly delivery: "sent" | "queued" | "sending" | "failed";
  /** Why it has failed. */
  readonly error: { code: AwErrorCode; message: string } | null;
  /** The files that go with a message that is not `sent`; then they are `attachments`. */
  readonly fileNames: readonly string[];
}

export interface ThreadState extends Standing, Pick<Conversation, "topic" | "rating"> {
  /** `gone`: there is no such conversation. `error`: it could not be loaded yet; it is tried again by itself. */
  status: "idle" | "loading" | "ready" | "error" | "gone";
  /** Why the last try failed. */
  error: AwError | null;
  /** Oldest first; those on their way at the end. */
  messages: readonly ThreadMessage[];
}

export interface Draft extends Resource<string> {
  /** Kept on the device until it is sent. */
  readonly set: (text: string) => void;
}

export interface Thread {
  readonly id: string;
  readonly state: Resource<ThreadState>;
  readonly draft: Draft;
  /** Someone looks at it: it is loaded and kept up to date until undone by all who opened it. */
  readonly open: () => Undo;
  /**
   * Sends a text, files, or both, and empties the draft. It is shown and kept on the device at once, and sent as soon as
   * can be. Throws `empty` where there is nothing to send.
   */
  readonly send: (content: { text?: string; uploads?: readonly Upload[] }) => void;
  /** Tries a message that has failed once more. It arrives once, even if it had arrived. */
  readonly retry: (key: string) => void;
  /** Gives up a message that has not been sent. */
  readonly discard: (key: string) => void;
  readonly markRead: () => Promise<void>;
  /** Ends the conversation. `csatPrompt`: ask for a rating now. */
  readonly close: () => Promise<{ csatPrompt: boolean }>;
  readonly refresh: (signal?: AbortSignal) => Promise<void>;
}

/** A thread, and what the client alone may do with it. */
export interface ThreadModel extends Thread {
  start(): void;
  stop(): void;
  /** Looks now; `dead`: what is under way may hang. */
  hurry(dead?: boolean): void;
  /** An answer that this tab or another has got. */
  hear(page: Page): void;
  delivered(item: Outgoing, message: Message): void;
  /** Shows what this user has just done, until the server says how it stands. */
  assume(standing: Partial<Standing>): void;
  /** Makes what is shown of what is known. */
  changed(): void;
  forget(): void;
}

const WAIT_S = 25;
const LONG_TIMEOUT_MS = 35_000;
/** A long poll that ends earlier without news was not held. */
const HELD_MS = 1000;
/** How far the clocks of device and server may be apart. */
const SKEW_S = 300;

export function createThread(host: Host, id: string): ThreadModel {
  const { env, http, transport } = host;
  const path = { id };
  const state = new Store<ThreadState>({
    status: "idle",
    error: null,
    messages: [],
    state: "open",
    snoozedUntil: null,
    rated: false,
    unreadCount: 0,
    topic: null,
    rating: null,
  });
  let merged = createMerged();
  /** The keys of the messages sent from here, by id. */
  const keys = new Map<string, string>();
  const shown = new WeakMap<object, ThreadMessage>();
  let opened = 0;
  /** What another tab has heard does not join what this one has. */
  let isBehind = false;
  let emptyPolls = 0;

  /** One object as long as nothing differs. */
  function show(source: Message | Outgoing, message: ThreadMessage): ThreadMessage {
    const old = shown.get(source);
    if (old?.key === message.key && old.delivery === message.delivery) return old;
    shown.set(source, message);
    return message;
  }

  const showSent = (message: Message) =>
    show(message, {
      ...message,
      key: keys.get(message.id) ?? message.id,
      delivery: "sent",
      error: null,
      fileNames: [],
    });

  const showOutgoing = (item: Outgoing) =>
    show(item, {
      id: item.key,
      key: item.key,
      author: { type: "user", name: null, avatarUrl: null },
      body: item.text,
      html: "",
      attachments: [],
      createdAt: Math.floor(item.at / 1000),
      redacted: false,
      delivery: item.failed ? "failed" : host.outbox()?.isSending(item) ? "sending" : "queued",
      error: item.failed,
      fileNames: item.fileNames,
    });

  /** Polled before the answer to sending it came: it is shown once, as what was polled. */
  const hasArrived = ({ tries, failed, text, at }: Outgoing): boolean =>
    tries > 0 &&
    !failed &&
    merged.messages.some(
      ({ id, author, body, createdAt }) =>
        author.type === "user" && body.trim() === text.trim() && createdAt >= at / 1000 - SKEW_S && !keys.has(id),
    );

  function changed(fields: Partial<ThreadState> = {}): void {
    const { standing, details } = merged;
    const old = state.get();
    const waiting = (host.outbox()?.of(id) ?? []).filter((item) => !hasArrived(item));
    const all = [...(details ? merged.messages.map(showSent) : []), ...waiting.map(showOutgoing)];
    const isSame = old.messages.length === all.length && all.every((message, i) => message === old.messages[i]);
    const ready = details && old.status !== "gone" && ({ status: "ready", ...standing, ...details } as const);
    state.patch({ ...fields, messages: isSame ? old.messages : all, ...ready });
  }

  /** Keeps the list in step. */
  function note(standing: Partial<Standing>): void {
    const lastMessage = merged.messages.at(-1);
    host.noted(id, lastMessage ? { ...standing, lastMessage } : standing);
  }

  function hear(page: Page): void {
    const wasLoaded = merged.details !== null;
    const before = state.get();
    for (const message of merged.page(page)) host.seen(id, message, wasLoaded);
    isBehind = merged.details !== null && merged.cursor < page.answer.latestTimestamp;
    if (isBehind) loop.hurry();
    changed({ error: null });
    const { standing } = merged;
    if (!standing || !wasLoaded) return;
    note(standing);
    if ((["state", "snoozedUntil", "rated"] as const).some((name) => before[name] !== standing[name])) {
      host.emit("state", { conversationId: id, ...standing });
    }
  }

  /** What this tab has got, for all tabs. */
  function publish(page: Page): void {
    hear(page);
    host.tell({ kind: "page", id, page });
  }

  async function refresh(signal?: AbortSignal): Promise<void> {
    const asked = env.now();
    const { data } = await http.request("GET /api/conversations/{id}", { path }, { signal });
    publish({ since: null, asked, answer: data });
  }

  function assume(standing: Partial<Standing>): void {
    merged.assume(standing, env.now());
    changed();
    note(standing);
  }

  /** One poll; answers when to ask again. */
  async function poll(signal: AbortSignal): Promise<number> {
    const asked = env.now();
    const since = merged.cursor;
    const mayWait = transport.mode === "auto" && host.hiddenSince() === null && !isBehind;
    const isLong = mayWait && host.longPolls;
    const query = { since, wait: isLong ? WAIT_S : undefined };
    const timeoutMs = isLong ? LONG_TIMEOUT_MS : undefined;
    const { data, headers } = await http.request(
      "GET /api/conversations/{id}/poll",
      { path, query },
      { signal, timeoutMs },
    );
    host.longPolls = headers.get("AW-Poll") === "long";
    const hasNews = data.latestTimestamp > since;
    emptyPolls = hasNews ? 0 : emptyPolls + 1;
    publish({ since, asked, answer: data });
    const wasHeld = isLong && (hasNews || env.now() - asked >= HELD_MS);
    const isDiscovered = mayWait && host.longPolls && !isLong;
    return wasHeld || isDiscovered ? 0 : nextTurn(host, pollDelay(transport, emptyPolls));
  }

  const loop = createLoop(
    host,
    `thread:${id}`,
    async (signal, isLeading) => {
      if (merged.details) return isLeading || isBehind ? poll(signal) : Number.POSITIVE_INFINITY;
      await refresh(signal);
      return 0;
    },
    (error) => {
      const isGone = error.code === "not_found";
      if (isGone) host.noted(id, null);
      state.patch({ error, ...(isGone ? { status: "gone" } : merged.details ? {} : { status: "error" }) });
      return !isGone;
    },
  );

  function start(): void {
    if (!opened || !host.isRunning()) return;
    if (!merged.details) state.patch({ status: "loading" });
    loop.start();
  }

  function hurry(dead?: boolean): void {
    emptyPolls = 0;
    loop.hurry(dead);
  }

  /** The user is at work here: short polls are frequent again. */
  function active(): void {
    if (emptyPolls > 2) hurry();
    emptyPolls = 0;
  }

  const draft = createDraft(host, id, active);
  changed();

  return {
    id,
    state,
    draft,
    open() {
      opened += 1;
      start();
      void host.sender().catch((error) => host.emit("error", error));
      let isOpen = true;
      return () => {
        if (!isOpen) return;
        isOpen = false;
        opened -= 1;
        if (!opened) loop.stop();
      };
    },
    send({ text = "", uploads = [] }) {
      if (!text.trim() && !uploads.length) throw new AwError("empty");
      const uploaded = async () => {
        // One that has failed begins again: this is also what `retry` does.
        for (const upload of uploads) upload.retry();
        return (await Promise.all(uploads.map((upload) => upload.done))).map((file) => file.id);
      };
      const names = uploads.map((upload) => upload.name);
      const add = (outbox: Outbox) => {
        outbox.add(id, text, names, uploads.length ? uploaded : null);
        draft.set("");
        active();
      };
      const outbox = host.outbox();
      if (outbox) return add(outbox);
      // Until it is taken, the device keeps it as the draft.
      draft.set(text);
      host.sender().then(add, (error) => host.emit("error", error));
    },
    retry: (key) => host.outbox()?.retry(key),
    discard: (key) => host.outbox()?.discard(key),
    async markRead() {
      const { unreadCount } = state.get();
      if (!unreadCount && merged.details) return;
      assume({ unreadCount: 0 });
      try {
        await http.request("POST /api/conversations/{id}/read", { path });
        assume({ unreadCount: 0 });
      } catch (error) {
        assume({ unreadCount });
        throw error;
      }
    },
    async close() {
      const { data } = await http.request("POST /api/conversations/{id}/close", { path });
      assume({ state: "closed", snoozedUntil: null });
      return { csatPrompt: data.csatPrompt };
    },
    refresh,
    start,
    stop: loop.stop,
    hurry,
    hear,
    delivered(item, message) {
      keys.set(message.id, item.key);
      merged.sent(message);
      host.seen(id, message, false);
      // A reply opens a closed conversation again; the next poll says how it stands.
      assume({ state: "open", snoozedUntil: null });
      hurry();
    },
    assume,
    changed,
    forget() {
      loop.stop();
      merged = createMerged();
      state.patch({ status: "gone", messages: [] });
    },
  };
}

/** A text that survives a reload, under the conversation's id, or an empty one for what is not begun yet. */
export function createDraft(host: Host, id: string, onTyped: () => void): Draft {
  const text = new Store("");
  void host.shelf.read<string>(`draft:${id}`).then((kept) => {
    // Typed already? Then that counts.
    text.set(text.get() || (kept ?? ""));
  });
  return {
    get: text.get,
    subscribe: text.subscribe,
    set(value) {
      if (value === text.get()) return;
      text.set(value);
      void host.shelf.write(`draft:${id}`, value || null);
      if (value) onTyped();
    },
  };
}
