// The small things that screens are made of.

import type { AwError, AwErrorCode } from "@aw-chat/core";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import type { Key } from "./i18n.ts";
import { type Loaded, useApp } from "./view.ts";

const ICONS = {
  back: "M15 5l-7 7 7 7",
  next: "M9 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  home: "M4 11l8-7 8 7v9h-5v-6H9v6H4z",
  chats: "M4 5h16v11H10l-5 4v-4H4z",
  tickets: "M4 7h16v3a2 2 0 000 4v3H4v-3a2 2 0 000-4zM14 7v10",
  settings: "M6 16v-5a6 6 0 0112 0v5l2 2H4zM10 21h4",
  send: "M4 12l16-8-5 16-4-6zM11 14l4-5",
  attach: "M8 12l6-6a3.5 3.5 0 015 5l-8 8a5 5 0 01-7-7l8-8",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  star: "M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z",
  flag: "M6 21V4h12l-2.5 4L18 12H6",
  end: "M5 12l5 5 9-10",
  video: "M9 7l8 5-8 5z",
  search: "M11 5a6 6 0 100 12 6 6 0 000-12M20 20l-4.5-4.5",
} as const;

export type IconName = keyof typeof ICONS;
/** They point along the line of reading. */
const DIRECTIONAL: IconName[] = ["back", "next", "send"];

export function Icon({ name }: { name: IconName }) {
  const kind = DIRECTIONAL.includes(name) ? "icon turns" : "icon";
  return (
    <svg class={kind} viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

export function IconButton({ icon, label, onPress }: { icon: IconName; label: string; onPress: () => void }) {
  return (
    <button class="icon-button" type="button" aria-label={label} title={label} onClick={onPress}>
      <Icon name={icon} />
    </button>
  );
}

/** Of an error, the user's own words. */
export function errorKey({ code }: { code: AwErrorCode }): Key {
  const keys: Partial<Record<AwErrorCode, Key>> = {
    network: "error.network",
    timeout: "error.network",
    service_unavailable: "error.unavailable",
    internal_error: "error.unavailable",
    invalid_answer: "error.unavailable",
    rate_limited: "error.limited",
    unauthorized: "error.unauthorized",
    token: "error.unauthorized",
    not_found: "error.notFound",
    validation_error: "error.invalid",
    bad_request: "error.invalid",
    expired: "error.expired",
  };
  return keys[code] ?? "error.other";
}

export function Loading() {
  const { t } = useApp().language;
  return (
    <div class="state">
      <span class="spinner" aria-hidden="true" />
      <p>{t("loading")}</p>
    </div>
  );
}

export function Empty({ icon, children }: { icon: IconName; children: ComponentChildren }) {
  return (
    <div class="state">
      <Icon name={icon} />
      {children}
    </div>
  );
}

export function Failure({ error, retry }: { error: AwError; retry?: () => void }) {
  const { t } = useApp().language;
  return (
    <div class="state" role="alert">
      <p>{t(errorKey(error))}</p>
      {retry && (
        <button class="button" type="button" onClick={retry}>
          {t("retry")}
        </button>
      )}
    </div>
  );
}

/** What has been loaded, or why it has not. */
export function Await<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  if (of.value !== null) return <>{children(of.value)}</>;
  return of.error ? <Failure error={of.error} retry={of.reload} /> : <Loading />;
}

/** Why what was just tried did not work. */
export function Problem({ error, id }: { error: AwError | null; id?: string }) {
  const { t } = useApp().language;
  return error ? (
    <p class="problem" role="alert" id={id}>
      {t(errorKey(error))}
    </p>
  ) : null;
}

export function Badge({ count }: { count: number }) {
  const { t } = useApp().language;
  if (!count) return null;
  return (
    <span class="badge">
      <span aria-hidden="true">{count > 99 ? "99+" : count}</span>
      <span class="hidden">{t("unread", { n: count })}</span>
    </span>
  );
}

/** A control with its label, and what is to be said of it. */
export function Field({
  label,
  hint,
  problem,
  children,
}: {
  label: string;
  hint?: string | undefined;
  problem?: string | null;
  children: (attributes: { id: string; "aria-describedby"?: string; "aria-invalid"?: boolean }) => ComponentChildren;
}) {
  const id = useId();
  const about = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, ...(about && { "aria-describedby": about }), ...(problem && { "aria-invalid": true }) })}
      {hint && (
        <p class="faint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {problem && (
        <p class="problem" id={`${id}-problem`} role="alert">
          {problem}
        </p>
      )}
    </div>
  );
}

/** A line of a list that leads further. */
export function Row({
  icon,
  title,
  detail,
  onPress,
  children,
}: {
  icon?: IconName;
  title: ComponentChildren;
  detail?: ComponentChildren;
  onPress: () => void;
  children?: ComponentChildren;
}) {
  return (
    <button class="row" type="button" onClick={onPress}>
      {icon && (
        <span class="row-icon">
          <Icon name={icon} />
        </span>
      )}
      <span class="row-text">
        <span class="row-title">
          <bdi>{title}</bdi>
        </span>
        {detail && (
          <span class="row-detail">
            <bdi>{detail}</bdi>
          </span>
        )}
      </span>
      <span class="row-end">{children ?? <Icon name="next" />}</span>
    </button>
  );
}
