// One ticket: how far it is, what was written, and what can be asked.

import type { Ticket as Details, Upload } from "@aw-chat/core";
import { useEffect, useState } from "preact/hooks";
import { Composer } from "../composer.tsx";
import { Messages } from "../messages.tsx";
import { Await, Icon, Problem } from "../parts.tsx";
import { useApp, useLoad, useTask } from "../view.ts";
import { StatusChip } from "./tickets.tsx";

const REFRESH_MS = 10_000;
/** Operators' rules answer a reply in a moment, such as by opening the ticket again. */
const AFTER_REPLY_MS = [1500, 4000];

function Timeline({ timeline }: Pick<Details, "timeline">) {
  const { language } = useApp();
  return (
    <section aria-label={language.t("ticket.progress")}>
      <h3>{language.t("ticket.progress")}</h3>
      <ol class="timeline">
        {timeline.map(({ status, label, at }, n) => (
          <li key={`${at}${status}${n}`} class={status} aria-current={n === timeline.length - 1 ? "step" : undefined}>
            <bdi>{label}</bdi>
            <time class="faint">{language.full(at)}</time>
          </li>
        ))}
      </ol>
    </section>
  );
}

export function Ticket({ id }: { id: string }) {
  const { chat, language, router } = useApp();
  const { t } = language;
  const ticket = useLoad((signal) => chat.tickets.get(id, { signal }), [id], REFRESH_MS);
  const [text, setText] = useState("");
  const [replies, setReplies] = useState(0);
  const reply = useTask();
  const ask = useTask();

  useEffect(() => {
    if (!replies) return;
    const timers = AFTER_REPLY_MS.map((ms) => setTimeout(ticket.reload, ms));
    return () => timers.forEach(clearTimeout);
  }, [replies]);

  const send = (text: string, uploads: readonly Upload[]) =>
    reply.run(async (signal) => {
      const files = await Promise.all(uploads.map((upload) => upload.done));
      const attachmentIds = files.length ? files.map((file) => file.id) : undefined;
      await chat.tickets.reply(id, { text: text.trim() || undefined, attachmentIds }, { signal });
      setText("");
      setReplies((before) => before + 1);
      ticket.reload();
    });

  const clarify = (reference: string) =>
    ask.run(async (signal) => {
      const question = { text: t("ticket.ask.text", { ref: reference }) };
      const { conversationId } = await chat.tickets.clarify(id, question, { signal });
      router.push({ screen: "thread", id: conversationId });
    });

  return (
    <Await of={ticket}>
      {({ reference, title, description, status, statusLabel, timeline, messages, rated }) => (
        <div class="fill">
          <div class="grow scroll">
            <p class="ticket-head">
              <bdi>{reference}</bdi>
              <StatusChip status={status} label={statusLabel} />
            </p>
            <h3 class="ticket-title">
              <bdi>{title}</bdi>
            </h3>
            {description && (
              <p class="description" dir="auto">
                {description}
              </p>
            )}
            <Timeline timeline={timeline} />
            <button class="button wide" type="button" aria-disabled={ask.isBusy} onClick={() => clarify(reference)}>
              <Icon name="chats" />
              {t("ticket.ask")}
            </button>
            <Problem error={ask.error} />
            {messages.length > 0 && (
              <section aria-label={t("ticket.messages")}>
                <h3>{t("ticket.messages")}</h3>
                <Messages messages={messages} />
              </section>
            )}
          </div>
          {status === "resolved" && (
            <p class="notice">
              {t("ticket.reopen")}{" "}
              {!rated && (
                <button class="link" type="button" onClick={() => router.push({ screen: "csat", ticketId: id })}>
                  {t("ticket.rate")}
                </button>
              )}
            </p>
          )}
          <Problem error={reply.error} />
          <Composer text={text} onText={setText} onSend={send} isBusy={reply.isBusy} />
        </div>
      )}
    </Await>
  );
}
