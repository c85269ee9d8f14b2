// Which notices the user wants, and whether the device lets them through.

import type { NotificationSettings } from "@aw-chat/core";
import { useEffect, useState } from "preact/hooks";
import { Failure, Loading } from "../parts.tsx";
import { useApp, useResource } from "../view.ts";

const SWITCHES: (keyof NotificationSettings)[] = ["chatMessages", "ticketUpdates", "systemNotices"];

function Permission() {
  const { language, notices } = useApp();
  const { t } = language;
  const [state, setState] = useState(notices?.state);
  if (!notices || !state) return null;
  if (state === "granted") return <p class="notice">{t("settings.allowed")}</p>;
  if (state === "denied") return <p class="notice">{t("settings.denied")}</p>;
  return (
    <button class="button main wide" type="button" onClick={async () => setState(await notices.request())}>
      {t("settings.allow")}
    </button>
  );
}

export function Settings() {
  const { chat, language } = useApp();
  const { t } = language;
  const { value, error } = useResource(chat.settings);
  const [hasFailed, setFailed] = useState(false);
  const refresh = () => void chat.settings.refresh().catch(() => {});
  useEffect(refresh, [chat]);

  async function turn(name: keyof NotificationSettings, isOn: boolean): Promise<void> {
    setFailed(false);
    await chat.settings.set({ [name]: isOn }).catch(() => setFailed(true));
  }

  if (!value) return error ? <Failure error={error} retry={refresh} /> : <Loading />;
  return (
    <>
      <p class="lead">{t("settings.intro")}</p>
      <ul class="card list">
        {SWITCHES.map((name) => (
          <li key={name}>
            <label class="switch">
              <span>{t(`settings.${name}`)}</span>
              <input
                type="checkbox"
                role="switch"
                aria-checked={value[name]}
                checked={value[name]}
                onChange={(event) => turn(name, event.currentTarget.checked)}
              />
            </label>
          </li>
        ))}
      </ul>
      {hasFailed && (
        <p class="problem" role="alert">
          {t("settings.failed")}
        </p>
      )}
      <Permission />
    </>
  );
}
