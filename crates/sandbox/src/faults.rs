//! What goes wrong, on request: scripted faults of calls and of webhooks.

use serde::{Deserialize, Serialize};

use crate::phones::Service;

/// One rule: what goes wrong, for which requests or notifications, how often. Rules are tried in order; the first that fits acts.
///
/// As JSON: `{"kind":"lost_answer","method":"POST","path":"/conversations/{id}/reply","times":1}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: Kind,
    /// Only requests of this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only requests whose path (without query) fits: `*` stands for any text, `{…}` for one segment. `/conversations*` is a
    /// prefix, `*/reply` a suffix, `/conversations/{id}/reply` an operation. A rule without a path is about Intercom alone; the paths
    /// of the other services are `/token`, `/v1/projects/*` and `/bot*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only notifications of this topic; `*` as in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// How many fitting requests or notifications pass untouched first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u32,
    /// How often the rule acts; absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The chance, 0 to 1, that it acts on what fits; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Where this rule's dice start: the same seed gives the same sequence.
    #[serde(default)]
    pub seed: u64,
}

/// The kinds of faults. The first group is about REST calls, the second about webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The connection is closed before the request is read. Not applied.
    Refuse,
    /// The request is read, then the connection is closed. Not applied.
    ResetBeforeApply,
    /// 429: Intercom's with `X-RateLimit-Reset` this many seconds ahead and no `Retry-After`, the others' with that. Not applied.
    RateLimit {
        /// Seconds until the window resets.
        #[serde(default = "one")]
        reset_after_s: i64,
    },
    /// An error answer, with an `error.list` or an HTML page.
    Error {
        /// The HTTP status, such as 503.
        status: u16,
        /// Whether the request takes effect nevertheless.
        #[serde(default)]
        applied: bool,
        /// Whether the body is an HTML page instead of JSON.
        #[serde(default)]
        html: bool,
    },
    /// Applied, then the connection is closed without an answer.
    LostAnswer,
    /// No answer now; applied later.
    AppliedLate {
        /// Milliseconds until it is applied.
        after_ms: u64,
        /// Whether the connection stays open, silent, until then; else it is closed at once.
        #[serde(default)]
        hang: bool,
    },
    /// Silence, then the connection is closed without an answer.
    Hang {
        /// Milliseconds of silence.
        ms: u64,
        /// Whether the request took effect, at once.
        #[serde(default)]
        applied: bool,
    },
    /// Applied; the answer breaks off in the middle of its body.
    TruncatedBody,
    /// Applied at once, answered late.
    Slow {
        /// Milliseconds until the answer.
        ms: u64,
    },
    /// Searches see the world as it was some time ago. Other rules are still tried.
    SearchLag {
        /// Milliseconds.
        ms: i64,
    },
    /// A POST is applied twice: shows that a checker of "nothing doubled" can fail. Other methods are left alone.
    DoubleApply,

    /// The notification is never sent.
    Drop,
    /// The notification is sent twice, with the same id.
    Double,
    /// The notification is sent this much later.
    Late {
        /// Milliseconds.
        ms: u64,
    },
    /// The notification waits until the next one of its conversation was sent, or for a second.
    Reorder,
    /// The notification's ids of digits are numbers instead of text.
    NumericIds,
    /// The notification leaves out what is null.
    Sparse,
    /// Before the notification comes a forgery of it: another id, an attacker's text, a bad signature.
    Forge,
}

/// A rule and what it has done so far.
#[derive(Clone, Debug, Serialize)]
pub struct ActiveFault {
    /// The rule.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often it has acted.
    pub hits: u32,
}

impl Fault {
    /// A rule that always acts, on everything its kind is about.
    pub fn new(kind: Kind) -> Self {
        Self { kind, method: None, path: None, topic: None, after: 0, times: None, probability: None, seed: 0 }
    }

    /// Narrowed to an operation: a method and a path pattern.
    #[must_use]
    pub fn on(self, method: &str, path: &str) -> Self {
        Self { method: Some(method.to_owned()), path: Some(path.to_owned()), ..self }
    }

    /// Narrowed to the notifications of a topic (or pattern).
    #[must_use]
    pub fn on_topic(self, topic: &str) -> Self {
        Self { topic: Some(topic.to_owned()), ..self }
    }

    /// Acts this many times at most.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets this many pass first.
    #[must_use]
    pub fn after(self, after: u32) -> Self {
        Self { after, ..self }
    }

    /// Acts by chance: `probability` from 0 to 1, with dice that start at `seed`.
    #[must_use]
    pub fn with_probability(self, probability: f64, seed: u64) -> Self {
        Self { probability: Some(probability), seed, ..self }
    }
}

impl Kind {
    fn is_about_webhooks(&self) -> bool {
        let swaps = matches!(self, Self::Drop | Self::Double | Self::Late { .. } | Self::Reorder);
        swaps || matches!(self, Self::NumericIds | Self::Sparse | Self::Forge)
    }
}

fn one() -> i64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The rules in force.
#[derive(Default)]
pub(crate) struct Rules(Vec<Rule>);

struct Rule {
    fault: Fault,
    dice: Dice,
    fitting: u32,
    hits: u32,
}

/// What the rules say of a REST call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kind: Option<Kind>,
    pub(crate) search_lag_ms: Option<i64>,
}

impl Rules {
    pub(crate) fn add(&mut self, fault: Fault) {
        let dice = Dice(fault.seed);
        self.0.push(Rule { fault, dice, fitting: 0, hits: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn active(&self) -> Vec<ActiveFault> {
        self.0.iter().map(|rule| ActiveFault { fault: rule.fault.clone(), hits: rule.hits }).collect()
    }

    /// What happens to this call.
    pub(crate) fn for_call(&mut self, method: &str, path: &str) -> Plan {
        let mut plan = Plan::default();
        for rule in &mut self.0 {
            let fault = &rule.fault;
            let method_fits = fault.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method));
            let path_fits = match fault.path.as_deref() {
                Some(pattern) => fits(pattern, path),
                None => Service::at(path).is_none(),
            };
            if fault.kind.is_about_webhooks() || !method_fits || !path_fits {
                continue;
            }
            match rule.fault.kind.clone() {
                Kind::SearchLag { ms } => {
                    if path.ends_with("/search") && plan.search_lag_ms.is_none() && rule.acts() {
                        plan.search_lag_ms = Some(ms);
                    }
                }
                Kind::DoubleApply if !method.eq_ignore_ascii_case("POST") => {}
                kind => {
                    if rule.acts() {
                        plan.kind = Some(kind);
                        break;
                    }
                }
            }
        }
        plan
    }

    /// What happens to this notification.
    pub(crate) fn for_webhook(&mut self, topic: &str) -> Option<Kind> {
        let fitting = self.0.iter_mut().filter(|rule| {
            rule.fault.kind.is_about_webhooks()
                && rule.fault.topic.as_deref().is_none_or(|pattern| fits(pattern, topic))
        });
        for rule in fitting {
            if rule.acts() {
                return Some(rule.fault.kind.clone());
            }
        }
        None
    }
}

impl Rule {
    /// Whether the rule acts on what fits it.
    fn acts(&mut self) -> bool {
        if self.fault.times.is_some_and(|times| self.hits >= times) {
            return false;
        }
        self.fitting += 1;
        if self.fitting <= self.fault.after || !self.dice.say_yes(self.fault.probability.unwrap_or(1.0)) {
            return false;
        }
        self.hits += 1;
        true
    }
}

/// A small generator of our own (splitmix64): the same seed must mean the same faults whatever crates are updated.
struct Dice(u64);

impl Dice {
    fn say_yes(&mut self, probability: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // 53 bits fill a float's mantissa: a number from 0 to just under 1.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let thrown = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        thrown < probability
    }
}

/// Whether a text fits a pattern: `*` is any text, `{…}` one segment.
fn fits(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        return (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]));
    }
    if let Some((_, rest)) = pattern.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        let end = text.find('/').unwrap_or(text.len());
        return end > 0 && fits(rest, &text[end..]);
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => fits(&pattern[a.len_utf8()..], &text[b.len_utf8()..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_prefixes_suffixes_and_operations() {
        for (pattern, text, expected) in [
            ("/conversations", "/conversations", true),
            ("/conversations", "/conversations/1", false),
            ("/conversations*", "/conversations/1/reply", true),
            ("*/reply", "/conversations/1/reply", true),
            ("*/reply", "/conversations/1/replies", false),
            ("/conversations/{id}", "/conversations/1", true),
            ("/conversations/{id}", "/conversations/1/reply", false),
            ("/conversations/{id}", "/conversations/", false),
            ("/conversations/{id}/tags/{tag}", "/conversations/1/tags/2", true),
            ("conversation.*", "conversation.admin.replied", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_count_and_are_tried_in_order() {
        let mut rules = Rules::default();
        rules.add(Fault::new(Kind::SearchLag { ms: 5 }));
        rules.add(Fault::new(Kind::Refuse).on("post", "/a").after(1).times(1));
        rules.add(Fault::new(Kind::LostAnswer).on("POST", "/a"));
        let kinds: Vec<_> = (0..3).map(|_| rules.for_call("POST", "/a").kind).collect();
        assert_eq!(kinds, [Some(Kind::LostAnswer), Some(Kind::Refuse), Some(Kind::LostAnswer)]);
        assert_eq!(rules.for_call("POST", "/b/search"), Plan { kind: None, search_lag_ms: Some(5) });
        assert_eq!(rules.for_webhook("ping"), None);
        assert_eq!(rules.active().iter().map(|rule| rule.hits).collect::<Vec<_>>(), [1, 1, 2]);
    }

    #[test]
    fn the_same_seed_throws_the_same_dice() {
        let throws = |seed| {
            let mut rules = Rules::default();
            rules.add(Fault::new(Kind::Drop).with_probability(0.3, seed));
            (0..1000).map(|_| rules.for_webhook("t").is_some()).collect::<Vec<bool>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        let hits = throws(7).into_iter().filter(|hit| *hit).count();
        assert!((250..350).contains(&hits), "{hits}");
    }

    #[test]
    fn a_rule_is_plain_json() {
        let text = r#"{"kind":"error","status":503,"applied":true,"method":"POST","path":"*/reply","times":2,"probability":0.5,"seed":9}"#;
        let fault: Fault = serde_json::from_str(text).expect("a rule");
        let expected = Fault::new(Kind::Error { status: 503, applied: true, html: false }).on("POST", "*/reply");
        assert_eq!(fault, expected.times(2).with_probability(0.5, 9));
        let back: Fault = serde_json::from_value(serde_json::to_value(&fault).expect("json")).expect("a rule");
        assert_eq!(back, fault);
    }
}
