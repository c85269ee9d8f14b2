// What a conversation is, from answers that may come in any order and more than once.

import type { Conversation, Message, Poll } from "./api.ts";

/** An answer of poll, or of the whole conversation, and what was asked. */
export interface Page {
  /** The `since` that was asked with; null is the whole conversation. */
  since: number | null;
  /** When it was asked, in milliseconds: of two answers at one position, that to the later request counts. */
  asked: number;
  answer: Poll | Conversation;
}

/** How a conversation stands, apart from its messages. */
export type Standing = Pick<Conversation, "state" | "snoozedUntil" | "rated" | "unreadCount">;

/**
 * Answers merged. The result is the same for any order, doubling and repetition of them: a message's newest version is
 * the one in the answer with the greatest position, for each answer is a snapshot at its position.
 */
export interface Merged {
  /** Null before the first answer. */
  standing: Standing | null;
  /** Null before the whole has been here once. */
  details: Pick<Conversation, "topic" | "rating"> | null;
  /** Oldest first, as the server sorts the whole conversation. */
  messages: readonly Message[];
  /** The position up to which nothing is missing: the next `since`. */
  cursor: number;
  /** Answers the messages that were not known before. */
  page(page: Page): Message[];
  /** The answer to a message sent: it may be an old one, come again, so whatever a page says counts more. */
  sent(message: Message): void;
  /** What this user has just done here, until the server says how it stands. */
  assume(standing: Partial<Standing>, asked: number): void;
}

export function createMerged(): Merged {
  const known = new Map<string, { message: Message; at: number }>();
  let opening: string | undefined;
  // When what is held was told: position, and request.
  let standingAt = -1;
  let standingAsked = 0;
  let detailsAt = -1;

  function put(messages: readonly Message[], at: number): void {
    for (const message of messages) if (at >= (known.get(message.id)?.at ?? -1)) known.set(message.id, { message, at });
    merged.messages = [...known.values()]
      .map((entry) => entry.message)
      .sort(
        (a, b) =>
          a.createdAt - b.createdAt ||
          Number(b.id === opening) - Number(a.id === opening) ||
          a.id.length - b.id.length ||
          (a.id < b.id ? -1 : 1),
      );
  }

  const merged: Merged = {
    standing: null,
    details: null,
    messages: [],
    cursor: 0,
    page({ since, asked, answer }) {
      const { latestTimestamp: at, messages, state, snoozedUntil, rated, unreadCount } = answer;
      const fresh = messages.filter((message) => !known.has(message.id));
      if (at > standingAt || (at === standingAt && asked >= standingAsked)) {
        merged.standing = { state, snoozedUntil, rated, unreadCount };
        standingAt = at;
        standingAsked = asked;
      }
      if ("topic" in answer && at >= detailsAt) {
        merged.details = { topic: answer.topic, rating: answer.rating };
        detailsAt = at;
        opening = messages[0]?.id;
      }
      put(messages, at);
      // An answer from beyond our position has not told what lies between.
      if ((since ?? 0) <= merged.cursor) merged.cursor = Math.max(merged.cursor, at);
      return fresh;
    },
    sent(message) {
      if (!known.has(message.id)) put([message], -1);
    },
    assume(changes, asked) {
      if (!merged.standing) return;
      merged.standing = { ...merged.standing, ...changes };
      standingAsked = asked;
    },
  };
  return merged;
}
