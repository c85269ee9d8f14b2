// Tickets, ratings, complaints, devices, settings: one request each, as screens need them.

import type {
  Clarified,
  ComplaintRequest,
  DeviceRequest,
  Diagnostics,
  Message,
  NotificationSettings,
  Rated,
  RatingRequest,
  Ticket,
  TicketList,
} from "./api.ts";
import { type AwError, toAwError } from "./errors.ts";
import type { Host } from "./host.ts";
import { once } from "./requests.ts";
import type { Resource, Store } from "./store.ts";

export interface Abortable {
  signal?: AbortSignal;
}

export interface PageOptions extends Abortable {
  limit?: number;
  cursor?: string;
}

export interface Tickets {
  /** Newest first. */
  list(options?: PageOptions): Promise<TicketList>;
  /** By reference: `AW-123`, `aw-123`, `123` or the beginning of the number. */
  search(text: string, options?: PageOptions): Promise<TicketList>;
  get(id: string, options?: Abortable): Promise<Ticket>;
  /** A resolved ticket is opened again. Repeated after a failure, the same words arrive once. */
  reply(id: string, content: { text?: string; attachmentIds?: string[] }, options?: Abortable): Promise<Message>;
  /** Asks about the ticket in the chat, and answers where. */
  clarify(id: string, content?: { text?: string }, options?: Abortable): Promise<Clarified>;
}

export function createTickets(host: Host): Tickets {
  const { http } = host;
  return {
    list: async ({ signal, ...query } = {}) => (await http.request("GET /api/tickets", { query }, { signal })).data,
    search: async (q, { signal, ...query } = {}) =>
      (await http.request("GET /api/tickets/search", { query: { q, ...query } }, { signal })).data,
    get: async (id, { signal } = {}) =>
      (await http.request("GET /api/tickets/{id}", { path: { id } }, { signal })).data,
    reply: (id, { text, attachmentIds }, options) =>
      once(host, "POST /api/tickets/{id}/reply", { path: { id }, body: { body: text, attachmentIds } }, options),
    clarify: (id, { text } = {}, options) =>
      once(host, "POST /api/tickets/{id}/clarify", { path: { id }, body: { body: text } }, options),
  };
}

export interface Csat {
  /** One that was rated before stays as it was: `duplicate`. */
  rate(rating: RatingRequest, options?: Abortable): Promise<Rated>;
}

export interface Complaints {
  send(complaint: ComplaintRequest, options?: Abortable): Promise<{ id: string }>;
}

export interface Devices {
  /** Lets this device get notices. It is unregistered at `logout`. */
  register(device: DeviceRequest, options?: Abortable): Promise<{ id: string }>;
  /** Takes back what this client has registered, if anything. */
  unregister(options?: Abortable): Promise<void>;
}

export function createDevices({ http, shelf }: Host): Devices {
  return {
    async register(body, { signal } = {}) {
      const { data } = await http.request("POST /api/devices/register", { body }, { signal });
      await shelf.write("device", data.id);
      return data;
    },
    async unregister({ signal } = {}) {
      const id = await shelf.read<string>("device");
      if (!id) return;
      try {
        await http.request("DELETE /api/devices/{id}", { path: { id } }, { signal });
      } catch (error) {
        // It is gone already, which is as good.
        if (toAwError(error).code !== "not_found") throw error;
      }
      await shelf.write("device", null);
    },
  };
}

export interface SettingsState {
  status: "idle" | "loading" | "ready" | "error";
  error: AwError | null;
  value: NotificationSettings | null;
}

/** Which notices the user wants. */
export interface Settings extends Resource<SettingsState> {
  refresh(options?: Abortable): Promise<NotificationSettings>;
  /** Changes what it names: at once on the screen, and back again if the server does not take it. */
  set(changes: Partial<NotificationSettings>, options?: Abortable): Promise<NotificationSettings>;
}

export function createSettings(
  { http }: Host,
  state: Store<SettingsState>,
): Omit<Settings, keyof Resource<SettingsState>> {
  let changes = 0;
  const show = (value: NotificationSettings) => state.set({ status: "ready", error: null, value });
  return {
    async refresh({ signal } = {}) {
      if (!state.get().value) state.patch({ status: "loading" });
      try {
        const { data } = await http.request("GET /api/settings/notifications", {}, { signal });
        show(data);
        return data;
      } catch (cause) {
        const error = toAwError(cause);
        state.patch({ error, status: state.get().value ? "ready" : "error" });
        throw error;
      }
    },
    async set(body, { signal } = {}) {
      const before = state.get().value;
      changes += 1;
      const change = changes;
      if (before) show({ ...before, ...body });
      try {
        const { data } = await http.request("PUT /api/settings/notifications", { body }, { signal });
        // A later change is already on the screen, and its answer on the way.
        if (change === changes) show(data);
        return data;
      } catch (cause) {
        const error = toAwError(cause);
        const now = state.get().value;
        if (before && now) {
          const back = Object.fromEntries(
            Object.keys(body).map((name) => [name, before[name as keyof NotificationSettings]]),
          );
          state.patch({ value: { ...now, ...back }, error });
        }
        throw error;
      }
    },
  };
}

export interface DiagnosticsLog {
  /** Tells the server about the device, for support of the app itself. Nothing about the person. */
  send(data: Diagnostics, options?: Abortable): Promise<void>;
}
