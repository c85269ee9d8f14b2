//! Notices on their way to users' devices: FCM for telephones, Telegram's Bot API for Mini Apps.
//!
//! A notice is a row, written with what it tells of. Here it is decided whether it is still worth telling, it is told, and
//! the answer decides what becomes of the row and the device. Each service has a lane, a circuit breaker and places of
//! its own: what is down slows nothing else.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::breaker::{Breaker, Circuit, Outcome as Went};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::{self, ConversationId, UserId};
use crate::metrics::Grid;
use crate::model::Look;
use crate::store::Store;
use crate::store::devices::Platform;
use crate::store::notices::{End, Kind, Pile, Target};
use crate::traces;

pub mod decide;
pub mod fcm;
mod flights;
mod http;
pub mod pace;
mod telegram;
pub mod words;

use decide::{ATTEMPTS, Facts, TOLD_WITHIN_MS, Verdict, backoff_ms, decide};
use fcm::{Fcm, Outcome};
use flights::{Flight, Flights};
use pace::Pace;
use telegram::Telegram;
use words::{Words, words};

/// Requests at once.
const FCM_PLACES: usize = 16;
const TELEGRAM_PLACES: usize = 8;
/// A lease is longer than any pile takes: three requests of 10 s, and its turn.
const LEASE_MS: i64 = 60_000;
/// While something is being sent, how soon other due work is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// What another node is sending lands within so many looks: a request of 10 s.
const LANDINGS: usize = 200;
/// What is being sent when the server is told to go has this long.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Device and conversation of which it is remembered when they were told.
const TOLD: usize = 20_000;
/// Results as they are counted.
const SENT: usize = 0;
const LATER: usize = 1;
/// Until when Telegram wants to be left alone, across restarts.
const PAUSED: &str = "telegram paused until";

/// Tells users' devices what they are to be told. A clone is a pointer.
#[derive(Clone)]
pub struct Push(Arc<Shared>);

/// What a [`Push`] points to.
pub struct Shared {
    store: Store,
    clock: Clock,
    fcm: Option<Lane<Fcm>>,
    telegram: Option<Lane<Telegram>>,
    pace: Mutex<Pace>,
    flights: Flights,
    /// When a pile was last told, Unix milliseconds.
    told: Cache<String, i64>,
    counts: Grid,
    preview: bool,
    ticket_prefix: String,
}

struct Lane<T> {
    service: T,
    breaker: Mutex<Breaker>,
}

/// Whether a user looks at a conversation, as the caller finds out.
pub type AskLooks = Arc<dyn Fn(UserId, ConversationId) -> BoxFuture<'static, Look> + Send + Sync>;

impl Deref for Push {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").field("platforms", &self.platforms()).finish_non_exhaustive()
    }
}

impl Push {
    /// What the configuration allows: FCM, Telegram, both or none. Takes up what a dead process left.
    ///
    /// # Errors
    /// When the service account cannot be used, or the database fails.
    pub async fn open(config: &Config, store: Store, clock: Clock) -> Result<Self> {
        let open = config.intercom.breaker_open;
        let fcm = match &config.push.fcm_service_account_file {
            Some(path) => {
                let named = |why: &str| Error::internal(format!("FCM_SERVICE_ACCOUNT_FILE: {} {why}", path.display()));
                let json = tokio::fs::read_to_string(path).await.map_err(|_| named("cannot be read"))?;
                let fcm = Fcm::new(&json, &config.push.fcm_base_url, clock.clone()).map_err(named)?;
                Some(Lane::new(fcm, open))
            }
            None => None,
        };
        let telegram = match &config.push.telegram_bot_token {
            Some(token) => {
                let (url, app) = (&config.push.telegram_api_url, config.push.telegram_app_url.clone());
                let telegram = Telegram::new(token, url, app, clock.clone());
                let telegram = telegram.map_err(|why| Error::internal(format!("TELEGRAM_BOT_TOKEN: {why}")))?;
                Some(Lane::new(telegram, open))
            }
            None => None,
        };
        if fcm.is_none() && telegram.is_none() {
            tracing::info!("pushes are off: neither FCM_SERVICE_ACCOUNT_FILE nor TELEGRAM_BOT_TOKEN is set");
        }
        let mut pace = Pace::default();
        pace.pause(store.mark(PAUSED).await?.unwrap_or(0));
        Ok(Self(Arc::new(Shared {
            store,
            clock,
            fcm,
            telegram,
            pace: Mutex::new(pace),
            flights: Flights::default(),
            told: Cache::new(TOLD),
            counts: Grid::new(&["fcm", "telegram"], &["sent", "later"]),
            preview: config.push.preview,
            ticket_prefix: config.ticket_prefix.clone(),
        })))
    }

    /// The platforms whose devices can be told something.
    pub fn platforms(&self) -> Vec<Platform> {
        let mobile = self.fcm.as_ref().map(|_| Platform::Mobile);
        mobile.into_iter().chain(self.telegram.as_ref().map(|_| Platform::Tma)).collect()
    }

    /// How many notices went out, and how often one had to wait: service, result, count.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.counts.counts()
    }

    /// Nothing goes to this device any more: it was taken from its user. What is on its way is called back.
    pub async fn call_back(&self, device: &str) {
        self.flights.call_back(device).await;
        // What another node has on its way there is not called back, but waited for.
        for _ in 0..LANDINGS {
            match self.store.is_told_elsewhere(device, self.clock.now_ms()).await {
                Ok(true) => self.clock.sleep(LOOK).await,
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// The same of all devices of a user.
    pub async fn call_back_from(&self, user: &UserId) {
        self.flights.call_back_from(user).await;
    }

    /// Forgets what is too old to be told.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_old(&self) -> Result<()> {
        self.store.forget_notices(self.clock.now_ms() - TOLD_WITHIN_MS - LEASE_MS).await
    }

    /// Tells a platform's devices what is due, until nothing is; whether there was anything. Once `stop` is cancelled
    /// nothing more begins.
    ///
    /// # Errors
    /// When the database fails: what was being sent is tried again when its lease is over, by FCM alone.
    pub async fn tell(&self, platform: Platform, looks: &AskLooks, stop: &CancellationToken) -> Result<bool> {
        let mut did = false;
        // Tasks, for each goes on while another waits for the database.
        let mut flying = JoinSet::new();
        let mut last_call = std::pin::pin!(async {
            stop.cancelled().await;
            self.clock.sleep(LAST_CALL).await;
        });
        loop {
            if !stop.is_cancelled() {
                for pile in self.take(platform, flying.len()).await? {
                    did = true;
                    let (push, looks) = (self.clone(), looks.clone());
                    flying.spawn(async move { push.told(platform, pile, &looks).await });
                }
            }
            if flying.is_empty() {
                return Ok(did);
            }
            tokio::select! {
                Some(first) = flying.join_next() => {
                    let mut ends = vec![first];
                    while let Some(next) = flying.try_join_next() {
                        ends.push(next);
                    }
                    // What has panicked is tried again when its lease is over, by FCM alone.
                    let ends: Vec<(Pile, End)> = ends.into_iter().filter_map(Result::ok).collect();
                    self.store.settle_piles(&ends).await?;
                }
                () = self.clock.sleep(LOOK) => {}
                () = &mut last_call => return Ok(true),
            }
        }
    }
}

impl Shared {
    /// Piles for the places that are free.
    async fn take(&self, platform: Platform, flying: usize) -> Result<Vec<Pile>> {
        let now_ms = self.clock.now_ms();
        let places = match platform {
            Platform::Mobile => self.fcm.as_ref().map_or(0, |lane| match lane.circuit(now_ms) {
                Circuit::Closed => FCM_PLACES,
                // One message finds out.
                Circuit::HalfOpen => 1,
                Circuit::Open { .. } => 0,
            }),
            Platform::Tma if self.pace().paused_until_ms() > now_ms => 0,
            Platform::Tma => match &self.telegram {
                Some(lane) => self.telegram_places(lane, now_ms).await,
                None => 0,
            },
        };
        let free = places.saturating_sub(flying);
        if free == 0 || !self.store.notice_is_due(platform, now_ms).await? {
            return Ok(Vec::new());
        }
        self.store.lease_piles(platform, now_ms, now_ms + LEASE_MS, free).await
    }

    async fn telegram_places(&self, lane: &Lane<Telegram>, now_ms: i64) -> usize {
        if lane.circuit(now_ms) == Circuit::HalfOpen {
            let went = lane.service.probe().await.went();
            lane.record(went, 0, self.clock.now_ms());
        }
        if lane.circuit(self.clock.now_ms()) == Circuit::Closed { TELEGRAM_PLACES } else { 0 }
    }

    async fn told(&self, platform: Platform, pile: Pile, looks: &AskLooks) -> (Pile, End) {
        let end = self.try_to_tell(platform, &pile, looks).await.unwrap_or_else(|error| {
            tracing::warn!(cause = ?error, "a notice could not be looked at, and will be again");
            self.later(10_000)
        });
        if let End::Again { .. } = end {
            self.counts.count(platform as usize, LATER);
        }
        (pile, end)
    }

    async fn try_to_tell(&self, platform: Platform, pile: &Pile, looks: &AskLooks) -> Result<End> {
        let flight = self.flights.begin(&pile.device, &pile.user);
        let Some(target) = self.store.target(pile).await? else { return Ok(End::Done) };
        let now_ms = self.clock.now_ms();
        let facts = Facts {
            now_ms,
            wanted: target.wanted,
            read_position: target.read_position,
            look: looks(target.user.clone(), pile.conversation.clone()).await,
            told_ms: self.told.get(&pile.name).unwrap_or(0),
        };
        let (count, newest) = match decide(pile.kind, &pile.notices, &facts) {
            Verdict::Tell { count, newest } => (count, newest),
            Verdict::Wait(due_ms) => return Ok(End::Again { due_ms, uncounted: true }),
            Verdict::Drop => return Ok(End::Done),
        };
        let newest = pile.notices[newest].reason.as_str();
        match (platform, &self.fcm, &self.telegram) {
            (Platform::Mobile, Some(lane), _) => {
                // What is replaced on the screen counts again.
                let count = count.max(usize::try_from(target.unread).unwrap_or(0));
                let words = self.words(pile, &target, count, newest).await?;
                self.to_telephone(lane, &flight, (pile, &target), (&words, newest)).await
            }
            (Platform::Tma, _, Some(lane)) if !target.unreachable => {
                let words = self.words(pile, &target, count, newest).await?;
                self.to_telegram(lane, &flight, (pile, &target), &words).await
            }
            _ => Ok(End::Done),
        }
    }

    async fn words(&self, pile: &Pile, target: &Target, count: usize, newest: &str) -> Result<Words> {
        let preview = match (self.preview, pile.kind) {
            (false, _) => None,
            (true, Kind::Chat) => self.store.message_text(&target.user, &pile.conversation, newest).await?,
            (true, Kind::Ticket) => {
                let found = self.store.ticket(&target.user, &pile.conversation).await?;
                found.map(|owned| format!("{}-{}: {}", self.ticket_prefix, owned.ticket.number, owned.ticket.label))
            }
        };
        Ok(words(pile.kind, target.locale.as_deref(), count, preview.as_deref()))
    }

    async fn to_telephone(
        &self,
        lane: &Lane<Fcm>,
        flight: &Flight,
        (pile, target): (&Pile, &Target),
        (words, newest): (&Words, &str),
    ) -> Result<End> {
        let started_ms = self.clock.now_ms();
        let message = fcm::Message {
            token: &target.token,
            kind: pile.kind,
            is_ticket: target.is_ticket,
            conversation: &pile.conversation,
            message: Some(newest).filter(|_| pile.kind == Kind::Chat),
            words,
            badge: target.unread_total,
            now_s: self.clock.now_s(),
        };
        let traced = traces::call("fcm", "send");
        let sending = lane.service.send(&message).instrument(traced.clone());
        let Some(sent) = flight.unless_called_back(sending, &self.clock).await else {
            return Ok(self.later(0));
        };
        traces::ended(&traced, None, sent != fcm::Sent::Answered(Outcome::Sent));
        let now_ms = self.clock.now_ms();
        if lane.record(sent.went(), now_ms - started_ms, now_ms) {
            tracing::warn!("the circuit to FCM opens");
        }
        Ok(match sent {
            fcm::Sent::Answered(Outcome::Sent) => self.done(Platform::Mobile, pile),
            fcm::Sent::Answered(Outcome::TokenGone | Outcome::TokenForeign) => {
                if sent == fcm::Sent::Answered(Outcome::TokenForeign) {
                    tracing::error!("a device's token is of another Firebase project: SENDER_ID_MISMATCH");
                }
                match self.store.remove_device(&pile.device, target.registrations).await? {
                    true => End::Done,
                    // It was registered again meanwhile.
                    false => self.again(pile, None),
                }
            }
            fcm::Sent::Answered(Outcome::Refused(why)) => {
                tracing::error!(why, "FCM refuses a message");
                End::Done
            }
            fcm::Sent::Answered(Outcome::Later { after }) => self.again(pile, after),
            fcm::Sent::Unreachable => self.again(pile, None),
            fcm::Sent::NoAccess | fcm::Sent::Answered(Outcome::Unauthenticated) => self.later(10_000),
        })
    }

    async fn to_telegram(
        &self,
        lane: &Lane<Telegram>,
        flight: &Flight,
        (pile, target): (&Pile, &Target),
        words: &Words,
    ) -> Result<End> {
        let now_ms = self.clock.now_ms();
        let place = self.pace().take(&target.token, now_ms);
        let at_ms = match place {
            Ok(at_ms) => at_ms,
            Err(until_ms) => return Ok(self.later_in(pile, until_ms - now_ms)),
        };
        self.clock.sleep(Duration::from_millis(at_ms.abs_diff(now_ms))).await;
        // Telegram may have asked for a pause since the place was taken.
        let paused_ms = self.pace().paused_until_ms() - self.clock.now_ms();
        if paused_ms > 0 {
            return Ok(self.later_in(pile, paused_ms));
        }
        if !self.store.begin_sending(pile).await? {
            return Ok(End::Done);
        }
        let started_ms = self.clock.now_ms();
        let traced = traces::call("telegram", "send");
        let sending = lane.service.send(&target.token, words, &pile.conversation, target.is_ticket);
        let sending = sending.instrument(traced.clone());
        let Some(sent) = flight.unless_called_back(sending, &self.clock).await else { return Ok(End::Done) };
        traces::ended(&traced, None, !matches!(sent, telegram::Sent::Delivered));
        let now_ms = self.clock.now_ms();
        if lane.record(sent.went(), now_ms - started_ms, now_ms) {
            tracing::warn!("the circuit to Telegram opens");
        }
        Ok(match sent {
            telegram::Sent::Delivered => self.done(Platform::Tma, pile),
            telegram::Sent::Unreachable => {
                match self.store.set_unreachable(&pile.device, target.registrations).await? {
                    true => End::Done,
                    false => self.again(pile, None),
                }
            }
            telegram::Sent::Paused(wait) => {
                let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 4);
                tracing::warn!(wait_ms, "Telegram asks for a pause");
                self.pace().pause(now_ms + wait_ms);
                self.store.set_mark(PAUSED, now_ms + wait_ms).await?;
                self.later_in(pile, wait_ms)
            }
            telegram::Sent::NoAccess => {
                tracing::error!("Telegram refuses TELEGRAM_BOT_TOKEN");
                self.later(10_000)
            }
            telegram::Sent::Refused => {
                tracing::error!("Telegram refuses a message");
                End::Done
            }
            telegram::Sent::Unreached => self.again(pile, None),
            telegram::Sent::Unknown => {
                tracing::warn!("a message to Telegram may not have come; it is not sent twice");
                End::Done
            }
        })
    }

    fn done(&self, platform: Platform, pile: &Pile) -> End {
        self.counts.count(platform as usize, SENT);
        self.told.insert(pile.name.clone(), self.clock.now_ms());
        End::Done
    }

    /// After an attempt that failed: not before what was asked for, and not for ever.
    fn again(&self, pile: &Pile, asked: Option<Duration>) -> End {
        let attempt = pile.notices.iter().map(|notice| notice.attempt).max().unwrap_or(1);
        if attempt >= ATTEMPTS {
            tracing::warn!(attempt, "a notice is given up");
            return End::Done;
        }
        let wait_ms = backoff_ms(attempt, asked, id::chance());
        match self.later_in(pile, wait_ms) {
            End::Again { due_ms, .. } => End::Again { due_ms, uncounted: false },
            End::Done => End::Done,
        }
    }

    /// In so many milliseconds, or when it is too old to be told: then it goes.
    fn later_in(&self, pile: &Pile, wait_ms: i64) -> End {
        let newest_ms = pile.notices.iter().map(|notice| notice.created_ms).max().unwrap_or(0);
        let due_ms = self.clock.now_ms().saturating_add(wait_ms).min(newest_ms + TOLD_WITHIN_MS);
        End::Again { due_ms, uncounted: true }
    }

    fn later(&self, wait_ms: i64) -> End {
        End::Again { due_ms: self.clock.now_ms() + wait_ms, uncounted: true }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lane<T> {
    fn new(service: T, open: Duration) -> Self {
        Self { service, breaker: Mutex::new(Breaker::new(open)) }
    }

    /// The circuit; half open once it has been open for long enough.
    fn circuit(&self, now_ms: i64) -> Circuit {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.probe_in(now_ms);
        breaker.circuit(now_ms)
    }

    /// Notes how a request went; true if this opened the circuit.
    fn record(&self, went: Went, took_ms: i64, now_ms: i64) -> bool {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if breaker.circuit(now_ms) == Circuit::HalfOpen {
            breaker.record_probe(went, now_ms, id::chance());
            return false;
        }
        breaker.record(went, took_ms, now_ms, id::chance())
    }
}
