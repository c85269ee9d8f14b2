//! What a notice says, in the language of its device. Pure.
//!
//! Never a message's text, a name or a file's name, unless PUSH_PREVIEW allows the text.

use crate::store::notices::Kind;

/// The longest part of a message that is shown, in characters.
const PREVIEW_CHARS: usize = 200;

/// A notice's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Above it.
    pub title: String,
    /// What it says.
    pub body: String,
    /// On the button that opens the app.
    pub button: String,
}

#[derive(Clone, Copy)]
enum Language {
    English,
    Russian,
}

impl Language {
    /// Of `ru`, `ru-RU` and the like; English where there is no other.
    fn of(locale: Option<&str>) -> Self {
        let language = locale.and_then(|locale| locale.split(['-', '_']).next()).unwrap_or_default();
        if language.eq_ignore_ascii_case("ru") { Self::Russian } else { Self::English }
    }
}

/// The words for `count` messages, or for a ticket's status; `preview`: what may be shown of the newest message.
pub fn words(kind: Kind, locale: Option<&str>, count: usize, preview: Option<&str>) -> Words {
    let language = Language::of(locale);
    let title = match language {
        Language::English => "Support",
        Language::Russian => "Поддержка",
    };
    let button = match language {
        Language::English => "Open",
        Language::Russian => "Открыть",
    };
    let preview = preview.map(shortened).filter(|text| !text.is_empty());
    let body = preview.unwrap_or_else(|| match (kind, language) {
        (Kind::Ticket, Language::English) => "The status of your request has changed".to_owned(),
        (Kind::Ticket, Language::Russian) => "Статус вашего обращения изменился".to_owned(),
        (Kind::Chat, Language::English) if count == 1 => "You have a new message from support".to_owned(),
        (Kind::Chat, Language::English) => format!("You have {count} new messages from support"),
        (Kind::Chat, Language::Russian) if count == 1 => "Вам пришло новое сообщение от поддержки".to_owned(),
        (Kind::Chat, Language::Russian) => format!("У вас {count} {} от поддержки", russian_messages(count)),
    });
    Words { title: title.to_owned(), body, button: button.to_owned() }
}

/// 21 новое сообщение, 2 новых сообщения, 5 новых сообщений.
fn russian_messages(count: usize) -> &'static str {
    match (count % 10, count % 100) {
        (1, tens) if tens != 11 => "новое сообщение",
        (2..=4, tens) if !(12..=14).contains(&tens) => "новых сообщения",
        _ => "новых сообщений",
    }
}

/// On one line, and not too long.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(PREVIEW_CHARS) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: Kind, locale: Option<&str>, count: usize) -> String {
        words(kind, locale, count, None).body
    }

    #[test]
    fn the_devices_language_decides_and_english_is_for_all_others() {
        for locale in ["ru", "RU", "ru-RU", "ru_UA"] {
            assert_eq!(words(Kind::Chat, Some(locale), 1, None).title, "Поддержка", "{locale}");
        }
        for locale in [None, Some("en"), Some("de-DE"), Some("run"), Some("")] {
            assert_eq!(words(Kind::Chat, locale, 1, None).title, "Support", "{locale:?}");
        }
        assert_eq!(body(Kind::Ticket, Some("ru"), 3), "Статус вашего обращения изменился");
        assert_eq!(body(Kind::Ticket, None, 1), "The status of your request has changed");
    }

    #[test]
    fn messages_are_counted_as_people_count() {
        assert_eq!(body(Kind::Chat, None, 1), "You have a new message from support");
        assert_eq!(body(Kind::Chat, None, 3), "You have 3 new messages from support");
        assert_eq!(body(Kind::Chat, Some("ru"), 1), "Вам пришло новое сообщение от поддержки");
        for (count, expected) in [
            (2, "новых сообщения"),
            (5, "новых сообщений"),
            (11, "новых сообщений"),
            (12, "новых сообщений"),
            (21, "новое сообщение"),
            (24, "новых сообщения"),
            (111, "новых сообщений"),
        ] {
            assert_eq!(body(Kind::Chat, Some("ru"), count), format!("У вас {count} {expected} от поддержки"));
        }
    }

    #[test]
    fn a_preview_is_one_line_and_short() {
        let preview = |text: &str| words(Kind::Chat, None, 2, Some(text)).body;
        assert_eq!(preview(" On its\n\n way. "), "On its way.");
        assert_eq!(preview(" \n "), "You have 2 new messages from support", "of a message of files alone");
        assert_eq!(preview(&"й".repeat(200)), "й".repeat(200));
        assert_eq!(preview(&"й".repeat(201)), format!("{}…", "й".repeat(200)));
    }
}
