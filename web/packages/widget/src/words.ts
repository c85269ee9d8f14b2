// The few words of the button, in all languages: nothing else of a language is there before the panel is opened.

export type Locale = "en" | "ru" | "ar";

interface Words {
  open: string;
  failed: string;
  unread: Record<string, string>;
}

const WORDS: Record<Locale, Words> = {
  en: {
    open: "Support chat",
    failed: "The chat could not be loaded. Please try again.",
    unread: { one: "# unread message", other: "# unread messages" },
  },
  ru: {
    open: "Чат поддержки",
    failed: "Чат не загрузился. Попробуйте ещё раз.",
    unread: { one: "# непрочитанное сообщение", few: "# непрочитанных сообщения", other: "# непрочитанных сообщений" },
  },
  ar: {
    open: "محادثة الدعم",
    failed: "تعذّر تحميل المحادثة. حاول مرة أخرى.",
    unread: {
      one: "رسالة واحدة غير مقروءة",
      two: "رسالتان غير مقروءتين",
      few: "# رسائل غير مقروءة",
      other: "# رسالة غير مقروءة",
    },
  },
};

/** The first of the user's languages that there are texts in. */
export function chosenLocale(asked: string | null): Locale {
  const wished = asked ? [asked] : [document.documentElement.lang, ...navigator.languages];
  const found = wished.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS);
  return (found ?? "en") as Locale;
}

export function words(locale: Locale): Omit<Words, "unread"> & { unread(count: number): string } {
  const { unread, ...rest } = WORDS[locale];
  const form = (count: number) => unread[new Intl.PluralRules(locale).select(count)] ?? unread.other ?? "";
  return { ...rest, unread: (count) => form(count).replace("#", String(count)) };
}
