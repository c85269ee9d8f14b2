// @aw-chat/core: AW Chat's client, without a user interface.

export type {
  Attachment,
  Author,
  Clarified,
  ComplaintCategory,
  ComplaintRequest,
  Conversation,
  ConversationState,
  ConversationSummary,
  DeviceRequest,
  Diagnostics,
  FileLink,
  Message,
  NotificationSettings,
  Rated,
  Rating,
  RatingRequest,
  ServerConfig,
  Ticket,
  TicketList,
  TicketStatus,
  TicketSummary,
  Topic,
  TopicChoice,
  UploadedFile,
} from "./api.ts";
export { browser } from "./browser.ts";
export { type AwChat, type AwChatOptions, createAwChat } from "./client.ts";
export type { Connection } from "./connection.ts";
export type { AwStorage, Env, HttpAnswer, HttpInit, Tabs } from "./env.ts";
export { AwError, type AwErrorCode, type AwErrorDetails, type ServerErrorCode } from "./errors.ts";
export type { BeginRequest } from "./extras.ts";
export type {
  Abortable,
  Complaints,
  Csat,
  Devices,
  DiagnosticsLog,
  PageOptions,
  Settings,
  SettingsState,
  Tickets,
} from "./feedback.ts";
export type { FileSource, Files, Upload, UploadOptions, UploadState } from "./files.ts";
export type { AwEvents } from "./host.ts";
export type { Conversations, ConversationsState, Unread } from "./list.ts";
export type { Standing } from "./merge.ts";
export type { Transport } from "./pace.ts";
export type { GetToken, TokenRequest } from "./session.ts";
export type { Resource, Undo } from "./store.ts";
export type { Draft, Thread, ThreadMessage, ThreadState } from "./thread.ts";
