import { expect, it } from "vitest";
import { createTestWorld } from "../src/testing.ts";
import { asked, FakeServer, type Setting, setting } from "./support.ts";

const SECOND = 1000;

/** So many tabs of one browser, each looking at the same conversation; the last was opened last. */
async function tabs(
  count: number,
): Promise<{ all: Setting[]; id: string; fake: FakeServer; advance(ms: number): Promise<void> }> {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { id } = fake.begin();
  const storage = world.storage();
  const all: Setting[] = [];
  for (let i = 0; i < count; i += 1) {
    const tab = setting({ world, fake, storage, tabs: "shared" });
    all.push(tab);
    await tab.chat.start();
    tab.chat.thread(id).open();
    await world.advance(SECOND);
  }
  return { all, id, fake, advance: world.advance };
}

function bodies({ chat }: Setting, id: string): string[] {
  return chat
    .thread(id)
    .state.get()
    .messages.map((message) => message.body);
}

it("two tabs poll as much as one, and both show what comes", async () => {
  const { all, id, fake, advance } = await tabs(2);
  const [one, two] = all as [Setting, Setting];
  const before = [asked(one.env).length, asked(two.env).length];
  const told: string[] = [];
  one.chat.on("message", () => told.push("one"));
  two.chat.on("message", () => told.push("two"));
  fake.says(id, "Hello");
  await advance(120 * SECOND);
  // The one in the background asks for nothing at all.
  expect(asked(one.env).length).toBe(before[0]);
  expect(asked(two.env).length).toBeGreaterThan((before[1] ?? 0) + 8);
  expect(bodies(one, id)).toEqual(["Hello"]);
  expect(bodies(two, id)).toEqual(["Hello"]);
  expect(one.chat.unread.get()).toEqual(two.chat.unread.get());
  expect(one.chat.conversations.get().items).toEqual(two.chat.conversations.get().items);
  expect(told.sort()).toEqual(["one", "two"]);
});

it("when the tab that polls is closed, another goes on where it was", async () => {
  const { all, id, fake, advance } = await tabs(3);
  const [one, two, three] = all as [Setting, Setting, Setting];
  three.chat.stop();
  fake.says(id, "Hello");
  await advance(20 * SECOND);
  expect([bodies(one, id), bodies(two, id)]).toEqual([["Hello"], ["Hello"]]);
  one.chat.stop();
  fake.says(id, "Anybody?");
  await advance(20 * SECOND);
  expect(bodies(two, id)).toEqual(["Hello", "Anybody?"]);
});

it("a tab that comes to the front takes over from one that is behind", async () => {
  const { all, id, fake, advance } = await tabs(2);
  const [one, two] = all as [Setting, Setting];
  two.env.setVisible(false);
  one.env.setVisible(false);
  one.env.setVisible(true);
  const before = asked(two.env).length;
  await advance(30 * SECOND);
  expect(asked(two.env).length).toBe(before);
  fake.says(id, "Hello");
  await advance(15 * SECOND);
  expect([bodies(one, id), bodies(two, id)]).toEqual([["Hello"], ["Hello"]]);
});

it("a message is sent once, by whichever tab, and every tab shows how it goes", async () => {
  const { all, id, fake, advance } = await tabs(2);
  const [one, two] = all as [Setting, Setting];
  fake.fault = ({ method }) => (method === "POST" ? "lost" : undefined);
  one.chat.thread(id).send({ text: "from the first" });
  await advance(SECOND);
  two.chat.thread(id).send({ text: "from the second" });
  await advance(SECOND);
  expect(bodies(one, id)).toEqual(["from the first", "from the second"]);
  expect(bodies(two, id)).toEqual(["from the first", "from the second"]);
  const posts = asked(one.env, "POST").length;
  fake.fault = () => undefined;
  await advance(90 * SECOND);
  expect(asked(one.env, "POST").length).toBe(posts);
  expect(fake.bodies(id)).toEqual(["from the first", "from the second"]);
  for (const tab of all) {
    expect(
      tab.chat
        .thread(id)
        .state.get()
        .messages.map(({ body, delivery }) => `${body} ${delivery}`),
    ).toEqual(["from the first sent", "from the second sent"]);
  }
});

it("a tab that has missed what another heard asks for it itself", async () => {
  const { all, id, fake, advance } = await tabs(1);
  const [one] = all as [Setting];
  const late = setting({ world: one.world, fake, storage: one.env.storage, tabs: "shared", visible: false });
  // Loaded before the message; deaf while the other tab hears of it.
  await late.chat.thread(id).refresh();
  fake.says(id, "missed");
  await advance(5 * SECOND);
  await late.chat.start();
  late.chat.thread(id).open();
  fake.says(id, "heard");
  await advance(20 * SECOND);
  expect(bodies(late, id)).toEqual(["missed", "heard"]);
});

it("tabs that cannot agree poll half as often", async () => {
  const count = async (tabs: "alone" | "unknown") => {
    const { chat, env, world } = setting({ tabs });
    await chat.start();
    await world.advance(40 * 60 * SECOND);
    return asked(env).length;
  };
  const [alone, unknown] = [await count("alone"), await count("unknown")];
  expect(unknown / alone).toBeGreaterThan(0.4);
  expect(unknown / alone).toBeLessThan(0.6);
});

it("logout in one tab is logout in all", async () => {
  const { all, id, advance } = await tabs(2);
  const [one, two] = all as [Setting, Setting];
  await one.chat.logout();
  await advance(0);
  const before = asked(two.env).length;
  await advance(300 * SECOND);
  expect(asked(two.env).length).toBe(before);
  expect(two.chat.conversations.get().items).toEqual([]);
  expect(two.chat.thread(id).state.get().messages).toEqual([]);
  await expect(two.chat.start()).rejects.toMatchObject({ code: "aborted" });
});
