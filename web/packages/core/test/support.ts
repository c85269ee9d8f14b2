// A server to test against: it keeps the contract that the client relies on, and nothing more.

import { type AwChat, type AwChatOptions, createAwChat, type Message } from "../src/index.ts";
import {
  createTestWorld,
  type TestAnswer,
  type TestEnv,
  type TestEnvOptions,
  type TestRequest,
  type TestServer,
  type TestWorld,
} from "../src/testing.ts";

// What is loaded later is here already: a made-up clock does not wait for a disk.
await Promise.all([import("../src/outbox.ts"), import("../src/extras.ts")]);

/** An unsigned JWT. */
export function jwt(claims: { exp?: number; sub?: string }): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.signature`;
}

interface Kept {
  id: string;
  state: "open" | "closed" | "snoozed";
  position: number;
  unreadCount: number;
  rated: boolean;
  messages: (Message & { position: number })[];
}

/** Conversations in memory, with positions, and answers remembered by `Idempotency-Key`. */
export class FakeServer {
  readonly conversations = new Map<string, Kept>();
  readonly answers = new Map<string, TestAnswer>();
  readonly #now: () => number;
  #ids = 1000;
  longPolls = false;
  /** Says what goes wrong with a request; nothing where it answers undefined. */
  fault: (request: TestRequest) => TestAnswer | undefined = () => undefined;
  /** Further routes. */
  extra: (request: TestRequest) => TestAnswer | undefined = () => undefined;

  constructor(world: TestWorld) {
    this.#now = () => Math.floor(world.now() / 1000);
  }

  begin(id = String(++this.#ids)): Kept {
    const kept: Kept = { id, state: "open", position: this.#now(), unreadCount: 0, rated: false, messages: [] };
    this.conversations.set(id, kept);
    return kept;
  }

  /** Puts a message at the conversation's next position. */
  says(id: string, body: string, type: "user" | "operator" = "operator"): Message {
    const kept = this.#kept(id);
    kept.position = Math.max(this.#now(), kept.position + 1);
    if (type === "operator") kept.unreadCount += 1;
    const message = {
      id: String(++this.#ids),
      author: { type, name: null, avatarUrl: null },
      body,
      html: `<p>${body}</p>`,
      attachments: [],
      createdAt: this.#now(),
      redacted: false,
    } as const;
    kept.messages.push({ ...message, attachments: [], position: kept.position });
    return { ...message, attachments: [] };
  }

  bodies(id: string): string[] {
    return this.#kept(id).messages.map((message) => message.body);
  }

  readonly answer: TestServer = (request) => this.fault(request) ?? this.handle(request);

  /** What it does when nothing goes wrong. */
  handle(request: TestRequest): TestAnswer {
    const { method, path, headers } = request;
    const key = headers["Idempotency-Key"];
    const name = key && `${method} ${path} ${key}`;
    const before = name && this.answers.get(name);
    if (before) return before;
    const answer = this.extra(request) ?? this.#route(request);
    if (name && typeof answer === "object" && (answer.status ?? 200) < 300) this.answers.set(name, answer);
    return answer;
  }

  #route({ method, path, query, body }: TestRequest): TestAnswer {
    const [, , noun, id, verb] = path.split("/");
    if (noun !== "conversations") return problem(404, "not_found");
    if (!id && method === "GET") return { body: this.#list(query) };
    if (!id) {
      const kept = this.begin();
      const { body: text } = body as { body?: string };
      if (text) this.says(kept.id, text, "user");
      return { status: 201, body: this.#whole(kept) };
    }
    const kept = this.conversations.get(id);
    if (!kept) return problem(404, "not_found");
    if (verb === "poll")
      return { body: this.#poll(kept, Number(query.since)), headers: this.longPolls ? { "AW-Poll": "long" } : {} };
    if (verb === "read") {
      kept.unreadCount = 0;
      return { body: { unreadCount: 0 } };
    }
    if (verb === "close") {
      kept.state = "closed";
      kept.position += 1;
      return { body: { state: "closed", csatPrompt: true } };
    }
    if (verb === "reply") return { status: 201, body: this.says(id, (body as { body: string }).body, "user") };
    return { body: this.#whole(kept) };
  }

  #kept(id: string): Kept {
    const kept = this.conversations.get(id);
    if (!kept) throw new Error(`no conversation ${id}`);
    return kept;
  }

  #list(query: Record<string, string>) {
    const all = [...this.conversations.values()].reverse();
    const from = Number(query.cursor ?? 0);
    const limit = 20;
    return {
      conversations: all.slice(from, from + limit).map((kept) => this.#summary(kept)),
      nextCursor: all.length > from + limit ? String(from + limit) : null,
      unreadTotal: all.reduce((sum, kept) => sum + kept.unreadCount, 0),
    };
  }

  #summary({ id, state, rated, unreadCount, messages, position }: Kept) {
    const last = messages.at(-1);
    return {
      id,
      state,
      snoozedUntil: null,
      rated,
      topic: null,
      lastMessage: last ? plain(last) : null,
      unreadCount,
      createdAt: 1,
      updatedAt: position,
    };
  }

  #whole(kept: Kept) {
    return { ...this.#summary(kept), messages: kept.messages.map(plain), latestTimestamp: kept.position, rating: null };
  }

  #poll(kept: Kept, since: number) {
    const { state, rated, unreadCount, position } = kept;
    const messages = kept.messages.filter((message) => message.position > since).map(plain);
    return { messages, latestTimestamp: position, state, snoozedUntil: null, rated, unreadCount };
  }
}

function plain({ position: _, ...message }: Message & { position: number }): Message {
  return message;
}

export function problem(status: number, error: string, headers: Record<string, string> = {}): TestAnswer {
  return { status, body: { error, message: `${error}.`, requestId: "r1" }, headers };
}

export interface Setting {
  world: TestWorld;
  server: FakeServer;
  env: TestEnv;
  chat: AwChat;
}

/** A client of a fake server, not started. */
export function setting(
  options: Partial<AwChatOptions> & Partial<TestEnvOptions> & { world?: TestWorld; fake?: FakeServer } = {},
): Setting {
  const world = options.world ?? createTestWorld();
  const server = options.fake ?? new FakeServer(world);
  const { storage, tabs, visible } = options;
  const env = world.env({ server: options.server ?? server.answer, storage, tabs, visible });
  const chat = createAwChat({
    serverUrl: "https://support.test",
    getToken: options.getToken ?? (() => jwt({ sub: "ada", exp: world.now() / 1000 + 3600 })),
    userScope: options.userScope ?? "ada",
    env,
    transport: options.transport,
  });
  return { world, server, env, chat };
}

/** The paths that were asked, with their methods. */
export function asked(env: TestEnv, part = ""): string[] {
  return env.requests.map(({ method, path }) => `${method} ${path}`).filter((line) => line.includes(part));
}
