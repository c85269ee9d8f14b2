import { createAwChat } from "@aw-chat/core";
import { createTestWorld } from "@aw-chat/core/testing";

/** A test of your own screens: the server is a function, and a minute passes when you say so. */
export async function unreadAfterAMinute(): Promise<number> {
  const world = createTestWorld({ seed: 1 });
  let unreadTotal = 0;
  const env = world.env({ server: () => ({ body: { conversations: [], nextCursor: null, unreadTotal } }) });
  const chat = createAwChat({ serverUrl: "https://support.test", getToken: () => "token", userScope: "ada", env });
  await chat.start();
  unreadTotal = 3;
  await world.advance(70_000);
  chat.stop();
  return chat.unread.get().total;
}
