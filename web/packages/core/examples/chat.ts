import { type AwChat, createAwChat } from "@aw-chat/core";

/** One client for the user who is signed in. */
export function supportChat(user: { id: string; token: () => Promise<string> }): AwChat {
  return createAwChat({
    serverUrl: "https://support.example.com",
    // Asked for when there is no token yet, before one ends, and when one is refused.
    getToken: user.token,
    // Keeps what is kept on the device apart from another user's.
    userScope: user.id,
  });
}

/** Asks, and calls `show` with the whole conversation whenever something changes. */
export async function ask(chat: AwChat, text: string, show: (lines: string[]) => void): Promise<() => void> {
  await chat.start();
  const thread = await chat.begin({ reason: { main: "Payments", sub: "Refund" }, text });
  thread.state.subscribe(({ messages }) => show(messages.map((message) => `${message.author.type}: ${message.body}`)));
  // Looked at from here on, until the function that it returns is called.
  const leave = thread.open();
  thread.send({ text: "It was order 1138." });
  return leave;
}
