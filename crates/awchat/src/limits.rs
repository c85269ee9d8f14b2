//! How often a caller may ask: a bucket per user, and one per client address for requests that fail to say who asks.
//!
//! Users' buckets are shared by all nodes, in Redis; while that is not there, each node has its own, and gives a share of
//! the rate. Failures are counted at each node alone: who sends forgeries shall not keep Redis busy.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;

use crate::clock::Clock;
use crate::config::{Config, RateLimit};
use crate::id::UserId;
use crate::shared::Shared;

/// Failures of one address (wrong tokens, wrong signatures) before it is told to wait.
const FAILURES: RateLimit = RateLimit { per_minute: 300, burst: 100 };

/// What a request counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A read, a poll, a small write.
    Light,
    /// An upload, a new conversation, a complaint.
    Heavy,
}

impl Weight {
    fn units(self) -> u32 {
        match self {
            Self::Light => 1,
            Self::Heavy => 5,
        }
    }
}

/// A bucket's answer, and what a client is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request fits; if not, it has not been counted.
    pub allowed: bool,
    /// Requests that fit into a full bucket.
    pub limit: u32,
    /// Light requests that fit right now.
    pub remaining: u32,
    /// Whole seconds until the bucket is full again.
    pub reset_s: u64,
    /// Whole seconds until this request fits; 0 if it did.
    pub retry_after_s: u64,
}

/// All limits of this process.
pub struct Limits {
    clock: Clock,
    shared: Shared,
    users: Buckets<UserId>,
    failures: Buckets<IpAddr>,
    trusted_proxies: Vec<IpNet>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    /// Limits as configured, by the time of `clock` where no other node is asked.
    pub fn new(config: &Config, shared: Shared, clock: Clock) -> Self {
        Self {
            clock,
            shared,
            users: Buckets::new(Rate::new(config.rate_limit)),
            failures: Buckets::new(Rate::new(FAILURES)),
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }

    /// Counts a request of `user`.
    pub async fn check(&self, user: &UserId, weight: Weight) -> Decision {
        let (units, rate) = (weight.units(), self.users.rate);
        match self.shared.take(user.as_str(), rate.cost_us(units), rate.window_us()).await {
            Some((full_us, now_us)) => rate.take(full_us, units, now_us).0,
            None => self.users.take_at(rate.share(self.shared.nodes()), user, units, self.clock.now_ms()),
        }
    }

    /// As [`Limits::check`] for who has no other node to ask: at once.
    pub fn check_here(&self, user: &UserId, weight: Weight) -> Option<Decision> {
        let is_alone = self.shared.is_up().is_none();
        is_alone.then(|| self.users.take(user, weight.units(), self.clock.now_ms()))
    }

    /// Counts a failure (a 401, a wrong signature) of the client at `address`. This machine's own address is never
    /// limited: behind a local proxy that TRUSTED_PROXIES does not name, it would stand for everybody.
    pub fn check_failure(&self, address: IpAddr) -> Decision {
        let decision = self.failures.take(&network(address), 1, self.clock.now_ms());
        Decision { allowed: decision.allowed || address.is_loopback(), ..decision }
    }

    /// What the limit of a user means, as `RateLimit-Policy` has it: the bucket and the seconds that fill it.
    pub fn policy(&self) -> String {
        let rate = &self.users.rate;
        format!("{};w={}", rate.burst, rate.window_us().div_ceil(1_000_000).max(1))
    }

    /// The client's address, given the peer's and the `X-Forwarded-For` lines in order.
    pub fn client_address<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        client_address(peer, forwarded, &self.trusted_proxies)
    }
}

/// The rightmost address that is no trusted proxy: what stands left of it, anybody may have written.
fn client_address<'a>(peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    for hop in forwarded.rev().flat_map(|line| line.rsplit(',')) {
        if !is_trusted(&client) {
            break;
        }
        let Some(address) = hop_address(hop.trim()) else { break };
        client = address.to_canonical();
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// The part of an address that one customer of a provider holds: all of v4, the /64 of v6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The generic cell rate algorithm: a bucket is one number, the time at which it would be full again.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    /// Microseconds that one unit takes to come back.
    unit_us: u64,
}

impl Rate {
    fn new(RateLimit { per_minute, burst }: RateLimit) -> Self {
        Self { burst: burst.max(1), unit_us: (60_000_000 / u64::from(per_minute.max(1))).max(1) }
    }

    fn window_us(&self) -> u64 {
        u64::from(self.burst) * self.unit_us
    }

    /// What each of so many nodes gives of it: all together give no more, but for each its one request.
    fn share(self, nodes: u32) -> Self {
        let nodes = nodes.max(1);
        Self { burst: (self.burst / nodes).max(1), unit_us: self.unit_us.saturating_mul(u64::from(nodes)) }
    }

    fn cost_us(&self, units: u32) -> u64 {
        // More than the bucket holds would never fit.
        u64::from(units.min(self.burst)) * self.unit_us
    }

    /// Takes `units` at `now_us` from a bucket that is full again at `full_us`; all times count from one epoch.
    /// Gives the decision and the bucket's new time.
    fn take(&self, full_us: u64, units: u32, now_us: u64) -> (Decision, u64) {
        let cost_us = self.cost_us(units);
        // A clock that was set back must not lock anybody out.
        let full_us = full_us.clamp(now_us, now_us.saturating_add(self.window_us()));
        let after_us = full_us.saturating_add(cost_us);
        let latest_us = now_us.saturating_add(self.window_us());
        let allowed = after_us <= latest_us;
        let full_us = if allowed { after_us } else { full_us };
        let decision = Decision {
            allowed,
            limit: self.burst,
            remaining: u32::try_from((latest_us - full_us) / self.unit_us).unwrap_or(u32::MAX),
            reset_s: (full_us - now_us).div_ceil(1_000_000),
            retry_after_s: after_us.saturating_sub(latest_us).div_ceil(1_000_000),
        };
        (decision, full_us)
    }
}

const SHARDS: usize = 16;
/// A shard looks for full buckets when it holds this many, and again each time it has doubled.
const SWEEP_FROM: usize = 1024;
/// A shard never holds more: beyond, the buckets are forgotten, which lets callers through rather than keep them out.
const SHARD_MAX: usize = 65_536;

/// A bucket for each key; a full bucket is as good as none, and vanishes.
struct Buckets<K> {
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
}

struct Shard<K> {
    /// When each bucket is full again, in microseconds.
    full_us: HashMap<K, u64>,
    sweep_at: usize,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn new(rate: Rate) -> Self {
        let shard = || Mutex::new(Shard { full_us: HashMap::new(), sweep_at: SWEEP_FROM });
        Self { rate, hasher: RandomState::new(), shards: std::array::from_fn(|_| shard()) }
    }

    fn take(&self, key: &K, units: u32, now_ms: i64) -> Decision {
        self.take_at(self.rate, key, units, now_ms)
    }

    /// As [`Buckets::take`], at another rate than its own.
    fn take_at(&self, rate: Rate, key: &K, units: u32, now_ms: i64) -> Decision {
        let now_us = u64::try_from(now_ms).unwrap_or(0) * 1000;
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_us) = shard.full_us.get_mut(key) {
            let (decision, new_us) = rate.take(*full_us, units, now_us);
            *full_us = new_us;
            return decision;
        }
        shard.make_room(now_us);
        let (decision, new_us) = rate.take(now_us, units, now_us);
        shard.full_us.insert(key.clone(), new_us);
        decision
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("no test panics with it").full_us.len()).sum()
    }
}

impl<K: Eq + Hash> Shard<K> {
    fn make_room(&mut self, now_us: u64) {
        if self.full_us.len() < self.sweep_at {
            return;
        }
        self.full_us.retain(|_, full_us| *full_us > now_us);
        if self.full_us.len() >= SHARD_MAX {
            self.full_us.clear();
        }
        self.sweep_at = (self.full_us.len() * 2).clamp(SWEEP_FROM, SHARD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate::new(RateLimit { per_minute, burst })
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_unit_at_a_time() {
        // 60 a minute: one unit a second.
        let rate = rate(60, 3);
        let steps = [
            // at ms, units => allowed, remaining, reset_s, retry_after_s
            (0, 1, (true, 2, 1, 0)),
            (0, 1, (true, 1, 2, 0)),
            (0, 1, (true, 0, 3, 0)),
            (0, 1, (false, 0, 3, 1)),
            (999, 1, (false, 0, 3, 1)),
            (1000, 1, (true, 0, 3, 0)),
            (1000, 2, (false, 0, 3, 2)),
            (4000, 0, (true, 3, 0, 0)),
            (4000, 3, (true, 0, 3, 0)),
            (500, 1, (false, 0, 3, 1)), // the clock was set back: at most the bucket's own time to wait
        ];
        let mut full_us = 0;
        for (at, (at_ms, units, expected)) in steps.into_iter().enumerate() {
            let (decision, new_us) = rate.take(full_us, units, at_ms * 1000);
            full_us = new_us;
            let Decision { allowed, remaining, reset_s, retry_after_s, limit } = decision;
            assert_eq!((allowed, remaining, reset_s, retry_after_s), expected, "step {at}");
            assert_eq!(limit, 3);
        }
    }

    #[test]
    fn a_request_heavier_than_the_bucket_takes_all_of_it() {
        let (decision, full_us) = rate(60, 2).take(0, 5, 0);
        assert!(decision.allowed && decision.remaining == 0);
        assert_eq!(full_us, 2_000_000);
    }

    #[test]
    fn in_the_long_run_a_user_gets_the_rate_per_minute() {
        let rate = rate(300, 60);
        let mut full_us = 0;
        let mut passed = 0;
        for at_ms in (0..600_000).step_by(50) {
            let (decision, new_us) = rate.take(full_us, 1, at_ms * 1000);
            full_us = new_us;
            passed += u32::from(decision.allowed);
        }
        assert!((3000..=3060).contains(&passed), "{passed} in ten minutes");
    }

    #[test]
    fn nodes_that_count_alone_give_no_more_together_than_the_rate() {
        let whole = rate(300, 60);
        for nodes in 1..=7 {
            let share = whole.share(nodes);
            assert!(share.burst * nodes <= whole.burst, "{nodes}");
            assert_eq!(share.unit_us, whole.unit_us * u64::from(nodes), "{nodes}");
        }
        assert_eq!(whole.share(0).burst, 60);
        assert_eq!(whole.share(1_000).burst, 1, "nobody is kept out");
    }

    #[test]
    fn idle_buckets_vanish() {
        let buckets = Buckets::new(rate(60, 3));
        for user in 0..100_000 {
            buckets.take(&user, 1, user);
        }
        assert!(buckets.len() < 3 * SHARDS * SWEEP_FROM, "{} buckets are kept", buckets.len());
    }

    #[test]
    fn users_do_not_share_a_bucket() {
        let buckets = Buckets::new(rate(60, 1));
        assert!(buckets.take(&"ada", 1, 0).allowed);
        assert!(!buckets.take(&"ada", 1, 0).allowed);
        assert!(buckets.take(&"bob", 1, 0).allowed);
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_no_trusted_proxy() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|n| n.parse().expect("CIDR")).collect();
        let table: &[(&str, &[&str], &str)] = &[
            ("203.0.113.9", &[], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"), // the peer is nobody's proxy
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"), // 1.1.1.1 was written by the client
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.2.2.2"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8:2::5]:4711"], "2001:db8:2::5"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ];
        for (peer, lines, client) in table {
            let found = client_address(peer.parse().expect("address"), lines.iter().copied(), &trusted);
            assert_eq!(found, client.parse::<IpAddr>().expect("address"), "{peer} {lines:?}");
        }
    }

    #[test]
    fn an_address_stands_for_its_network() {
        let network_of = |text: &str| network(text.parse().expect("address")).to_string();
        assert_eq!(network_of("192.0.2.1"), "192.0.2.1");
        assert_eq!(network_of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
