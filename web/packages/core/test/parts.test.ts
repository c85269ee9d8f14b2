import { expect, it } from "vitest";
import { createTestWorld, type TestAnswer, type TestRequest } from "../src/testing.ts";
import { asked, FakeServer, problem, setting } from "./support.ts";

const SECOND = 1000;

/** A server of one answer per line of requests. */
function lines(answers: Record<string, TestAnswer>): (request: TestRequest) => TestAnswer | undefined {
  return ({ method, path }) => answers[`${method} ${path}`];
}

it("logout unregisters the device and leaves nothing of the user, here or on the device", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { id } = fake.begin();
  fake.says(id, "Hello");
  fake.extra = lines({
    "POST /api/devices/register": { body: { id: "d1" } },
    "DELETE /api/devices/d1": { status: 204 },
    "GET /api/settings/notifications": { body: { chatMessages: true, ticketUpdates: true, systemNotices: true } },
  });
  const storage = world.storage();
  await storage.set("the app's own", "stays");
  const { chat, env } = setting({ world, fake, storage, userScope: "ada" });
  const other = setting({ world, fake, storage, userScope: "bob" });
  other.chat.draft.set("Bob's");
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await chat.devices.register({ platform: "mobile", token: "push-token" });
  await chat.settings.refresh();
  await world.advance(SECOND);
  fake.fault = ({ method, path }) => (method === "POST" && path.endsWith("/reply") ? "lost" : undefined);
  thread.send({ text: "unsent" });
  thread.draft.set("half a thought");
  chat.draft.set("a question");
  await world.advance(SECOND);
  expect((await storage.keys("awchat:ada:")).length).toBeGreaterThan(3);
  expect(await chat.logout()).toEqual({ unregistered: true });
  expect(asked(env).at(-1)).toBe("DELETE /api/devices/d1");
  expect(await storage.keys("awchat:ada:")).toEqual([]);
  expect((await storage.keys("")).sort()).toEqual(["awchat:bob:draft:", "the app's own"]);
  expect(chat.conversations.get().items).toEqual([]);
  expect(chat.unread.get()).toEqual({ total: 0, byConversation: {} });
  expect(chat.settings.get().value).toBeNull();
  expect([thread.state.get().messages, chat.draft.get()]).toEqual([[], ""]);
  const before = env.requests.length;
  thread.draft.set("more");
  await world.advance(600 * SECOND);
  expect(env.requests.length).toBe(before);
  expect(await storage.keys("awchat:ada:")).toEqual([]);
  await expect(chat.start()).rejects.toMatchObject({ code: "aborted" });
  await expect(chat.conversations.refresh()).rejects.toMatchObject({ code: "aborted" });
});

it("logout without a connection forgets all the same, and says that the device is still known", async () => {
  const world = createTestWorld();
  const storage = world.storage();
  const fake = new FakeServer(world);
  fake.extra = lines({ "POST /api/devices/register": { body: { id: "d1" } } });
  const { chat } = setting({ world, fake, storage });
  await chat.start();
  await chat.devices.register({ platform: "mobile", token: "push-token" });
  fake.fault = () => "hang";
  const told = chat.logout();
  await world.advance(6 * SECOND);
  expect(await told).toEqual({ unregistered: false });
  expect(await storage.keys("")).toEqual([]);
});

it("a device that the server has forgotten is as good as unregistered", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  fake.extra = lines({ "POST /api/devices/register": { body: { id: "d1" } } });
  const { chat, env } = setting({ world, fake });
  await chat.devices.register({ platform: "tma", token: "42", initData: "x" });
  await chat.devices.unregister();
  await chat.devices.unregister();
  expect(asked(env)).toEqual(["POST /api/devices/register", "DELETE /api/devices/d1"]);
});

it("a conversation is begun once, even if its answer was lost and the app was started again", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const storage = world.storage();
  const first = setting({ world, fake, storage });
  fake.fault = (request) => {
    fake.handle(request);
    return "lost";
  };
  const request = { reason: { main: "Payments", sub: "Refund" }, text: "Where is it?" };
  const failed = first.chat.begin(request).catch((error) => error.code);
  await world.advance(60 * SECOND);
  expect(await failed).toBe("network");
  fake.fault = () => undefined;
  const second = setting({ world, fake, storage });
  const thread = await second.chat.begin(request);
  expect([...fake.conversations.keys()]).toEqual([thread.id]);
  expect(thread.state.get()).toMatchObject({ status: "ready", messages: [{ body: "Where is it?", delivery: "sent" }] });
  // What went well is done: the same again is another one.
  await second.chat.begin(request);
  expect(fake.conversations.size).toBe(2);
  expect(await storage.keys("awchat:ada:once")).toEqual([]);
});

it("beginning empties the draft, lists the conversation at once, and refuses nothing at all", async () => {
  const world = createTestWorld();
  const { chat } = setting({ world });
  await chat.start();
  await world.advance(SECOND);
  chat.draft.set("Hello");
  const { id } = await chat.begin({ text: "Hello" });
  expect(chat.draft.get()).toBe("");
  expect(chat.conversations.get().items.map((item) => item.id)).toEqual([id]);
  await expect(chat.begin({ text: "  " })).rejects.toMatchObject({ code: "empty" });
});

it("a request of the user's is tried again while it may be well in a moment, under one key", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  let failures = 2;
  fake.fault = ({ path }) => {
    if (path !== "/api/tickets/7/reply" || failures === 0) return undefined;
    failures -= 1;
    return failures ? problem(502, "service_unavailable", { "Retry-After": "3" }) : problem(409, "conflict");
  };
  fake.extra = lines({ "POST /api/tickets/7/reply": { status: 201, body: { id: "m" } } });
  const { chat, env } = setting({ world, fake });
  const replied = chat.tickets.reply("7", { text: "Thanks" });
  await world.advance(20 * SECOND);
  expect(await replied).toEqual({ id: "m" });
  expect(new Set(env.requests.map(({ headers }) => headers["Idempotency-Key"])).size).toBe(1);
  expect(env.requests.map(({ body }) => body)).toEqual(Array(3).fill({ body: "Thanks" }));
});

it("tickets, ratings, complaints and diagnostics go where the contract says", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  fake.begin("5");
  fake.extra = lines({
    "GET /api/tickets": { body: { tickets: [], nextCursor: null } },
    "GET /api/tickets/search": { body: { tickets: [], nextCursor: "c2" } },
    "GET /api/tickets/7": { body: { id: "7" } },
    "POST /api/tickets/7/clarify": { status: 201, body: { conversationId: "5", message: { id: "m" } } },
    "POST /api/csat": { body: { id: null, duplicate: true } },
    "POST /api/complaints": { status: 201, body: { id: "c1" } },
    "POST /api/diagnostics": { status: 204 },
    "GET /api/files/f1": {
      body: { url: "u", expiresAt: world.now() / 1000 + 300, name: "a", contentType: "text/plain" },
    },
  });
  const { chat, env } = setting({ world, fake });
  await chat.thread("5").refresh();
  await chat.tickets.list({ limit: 5 });
  expect(await chat.tickets.search("AW-1&2", { cursor: "c1" })).toEqual({ tickets: [], nextCursor: "c2" });
  expect(await chat.tickets.get("7")).toEqual({ id: "7" });
  expect((await chat.tickets.clarify("7")).conversationId).toBe("5");
  expect(await chat.csat.rate({ stars: 5, conversationId: "5" })).toEqual({ id: null, duplicate: true });
  expect(chat.thread("5").state.get().rated).toBe(true);
  expect(await chat.complaints.send({ category: "other", description: "It was too slow." })).toEqual({ id: "c1" });
  await chat.diagnostics.send({ appVersion: "5.2.1" });
  expect((await chat.files.link("f1")).url).toBe("u");
  await chat.files.link("f1");
  expect(asked(env, "/files")).toEqual(["GET /api/files/f1"]);
  await world.advance(250 * SECOND);
  await chat.files.link("f1");
  expect(asked(env, "/files").length).toBe(2);
  const queries = env.requests.map(({ query }) => query).filter((query) => Object.keys(query).length);
  expect(queries).toEqual([{ limit: "5" }, { q: "AW-1&2", cursor: "c1" }]);
  expect(env.requests.find(({ path }) => path.endsWith("f1"))?.headers.Accept).toBe("application/json");
});

it("a setting changes at once, goes back if the server does not take it, and the last of several stands", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const value = { chatMessages: true, ticketUpdates: true, systemNotices: true };
  fake.extra = ({ method, path, body }) => {
    if (!path.endsWith("/notifications")) return undefined;
    if (method === "PUT") Object.assign(value, body);
    return { body: { ...value }, delayMs: method === "PUT" ? 500 : 0 };
  };
  const { chat } = setting({ world, fake });
  await chat.settings.refresh();
  fake.fault = () => problem(502, "service_unavailable");
  const failed = chat.settings.set({ chatMessages: false }).catch((error) => error.code);
  await world.advance(0);
  expect(chat.settings.get().value?.chatMessages).toBe(true);
  expect(await failed).toBe("service_unavailable");
  fake.fault = () => undefined;
  const changes = [
    chat.settings.set({ chatMessages: false }),
    chat.settings.set({ chatMessages: true, systemNotices: false }),
  ];
  await world.advance(0);
  expect(chat.settings.get().value).toEqual({ chatMessages: true, ticketUpdates: true, systemNotices: false });
  await world.advance(SECOND);
  await Promise.all(changes);
  expect(chat.settings.get()).toMatchObject({ status: "ready", value: { chatMessages: true, systemNotices: false } });
});

it("the server's limits and topics are asked for once, and have defaults where it has none to tell", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { chat, env } = setting({ world, fake });
  expect((await chat.config()).files).toMatchObject({ maxBytes: 20 * 1024 * 1024, maxPerMessage: 10 });
  await chat.config();
  expect(asked(env).length).toBe(1);
  fake.extra = lines({ "GET /api/config": { body: { topics: [], files: { maxBytes: 3 } } } });
  const told = setting({ world, fake });
  expect((await told.chat.config()).files).toMatchObject({ maxBytes: 3, maxPerMessage: 10 });
  await expect(told.chat.files.upload(new File(["abcd"], "a.txt", { type: "text/plain" }))).rejects.toMatchObject({
    code: "file_too_large",
  });
});

it("closing says whether to ask for a rating, and writing opens the conversation again", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const kept = fake.begin();
  const { id } = kept;
  const { chat } = setting({ world, fake });
  const states: string[] = [];
  chat.on("state", ({ state }) => states.push(state));
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  expect(await thread.close()).toEqual({ csatPrompt: true });
  expect(thread.state.get().state).toBe("closed");
  expect(chat.conversations.get().items[0]?.state).toBe("closed");
  thread.send({ text: "One more thing" });
  kept.state = "open";
  await world.advance(20 * SECOND);
  expect(thread.state.get().state).toBe("open");
  kept.state = "snoozed";
  kept.position += 5;
  await world.advance(20 * SECOND);
  expect(states).toContain("snoozed");
});
