// What is loaded when it is first used: all but the conversations themselves.

import type { Conversation, ServerConfig } from "./api.ts";
import { AwError, toAwError } from "./errors.ts";
import {
  type Abortable,
  type Complaints,
  type Csat,
  createDevices,
  createSettings,
  createTickets,
  type Devices,
  type DiagnosticsLog,
  type Settings,
  type SettingsState,
  type Tickets,
} from "./feedback.ts";
import { createFiles, type Files, type Upload } from "./files.ts";
import type { Host } from "./host.ts";
import { once } from "./requests.ts";
import type { Resource, Store } from "./store.ts";

export interface BeginRequest {
  /** The topic that was picked. */
  reason?: { main: string; sub?: string | null };
  text?: string;
  /** What the app knows of device and place: flat, for the operators. */
  meta?: Record<string, string | number | boolean>;
  uploads?: readonly Upload[];
}

export interface Extras {
  files: Files;
  tickets: Tickets;
  csat: Csat;
  complaints: Complaints;
  settings: Omit<Settings, keyof Resource<SettingsState>>;
  devices: Devices;
  diagnostics: DiagnosticsLog;
  server: { config(options?: Abortable): Promise<ServerConfig> };
  conversations: { begin(request: BeginRequest, options?: Abortable): Promise<Conversation> };
}

/** What holds until the server has told its own. */
const DEFAULT_CONFIG: ServerConfig = {
  poll: { maxWaitSeconds: 30, activeMs: 2500, idleMs: 15_000 },
  topics: [],
  complaintCategories: ["funds", "security", "operator", "technical", "other"],
  files: {
    maxBytes: 20 * 1024 * 1024,
    maxPerMessage: 10,
    contentTypes: [
      "image/jpeg",
      "image/png",
      "image/gif",
      "image/webp",
      "image/bmp",
      "application/pdf",
      "video/mp4",
      "text/plain",
    ],
  },
};

export function createExtras(host: Host, settings: Store<SettingsState>): Extras {
  const { http } = host;
  let config: ServerConfig | null = null;
  return {
    files: createFiles(host, () => (config ?? DEFAULT_CONFIG).files),
    tickets: createTickets(host),
    csat: { rate: (rating, options) => once(host, "POST /api/csat", { body: rating }, options) },
    complaints: { send: (body, options) => once(host, "POST /api/complaints", { body }, options) },
    settings: createSettings(host, settings),
    devices: createDevices(host),
    diagnostics: {
      async send(body, { signal } = {}) {
        await http.request("POST /api/diagnostics", { body }, { signal });
      },
    },
    server: {
      async config({ signal } = {}) {
        if (config) return config;
        try {
          const { data } = await http.request("GET /api/config", {}, { signal });
          config = { ...DEFAULT_CONFIG, ...data, files: { ...DEFAULT_CONFIG.files, ...data.files } };
        } catch (cause) {
          if (toAwError(cause).code !== "not_found") throw cause;
          config = DEFAULT_CONFIG;
        }
        return config;
      },
    },
    conversations: {
      async begin({ reason, text, meta, uploads = [] }, options) {
        if (!text?.trim() && !reason && !uploads.length) throw new AwError("empty");
        const files = await Promise.all(uploads.map((upload) => upload.done));
        const attachmentIds = files.length ? files.map((file) => file.id) : undefined;
        return once(host, "POST /api/conversations", { body: { reason, body: text, meta, attachmentIds } }, options);
      },
    },
  };
}
