// Where all begins: what to go on with, and topics to pick.

import type { ServerConfig, TopicChoice } from "@aw-chat/core";
import { Await, Icon, Row } from "../parts.tsx";
import { useApp, useResource } from "../view.ts";
import { ConversationRow } from "./conversations.tsx";

/** A topic's label in the user's language, else in English, else as operators see it. */
export function labelOf(labels: Readonly<Record<string, string>> | undefined, locale: string, name: string): string {
  return labels?.[locale] ?? labels?.en ?? name;
}

export function topicOf(config: ServerConfig | null, main: string): TopicChoice | undefined {
  return config?.topics.find((topic) => topic.main === main);
}

export function Home() {
  const { chat, language, router } = useApp();
  const { t, locale } = language;
  const { config } = useApp();
  const { items } = useResource(chat.conversations);
  const latest = items.find(({ state }) => state !== "closed");
  return (
    <>
      <p class="lead">{t("hint")}</p>
      {latest && (
        <section aria-label={t("home.continue")}>
          <h3>{t("home.continue")}</h3>
          <div class="card">
            <ConversationRow conversation={latest} />
          </div>
        </section>
      )}
      <Await of={config}>
        {({ topics }) =>
          topics.length > 0 && (
            <section aria-label={t("home.topics")}>
              <h3>{t("home.topics")}</h3>
              <ul class="card list">
                {topics.map(({ main, labels, subs }) => (
                  <li key={main}>
                    <Row
                      title={labelOf(labels, locale, main)}
                      onPress={() => router.push(subs.length ? { screen: "topic", main } : { screen: "begin", main })}
                    />
                  </li>
                ))}
              </ul>
            </section>
          )
        }
      </Await>
      <div class="stack">
        <button class="button main" type="button" onClick={() => router.push({ screen: "begin" })}>
          {t("home.write")}
        </button>
        <button class="button quiet" type="button" onClick={() => router.push({ screen: "complaint" })}>
          <Icon name="flag" />
          {t("home.complain")}
        </button>
      </div>
    </>
  );
}

/** The second choice, where a topic has more to choose from. */
export function SubTopics({ main }: { main: string }) {
  const { language, router } = useApp();
  const { t, locale } = language;
  const { config } = useApp();
  return (
    <Await of={config}>
      {(config) => (
        <ul class="card list" aria-label={t("home.topics")}>
          {topicOf(config, main)?.subs.map(({ sub, labels }) => (
            <li key={sub}>
              <Row title={labelOf(labels, locale, sub)} onPress={() => router.push({ screen: "begin", main, sub })} />
            </li>
          ))}
        </ul>
      )}
    </Await>
  );
}
