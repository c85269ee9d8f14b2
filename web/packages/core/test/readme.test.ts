import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it, vi } from "vitest";
import { ask, supportChat } from "../examples/chat.ts";
import { complain } from "../examples/errors.ts";
import { sendPictures } from "../examples/files.ts";
import { miniAppChat } from "../examples/mini-app.ts";
import { onNotice, phoneChat, signOut } from "../examples/phone.ts";
import { unreadAfterAMinute } from "../examples/testing.ts";
import { createTestWorld } from "../src/testing.ts";
import { FakeServer, problem, setting } from "./support.ts";

const packages = fileURLToPath(new URL("../../", import.meta.url));

it.each(["core", "react", "widget"])("the README of %s shows the examples as they are run here", (name) => {
  const readme = readFileSync(`${packages}${name}/README.md`, "utf8");
  const snippets = [...readme.matchAll(/```(\w+) file=(\S+)\n(.*?)```/gs)];
  expect(snippets.length).toBeGreaterThan(0);
  for (const [, , file, text] of snippets) expect(text, file).toBe(readFileSync(`${packages}${name}/${file}`, "utf8"));
  expect(readme.match(/```/g)?.length).toBe(snippets.length * 2);
  for (const [, path] of readme.matchAll(/\]\(([^):]+)\)/g))
    expect(existsSync(`${packages}${name}/${path}`), path).toBe(true);
});

it("the first example asks and shows the answer", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { fetch } = world.env({ server: fake.answer });
  vi.stubGlobal("fetch", fetch);
  const chat = supportChat({ id: "ada", token: async () => "token" });
  let shown: string[] = [];
  const leave = await ask(chat, "Where is my refund?", (lines) => {
    shown = lines;
  });
  await vi.waitFor(() => expect(fake.bodies([...fake.conversations.keys()][0] ?? "")).toHaveLength(2));
  await vi.waitFor(() => expect(shown).toEqual(["user: Where is my refund?", "user: It was order 1138."]));
  leave();
  chat.stop();
  vi.unstubAllGlobals();
});

it("the other examples do what they say", async () => {
  const world = createTestWorld();
  const fake = new FakeServer(world);
  const { chat } = setting({ world, fake });
  const thread = chat.thread(fake.begin().id);
  await chat.start();
  thread.open();
  await world.advance(1000);
  fake.extra = ({ path }) =>
    path.endsWith("/upload")
      ? { status: 201, body: { id: "f1", name: "a", contentType: "image/png", size: 1, url: "u" } }
      : undefined;
  const picture = new File(["a"], "a.png", { type: "image/png" });
  expect(await sendPictures(chat, thread, [picture], () => {})).toBe("on its way");
  expect(await sendPictures(chat, thread, [new File([new Uint8Array(21 << 20)], "a.png")], () => {})).toBe("too large");
  await world.advance(1000);
  expect(fake.bodies(thread.id)).toEqual(["See the pictures."]);
  fake.fault = () => problem(400, "validation_error");
  expect(await complain(chat, "short")).toContain("ten characters");
  expect(await unreadAfterAMinute()).toBe(3);
  const values = new Map<string, string>();
  const phone = phoneChat(
    {
      AppState: { currentState: "active", addEventListener: () => ({ remove: () => {} }) },
      AsyncStorage: {
        getAllKeys: async () => [...values.keys()],
        getItem: async (key) => values.get(key) ?? null,
        setItem: async (key, value) => values.set(key, value),
        removeItem: async (key) => values.delete(key),
      },
      uuid: () => "u",
    },
    "ada",
    async () => "token",
  );
  onNotice(phone);
  let deleted = 0;
  await signOut(phone, () => {
    deleted += 1;
  });
  expect(deleted).toBe(0);
  const mini = miniAppChat({ initData: "", onEvent: () => {}, offEvent: () => {} }, "42");
  expect(mini.connection.get().status).toBe("connecting");
});
