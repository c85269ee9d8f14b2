// One conversation.

import type { Thread as Model, ThreadState } from "@aw-chat/core";
import { useEffect, useRef, useState } from "preact/hooks";
import { Composer } from "../composer.tsx";
import { Messages } from "../messages.tsx";
import { Empty, Failure, Icon, IconButton, Loading, Problem } from "../parts.tsx";
import { useTail } from "../scroll.ts";
import { useApp, useResource, useTask } from "../view.ts";
import { StateChip } from "./conversations.tsx";

/** How it stands, and how to end it. */
function Bar({ thread, state }: { thread: Model; state: ThreadState["state"] }) {
  const { language, router } = useApp();
  const { t } = language;
  const [isAsking, setAsking] = useState(false);
  const sure = useRef<HTMLButtonElement>(null);
  const { isBusy, error, run } = useTask();
  useEffect(() => {
    if (isAsking) sure.current?.focus();
  }, [isAsking]);

  const end = () =>
    run(async () => {
      const { csatPrompt } = await thread.close();
      setAsking(false);
      if (csatPrompt) router.push({ screen: "csat", conversationId: thread.id });
    });

  return (
    <div class="bar">
      {isAsking ? (
        // biome-ignore lint/a11y/useSemanticElements: a fieldset is for what is filled in.
        <div class="sure" role="group" aria-label={t("thread.end.sure")}>
          <span>{t("thread.end.sure")}</span>
          <button ref={sure} class="button danger" type="button" aria-disabled={isBusy} onClick={end}>
            {t("thread.end")}
          </button>
          <button class="button" type="button" onClick={() => setAsking(false)}>
            {t("cancel")}
          </button>
        </div>
      ) : (
        <>
          <StateChip state={state} />
          <span class="grow" />
          {state !== "closed" && (
            <button class="button small" type="button" onClick={() => setAsking(true)}>
              <Icon name="end" />
              {t("thread.end")}
            </button>
          )}
          <IconButton
            icon="flag"
            label={t("thread.complain")}
            onPress={() => router.push({ screen: "complaint", chatId: thread.id })}
          />
        </>
      )}
      <Problem error={error} />
    </div>
  );
}

/** What is to be said of its state, above where one writes. */
function Standing({ id, state, snoozedUntil, rated }: ThreadState & { id: string }) {
  const { language, router } = useApp();
  const { t } = language;
  if (state === "snoozed") {
    return <p class="notice">{t("thread.snoozed", { when: snoozedUntil ? language.full(snoozedUntil) : "" })}</p>;
  }
  if (state !== "closed") return null;
  return (
    <p class="notice">
      {t("thread.closed")}{" "}
      {!rated && (
        <button class="link" type="button" onClick={() => router.push({ screen: "csat", conversationId: id })}>
          {t("thread.rate")}
        </button>
      )}
    </p>
  );
}

export function Thread({ id }: { id: string }) {
  const { chat, language, router } = useApp();
  const { t } = language;
  const thread = chat.thread(id);
  const shown = useResource(thread.state);
  const draft = useResource(thread.draft);
  const { messages, status, unreadCount, error } = shown;
  const tail = useTail(messages.length, messages.at(-1)?.author.type === "user");
  useEffect(() => thread.open(), [thread]);

  // What is on the screen is read, as soon as somebody is there.
  useEffect(() => {
    const read = () => {
      if (unreadCount && document.visibilityState !== "hidden") void thread.markRead().catch(() => {});
    };
    read();
    document.addEventListener("visibilitychange", read);
    return () => document.removeEventListener("visibilitychange", read);
  }, [thread, unreadCount]);

  function list() {
    if (status === "error" && error) return <Failure error={error} retry={chat.wake} />;
    if (status !== "ready") return <Loading />;
    if (!messages.length) {
      return (
        <Empty icon="chats">
          <p>{t("thread.empty")}</p>
        </Empty>
      );
    }
    return <Messages messages={messages} mending={thread} />;
  }

  if (status === "gone") {
    return (
      <Empty icon="chats">
        <p>{t("thread.gone")}</p>
        <button class="button" type="button" onClick={() => router.reset({ screen: "conversations" })}>
          {t("chats.title")}
        </button>
      </Empty>
    );
  }
  return (
    <div class="fill">
      <Bar thread={thread} state={shown.state} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be scrolled by keyboard. */}
      <section class="grow scroll" ref={tail.area} aria-label={t("thread.messages")} tabIndex={0}>
        <div>{list()}</div>
      </section>
      {tail.unseen > 0 && (
        <button class="pill" type="button" onClick={tail.toEnd}>
          {t("thread.new", { n: tail.unseen })}
        </button>
      )}
      <Standing id={id} {...shown} />
      <Composer
        text={draft}
        onText={thread.draft.set}
        onSend={(text, uploads) => {
          thread.send({ text, uploads });
          return true;
        }}
      />
    </div>
  );
}
