import { type AwChat, createAwChat } from "@aw-chat/core";
import { type TelegramWebApp, telegram, telegramToken } from "@aw-chat/core/telegram";

/** `webApp` is `window.Telegram.WebApp`. The server makes the session of a Mini App that has no backend of its own. */
export function miniAppChat(webApp: TelegramWebApp, telegramUserId: string): AwChat {
  const serverUrl = "https://support.example.com";
  return createAwChat({
    serverUrl,
    getToken: telegramToken(serverUrl, webApp),
    userScope: `tg:${telegramUserId}`,
    env: telegram(webApp),
  });
}
