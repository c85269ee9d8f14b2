// The names and shapes of the server's answers, and which route gives which, as the document says. Types only.

import type { components, paths } from "./generated/api.ts";

type Schemas = components["schemas"];

export type Message = Schemas["Message"];
export type Author = Schemas["Author"];
export type Attachment = Schemas["Attachment"];
export type Topic = NonNullable<Schemas["Topic"]>;
export type ConversationState = Schemas["State"];
export type ConversationSummary = Schemas["ConversationSummary"];
export type ConversationList = Schemas["ConversationList"];
export type Conversation = Schemas["Conversation"];
export type Rating = Schemas["Rating"];
export type Poll = Schemas["Poll"];

export type TicketStatus = Schemas["TicketStatus"];
export type TicketSummary = Schemas["TicketSummary"];
export type Ticket = Schemas["Ticket"];
export type TicketList = Schemas["TicketList"];
/** Where a question about a ticket went. */
export type Clarified = Schemas["Clarified"];
/** Which notices the user wants. */
export type NotificationSettings = Schemas["NotificationSettings"];

export type UploadedFile = Schemas["UploadedFile"];
/** A signed address of a file. */
export type FileLink = Schemas["FileAddress"];

export interface RatingRequest {
  /** 1 to 5. */
  stars: number;
  comment?: string;
  ticketId?: string;
  conversationId?: string;
}

/** `duplicate`: it had been rated before, and that rating stays. */
export type Rated = { id: string; duplicate: false } | { id: null; duplicate: true };

export type ComplaintCategory = "funds" | "security" | "operator" | "technical" | "other";

export interface ComplaintRequest {
  category: ComplaintCategory;
  /** At least 10 characters. */
  description: string;
  chatId?: string;
  dialogId?: string;
}

export interface DeviceRequest {
  platform: "mobile" | "tma";
  /** The push token; for `tma` the Telegram user's id. */
  token: string;
  initData?: string;
  locale?: string;
}

/** Flat; the server keeps only the keys that it knows. */
export type Diagnostics = Record<string, string | number | boolean | null>;

/** What screens need to know of the server's settings. */
export type ServerConfig = Schemas["ClientConfig"];
/** A topic to pick. A label per language (`en`, `ru`), by its two letters. */
export type TopicChoice = Schemas["TopicChoice"];

type Verb = "get" | "post" | "put" | "delete";

/** `GET /api/conversations` and its like. */
export type Route = {
  [P in keyof paths]: { [V in Verb]: paths[P][V] extends { responses: object } ? `${Uppercase<V>} ${P}` : never }[Verb];
}[keyof paths];

type Operation<R> = R extends `${infer V} ${infer P}`
  ? P extends keyof paths
    ? paths[P][Lowercase<V> & keyof paths[P]]
    : never
  : never;

type Json<T> = T extends { content: { "application/json": infer J } } ? J : undefined;
type Success<T> = T extends { responses: infer S }
  ? { [C in keyof S & (200 | 201 | 204)]: Json<S[C]> }[keyof S & (200 | 201 | 204)]
  : never;
type PathOf<T> = T extends { parameters: { path: infer P } } ? { path: P } : { path?: never };
type QueryOf<T> = T extends { parameters: { query?: infer Q } } ? { query?: Q } : { query?: never };
type BodyOf<T> = T extends { requestBody: { content: { "application/json": infer B } } }
  ? { body: B }
  : T extends { requestBody?: infer Q }
    ? OptionalBody<NonNullable<Q>>
    : { body?: never };
type OptionalBody<Q> = [Q] extends [never]
  ? { body?: never }
  : Q extends { content: { "application/json": infer B } }
    ? { body?: B }
    : { body?: never };

/** What a route takes: parameters of path and query, and the body. */
export type Input<R extends Route> = PathOf<Operation<R>> & QueryOf<Operation<R>> & BodyOf<Operation<R>>;

/** What a route answers when all is well. */
export type Answer<R extends Route> = Success<Operation<R>>;
