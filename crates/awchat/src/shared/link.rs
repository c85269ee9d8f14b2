//! The connection to Redis, and whether it is used: a circuit breaker stands before it, and each wait has a bound.

use std::fmt;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{AsyncConnectionConfig, Client, RedisError, RedisResult};
use tokio::sync::Notify;

use crate::breaker::{Breaker, Circuit, Outcome};
use crate::clock::Clock;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::id;

/// The longest wait for an answer: a request of a user's waits for it.
const ANSWER: Duration = Duration::from_millis(250);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// The pause after a connection that could not be made.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a connection that nobody uses is tried.
const LOOK: Duration = Duration::from_secs(1);
/// How long an open circuit rests before Redis is tried again; up to six times that, if it fails again.
const OPEN: Duration = Duration::from_secs(1);

/// One connection, replaced when it breaks.
pub(super) struct Link {
    client: Client,
    clock: Clock,
    breaker: Mutex<Breaker>,
    connection: RwLock<Option<MultiplexedConnection>>,
    /// Rung when there is no connection any more.
    broken: Notify,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(***)")
    }
}

impl Link {
    /// A link to the server at `url`, which need not be there yet.
    ///
    /// # Errors
    /// When Redis's own rules for its URL are broken; the URL, which may hold a password, is not told.
    pub(super) async fn open(url: &Secret, clock: Clock) -> Result<Self> {
        let client = Client::open(url.expose());
        let client = client.map_err(|error| Error::internal(format!("REDIS_URL: {}", kind(&error))))?;
        let link = Self {
            client,
            clock,
            breaker: Mutex::new(Breaker::new(OPEN)),
            connection: RwLock::new(None),
            broken: Notify::new(),
        };
        if !link.connect().await {
            tracing::warn!("redis cannot be reached: until it is, each node counts requests for itself");
        }
        Ok(link)
    }

    /// Whether Redis is used now.
    pub(super) fn is_up(&self) -> bool {
        self.usable().is_some()
    }

    /// Asks Redis; `None` where it is not used now, or did not answer in time, or answered with an error.
    pub(super) async fn call<T, F>(&self, ask: impl FnOnce(MultiplexedConnection) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let connection = self.usable()?;
        let began_ms = self.clock.now_ms();
        let answer = tokio::time::timeout(ANSWER, ask(connection)).await;
        let (answer, is_broken) = match answer {
            Ok(Ok(answer)) => (Some(answer), false),
            Ok(Err(error)) => {
                tracing::debug!(kind = %kind(&error), "redis");
                (None, error.is_unrecoverable_error())
            }
            Err(_) => (None, false),
        };
        let outcome = if answer.is_some() { Outcome::Success } else { Outcome::Failure };
        let now_ms = self.clock.now_ms();
        let opened = self.with(|breaker| breaker.record(outcome, now_ms - began_ms, now_ms, id::chance()));
        if opened {
            tracing::warn!("redis does not answer: each node counts requests for itself, and looks into the database");
        }
        if opened || is_broken {
            self.hang_up();
        }
        answer
    }

    /// Keeps a connection, and while the circuit is open, probes until it may close; does not end.
    pub(super) async fn keep(&self) {
        loop {
            let wait = match self.with(|breaker| breaker.probe_in(self.clock.now_ms())) {
                Some(Duration::ZERO) => {
                    let outcome = if self.probe().await { Outcome::Success } else { Outcome::Failure };
                    let now_ms = self.clock.now_ms();
                    self.with(|breaker| breaker.record_probe(outcome, now_ms, id::chance()));
                    if self.is_up() {
                        tracing::info!("redis answers again");
                    }
                    continue;
                }
                Some(wait) => wait,
                None => {
                    // Registered before looking: a connection that breaks in between is not missed.
                    let broken = self.broken.notified();
                    if self.is_up() {
                        tokio::select! {
                            () = broken => {}
                            () = self.clock.sleep(LOOK) => drop(self.call(ping).await),
                        }
                        continue;
                    }
                    if self.connect().await {
                        continue;
                    }
                    let now_ms = self.clock.now_ms();
                    self.with(|breaker| breaker.record(Outcome::Failure, 0, now_ms, id::chance()));
                    PAUSE
                }
            };
            self.clock.sleep(wait).await;
        }
    }

    /// What is said on a channel from now on, on a connection of its own; it ends with that.
    pub(super) async fn subscribe(&self, channel: &str) -> Option<PubSubStream> {
        let subscribe = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            RedisResult::Ok(subscription.into_on_message())
        };
        tokio::time::timeout(CONNECT, subscribe).await.ok()?.ok()
    }

    fn usable(&self) -> Option<MultiplexedConnection> {
        if self.with(|breaker| breaker.circuit(self.clock.now_ms())) != Circuit::Closed {
            return None;
        }
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> bool {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = tokio::time::timeout(CONNECT, connecting).await.ok().and_then(RedisResult::ok);
        let connected = connection.is_some();
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
        connected
    }

    /// On a connection of its own: the one of before may be waiting for what will never come.
    async fn probe(&self) -> bool {
        if !self.connect().await {
            return false;
        }
        let connection = self.connection.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(connection) = connection else { return false };
        matches!(tokio::time::timeout(ANSWER, ping(connection)).await, Ok(Ok(())))
    }

    fn hang_up(&self) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.broken.notify_one();
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Breaker) -> T) -> T {
        ask(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn ping(mut connection: MultiplexedConnection) -> RedisResult<()> {
    redis::cmd("PING").exec_async(&mut connection).await
}

/// Of an error its kind alone: its words can hold an address, or what was asked.
fn kind(error: &RedisError) -> String {
    format!("{:?}", error.kind())
}
