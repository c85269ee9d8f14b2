import { expect, it } from "vitest";
import { AwError, retryAfterMs } from "../src/errors.ts";
import { pollDelay, retryDelay, TRANSPORT } from "../src/pace.ts";
import { createTestWorld } from "../src/testing.ts";
import { asked, FakeServer, problem, setting } from "./support.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** The times between the requests to `part`. */
function gaps(requests: { path: string; atMs: number }[], part: string): number[] {
  const times = requests.filter(({ path }) => path.endsWith(part)).map(({ atMs }) => atMs);
  return times.slice(1).map((time, i) => time - (times[i] ?? 0));
}

it("an open conversation is polled every 2.5 s, then ever less often up to 15 s", () => {
  const delays = Array.from({ length: 9 }, (_, empty) => Math.round(pollDelay(TRANSPORT, empty)));
  expect(delays).toEqual([2500, 2500, 2500, 3750, 5625, 8438, 12656, 15000, 15000]);
});

it("what the server asks for is kept to, and else failures are spread over ever longer times", () => {
  const limited = new AwError("rate_limited", "", { retryAfterMs: 7000 });
  expect([retryDelay(limited, 1, 0), retryDelay(limited, 9, 0.999)]).toEqual([7000, 7999]);
  const lost = new AwError("network");
  expect([1, 2, 3, 6, 20].map((failures) => retryDelay(lost, failures, 1))).toEqual([2200, 4200, 8200, 60_200, 60_200]);
  expect(retryDelay(lost, 5, 0)).toBe(200);
});

it("Retry-After is read as seconds and as a date", () => {
  const now = Date.parse("Sun, 22 Nov 2026 12:00:00 GMT");
  const read = (value: string | null) => retryAfterMs(value, now);
  expect(read("7")).toBe(7000);
  expect(read(" 0 ")).toBe(0);
  expect(read("Sun, 22 Nov 2026 12:00:09 GMT")).toBe(9000);
  expect(read("Sun, 22 Nov 2026 11:00:00 GMT")).toBe(0);
  expect([read("soon"), read(""), read(null)]).toEqual([null, null, null]);
  expect(read("999999999")).toBe(3_600_000);
});

it("without long polls, the pace slows while nothing comes, and is quick again after a keypress", async () => {
  const { world, server, chat, env } = setting();
  const { id } = server.begin();
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(3 * MINUTE);
  const slow = gaps(env.requests, "/poll");
  for (const gap of slow.slice(0, 2)) expect(gap).toBeGreaterThan(2500 * 0.84);
  for (const gap of slow.slice(0, 2)) expect(gap).toBeLessThan(2500 * 1.16);
  for (const gap of slow.slice(-3)) expect(gap).toBeGreaterThan(15_000 * 0.84);
  for (const gap of slow) expect(gap).toBeLessThan(15_000 * 1.16);
  const before = env.requests.length;
  thread.draft.set("H");
  await world.advance(0);
  expect(asked(env, "/poll").length).toBe(slow.length + 2);
  thread.draft.set("He");
  thread.draft.set("Hel");
  await world.advance(3 * SECOND);
  expect(env.requests.length - before).toBe(2);
});

it("a server that holds polls back is asked with `wait`, and again at once", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  fake.longPolls = true;
  const { id } = fake.begin();
  // Held for 25 seconds, or until there is something.
  const { chat, env } = setting({
    world,
    fake,
    server: async (request) => {
      if (!request.path.endsWith("/poll") || !request.query.wait) return fake.answer(request);
      const answer = fake.answer(request) as { body: { messages: unknown[] } };
      return { ...answer, delayMs: answer.body.messages.length ? 0 : 25_000 };
    },
  });
  await chat.start();
  chat.thread(id).open();
  await world.advance(99 * SECOND);
  const polls = env.requests.filter(({ path }) => path.endsWith("/poll"));
  expect(polls.map(({ query }) => query.wait)).toEqual([undefined, "25", "25", "25", "25"]);
});

it("a header that promises long polls and a server that does not hold them: the pace of short polls", async () => {
  const { world, server, chat, env } = setting();
  server.longPolls = true;
  const { id } = server.begin();
  await chat.start();
  chat.thread(id).open();
  await world.advance(MINUTE);
  expect(asked(env, "/poll").length).toBeLessThan(20);
});

it("messages that come are shown once and told once; those of the first load are not told", async () => {
  const { world, server, chat } = setting();
  const { id } = server.begin();
  server.says(id, "An old one");
  const told: string[] = [];
  chat.on("message", ({ message }) => told.push(message.body));
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  server.says(id, "Hello");
  server.says(id, "Are you there?");
  await world.advance(MINUTE);
  expect(thread.state.get().messages.map((message) => message.body)).toEqual(["An old one", "Hello", "Are you there?"]);
  expect(told).toEqual(["Hello", "Are you there?"]);
});

it("a message in a conversation that is not open is told by the list, with the unread count", async () => {
  const { world, server, chat } = setting();
  const { id } = server.begin();
  const told: string[] = [];
  const counts: number[] = [];
  chat.on("message", ({ conversationId, message }) => told.push(`${conversationId} ${message.body}`));
  chat.on("unread", ({ total }) => counts.push(total));
  await chat.start();
  await world.advance(SECOND);
  server.says(id, "Hello");
  await world.advance(70 * SECOND);
  expect(told).toEqual([`${id} Hello`]);
  expect(counts).toEqual([1]);
  expect(chat.unread.get()).toEqual({ total: 1, byConversation: { [id]: 1 } });
});

it("the list is asked for every minute, every half while it is open, and not any more after ten minutes behind", async () => {
  const { world, chat, env } = setting();
  await chat.start();
  await world.advance(10 * MINUTE);
  for (const gap of gaps(env.requests, "/conversations")) expect(Math.abs(gap - MINUTE)).toBeLessThan(0.16 * MINUTE);
  const close = chat.conversations.open();
  await world.advance(SECOND);
  const before = env.requests.length;
  await world.advance(5 * MINUTE);
  for (const gap of gaps(env.requests.slice(before), "/conversations")) expect(gap).toBeLessThan(35 * SECOND);
  close();
  env.setVisible(false);
  await world.advance(11 * MINUTE);
  const asleep = env.requests.length;
  await world.advance(60 * MINUTE);
  expect(env.requests.length).toBe(asleep);
  env.setVisible(true);
  await world.advance(0);
  expect(env.requests.length).toBe(asleep + 1);
});

it("a poll that hangs on a dead connection is given up when the app comes to the front", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { id } = fake.begin();
  const { chat, env } = setting({ world, fake });
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  fake.fault = () => "hang";
  await world.advance(3 * SECOND);
  env.setVisible(false);
  fake.fault = () => undefined;
  fake.says(id, "Are you still there?");
  env.setVisible(true);
  await world.advance(0);
  expect(thread.state.get().messages.map((message) => message.body)).toEqual(["Are you still there?"]);
});

it("429: nothing at all is asked for as long as the server says, and then all goes on", async () => {
  const { world, server, chat, env } = setting();
  const { id } = server.begin();
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  server.fault = () => problem(429, "rate_limited", { "Retry-After": "30" });
  await world.advance(4 * SECOND);
  server.fault = () => undefined;
  const { status, until } = chat.connection.get();
  expect(status).toBe("rate_limited");
  const limited = env.requests.length;
  thread.send({ text: "Are you there?" });
  await world.advance((until ?? 0) - world.now() - 1);
  expect(env.requests.length).toBe(limited);
  await world.advance(1002);
  expect(chat.connection.get()).toEqual({ status: "online", until: null });
  expect(server.bodies(id)).toEqual(["Are you there?"]);
  expect(asked(env, "/poll").length).toBeGreaterThan(1);
});

it("429 without a header that a browser may read: the body's retryAfterMs counts", async () => {
  const { world, server, chat } = setting();
  server.fault = () => ({
    status: 429,
    body: { error: "rate_limited", message: "", requestId: "r", retryAfterMs: 9000 },
  });
  await chat.start();
  await world.advance(0);
  expect(chat.connection.get()).toEqual({ status: "rate_limited", until: world.now() + 9000 });
});

it("502: support is away, the messages wait, and go when it is back", async () => {
  const { world, server, chat } = setting();
  const { id } = server.begin();
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  server.fault = ({ method }) =>
    method === "POST" ? problem(502, "service_unavailable", { "Retry-After": "2" }) : undefined;
  thread.send({ text: "one" });
  thread.send({ text: "two" });
  await world.advance(10 * SECOND);
  const shown = () => thread.state.get().messages.map(({ body, delivery }) => `${body} ${delivery}`);
  expect(shown()).toEqual(["one queued", "two queued"]);
  server.fault = () => undefined;
  await world.advance(10 * SECOND);
  expect(shown()).toEqual(["one sent", "two sent"]);
});

it("a proxy's page is a failure like any, whatever its status says", async () => {
  const { world, server, chat } = setting();
  for (const answer of [{ status: 200, body: "<html>" }, { status: 502, body: "<html>" }, { status: 200 }]) {
    server.fault = () => answer;
    const error = await chat.conversations.refresh().catch((error: AwError) => error);
    expect(error).toMatchObject({ retryable: true });
  }
  expect(chat.connection.get().status).toBe("degraded");
  await world.advance(0);
});

it("a conversation that is not there is gone: it leaves the list, and is asked for no more", async () => {
  const { world, server, chat, env } = setting();
  const { id } = server.begin();
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  expect(chat.conversations.get().items.length).toBe(1);
  server.conversations.delete(id);
  await world.advance(10 * SECOND);
  expect(thread.state.get()).toMatchObject({
    status: "gone",
    error: { code: "not_found", status: 404, requestId: "r1" },
  });
  expect(chat.conversations.get().items).toEqual([]);
  const polls = asked(env, id).length;
  await world.advance(MINUTE);
  expect(asked(env, id).length).toBe(polls);
});

it("an outage is asked about less and less often, and its end is noticed", async () => {
  const { world, server, chat, env } = setting();
  const { id } = server.begin();
  server.fault = () => "lost";
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(30 * MINUTE);
  expect(chat.connection.get().status).toBe("offline");
  expect(thread.state.get().status).toBe("error");
  // Two loops, half a minute apart on average.
  expect(env.requests.length).toBeLessThan(2 * 90);
  server.fault = () => undefined;
  await world.advance(MINUTE + SECOND);
  expect(thread.state.get().status).toBe("ready");
  expect(chat.connection.get().status).toBe("online");
});

it("the network is back: all is asked for at once", async () => {
  const { world, server, chat, env } = setting();
  server.fault = () => "lost";
  await chat.start();
  await world.advance(10 * MINUTE);
  env.setOnline(false);
  server.fault = () => undefined;
  env.setOnline(true);
  await world.advance(0);
  expect(chat.conversations.get().status).toBe("ready");
});

it("a request without an answer ends after 15 seconds, and at the caller's wish at once", async () => {
  const { world, server, chat } = setting();
  server.fault = () => "hang";
  const slow = chat.conversations.refresh().catch((error: AwError) => error.code);
  const controller = new AbortController();
  const aborted = chat.conversations.refresh(controller.signal).catch((error: AwError) => error.code);
  controller.abort();
  expect(await aborted).toBe("aborted");
  await world.advance(15_001);
  expect(await slow).toBe("timeout");
});

it("a listener that throws does not disturb the others", async () => {
  const { world, chat } = setting();
  const uncaught: unknown[] = [];
  const before = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => uncaught.push(error.message));
  const seen: string[] = [];
  chat.conversations.subscribe(() => {
    throw new Error("a bug of the app's");
  });
  chat.conversations.subscribe(({ status }) => seen.push(status));
  await chat.start();
  await world.advance(0);
  process.removeAllListeners("uncaughtException");
  for (const listener of before) process.on("uncaughtException", listener);
  expect(seen).toEqual(["loading", "ready"]);
  expect(uncaught).toEqual(["a bug of the app's", "a bug of the app's"]);
});

it("after stop, nothing is asked and no timer is left; after start, all goes on", async () => {
  const { world, server, chat, env } = setting();
  const { id } = server.begin();
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  chat.stop();
  const before = env.requests.length;
  await world.advance(60 * MINUTE);
  expect(env.requests.length).toBe(before);
  server.says(id, "Hello");
  await chat.start();
  await world.advance(SECOND);
  expect(thread.state.get().messages.map((message) => message.body)).toEqual(["Hello"]);
});

it("a read mark shows at once, in the list too, and comes back if the server does not take it", async () => {
  const { world, server, chat } = setting();
  const { id } = server.begin();
  server.says(id, "Hello");
  await chat.start();
  const thread = chat.thread(id);
  thread.open();
  await world.advance(SECOND);
  server.fault = ({ path }) => (path.endsWith("/read") ? "lost" : undefined);
  const failed = thread.markRead().catch((error: AwError) => error.code);
  expect([thread.state.get().unreadCount, chat.unread.get().total]).toEqual([0, 0]);
  expect(await failed).toBe("network");
  expect([thread.state.get().unreadCount, chat.unread.get().total]).toEqual([1, 1]);
  server.fault = () => undefined;
  await thread.markRead();
  await world.advance(2 * MINUTE);
  expect([thread.state.get().unreadCount, chat.unread.get().total]).toEqual([0, 0]);
});

it("the last known unread count is there before the first answer", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  fake.says(fake.begin().id, "Hello");
  const storage = world.storage();
  const first = setting({ world, fake, storage });
  await first.chat.start();
  await world.advance(SECOND);
  first.chat.stop();
  fake.fault = () => "hang";
  const second = setting({ world, fake, storage });
  await second.chat.start();
  expect(second.chat.unread.get().total).toBe(1);
});

it("further pages are kept when the first comes anew, and what is deleted goes", async () => {
  const { world, server, chat } = setting();
  for (let i = 0; i < 45; i += 1) {
    server.begin();
    await world.advance(SECOND);
  }
  await chat.start();
  await world.advance(SECOND);
  const ids = () => chat.conversations.get().items.map((item) => item.id);
  const all = [...server.conversations.keys()].reverse();
  expect([ids().length, chat.conversations.get().hasMore]).toEqual([20, true]);
  await chat.conversations.more();
  await chat.conversations.refresh();
  expect(ids()).toEqual(all.slice(0, 40));
  await chat.conversations.more();
  expect([ids(), chat.conversations.get().hasMore]).toEqual([all, false]);
  server.conversations.delete(all[3] ?? "");
  await chat.conversations.refresh();
  expect(ids()).toEqual(all.filter((id) => id !== all[3]));
});
