// Where messages are written, with their files.

import type { AwError, ServerConfig, Upload } from "@aw-chat/core";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Language } from "./i18n.ts";
import { errorKey, Icon, IconButton } from "./parts.tsx";
import { useApp, useResource } from "./view.ts";

interface Props {
  text: string;
  onText: (text: string) => void;
  /** Answers whether it was taken: then the files are no longer this place's. */
  onSend: (text: string, uploads: readonly Upload[]) => boolean | Promise<boolean>;
  isBusy?: boolean;
  /** May be sent without words or files. */
  mayBeEmpty?: boolean;
  /** What the button says where an arrow would not tell. */
  action?: string;
}

const MAX_CHARACTERS = 10_000;

function refusalText({ t }: Language, error: AwError, name: string, files: ServerConfig["files"] | undefined): string {
  const { code } = error;
  if (code === "file_too_large") return t("error.file_too_large", { name, mb: (files?.maxBytes ?? 0) / 1_048_576 });
  if (code === "file_type") return t("error.file_type", { name });
  return `${name}: ${t(errorKey(error))}`;
}

function UploadLine({ upload, onRemove }: { upload: Upload; onRemove: () => void }) {
  const { t } = useApp().language;
  const { status, sent, total, error } = useResource(upload.state);
  const { name } = upload;
  return (
    <li class="upload">
      <Icon name="file" />
      <span class="upload-name">
        <bdi>{name}</bdi>
        {status === "uploading" && (
          <progress aria-label={t("file.progress", { name })} value={total ? sent / total : 0} max={1} />
        )}
        {status === "done" && <span class="hidden">{t("file.ready", { name })}</span>}
        {status === "failed" && error && (
          <span class="problem" role="alert">
            {t(errorKey(error))}
          </span>
        )}
      </span>
      {status === "failed" && (
        <button class="link" type="button" onClick={upload.retry}>
          {t("retry")}
        </button>
      )}
      <IconButton icon="close" label={t("file.remove", { name })} onPress={onRemove} />
    </li>
  );
}

/** The files to go with a message. Those that are not sent are given up with the screen. */
function useUploads() {
  const { chat, language } = useApp();
  const config = useApp().config.value;
  const [uploads, setUploads] = useState<readonly Upload[]>([]);
  const [problems, setProblems] = useState<readonly string[]>([]);
  const current = useRef(uploads);
  current.current = uploads;
  useEffect(() => () => current.current.forEach((upload) => void upload.abort()), []);

  async function add(files: readonly File[]): Promise<void> {
    const most = config?.files.maxPerMessage ?? 10;
    const wrong: string[] = [];
    let left = most - current.current.length;
    for (const file of files) {
      if (left < 1) {
        wrong.push(language.t("error.too_many_files", { n: most }));
        break;
      }
      try {
        const upload = await chat.files.upload(file);
        left -= 1;
        setUploads((all) => [...all, upload]);
      } catch (error) {
        wrong.push(refusalText(language, error as AwError, file.name, config?.files));
      }
    }
    setProblems(wrong);
  }

  return {
    uploads,
    problems,
    accept: config?.files.contentTypes.join(","),
    add,
    remove(upload: Upload) {
      upload.abort();
      setUploads((all) => all.filter((other) => other !== upload));
    },
    /** They are a message's now. */
    handOver() {
      current.current = [];
      setUploads([]);
      setProblems([]);
    },
  };
}

export function Composer({ text, onText, onSend, isBusy = false, mayBeEmpty = false, action }: Props) {
  const { t } = useApp().language;
  const { uploads, problems, accept, add, remove, handOver } = useUploads();
  const form = useRef<HTMLFormElement>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const [isOver, setOver] = useState(false);
  const canSend = !isBusy && (mayBeEmpty || text.trim() !== "" || uploads.length > 0);

  // As high as its words, as far as the style allows.
  useLayoutEffect(() => {
    const { style, scrollHeight } = area.current ?? {};
    if (!style || scrollHeight === undefined) return;
    style.height = "auto";
    style.height = `${area.current?.scrollHeight}px`;
  }, [text]);

  // Files may be dropped anywhere on the screen that this belongs to.
  useEffect(() => {
    const screen = form.current?.closest<HTMLElement>(".screen");
    if (!screen) return;
    const over = new AbortController();
    const listen = (name: "dragover" | "dragleave" | "drop", run: (event: DragEvent) => void) =>
      screen.addEventListener(name, run, { signal: over.signal });
    listen("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(true);
    });
    listen("dragleave", () => setOver(false));
    listen("drop", (event) => {
      event.preventDefault();
      setOver(false);
      void add([...(event.dataTransfer?.files ?? [])]);
    });
    return () => over.abort();
  }, []);

  async function send(): Promise<void> {
    if (!canSend) return;
    if (await onSend(text, uploads)) handOver();
    area.current?.focus();
  }

  return (
    <form
      ref={form}
      class={isOver ? "composer over" : "composer"}
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      {isOver && <p class="faint">{t("write.drop")}</p>}
      {problems.map((problem) => (
        <p key={problem} class="problem" role="alert">
          {problem}
        </p>
      ))}
      {uploads.length > 0 && (
        <ul class="uploads">
          {uploads.map((upload) => (
            <UploadLine key={upload} upload={upload} onRemove={() => remove(upload)} />
          ))}
        </ul>
      )}
      <div class="writing">
        <IconButton icon="attach" label={t("write.attach")} onPress={() => picker.current?.click()} />
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          accept={accept}
          onChange={({ currentTarget }) => {
            void add([...(currentTarget.files ?? [])]);
            currentTarget.value = "";
          }}
        />
        <textarea
          ref={area}
          rows={1}
          dir="auto"
          maxLength={MAX_CHARACTERS}
          aria-label={t("write.label")}
          placeholder={t("write.hint")}
          value={text}
          onInput={(event) => onText(event.currentTarget.value)}
          onKeyDown={(event) => {
            // While letters are being composed, Enter chooses among them.
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            void send();
          }}
          onPaste={(event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            if (!files.length) return;
            event.preventDefault();
            void add(files);
          }}
        />
        {!action && (
          <button class="icon-button main" type="submit" aria-label={t("write.send")} aria-disabled={!canSend}>
            <Icon name="send" />
          </button>
        )}
      </div>
      {action && (
        <button class="button main wide" type="submit" aria-disabled={!canSend}>
          {action}
        </button>
      )}
    </form>
  );
}
