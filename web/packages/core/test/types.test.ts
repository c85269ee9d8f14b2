import { expectTypeOf, it } from "vitest";
import type { Answer, Input, Poll, TicketList } from "../src/api.ts";
import { AwError, type AwErrorCode, createAwChat, type Resource, type Unread } from "../src/index.ts";

it("the routes of the contract have their inputs and answers", () => {
  expectTypeOf<Answer<"GET /api/conversations/{id}/poll">>().toEqualTypeOf<Poll>();
  expectTypeOf<Answer<"GET /api/tickets">>().toEqualTypeOf<TicketList>();
  expectTypeOf<Input<"GET /api/conversations/{id}/poll">>().toHaveProperty("path").toEqualTypeOf<{ id: string }>();
  // @ts-expect-error: there is no such route.
  expectTypeOf<Answer<"GET /api/nothing">>();
});

it("what a client is made of, and what it gives, has types", () => {
  // @ts-expect-error: whose client is it?
  const without = () => createAwChat({ serverUrl: "https://x", getToken: () => "t" });
  expectTypeOf(without).returns.toHaveProperty("unread").toEqualTypeOf<Resource<Unread>>();
  expectTypeOf(new AwError("network").code).toEqualTypeOf<AwErrorCode>();
  // @ts-expect-error: not one of the codes.
  new AwError("broken");
});
