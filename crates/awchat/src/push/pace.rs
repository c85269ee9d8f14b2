//! How fast Telegram is written to: 25 messages a second in all, one a second to a chat. Pure: time is handed in.

use std::collections::HashMap;

/// Between two messages of the bot.
const BETWEEN_MS: i64 = 40;
/// Between two messages to one chat.
const CHAT_MS: i64 = 1_000;
/// Chats of which it is remembered when they were last written to; older ones are forgotten beyond.
const CHATS: usize = 1_024;

/// When the next message may go.
#[derive(Debug, Default)]
pub struct Pace {
    next_ms: i64,
    chats: HashMap<String, i64>,
    paused_until_ms: i64,
}

impl Pace {
    /// Until when nothing goes at all, Unix milliseconds.
    pub fn paused_until_ms(&self) -> i64 {
        self.paused_until_ms
    }

    /// Telegram asked for a pause.
    pub fn pause(&mut self, until_ms: i64) {
        self.paused_until_ms = self.paused_until_ms.max(until_ms);
    }

    /// Takes the next place for a message to `chat`.
    ///
    /// # Errors
    /// When it is too soon for this chat: from when on it is not, Unix milliseconds. Nothing is taken then.
    pub fn take(&mut self, chat: &str, now_ms: i64) -> Result<i64, i64> {
        let at_ms = self.next_ms.max(now_ms);
        // A clock that was set back must not stop anything for long.
        let at_ms = if at_ms - now_ms > 60_000 { now_ms } else { at_ms };
        let free_ms = self.chats.get(chat).copied().unwrap_or(0).min(now_ms + CHAT_MS);
        if self.paused_until_ms > now_ms || free_ms > at_ms {
            return Err(self.paused_until_ms.max(free_ms));
        }
        if self.chats.len() >= CHATS {
            self.chats.retain(|_, free_ms| *free_ms > now_ms);
        }
        self.next_ms = at_ms + BETWEEN_MS;
        self.chats.insert(chat.to_owned(), at_ms + CHAT_MS);
        Ok(at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_25_messages_and_one_to_a_chat() {
        let mut pace = Pace::default();
        let times: Vec<i64> = (0..100).filter_map(|chat: i32| pace.take(&chat.to_string(), 5_000).ok()).collect();
        assert_eq!(times.len(), 100);
        for from in &times {
            assert!(times.iter().filter(|at| (*from..from + 1_000).contains(*at)).count() <= 25);
        }
        let mut pace = Pace::default();
        assert_eq!(pace.take("7", 5_000), Ok(5_000));
        assert_eq!(pace.take("7", 5_500), Err(6_000));
        assert_eq!(pace.take("8", 5_500), Ok(5_500));
        assert_eq!(pace.take("7", 6_000), Ok(6_000));
    }

    #[test]
    fn a_pause_holds_for_the_whole_bot() {
        let mut pace = Pace::default();
        pace.pause(9_000);
        pace.pause(8_000);
        assert_eq!(pace.take("7", 5_000), Err(9_000));
        assert_eq!(pace.take("8", 8_999), Err(9_000));
        assert_eq!(pace.take("8", 9_000), Ok(9_000));
    }

    #[test]
    fn what_is_remembered_of_chats_is_bounded() {
        let mut pace = Pace::default();
        for chat in 0..10_000_i64 {
            assert!(pace.take(&chat.to_string(), chat * 40).is_ok());
        }
        assert!(pace.chats.len() <= CHATS);
    }
}
