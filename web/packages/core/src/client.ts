// The client: puts the parts together.

import type { Conversation, ServerConfig } from "./api.ts";
import { browser } from "./browser.ts";
import { type Connection, createGate } from "./connection.ts";
import type { Env } from "./env.ts";
import { AwError, aborted } from "./errors.ts";
import type { BeginRequest, Extras } from "./extras.ts";
import type {
  Abortable,
  Complaints,
  Csat,
  Devices,
  DiagnosticsLog,
  Settings,
  SettingsState,
  Tickets,
} from "./feedback.ts";
import type { Files } from "./files.ts";
import type { AwEvents, Host, TabNews } from "./host.ts";
import { createHttp } from "./http.ts";
import { type Conversations, createList, type Unread } from "./list.ts";
import type { Outbox, Post } from "./outbox.ts";
import { TRANSPORT, type Transport } from "./pace.ts";
import { createSession, type GetToken } from "./session.ts";
import { createShelf } from "./shelf.ts";
import { type Resource, Store, tell, type Undo } from "./store.ts";
import { createDraft, createThread, type Draft, type Thread, type ThreadModel } from "./thread.ts";

export interface AwChatOptions {
  /** The server's address, without a path: `https://support.example.com`. */
  serverUrl: string;
  /** The only way to give a token. It is asked when there is none, shortly before one ends, and when one is refused. */
  getToken: GetToken;
  /** Names the user on this device: what is kept is kept apart by it. Another user is another client. */
  userScope: string;
  /** Where it runs; a browser unless said otherwise. */
  env?: Env;
  transport?: Partial<Transport>;
}

export interface AwChat {
  readonly conversations: Conversations;
  readonly unread: Resource<Unread>;
  readonly connection: Resource<Connection>;
  /** The text of a conversation that is not begun yet. */
  readonly draft: Draft;
  readonly files: Files;
  readonly tickets: Tickets;
  readonly csat: Csat;
  readonly complaints: Complaints;
  readonly settings: Settings;
  readonly devices: Devices;
  readonly diagnostics: DiagnosticsLog;
  /** Begins to work: nothing is asked before. Also after `stop`, and to try again when the user has signed in anew. */
  start(): Promise<void>;
  /** Ends all requests and timers; what is kept stays. */
  stop(): void;
  /**
   * Unregisters the device, and forgets the user: here, on the device, and in the other tabs. The client is of no use
   * afterwards. `unregistered` is false where the server could not be told: then let the push token itself expire.
   */
  logout(): Promise<{ unregistered: boolean }>;
  /** Looks at once: call it when a notice arrives. */
  wake(): void;
  /** Starts a conversation. Repeated after a failure, the same request starts it once. */
  begin(request: BeginRequest, options?: Abortable): Promise<Thread>;
  /** The conversation with that id: always the same object. */
  thread(id: string): Thread;
  /** Topics, categories and limits; the defaults where a server does not tell. */
  config(options?: Abortable): Promise<ServerConfig>;
  on<N extends keyof AwEvents>(event: N, listener: (event: AwEvents[N]) => void): Undo;
}

type Listener = [name: keyof AwEvents, listener: (event: unknown) => void];

const LOGOUT_MS = 5000;
const NO_SETTINGS: SettingsState = { status: "idle", error: null, value: null };

/** `load`, called once however often it is asked for; again after a failure. */
function onceLoaded<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | null = null;
  return () => {
    loading ??= load().catch((cause) => {
      loading = null;
      throw new AwError("network", "a part could not be loaded", { cause });
    });
    return loading;
  };
}

/** A client of one user. It does nothing until `start`. Several can live side by side. */
export function createAwChat(options: AwChatOptions): AwChat {
  const env = options.env ?? browser();
  const name = `awchat:${encodeURIComponent(options.userScope)}:`;
  const transport = { ...TRANSPORT, ...options.transport };
  const listeners = new Set<Listener>();
  const threads = new Map<string, ThreadModel>();
  const seen = new Set<string>();
  const shelf = createShelf(env, name);
  // What cannot be shared is sent by the tab that has it.
  const outboxLock = `${name}outbox${env.storage.shared ? "" : env.uuid()}`;
  const session = createSession(env, options.getToken);
  const gate = createGate(env);
  let over = new AbortController();
  let isRunning = false;
  let isEnded = false;
  let isFront = true;
  let hiddenSince: number | null = null;
  let channel: { post(message: unknown): void; close(): void } | null = null;
  let offChange: Undo = () => {};
  let outbox: Outbox | null = null;

  const http = createHttp(env, session, options.serverUrl, () => over.signal, gate.heard);

  const post: Post = {
    async reply({ key, conversationId, text, attachmentIds }, signal) {
      const body = { body: text, ...(attachmentIds.length && { attachmentIds }) };
      const path = { id: conversationId };
      return (await http.request("POST /api/conversations/{id}/reply", { path, body }, { signal, key })).data;
    },
    blockedMs: gate.blockedMs,
    delivered: (item, message) => thread(item.conversationId).delivered(item, message),
    changed: (id) => threads.get(id)?.changed(),
    tell: (news) => host.tell({ kind: "outbox", news }),
  };

  // Two parts come when they are needed: what sends messages, and what is beside the conversations.
  const sender = onceLoaded(async () => {
    outbox ??= (await import("./outbox.ts")).createOutbox(env, shelf, post);
    if (isRunning) await outbox.start(outboxLock);
    return outbox;
  });
  const extras = onceLoaded(async () => (await import("./extras.ts")).createExtras(host, settings));

  const host: Host = {
    env,
    http,
    shelf,
    gate,
    outbox: () => outbox,
    sender,
    transport,
    longPolls: false,
    name,
    over: () => over.signal,
    isRunning: () => isRunning,
    hiddenSince: () => hiddenSince,
    emit(event, value) {
      tell(
        [...listeners].flatMap(([name, listener]) => (name === event ? listener : [])),
        value,
      );
    },
    seen(conversationId, message, isNew) {
      if (seen.has(message.id)) return;
      seen.add(message.id);
      if (isNew) host.emit("message", { conversationId, message });
    },
    noted: (id, fields) => list.note(id, fields),
    tell: (news) => channel?.post(news),
  };

  const list = createList(host);
  const settings = new Store<SettingsState>(NO_SETTINGS);
  const draft = createDraft(host, "", () => {});

  function thread(id: string): ThreadModel {
    const known = threads.get(id) ?? createThread(host, id);
    threads.set(id, known);
    return known;
  }

  /** The methods of a part that is not loaded yet. All of them answer promises. */
  function later<K extends keyof Extras>(part: K, ...names: (keyof Extras[K])[]): Extras[K] {
    type Method = (...args: unknown[]) => unknown;
    const method =
      (name: keyof Extras[K]) =>
      async (...args: unknown[]) =>
        ((await extras())[part][name] as Method)(...args);
    return Object.fromEntries(names.map((name) => [name, method(name)])) as Extras[K];
  }

  function hear(news: TabNews): void {
    if (news.kind === "page") threads.get(news.id)?.hear(news.page);
    else if (news.kind === "list") list.hear(news.answer, news.asked);
    else if (news.kind === "outbox") outbox?.hear(news.news);
    else void forget();
  }

  function changed(): void {
    const isVisible = env.visible();
    hiddenSince = isVisible ? null : (hiddenSince ?? env.now());
    const wasFront = isFront;
    isFront = isVisible && env.online();
    // What is under way may hang on a connection that died meanwhile.
    if (isFront && !wasFront) wake(true);
  }

  function wake(dead: boolean): void {
    if (!isRunning) return;
    session.retry();
    gate.unlock();
    list.hurry(dead);
    for (const thread of threads.values()) thread.hurry(dead);
    outbox?.flush();
  }

  async function start(): Promise<void> {
    if (isEnded) throw aborted();
    if (isRunning) return wake(false);
    isRunning = true;
    over = new AbortController();
    session.retry();
    gate.unlock();
    const { tabs } = env;
    if (typeof tabs !== "string") channel = tabs.channel(name, (news) => hear(news as TabNews));
    offChange = env.onChange(changed);
    changed();
    isFront = env.visible() && env.online();
    for (const thread of threads.values()) thread.start();
    await list.start();
    // What an earlier run has left is sent even if nobody looks.
    if (outbox) await outbox.start(outboxLock);
    else if ((await shelf.all("out:")).length) await sender();
  }

  function stop(): void {
    if (!isRunning) return;
    isRunning = false;
    list.stop();
    outbox?.stop();
    for (const thread of threads.values()) thread.stop();
    offChange();
    channel?.close();
    channel = null;
    over.abort();
  }

  /** Everything of the user, here and on the device. */
  async function forget(): Promise<void> {
    isEnded = true;
    stop();
    over.abort();
    session.forget();
    await shelf.clear();
    outbox?.forget();
    list.forget();
    settings.set(NO_SETTINGS);
    draft.set("");
    for (const thread of threads.values()) thread.forget();
    threads.clear();
    seen.clear();
    gate.state.set({ status: "unauthorized", until: null });
  }

  async function logout(): Promise<{ unregistered: boolean }> {
    isEnded = true;
    host.tell({ kind: "logout" });
    stop();
    // For one last request.
    over = new AbortController();
    const cancel = env.timer(() => over.abort(), LOGOUT_MS);
    const told = (await shelf.read("device")) ? devices.unregister() : Promise.resolve();
    const unregistered = await told.then(
      () => true,
      () => false,
    );
    cancel();
    await forget();
    return { unregistered };
  }

  function begun(conversation: Conversation, asked: number): Thread {
    const model = thread(conversation.id);
    list.begun(conversation);
    model.hear({ since: null, asked, answer: conversation });
    return model;
  }

  list.unread.subscribe((unread) => host.emit("unread", unread));
  let before = gate.state.get().status;
  gate.state.subscribe((connection) => {
    host.emit("connection", connection);
    const { status } = connection;
    // Signed in again, by a request of the user's: all goes on. Well again: what waits is sent without waiting longer.
    if (status === "online" && before === "unauthorized") wake(false);
    else if (status === "online" && isRunning) outbox?.flush();
    before = status;
  });

  const devices = later("devices", "register", "unregister");
  const csat = later("csat", "rate");
  return {
    conversations: { ...list.state, open: list.open, refresh: list.refresh, more: list.more },
    unread: list.unread,
    connection: gate.state,
    draft,
    files: later("files", "upload", "link"),
    tickets: later("tickets", "list", "search", "get", "reply", "clarify"),
    csat: {
      async rate(rating, requestOptions) {
        const rated = await csat.rate(rating, requestOptions);
        if (rating.conversationId) threads.get(rating.conversationId)?.assume({ rated: true });
        return rated;
      },
    },
    complaints: later("complaints", "send"),
    settings: { ...settings, ...later("settings", "refresh", "set") },
    devices,
    diagnostics: later("diagnostics", "send"),
    config: later("server", "config").config,
    start,
    stop,
    logout,
    wake: () => wake(false),
    async begin(request, requestOptions) {
      const asked = env.now();
      const conversation = await later("conversations", "begin").begin(request, requestOptions);
      draft.set("");
      return begun(conversation, asked);
    },
    thread,
    on(event, listener) {
      const own = [event, listener] as unknown as Listener;
      listeners.add(own);
      return () => listeners.delete(own);
    },
  };
}
