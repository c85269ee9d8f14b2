// All conversations, the latest first.

import type { ConversationState, ConversationSummary } from "@aw-chat/core";
import { useEffect } from "preact/hooks";
import { Badge, Empty, Failure, Loading, Problem, Row } from "../parts.tsx";
import { useApp, useResource, useTask } from "../view.ts";
import { labelOf, topicOf } from "./home.tsx";

export function StateChip({ state }: { state: ConversationState }) {
  const { t } = useApp().language;
  return <span class={`chip ${state}`}>{t(`state.${state}`)}</span>;
}

/** What a conversation is called: its topic, in the user's language where it has a label. */
export function useTitle({ topic }: Pick<ConversationSummary, "topic">): string {
  const { config, language } = useApp();
  if (!topic) return language.t("chat.untitled");
  const { main, sub } = topic;
  const known = topicOf(config.value, main);
  const labels = sub === null ? known?.labels : known?.subs.find((one) => one.sub === sub)?.labels;
  return labelOf(labels, language.locale, sub ?? main);
}

export function ConversationRow({ conversation }: { conversation: ConversationSummary }) {
  const { language, router } = useApp();
  const { id, lastMessage, state, unreadCount, updatedAt } = conversation;
  const preview = lastMessage && (lastMessage.body || language.t("chat.file"));
  const from = lastMessage?.author.type === "user" ? `${language.t("you")}: ` : "";
  return (
    <Row
      title={useTitle(conversation)}
      detail={preview && from + preview}
      onPress={() => router.push({ screen: "thread", id })}
    >
      <time class="faint">{language.short(updatedAt)}</time>
      {unreadCount ? <Badge count={unreadCount} /> : <StateChip state={state} />}
    </Row>
  );
}

export function Conversations() {
  const { chat, language, router } = useApp();
  const { t } = language;
  const { status, error, items, hasMore } = useResource(chat.conversations);
  const more = useTask();
  useEffect(() => chat.conversations.open(), [chat]);

  function list() {
    if (status === "error" && error) {
      return <Failure error={error} retry={() => void chat.conversations.refresh().catch(() => {})} />;
    }
    if (status !== "ready") return <Loading />;
    if (!items.length) {
      return (
        <Empty icon="chats">
          <p>{t("chats.empty")}</p>
        </Empty>
      );
    }
    return (
      <>
        <ul class="card list" aria-label={t("chats.title")}>
          {items.map((conversation) => (
            <li key={conversation.id}>
              <ConversationRow conversation={conversation} />
            </li>
          ))}
        </ul>
        <Problem error={more.error} />
        {hasMore && (
          <button
            class="button"
            type="button"
            disabled={more.isBusy}
            onClick={() => more.run((signal) => chat.conversations.more(signal))}
          >
            {t("more")}
          </button>
        )}
      </>
    );
  }

  return (
    <div class="fill">
      <div class="grow">{list()}</div>
      <div class="foot">
        <button class="button main wide" type="button" onClick={() => router.push({ screen: "begin" })}>
          {t("chats.new")}
        </button>
      </div>
    </div>
  );
}
