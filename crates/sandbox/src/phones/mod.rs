//! How notices reach people: Google's token endpoint and FCM for phones, Telegram's Bot API for chats, and what they then show.

mod fcm;
mod google;
mod handle;
mod held;
mod init_data;
mod keys;
mod message;
mod outcome;
mod pace;
mod screen;
mod state;
mod telegram;

use std::sync::{Mutex, PoisonError};

pub(crate) use handle::PhoneAct;
pub use handle::Phones;
pub(crate) use held::Gate;
pub use held::Held;
pub use init_data::InitData;
pub use outcome::{Outcome, To};
pub use screen::{Platform, Registration, Shown};
pub use state::{Counts, Sent, Service};
pub use telegram::{ChatState, Message};

use crate::clock::Clock;
use crate::exchange::{Reply, Request};
use state::State;

/// Both ways to people, and the clock they go by.
pub(crate) struct Network {
    state: Mutex<State>,
    clock: Clock,
}

impl Network {
    pub(crate) fn new(settings: &crate::Settings, base_url: &str, clock: Clock) -> Self {
        Self { state: Mutex::new(State::new(settings, base_url)), clock }
    }

    /// Looks at the state, or changes it.
    pub(crate) fn look<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unix milliseconds on the clock these services go by.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// The clock is another: what was counted by the old one says nothing.
    pub(crate) fn start_counting(&self) {
        self.look(|state| state.telegram.start_counting());
    }

    /// Counts a request to a service, and says whether the service is there to take it.
    pub(crate) fn arrives(&self, service: Service) -> bool {
        self.look(|state| {
            state.count(service);
            !state.down.contains(&service)
        })
    }

    /// Does what a request asks, if it may; and what its sender can hardly have meant.
    pub(crate) fn apply(&self, service: Service, request: &Request) -> (Reply, Vec<String>) {
        let now_ms = self.now_ms();
        self.look(|state| {
            let reply = match service {
                Service::Google => state.google.answer(request, now_ms).into(),
                Service::Fcm => fcm::answer(state, request, now_ms),
                Service::Telegram => telegram::answer(state, request, now_ms),
            };
            (reply, std::mem::take(&mut state.violations))
        })
    }
}
