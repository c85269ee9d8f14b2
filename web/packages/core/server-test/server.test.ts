import { randomBytes } from "node:crypto";
import { type AwChat, type AwError, createAwChat, type Thread } from "@aw-chat/core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Awchat, Gate, Sandbox, signed, until } from "./support.ts";

const dev = new Awchat("dev");
let sandbox: Sandbox;
const clients: AwChat[] = [];

beforeAll(async () => {
  await dev.start();
  sandbox = await Sandbox.of(dev);
});

afterAll(async () => {
  for (const client of clients) client.stop();
  await dev.remove();
});

async function devToken(user: string): Promise<string> {
  const { token } = (await (await fetch(`${dev.url}/dev/token?user=${user}`)).json()) as { token: string };
  return token;
}

/** A client in plain Node, with nothing of a browser. */
function client(user: string, options: Partial<Parameters<typeof createAwChat>[0]> = {}): AwChat {
  const chat = createAwChat({ serverUrl: dev.url, getToken: () => devToken(user), userScope: user, ...options });
  clients.push(chat);
  return chat;
}

function shown(thread: Thread): string[] {
  return thread.state.get().messages.map(({ body, delivery, author }) => `${author.type}: ${body} (${delivery})`);
}

it("a user writes, an operator answers, and each sees the other's words", async () => {
  const chat = client("ada");
  const told: string[] = [];
  chat.on("message", ({ message }) => told.push(message.body));
  await chat.start();
  const thread = await chat.begin({
    reason: { main: "Payments", sub: "Refund" },
    text: "Where is my refund?",
    meta: { app: "test" },
  });
  thread.open();
  expect(shown(thread)).toEqual(["user: Where is my refund? (sent)"]);
  expect(thread.state.get().topic).toEqual({ main: "Payments", sub: "Refund" });
  // From the second poll on, the server holds them back: an answer is there as soon as it is given.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = Date.now();
  await sandbox.act({ act: "reply", conversation: thread.id, body: "<p>On its way.</p>" });
  await until("the operator's answer", () => shown(thread).length === 2);
  console.info(`an operator's answer was on the screen after ${Date.now() - before} ms`);
  expect(shown(thread)[1]).toBe("operator: On its way. (sent)");
  expect(told).toEqual(["On its way."]);
  expect(chat.unread.get().total).toBe(1);
  await thread.markRead();
  thread.send({ text: "Thank you!" });
  await until("the message to be sent", () => shown(thread)[2] === "user: Thank you! (sent)");
  expect(await sandbox.count(thread.id, "Thank you!")).toBe(1);
  expect(await thread.close()).toEqual({ csatPrompt: true });
  await chat.conversations.refresh();
  expect(chat.conversations.get().items).toMatchObject([{ id: thread.id, state: "closed", unreadCount: 0 }]);
  // Another run of the app sees the same.
  const again = client("ada");
  await again.start();
  const same = again.thread(thread.id);
  same.open();
  await until("the conversation", () => same.state.get().status === "ready");
  expect(shown(same)).toEqual(shown(thread));
});

it("somebody else's conversation is gone, as one that never was", async () => {
  const thread = await client("ada").begin({ text: "Mine" });
  const eve = client("eve");
  await expect(eve.thread(thread.id).refresh()).rejects.toMatchObject({
    code: "not_found",
    status: 404,
    requestId: expect.any(String),
  });
});

it("what the server refuses is told by its code", async () => {
  const chat = client("ada");
  const told = (promise: Promise<unknown>) => promise.catch((error: AwError) => [error.code, error.status]);
  expect(await told(chat.begin({ text: "x".repeat(10_001) }))).toEqual(["validation_error", 400]);
  expect(await told(client("ada", { getToken: () => "no.such.token" }).conversations.refresh())).toEqual([
    "unauthorized",
    401,
  ]);
});

it("a server that is killed while it sends has, after its restart, sent each message exactly once", async () => {
  const gate = new Gate(sandbox);
  const secret = randomBytes(32).toString("hex");
  const server = new Awchat("serve", await gate.settings(secret));
  try {
    await server.start();
    const chat = client("bob", { serverUrl: server.url, getToken: () => signed(secret, "bob", 60) });
    await chat.start();
    const thread = await chat.begin({ text: "message 0" });
    thread.open();
    const texts = ["message 0"];
    for (const [n, moment] of (["after", "before", "after", "before"] as const).entries()) {
      // The server dies with its request at Intercom: not applied yet, or applied and not answered.
      let arrived = false;
      let isHeld = true;
      gate.hold = async ({ url }, when) => {
        if (when !== moment || !url?.endsWith("/reply")) return;
        arrived = true;
        await until("the server to be killed", () => !isHeld);
      };
      const text = `message ${n + 1}`;
      texts.push(text);
      thread.send({ text });
      await until("the message to be at Intercom", () => arrived);
      await server.kill();
      gate.hold = async () => {};
      isHeld = false;
      await server.start();
      await until(`${text} to be sent`, () => shown(thread).includes(`user: ${text} (sent)`));
    }
    expect(shown(thread)).toEqual(texts.map((text) => `user: ${text} (sent)`));
    const counts = await Promise.all(texts.map((text) => sandbox.count(thread.id, text)));
    expect(counts).toEqual(texts.map(() => 1));
    console.info(`${texts.length} messages, 4 kills -9 while one was being sent: each is at Intercom once`);
  } finally {
    gate.stop();
    await server.remove();
  }
});
