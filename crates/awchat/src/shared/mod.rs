//! What nodes share beside the database, in Redis: rate-limit buckets, and words that wake who waits at another node.
//!
//! Losing it loses nothing: without it each node counts for itself, and looks into the database more often. No wait for
//! it is long, and it is used again as soon as it answers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use redis::Script;
use sha2::Sha256;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Secret;
use crate::error::Result;
use crate::id;

mod link;
pub mod wakes;

use link::Link;
use wakes::{BEAT_MS, Peers, Said, Word};

/// Words that wait to be said; more are not said, and the database tells the others that they have missed something.
const OUTBOX: usize = 4_096;
/// Words that go out at once.
const BATCH: usize = 128;
/// The pause before a lost subscription is made anew.
const PAUSE: Duration = Duration::from_millis(250);

/// What nodes share; a clone is a pointer.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    redis: Option<Redis>,
    /// Something was not said, or perhaps not heard.
    unheard: AtomicBool,
}

struct Redis {
    link: Link,
    clock: Clock,
    bucket: Script,
    key: String,
    channel: String,
    /// This process among the nodes.
    node: String,
    outbox: mpsc::Sender<Word>,
    /// Taken by whoever says the words.
    waiting: Mutex<mpsc::Receiver<Word>>,
    /// Nodes heard, as long as anybody was.
    nodes: AtomicU32,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis(***)")
    }
}

/// What a node hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Another node's word.
    Word(Word),
    /// From here on every word is heard.
    InTouch,
    /// Words may be missed from here on.
    OutOfTouch,
    /// Words may have been missed.
    Missed,
}

impl Shared {
    /// Shares through the Redis server at `url`, which need not be there yet. What is kept and said there is told apart
    /// from other installations' by `secret`, which all nodes of this one know.
    ///
    /// # Errors
    /// When `url` is none that Redis takes.
    pub async fn open(url: &Secret, secret: &str, clock: Clock) -> Result<Self> {
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        let redis = Redis {
            link: Link::open(url, clock.clone()).await?,
            clock,
            bucket: Script::new(include_str!("bucket.lua")),
            key: secret.to_owned(),
            channel: format!("awchat:{}", &digest(secret, "channel", "")),
            node: id::random(),
            outbox,
            waiting: Mutex::new(waiting),
            nodes: AtomicU32::new(1),
        };
        Ok(Self(Arc::new(Inside { redis: Some(redis), unheard: AtomicBool::new(false) })))
    }

    /// Whether Redis is used now; `None` where there is none.
    pub fn is_up(&self) -> Option<bool> {
        self.0.redis.as_ref().map(|redis| redis.link.is_up())
    }

    /// Takes `cost_us` from the bucket `name`, which fills in `window_us`. Gives when it would have been full again
    /// before, and the time, both microseconds by Redis's clock; `None`: count here.
    pub async fn take(&self, name: &str, cost_us: u64, window_us: u64) -> Option<(u64, u64)> {
        let redis = self.0.redis.as_ref()?;
        let key = format!("awchat:limit:{}", digest(&redis.key, "limit", name));
        let mut take = redis.bucket.key(key);
        take.arg(cost_us).arg(window_us);
        let take = &take;
        Box::pin(redis.link.call(|mut connection| async move { take.invoke_async(&mut connection).await })).await
    }

    /// How many nodes there are, as far as this one has heard.
    pub fn nodes(&self) -> u32 {
        self.0.redis.as_ref().map_or(1, |redis| redis.nodes.load(Ordering::Relaxed))
    }

    /// Tells the other nodes, soon; it never waits.
    pub fn say(&self, word: Word) {
        let said = self.0.redis.as_ref().is_some_and(|redis| redis.outbox.try_send(word).is_ok());
        if !said {
            self.set_unheard();
        }
    }

    /// Whether something was said since the last time that others may not have heard.
    pub fn take_unheard(&self) -> bool {
        self.0.unheard.swap(false, Ordering::AcqRel)
    }

    /// Others may not have heard something.
    pub fn set_unheard(&self) {
        self.0.unheard.store(true, Ordering::Release);
    }

    /// Speaks and listens until `shutdown`, and then says what is left to say.
    pub async fn run(&self, shutdown: CancellationToken, mut hear: impl FnMut(Heard)) {
        let Some(redis) = &self.0.redis else { return };
        let listening = async { tokio::join!(redis.link.keep(), redis.listen(&mut hear)) };
        tokio::select! {
            _ = listening => {}
            () = self.speak(redis, &shutdown) => {}
        }
    }

    async fn speak(&self, redis: &Redis, shutdown: &CancellationToken) {
        let mut waiting = redis.waiting.lock().await;
        let mut words = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = waiting.recv_many(&mut words, BATCH) => {}
                () = shutdown.cancelled() => break,
            }
            self.say_all(redis, &words).await;
            words.clear();
        }
        while let Ok(word) = waiting.try_recv() {
            words.push(word);
        }
        words.push(Word::Bye);
        self.say_all(redis, &words).await;
    }

    async fn say_all(&self, redis: &Redis, words: &[Word]) {
        let mut all = redis::pipe();
        for word in words {
            let said = Said { node: redis.node.clone(), word: word.clone() };
            // Plain data is always JSON.
            let Ok(text) = serde_json::to_string(&said) else { continue };
            all.publish(&redis.channel, text).ignore();
        }
        let all = &all;
        let said = redis.link.call(|mut connection| async move { all.exec_async(&mut connection).await }).await;
        if said.is_none() && words.iter().any(Word::is_news) {
            self.set_unheard();
        }
    }
}

impl Redis {
    /// Does not end.
    async fn listen(&self, hear: &mut impl FnMut(Heard)) {
        loop {
            self.listen_once(hear).await;
            hear(Heard::OutOfTouch);
            self.clock.sleep(PAUSE).await;
        }
    }

    /// Ends when nothing is heard any more.
    async fn listen_once(&self, hear: &mut impl FnMut(Heard)) {
        let Some(mut said) = self.link.subscribe(&self.channel).await else { return };
        let mut peers = Peers::new(&self.node, self.clock.now_ms());
        // What was said before was not heard.
        hear(Heard::Missed);
        let mut in_touch = false;
        loop {
            let _ = self.outbox.try_send(Word::Here);
            let beat = self.clock.sleep(Duration::from_millis(BEAT_MS));
            tokio::pin!(beat);
            loop {
                tokio::select! {
                    message = said.next() => {
                        let Some(message) = message else { return };
                        // A word of a newer version's: who knows what it means.
                        let heard = match serde_json::from_slice(message.get_payload_bytes()) {
                            Ok(said) => peers.hear(said, self.clock.now_ms()).map(Heard::Word),
                            Err(_) => Some(Heard::Missed),
                        };
                        let is_news = heard.as_ref().is_some_and(|heard| *heard != Heard::Word(Word::Here));
                        if let Some(heard) = heard.filter(|_| is_news) {
                            hear(heard);
                        }
                        if !in_touch && peers.hears_itself() {
                            in_touch = true;
                            hear(Heard::InTouch);
                        }
                    }
                    () = &mut beat => break,
                }
            }
            let now_ms = self.clock.now_ms();
            if peers.is_deaf(now_ms) {
                return;
            }
            if peers.forget_silent(now_ms) {
                hear(Heard::Missed);
            }
            self.nodes.store(peers.count(), Ordering::Relaxed);
        }
    }
}

/// A name that tells nothing of what it stands for: 32 hexadecimal digits.
fn digest(secret: &str, kind: &str, name: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(kind.as_bytes());
    mac.update(&[0]);
    mac.update(name.as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}
