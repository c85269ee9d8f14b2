// All tickets, newest first, and a search by number.

import type { TicketStatus, TicketSummary } from "@aw-chat/core";
import { useEffect, useState } from "preact/hooks";
import { Await, Badge, Empty, Problem, Row } from "../parts.tsx";
import { useApp, useLoad, useTask } from "../view.ts";

const TYPING_MS = 250;

export function StatusChip({ status, label }: { status: TicketStatus; label: string }) {
  return (
    <span class={`chip ${status}`} dir="auto">
      {label}
    </span>
  );
}

function TicketRow({ ticket }: { ticket: TicketSummary }) {
  const { language, router } = useApp();
  return (
    <Row
      title={ticket.title}
      detail={
        <>
          <bdi>{ticket.reference}</bdi> · {language.short(ticket.updatedAt)}
        </>
      }
      onPress={() => router.push({ screen: "ticket", id: ticket.id })}
    >
      <StatusChip status={ticket.status} label={ticket.statusLabel} />
      <Badge count={ticket.unreadCount} />
    </Row>
  );
}

/** `value`, once it has rested. */
function useRested(value: string): string {
  const [rested, setRested] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setRested(value), TYPING_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return rested;
}

export function Tickets() {
  const { chat, language, announce } = useApp();
  const { t } = language;
  const [text, setText] = useState("");
  const query = useRested(text.trim());
  const [later, setLater] = useState<{ tickets: TicketSummary[]; next: string | null } | null>(null);
  const more = useTask();
  const found = useLoad(
    async (signal) => {
      const list = await (query ? chat.tickets.search(query, { signal }) : chat.tickets.list({ signal }));
      setLater(null);
      if (query) announce(list.tickets.length ? t("tickets.found", { n: list.tickets.length }) : t("tickets.none"));
      return list;
    },
    [query],
  );

  const loadMore = (cursor: string) =>
    more.run(async (signal) => {
      const options = { cursor, signal };
      const page = await (query ? chat.tickets.search(query, options) : chat.tickets.list(options));
      setLater({ tickets: [...(later?.tickets ?? []), ...page.tickets], next: page.nextCursor });
    });

  return (
    <>
      <search class="field">
        <input
          type="search"
          inputMode="search"
          aria-label={t("tickets.search")}
          placeholder={t("tickets.search")}
          value={text}
          maxLength={32}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </search>
      <Await of={found}>
        {(list) => {
          const tickets = [...list.tickets, ...(later?.tickets ?? [])];
          const next = later ? later.next : list.nextCursor;
          if (!tickets.length) {
            return (
              <Empty icon="tickets">
                <p>{t(query ? "tickets.none" : "tickets.empty")}</p>
              </Empty>
            );
          }
          return (
            <>
              <ul class="card list" aria-label={t("tickets.title")}>
                {tickets.map((ticket) => (
                  <li key={ticket.id}>
                    <TicketRow ticket={ticket} />
                  </li>
                ))}
              </ul>
              <Problem error={more.error} />
              {next && (
                <button class="button" type="button" disabled={more.isBusy} onClick={() => loadMore(next)}>
                  {t("more")}
                </button>
              )}
            </>
          );
        }}
      </Await>
    </>
  );
}
