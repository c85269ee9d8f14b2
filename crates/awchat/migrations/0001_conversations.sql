-- The mirror of Intercom's conversations, the journal of messages on their way there, the webhooks
-- received, and the work that is due. TEXT and BIGINT only: the same file runs on SQLite and PostgreSQL.
-- A name ending in _ms is Unix milliseconds, one ending in _at or _until is Unix seconds, flags are 0 or 1.

-- The app's users that have been here, and which Intercom contact stands for each.
create table contact (
  user_id        text   not null primary key,
  contact_id     text   unique,    -- null: Intercom has none, as far as we know
  enriched       text,             -- fingerprint of what was last written to the contact
  imported_ms    bigint,           -- when this user's earlier conversations were taken over
  created_ms     bigint not null
);

create table conversation (
  id             text   not null primary key,   -- Intercom's
  user_id        text   not null,
  state          text   not null,               -- open | closed | snoozed
  snoozed_until  bigint,
  rated          bigint not null default 0,
  is_ticket      bigint not null default 0,
  topic_main     text,
  topic_sub      text,
  source_hidden  bigint not null default 0,     -- opened from a topic alone: the opening line is not the user's
  created_at     bigint not null,
  hidden         bigint not null default 0,     -- made twice by a request without an answer: the second, never shown
  updated_at     bigint not null,               -- Intercom's, of the state above
  truth_ms       bigint not null default 0,     -- when the newest applied answer of Intercom was asked for
  whole_at       bigint not null default 0,     -- Intercom's updated_at up to which everything is here
  whole_ms       bigint not null default 0,     -- when that was asked for
  active_ms      bigint not null,               -- the newest message's arrival: the order of lists
  last_position  bigint not null default 0,     -- the poll's clock
  read_position  bigint not null default 0,
  unread         bigint not null default 0,
  revision       bigint not null default 0      -- grows with every change; orders the heads
);
create index conversation_of_user on conversation (user_id, active_ms);

create table message (
  conversation_id text   not null,
  id              text   not null,              -- Intercom's part id, or its source's id
  position        bigint not null,              -- an edit moves it
  arrived         bigint not null,              -- the first position: what is unread is counted from it
  opening         bigint not null default 0,    -- the conversation's source: it comes first
  author          text   not null,              -- user | operator | bot
  author_name     text,
  avatar_url      text,
  body            text   not null,
  html            text   not null,
  attachments     text   not null,              -- JSON
  created_at      bigint not null,
  redacted        bigint not null default 0,
  hidden          bigint not null default 0,    -- a late duplicate: kept so that it is known, never shown
  fingerprint     text   not null,              -- of the normalised content: tells an edit from a repetition
  polished        bigint not null,              -- has the formatting that a webhook lacks
  primary key (conversation_id, id)
);
create index message_in_order on message (conversation_id, position);

-- The sending journal: one row per message of a user on its way to Intercom.
create table outbound (
  id               text   not null primary key,
  seq              bigint not null,             -- order of acceptance
  user_id          text   not null,
  conversation_id  text,                        -- null until Intercom has made it
  kind             text   not null,             -- reply | create
  route            text   not null,
  idem_key         text,
  fingerprint      text   not null,             -- of route, body and attachments: the same request again?
  content          text   not null,             -- of the normalised body: the same message at Intercom?
  body             text   not null,             -- what Intercom is sent
  payload          text   not null,             -- JSON: the rest of the request
  state            text   not null,             -- sending | unknown | sent | rejected | abandoned
  attempts         bigint not null,
  ambiguous        bigint not null default 0,   -- an attempt may have been applied without our knowing
  told             bigint not null default 0,   -- the client was told 502: never sent again unasked
  attempt_ms       bigint not null,             -- when the newest attempt began
  settle_until_ms  bigint not null default 0,   -- from then on, absence at Intercom is final
  part_id          text,                        -- the message at Intercom
  response         text,                        -- the answer's body, byte for byte
  created_ms       bigint not null
);
create unique index outbound_key  on outbound (user_id, route, idem_key) where idem_key is not null;
create unique index outbound_part on outbound (conversation_id, part_id) where part_id is not null;
-- One unresolved message per conversation, and one unresolved new conversation per user.
create unique index outbound_one  on outbound (conversation_id)
  where state in ('sending', 'unknown') and conversation_id is not null;
create unique index outbound_new  on outbound (user_id)
  where state in ('sending', 'unknown') and conversation_id is null;
create index outbound_seq   on outbound (seq);
create index outbound_retry on outbound (user_id, route, fingerprint);
create index outbound_open  on outbound (state, settle_until_ms);

-- Webhooks received; the text goes when they are applied, the row stays to recognise a repetition.
create table inbox (
  id           text   not null primary key,     -- Intercom's notification id, or a digest of the body
  seq          bigint not null,                 -- order of arrival
  topic        text   not null,
  received_ms  bigint not null,
  raw          text,                            -- null once applied
  attempts     bigint not null default 0,
  due_ms       bigint not null
);
create index inbox_due on inbox (due_ms) where raw is not null;
create index inbox_seq on inbox (seq);
create index inbox_old on inbox (received_ms);

-- Work that is due: one row per kind and subject, so that asking twice is asking once.
create table job (
  id               text   not null primary key,
  kind             text   not null,
  subject          text   not null,
  payload          text   not null,             -- JSON
  due_ms           bigint not null,
  asked            bigint not null default 1,   -- grows when asked for again: work asked for while it runs runs again
  attempts         bigint not null default 0,
  leased_until_ms  bigint not null default 0,
  created_ms       bigint not null,
  unique (kind, subject)
);
create index job_due on job (due_ms);

-- How far something has come: the sweep's last good mark.
create table mark (
  name   text   not null primary key,
  value  bigint not null
);
