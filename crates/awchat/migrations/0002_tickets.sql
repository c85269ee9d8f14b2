-- Tickets: a ticket is a conversation of the same id (`conversation.is_ticket`), and this is what it is besides.

create table ticket (
  conversation_id  text   not null primary key,
  number           text   not null,             -- the one people see: AW-123 is 123
  title            text,                        -- null: none, or not for the user's eyes
  description      text,
  status           text   not null,             -- submitted | in_progress | waiting_on_customer | resolved
  label            text   not null,             -- Intercom's external one of the state it is in
  labels           text   not null,             -- JSON: the external label of each status, as far as known
  created_at       bigint not null,
  updated_at       bigint not null,             -- Intercom's, of the above; not that of the conversation
  newest_part      bigint not null,             -- and its newest part: the order of changes within a second
  whole_at         bigint not null default 0,   -- Intercom's updated_at up to which everything is here
  whole_ms         bigint not null default 0    -- when that was asked for
);

-- The timeline: Intercom's parts on changes of state.
create table ticket_change (
  conversation_id  text   not null,
  part_id          text   not null,
  status           text   not null,             -- what the ticket became
  status_before    text,
  changed_at       bigint not null,
  primary key (conversation_id, part_id)
);

-- A user's first visit brings tickets too; for those who had it before, it is repeated.
update contact set imported_ms = null;
