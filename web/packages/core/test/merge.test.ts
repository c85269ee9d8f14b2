import fc from "fast-check";
import { expect, it } from "vitest";
import type { Conversation, Message, Poll } from "../src/api.ts";
import { createMerged, type Page } from "../src/merge.ts";

type Change = { at: number; id: string; body: string; createdAt: number };

const author = { type: "operator", name: null, avatarUrl: null } as const;

function message({ id, body, createdAt }: Change): Message {
  return { id, author, body, html: "", attachments: [], createdAt, redacted: false };
}

/** A conversation's history: each change is a message at a new position, or a new version of an earlier one. */
const histories = fc
  .array(
    fc.record({
      edits: fc.option(fc.nat({ max: 9 }), { freq: 3 }),
      same: fc.boolean(),
      body: fc.string({ maxLength: 3 }),
    }),
    {
      minLength: 1,
      maxLength: 14,
    },
  )
  .map((steps) => {
    const changes: Change[] = [];
    const created: Change[] = [];
    steps.forEach(({ edits, same, body }, i) => {
      const at = i * 2 + 1;
      const old = edits !== null && created.length ? created[edits % created.length] : undefined;
      // Some have the same second, some have not.
      const fresh = {
        at,
        id: i ? String(900 + ((i * 7) % 20)) : "99000",
        body,
        createdAt: i && !same ? at : Math.floor(at / 8),
      };
      const change = old ? { ...old, at, body } : fresh;
      if (!old) created.push(change);
      changes.push(change);
    });
    return changes;
  });

/** What the server answers to `since` when its clock stands at `at`. */
function answer(changes: Change[], since: number | null, at: number): Poll | Conversation {
  const newest = new Map<string, Change>();
  for (const change of changes) if (change.at <= at) newest.set(change.id, change);
  const latestTimestamp = Math.max(0, ...[...newest.values()].map((change) => change.at));
  const standing = {
    state: latestTimestamp % 3 ? "open" : "closed",
    snoozedUntil: null,
    rated: latestTimestamp % 5 === 0,
    unreadCount: latestTimestamp,
    latestTimestamp,
  } as const;
  const all = [...newest.values()];
  if (since !== null) {
    const messages = all.filter((change) => change.at > since).sort((a, b) => a.at - b.at);
    return { ...standing, messages: messages.map(message) };
  }
  // As the server sorts it: the opening one first among those of its second.
  const opening = changes[0]?.id;
  all.sort(
    (a, b) =>
      a.createdAt - b.createdAt ||
      Number(b.id === opening) - Number(a.id === opening) ||
      a.id.length - b.id.length ||
      (a.id < b.id ? -1 : 1),
  );
  return {
    ...standing,
    id: "1",
    topic: null,
    lastMessage: null,
    createdAt: 0,
    updatedAt: 0,
    rating: null,
    messages: all.map(message),
  };
}

it("any order, doubling and repetition of answers gives the list that the server has", () => {
  fc.assert(
    fc.property(
      histories,
      fc.array(fc.tuple(fc.nat({ max: 30 }), fc.nat({ max: 30 })), { maxLength: 12 }),
      fc.array(fc.nat({ max: 13 }), { maxLength: 4 }),
      fc.infiniteStream(fc.nat()),
      (changes, polls, sent, order) => {
        const end = 100;
        const whole: Page = { since: null, asked: end, answer: answer(changes, null, end) };
        const some = polls.map(([since, at], asked): Page => ({ since, asked, answer: answer(changes, since, at) }));
        const early: Page = { since: null, asked: 0, answer: answer(changes, null, 5) };
        const replies = sent.flatMap((i) => changes[i] ?? []).map(message);
        const deliveries = [whole, early, ...some, ...some, ...replies].map((what) => ({
          what,
          rank: order.next().value ?? 0,
        }));
        deliveries.sort((a, b) => a.rank - b.rank);
        const merged = createMerged();
        for (const { what } of deliveries) {
          if ("answer" in what) merged.page(what);
          else merged.sent(what);
        }
        const truth = answer(changes, null, end);
        expect(merged.messages).toEqual(truth.messages);
        expect(merged.standing?.state).toBe(truth.state);
        expect(merged.standing?.rated).toBe(truth.rated);
        expect(merged.cursor).toBe(truth.latestTimestamp);
      },
    ),
    { seed: 7, numRuns: 3000 },
  );
});

it("polling on from the cursor misses nothing, whatever is lost, late or heard of other tabs", () => {
  fc.assert(
    fc.property(
      histories,
      fc.array(
        fc.record({ at: fc.nat({ max: 32 }), lost: fc.boolean(), late: fc.boolean(), other: fc.nat({ max: 32 }) }),
        {
          maxLength: 16,
        },
      ),
      (changes, steps) => {
        const merged = createMerged();
        const late: Page[] = [];
        let clock = 0;
        let before = 0;
        for (const { at, lost, late: isLate, other } of steps) {
          clock = Math.max(clock, at);
          const page: Page = { since: merged.cursor, asked: clock, answer: answer(changes, merged.cursor, clock) };
          if (isLate) late.push(page);
          else if (!lost) merged.page(page);
          // Another tab's poll, which may have begun beyond what this one has.
          merged.page({
            since: Math.min(other, clock),
            asked: clock,
            answer: answer(changes, Math.min(other, clock), clock),
          });
          expect(merged.cursor).toBeGreaterThanOrEqual(before);
          before = merged.cursor;
        }
        for (const page of late) merged.page(page);
        merged.page({ since: merged.cursor, asked: 100, answer: answer(changes, merged.cursor, 100) });
        const truth = answer(changes, 0, 100).messages;
        expect(new Map(merged.messages.map((m) => [m.id, m.body]))).toEqual(new Map(truth.map((m) => [m.id, m.body])));
      },
    ),
    { seed: 8, numRuns: 3000 },
  );
});

it("the answer to a read mark is not undone by a poll that was asked before it", () => {
  const merged = createMerged();
  const poll = (asked: number): Page => ({ since: null, asked, answer: { ...answer([], null, 0), unreadCount: 3 } });
  merged.page(poll(10));
  merged.assume({ unreadCount: 0 }, 20);
  merged.page(poll(15));
  expect(merged.standing?.unreadCount).toBe(0);
  merged.page(poll(25));
  expect(merged.standing?.unreadCount).toBe(3);
});
