-- What users say of the support, where their notices go, and which they want. Kept here alone, Intercom has none of it.

-- A user's ratings.
create table csat (
  id               text   not null primary key,
  user_id          text   not null,
  stars            bigint not null,             -- 1 to 5
  comment          text,
  ticket_id        text,                        -- as the client named them; what it counts for is in csat_subject
  conversation_id  text,
  idem_key         text,                        -- null once it is too old to be repeated
  fingerprint      text   not null,             -- of the request: the same key with another payload?
  created_ms       bigint not null
);
create unique index csat_key on csat (user_id, idem_key) where idem_key is not null;
create index csat_of_user on csat (user_id, created_ms);
create index csat_in_time on csat (created_ms);
create index csat_keys_old on csat (created_ms) where idem_key is not null;

-- What a rating counts for: one rating per user and conversation, and a ticket is the conversation with its id.
create table csat_subject (
  user_id          text   not null,
  conversation_id  text   not null,
  csat_id          text   not null,
  primary key (user_id, conversation_id)
);
create index csat_subject_of on csat_subject (csat_id);

-- A rating given here stays, whatever tags the conversation has at Intercom.
alter table conversation add column rated_here bigint not null default 0;

create table complaint (
  id               text   not null primary key,
  user_id          text   not null,
  category         text   not null,             -- funds | security | operator | technical | other
  description      text   not null,
  chat_id          text,                        -- as the client named it: the user's own, where it is a conversation's id
  dialog_id        text,                        -- the app's own word for what it is about
  idem_key         text,                        -- null once it is too old to be repeated
  fingerprint      text   not null,             -- of the request: the same key with another payload?
  created_ms       bigint not null
);
create unique index complaint_key on complaint (user_id, idem_key) where idem_key is not null;
create index complaint_of_user on complaint (user_id, created_ms);
create index complaint_in_time on complaint (created_ms);
create index complaint_keys_old on complaint (created_ms) where idem_key is not null;

-- Where a user's notices go.
create table device (
  id             text   not null primary key,   -- a new one when the token moves: notices for the old user stay with the old id
  user_id        text   not null,
  platform       text   not null,               -- mobile | tma
  token          text   not null,               -- FCM's, or the Telegram user id
  locale         text,
  created_ms     bigint not null,
  registered_ms  bigint not null,               -- when it was last registered
  unique (platform, token)
);
create index device_of_user on device (user_id, registered_ms);

-- Which notices a user wants; without a row, all.
create table notification_settings (
  user_id         text   not null primary key,
  chat_messages   bigint not null default 1,
  ticket_updates  bigint not null default 1,
  system_notices  bigint not null default 1
);
