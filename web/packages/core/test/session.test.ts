import { expect, it } from "vitest";
import { AwError, type TokenRequest } from "../src/index.ts";
import { createTestWorld, type TestServer } from "../src/testing.ts";
import { asked, FakeServer, jwt, problem, setting } from "./support.ts";

const settings = { chatMessages: true, ticketUpdates: true, systemNotices: true };

/** Takes tokens as a server does: by their number, from `oldest` up. */
function guarded(): { server: TestServer; refuseBelow(oldest: number): void } {
  let oldest = 0;
  const server: TestServer = ({ headers }) => {
    const number = Number(/^Bearer token-(\d+)$/.exec(headers.Authorization ?? "")?.[1]);
    // As slow as a real one, so that the fifty overlap.
    return number >= oldest
      ? { body: settings, delayMs: 20 }
      : { ...(problem(401, "unauthorized") as object), delayMs: 20 };
  };
  return {
    server,
    refuseBelow(number) {
      oldest = number;
    },
  };
}

it("fifty requests with a token that has ended ask for one new token, and none fails", async () => {
  const { server, refuseBelow } = guarded();
  const reasons: string[] = [];
  const { world, chat, env } = setting({
    server,
    getToken: ({ reason }) => {
      reasons.push(reason);
      return `token-${reasons.length}`;
    },
  });
  const first = chat.settings.refresh();
  await world.advance(100);
  await first;
  refuseBelow(2);
  const requests = Array.from({ length: 50 }, () => chat.settings.refresh());
  await world.advance(1000);
  expect(await Promise.all(requests)).toHaveLength(50);
  expect(reasons).toEqual(["initial", "rejected"]);
  // One to begin with, fifty refused, fifty taken.
  expect(asked(env).length).toBe(101);
});

it("a token is renewed a minute before it ends, once for all", async () => {
  const world = createTestWorld();
  const reasons: string[] = [];
  const { chat } = setting({
    world,
    server: () => ({ body: settings }),
    getToken: ({ reason }) => {
      reasons.push(reason);
      return jwt({ sub: "ada", exp: world.now() / 1000 + 300 });
    },
  });
  await chat.settings.refresh();
  await world.advance(239_000);
  await chat.settings.refresh();
  expect(reasons).toEqual(["initial"]);
  await world.advance(2000);
  await Promise.all(Array.from({ length: 10 }, () => chat.settings.refresh()));
  expect(reasons).toEqual(["initial", "expiring"]);
});

it("a token that still holds is used when a new one cannot be had", async () => {
  const world = createTestWorld();
  let calls = 0;
  const { chat, env } = setting({
    world,
    server: () => ({ body: settings }),
    getToken: () => {
      calls += 1;
      if (calls > 1) throw new Error("the backend is down");
      return jwt({ exp: world.now() / 1000 + 300 });
    },
  });
  await chat.settings.refresh();
  await world.advance(250_000);
  await chat.settings.refresh();
  await chat.settings.refresh();
  expect([calls, asked(env).length]).toEqual([2, 3]);
  await world.advance(60_000);
  await expect(chat.settings.refresh()).rejects.toMatchObject({ code: "token", retryable: true });
});

it("on a device whose clock is an hour fast, a token is used until the server refuses it", async () => {
  const world = createTestWorld();
  let calls = 0;
  const { chat } = setting({
    world,
    server: () => ({ body: settings }),
    getToken: () => {
      calls += 1;
      return jwt({ exp: world.now() / 1000 - 3000 });
    },
  });
  for (let i = 0; i < 5; i += 1) await chat.settings.refresh();
  expect(calls).toBe(1);
});

it("a getToken that fails is left alone for a minute, unless the client starts anew", async () => {
  let calls = 0;
  const { world, chat } = setting({
    server: () => ({ body: settings }),
    getToken: async () => {
      calls += 1;
      throw new Error("no session");
    },
  });
  for (let i = 0; i < 5; i += 1) await expect(chat.settings.refresh()).rejects.toBeInstanceOf(AwError);
  expect(calls).toBe(1);
  expect(chat.connection.get().status).toBe("unauthorized");
  await world.advance(60_001);
  await expect(chat.settings.refresh()).rejects.toMatchObject({ code: "token", message: "getToken: no session" });
  expect(calls).toBe(2);
});

it("a getToken that never answers is given up after half a minute, and told so", async () => {
  let request: TokenRequest | undefined;
  const { world, chat } = setting({
    server: () => ({ body: settings }),
    getToken: (asked) => {
      request = asked;
      return new Promise<string>(() => {});
    },
  });
  const refreshed = chat.settings.refresh().catch((error: AwError) => error.code);
  await world.advance(30_001);
  expect(await refreshed).toBe("token");
  expect(request?.signal.aborted).toBe(true);
});

it("a token of another user is refused: one client is one user's", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  let user = "ada";
  const { chat } = setting({ world, fake, getToken: () => jwt({ sub: user, exp: world.now() / 1000 + 100 }) });
  await chat.conversations.refresh();
  user = "eve";
  await world.advance(101_000);
  await expect(chat.conversations.refresh()).rejects.toMatchObject({ code: "token" });
});

it("a token refused twice stops the polling until the client is started again", async () => {
  const world = createTestWorld();
  let isWell = false;
  const fake = new FakeServer(world);
  fake.fault = () => (isWell ? undefined : problem(401, "unauthorized"));
  const { chat, env } = setting({ world, fake });
  await chat.start();
  await world.advance(600_000);
  // Once, and once more with a new token.
  expect(asked(env).length).toBe(2);
  expect(chat.connection.get().status).toBe("unauthorized");
  isWell = true;
  await chat.start();
  await world.advance(1000);
  expect(chat.connection.get().status).toBe("online");
  expect(chat.conversations.get().status).toBe("ready");
});

it("the token is nowhere on the device", async () => {
  const world = createTestWorld();
  const storage = world.storage();
  const { chat } = setting({ world, storage, getToken: () => "secret-token" });
  chat.draft.set("hello");
  await chat.start();
  await world.advance(1000);
  const values = await Promise.all((await storage.keys("")).map((key) => storage.get(key)));
  expect(values.length).toBeGreaterThan(0);
  expect(values.join()).not.toContain("secret-token");
});
