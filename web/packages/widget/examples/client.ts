import type { AwChat } from "@aw-chat/core";
import "@aw-chat/widget";

/** For a page that has a client already: the widget shows what it has, and the page goes on using it. */
export function showChat(client: AwChat, orderId: string): void {
  const chat = document.createElement("aw-chat");
  chat.addEventListener("aw-unread", (event) => {
    document.title = `(${(event as CustomEvent<{ total: number }>).detail.total}) My shop`;
  });
  document.body.append(chat);
  chat.boot({ client, strings: { hello: `Is it about order ${orderId}?` } });
  chat.open({ screen: "conversations" });
}
