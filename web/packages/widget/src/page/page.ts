// The chat as a page of its own: within an app's page (a frame), in an app's web view, or as a Telegram Mini App.

import { AwChatElement, type GetToken } from "../aw-chat.ts";
import { framed } from "./framed.ts";
import { isTelegram, miniApp } from "./mini-app.ts";

/** What a place tells of its user. */
export interface Place {
  getToken: GetToken;
  userScope: string;
}

async function begin(): Promise<void> {
  const element = document.querySelector("aw-chat");
  if (!(element instanceof AwChatElement)) return;
  if (isTelegram()) return miniApp(element);
  const place = await framed();
  if (place) return element.boot(place);
  const text = document.createElement("p");
  text.className = "alone";
  text.textContent = "This page is part of an app, and opens from there.";
  document.body.append(text);
}

void begin();
