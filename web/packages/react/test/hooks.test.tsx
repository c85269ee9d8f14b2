// @vitest-environment happy-dom
import type { AwChat } from "@aw-chat/core";
import { act, type ReactNode, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, it } from "vitest";
import { asked, type Setting, setting } from "../../core/test/support.ts";
import {
  AwChatProvider,
  useAwChat,
  useAwEvent,
  useConnection,
  useConversations,
  useDraft,
  useThread,
  useUnread,
} from "../src/index.ts";

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

let root: Root;
let page: HTMLElement;
let made: Setting;

beforeEach(() => {
  made = setting();
  page = document.body.appendChild(document.createElement("div"));
  root = createRoot(page);
});

afterEach(() => {
  act(() => root.unmount());
  page.remove();
});

async function show(children: ReactNode, client: AwChat = made.chat): Promise<void> {
  await act(async () => root.render(<AwChatProvider client={client}>{children}</AwChatProvider>));
  await pass(1000);
}

function pass(ms: number): Promise<void> {
  return act(async () => made.world.advance(ms));
}

function List() {
  const { items, status } = useConversations();
  const { total } = useUnread();
  return <p>{`${status} ${items.length} ${total} ${useConnection().status}`}</p>;
}

function Chat({ id, onRender = () => {} }: { id: string; onRender?: () => void }) {
  const thread = useThread(id);
  const [text, setText] = useDraft(thread.draft);
  onRender();
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        thread.send({ text });
      }}
    >
      <p>{thread.messages.map(({ body, delivery }) => `${body} ${delivery}`).join(", ")}</p>
      <input value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}

it("shows the list, the unread count and the connection, and what becomes of them", async () => {
  const { id } = made.server.begin();
  await show(<List />);
  expect(page.textContent).toBe("ready 1 0 online");
  made.server.says(id, "Hello");
  await pass(40_000);
  expect(page.textContent).toBe("ready 1 1 online");
  made.server.fault = () => "lost";
  await pass(40_000);
  expect(page.textContent).toBe("ready 1 1 offline");
});

it("shows a conversation while it is on the screen, and sends", async () => {
  const { id } = made.server.begin();
  made.server.says(id, "Hello");
  await show(<Chat id={id} />);
  expect(page.querySelector("p")?.textContent).toBe("Hello sent");
  await act(async () => made.chat.thread(id).draft.set("Hi"));
  expect(page.querySelector("input")?.value).toBe("Hi");
  await act(async () => page.querySelector("form")?.requestSubmit());
  expect(page.querySelector("p")?.textContent).toContain("Hi");
  expect(page.querySelector("input")?.value).toBe("");
  await pass(1000);
  expect(page.querySelector("p")?.textContent).toBe("Hello sent, Hi sent");
  await show(<List />);
  const polls = asked(made.env, "/poll").length;
  await pass(60_000);
  expect(asked(made.env, "/poll").length).toBe(polls);
});

it("another id is another conversation", async () => {
  const [one, two] = [made.server.begin().id, made.server.begin().id];
  made.server.says(one, "first");
  made.server.says(two, "second");
  await show(<Chat id={one} />);
  await show(<Chat id={two} />);
  expect(page.querySelector("p")?.textContent).toBe("second sent");
});

it("renders no more often than there is something new", async () => {
  const { id } = made.server.begin();
  let renders = 0;
  await show(<Chat id={id} onRender={() => (renders += 1)} />);
  const before = renders;
  await pass(60_000);
  expect(asked(made.env, "/poll").length).toBeGreaterThan(5);
  expect(renders).toBe(before);
});

it("in strict mode, mounted twice, it asks and tells once", async () => {
  const { id } = made.server.begin();
  const told: string[] = [];
  function Listener() {
    useAwEvent("message", ({ message }) => told.push(message.body));
    return null;
  }
  await show(
    <StrictMode>
      <Chat id={id} />
      <Listener />
    </StrictMode>,
  );
  made.server.says(id, "Hello");
  await pass(10_000);
  expect(told).toEqual(["Hello"]);
  const before = asked(made.env).length;
  await act(async () => root.render(null));
  await pass(600_000);
  expect(asked(made.env).length).toBe(before);
});

it("another client is another user: the first is stopped", async () => {
  await show(<List />);
  const other = setting({ world: made.world, userScope: "bob" });
  await show(<List />, other.chat);
  const before = asked(made.env).length;
  await pass(300_000);
  expect(asked(made.env).length).toBe(before);
  expect(asked(other.env).length).toBeGreaterThan(3);
});

it("renders on a server, where nothing is asked", () => {
  expect(
    renderToString(
      <AwChatProvider client={made.chat}>
        <List />
      </AwChatProvider>,
    ),
  ).toContain("idle 0 0 connecting");
  expect(made.env.requests).toEqual([]);
});

it("says what is missing without a provider", () => {
  function Lost() {
    useAwChat();
    return null;
  }
  expect(() => renderToString(<Lost />)).toThrow("<AwChatProvider>");
});
