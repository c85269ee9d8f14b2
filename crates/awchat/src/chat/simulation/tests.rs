//! The worlds that are lived through, and that a broken product is noticed.

use std::num::NonZero;
use std::sync::Mutex;

use super::*;

const SEEDS: u64 = 2_000;
const SOAK_SEEDS: u64 = 100_000;

/// A setting of the test run.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is no setting of the product")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The world of a seed: both engines, both kinds of clocks.
fn options(seed: u64, beyond_the_promise: bool) -> Options {
    let nodes = if seed.is_multiple_of(4) { 1 } else { 2 };
    let clocks_differ = !seed.is_multiple_of(3);
    // Shorter than the product's in some worlds: there it is met more often.
    let deadline_ms = if seed % 5 < 2 { 3_000 } else { 15_000 };
    Options { nodes, clocks_differ, beyond_the_promise, timeout_ms: 10_000, settle_ms: 30_000, deadline_ms }
}

/// Lives through seeds on all processors; the figures of all, and the least seed that failed.
fn simulate_all(seeds: std::ops::Range<u64>, beyond: bool, mutation: Mutation) -> (Figures, Option<u64>) {
    let lanes = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let total = Mutex::new((Figures::default(), None::<u64>));
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (total, mine) = (&total, seeds.clone().filter(move |seed| seed % lanes == lane));
            scope.spawn(move || {
                for seed in mine {
                    if total.lock().expect("no thread panics").1.is_some_and(|failed| failed < seed) {
                        return;
                    }
                    let ended = simulate(seed, options(seed, beyond), mutation, false);
                    let mut total = total.lock().expect("no thread panics");
                    total.0.add(&ended.figures);
                    if !ended.violations.is_empty() {
                        total.1 = Some(total.1.map_or(seed, |failed| failed.min(seed)));
                        return;
                    }
                }
            });
        }
    });
    total.into_inner().expect("no thread panics")
}

impl Figures {
    fn add(&mut self, more: &Self) {
        self.messages += more.messages;
        self.requests += more.requests;
        self.applied += more.applied;
        self.operator_messages += more.operator_messages;
        self.crashes += more.crashes;
        self.faults += more.faults;
        self.polls += more.polls;
    }
}

fn replay(seed: u64, beyond: bool, mutation: Mutation) -> Vec<String> {
    let ended = simulate(seed, options(seed, beyond), mutation, true);
    eprintln!("{}", ended.trace.join("\n"));
    eprintln!("seed {seed}, {:?}: {:#?}", options(seed, beyond), ended.violations);
    ended.violations
}

fn all_is_well(beyond: bool, share: u64, verdict: &str) {
    if let Some(seed) = setting("AWCHAT_SEED") {
        let seed = seed.parse().expect("AWCHAT_SEED is a number");
        assert!(replay(seed, beyond, Mutation::None).is_empty(), "seed {seed} fails");
        return;
    }
    let seeds = if setting("AWCHAT_SOAK").is_some_and(|on| on == "1") { SOAK_SEEDS } else { SEEDS } / share;
    let (figures, failed) = simulate_all(0..seeds, beyond, Mutation::None);
    if let Some(seed) = failed {
        replay(seed, beyond, Mutation::None);
        panic!("seed {seed} fails; AWCHAT_SEED={seed} shows it again");
    }
    eprintln!(
        "{seeds} seeds: {} messages of users in {} requests, {} of operators, {} polls, {} crashes, {} faults: \
         {verdict}",
        figures.messages, figures.requests, figures.operator_messages, figures.polls, figures.crashes, figures.faults
    );
}

#[test]
fn what_is_promised_is_kept_in_every_world() {
    all_is_well(false, 1, "0 lost, 0 doubled, 0 out of order, 0 shown twice");
}

#[test]
fn beyond_the_promise_a_late_double_is_hidden_and_nothing_is_lost() {
    all_is_well(true, 10, "0 lost, 0 shown twice");
}

#[test]
fn a_seed_is_the_same_world_every_time() {
    let lived = || simulate(7, options(7, false), Mutation::None, true).trace;
    assert_eq!(lived(), lived());
}

#[test]
fn a_broken_product_is_noticed() {
    let mutations = [
        Mutation::NoSettling,
        Mutation::BoundByWordsAlone,
        Mutation::SentAfterTold,
        Mutation::ReadsWithoutLocks,
        Mutation::AgainUnseen,
        Mutation::ToldAtDeadline,
        Mutation::PositionIsCreatedAt,
        Mutation::NoSweep,
    ];
    for mutation in mutations {
        let (_, failed) = simulate_all(0..SEEDS, false, mutation);
        let seed = failed.unwrap_or_else(|| panic!("{mutation:?} is not noticed"));
        let ended = simulate(seed, options(seed, false), mutation, false);
        eprintln!("{mutation:?} is noticed at seed {seed}: {}", ended.violations[0]);
    }
}
