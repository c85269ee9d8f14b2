// What the parts of a client share.

import type { ConversationList, ConversationSummary, Message } from "./api.ts";
import type { Connection, Gate } from "./connection.ts";
import type { Env } from "./env.ts";
import type { AwError } from "./errors.ts";
import type { Http } from "./http.ts";
import type { Unread } from "./list.ts";
import type { Page, Standing } from "./merge.ts";
import type { Outbox, OutboxNews } from "./outbox.ts";
import { jittered, type Transport } from "./pace.ts";
import type { Shelf } from "./shelf.ts";

export interface AwEvents {
  /** A message never seen before, the user's own from elsewhere included. Not those of the first load. */
  message: { conversationId: string; message: Message };
  unread: Unread;
  /** A conversation was opened, closed, snoozed or rated. */
  state: { conversationId: string } & Standing;
  connection: Connection;
  /** What went wrong in the background. */
  error: AwError;
}

/** What tabs tell each other. */
export type TabNews =
  | { kind: "page"; id: string; page: Page }
  | { kind: "list"; answer: ConversationList; asked: number }
  | { kind: "outbox"; news: OutboxNews }
  | { kind: "logout" };

export interface Host {
  readonly env: Env;
  readonly http: Http;
  readonly shelf: Shelf;
  readonly gate: Gate;
  /** Null until `sender` has loaded it. */
  outbox(): Outbox | null;
  sender(): Promise<Outbox>;
  readonly transport: Transport;
  /** The server holds polls back. */
  longPolls: boolean;
  /** What locks and channels are called. */
  readonly name: string;
  /** Aborts when the client is stopped: every request ends with it. */
  over(): AbortSignal;
  /** Whether loops should run at all. */
  isRunning(): boolean;
  /** Since when the app is not in front; null while it is. */
  hiddenSince(): number | null;
  emit<N extends keyof AwEvents>(name: N, event: AwEvents[N]): void;
  /** A message was seen; `isNew` if it was not there at the first load. Emits it once. */
  seen(conversationId: string, message: Message, isNew: boolean): void;
  /** Keeps the list in step with what else was heard of a conversation; null takes it off the list. */
  noted(conversationId: string, fields: Partial<ConversationSummary> | null): void;
  tell(news: TabNews): void;
}

/** When a loop's next turn is: `ms`, or less often where the app is not in front or tabs cannot agree. */
export function nextTurn({ env, transport, hiddenSince }: Host, ms: number): number {
  const since = hiddenSince();
  if (since !== null && env.now() - since >= transport.giveUpHidden) return Number.POSITIVE_INFINITY;
  const delay = since === null ? ms : Math.max(ms, transport.hidden);
  return jittered(env.tabs === "unknown" ? delay * 2 : delay, env.random());
}

/** Until requests may be made again, spread over a second; 0 is now. */
export function blocked({ gate, env }: Host): number {
  const ms = gate.blockedMs();
  return ms > 0 ? ms + env.random() * 1000 : 0;
}
