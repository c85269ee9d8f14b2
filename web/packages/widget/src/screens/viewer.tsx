// One file: a picture to look at closely, a video, or what the device opens by itself. Never a page: that could be code.

import type { Attachment } from "@aw-chat/core";
import { useState } from "preact/hooks";
import { Empty, Icon } from "../parts.tsx";
import { useApp, useLoad } from "../view.ts";

/** An address that works now: the one that came with the message holds for a day. */
export function useAddress({ id, url }: Attachment): { url: string; renew: () => void } {
  const { chat } = useApp();
  const [isOver, setOver] = useState(false);
  const { value } = useLoad(async (signal) => (isOver ? (await chat.files.link(id, { signal })).url : null), [isOver]);
  return { url: value ?? url, renew: () => setOver(true) };
}

export function Viewer({ file }: { file: Attachment }) {
  const { t } = useApp().language;
  const { url, renew } = useAddress(file);
  const [isLarge, setLarge] = useState(false);
  const kind = file.contentType.split("/")[0];
  return (
    <div class="viewer">
      <div class="stage">
        {kind === "image" && (
          <button
            type="button"
            class={isLarge ? "zoom large" : "zoom"}
            aria-label={`${file.name}: ${t(isLarge ? "file.small" : "file.large")}`}
            aria-pressed={isLarge}
            onClick={() => setLarge(!isLarge)}
          >
            <img src={url} alt={file.name} onError={renew} />
          </button>
        )}
        {kind === "video" && (
          // biome-ignore lint/a11y/useMediaCaption: users' own recordings have none.
          <video src={url} controls aria-label={file.name} onError={renew} />
        )}
        {kind !== "image" && kind !== "video" && (
          <Empty icon="file">
            <p>
              <bdi>{file.name}</bdi>
            </p>
            <p class="faint">{t("file.plain")}</p>
          </Empty>
        )}
      </div>
      <p class="foot">
        <a class="button main wide" href={url} target="_blank" rel="noopener noreferrer" download={file.name}>
          <Icon name="file" />
          {t("file.download")}
        </a>
      </p>
    </div>
  );
}
