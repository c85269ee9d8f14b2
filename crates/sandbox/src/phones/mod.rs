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

use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use handle::PhoneAct;
pub use handle::Phones;
pub(crate) use held::Gate;
pub use held::Held;
pub use init_data::InitData;
pub use outcome::{Outcome, To};
pub use screen::{Platform, Registration, Shown};
pub use state::{Counts, Sent, Service};
pub use telegram::{ChatState, Message};

use crate::exchange::{Reply, Request};
use state::State;

type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Both ways to people, and the clock they go by.
pub(crate) struct Network {
    state: Mutex<State>,
    clock: Mutex<Clock>,
}

impl Network {
    pub(crate) fn new(settings: &crate::Settings, base_url: &str) -> Self {
        Self { state: Mutex::new(State::new(settings, base_url)), clock: Mutex::new(Arc::new(crate::core::now_ms)) }
    }

    /// Looks at the state, or changes it.
    pub(crate) fn look<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unix milliseconds on the clock these services go by.
    pub(crate) fn now_ms(&self) -> i64 {
        let clock = Arc::clone(&self.clock.lock().unwrap_or_else(PoisonError::into_inner));
        clock()
    }

    fn go_by(&self, clock: Clock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
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
