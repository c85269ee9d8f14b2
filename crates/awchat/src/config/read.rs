//! Reads settings one by one and collects what is wrong with them; values are never repeated, they may be secret.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::{SETTINGS, Secret};

/// Everything that is wrong with a configuration; `Display` prints a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One setting that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub name: &'static str,
    /// The rule it breaks.
    pub rule: String,
}

impl Problems {
    /// The problems, in the order in which the settings are read.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// A configuration whose `name` breaks `rule`, and nothing else.
    pub fn one(name: &'static str, rule: impl Into<String>) -> Self {
        Self(vec![Problem { name, rule: rule.into() }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        self.0.iter().try_for_each(|Problem { name, rule }| write!(f, "\n  {name}: {rule}"))
    }
}

impl std::error::Error for Problems {}

/// Looks settings up and keeps the problems, so that all are told at once.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// `awchat dev` accepts the secrets that `serve` refuses.
    weak_secrets: bool,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>, weak_secrets: bool) -> Self {
        Self { lookup, weak_secrets, problems: Vec::new() }
    }

    /// `built`, or everything that went wrong on the way to it.
    pub(super) fn finish<T>(self, built: Option<T>) -> Result<T, Problems> {
        match built {
            Some(built) if self.problems.is_empty() => Ok(built),
            _ => Err(Problems(self.problems)),
        }
    }

    pub(super) fn problem(&mut self, name: &'static str, rule: impl Into<String>) {
        self.problems.push(Problem { name, rule: rule.into() });
    }

    /// The value, or its default; blank counts as unset, as in `NAME=` of a compose file.
    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        let filled = |text: &String| !text.trim().is_empty();
        let set = (self.lookup)(name).filter(filled).map(|text| text.trim().to_owned());
        set.or_else(|| default(name).map(str::to_owned))
    }

    pub(super) fn required<T>(&mut self, name: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.problems.iter().any(|problem| problem.name == name) {
            self.problem(name, "must be set");
        }
        value
    }

    /// The value if `parse` takes it, else a problem with `rule`.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        rule: impl Into<String>,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.problem(name, rule);
        }
        value
    }

    /// The comma-separated parts that `parse` takes; one that it does not take is a problem.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        rule: impl Into<String>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let parts = |text: &str| text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse).collect();
        self.parsed(name, rule, parts).unwrap_or_default()
    }

    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> u64 {
        let rule = format!("must be a whole number from {} to {}", range.start(), range.end());
        let low = *range.start();
        self.parsed(name, rule, |text| text.parse().ok().filter(|number| range.contains(number))).unwrap_or(low)
    }

    pub(super) fn count(&mut self, name: &'static str, range: RangeInclusive<u32>) -> u32 {
        let (low, high) = (*range.start(), *range.end());
        u32::try_from(self.number(name, low.into()..=high.into())).unwrap_or(low)
    }

    pub(super) fn millis(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(name, range))
    }

    pub(super) fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        self.parsed(name, "must be an IP address and a port, such as 127.0.0.1:8080", |text| text.parse().ok())
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A base URL without query, fragment or password; plain http only where `http` says so.
    pub(super) fn url(&mut self, name: &'static str, http: Http) -> Option<Url> {
        let rule = match http {
            Http::Anywhere => "must be an http or https URL without user, query and fragment",
            Http::Loopback => "must be an https URL without user, query and fragment (http only to a loopback address)",
        };
        self.parsed(name, rule, |text| Url::parse(text).ok().filter(|url| sound(url, http)))
    }

    /// Comma-separated networks; an address alone counts as a network of one.
    pub(super) fn networks(&mut self, name: &'static str) -> Vec<IpNet> {
        let rule = "must be CIDRs such as 10.0.0.0/8, comma-separated";
        self.list(name, rule, |part| part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from)))
    }

    pub(super) fn secret(&mut self, name: &'static str, min_bytes: usize) -> Option<Secret> {
        let text = self.text(name)?;
        self.strong(name, &text, min_bytes);
        Some(Secret::new(text))
    }

    pub(super) fn secrets(&mut self, name: &'static str, min_bytes: usize) -> Vec<Secret> {
        let secrets = self.list(name, "must be secrets, comma-separated", |part| Some(part.to_owned()));
        secrets.iter().for_each(|secret| self.strong(name, secret, min_bytes));
        secrets.into_iter().map(Secret::new).collect()
    }

    fn strong(&mut self, name: &'static str, secret: &str, min_bytes: usize) {
        if secret.len() < min_bytes {
            self.problem(name, format!("each secret must have {min_bytes} bytes or more"));
        } else if !self.weak_secrets && is_placeholder(secret) {
            self.problem(name, "is a placeholder: set a random secret (openssl rand -hex 32)");
        }
    }
}

/// Where plain http is accepted.
#[derive(Clone, Copy)]
pub(super) enum Http {
    Anywhere,
    Loopback,
}

fn default(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|setting| setting.name == name)?.default
}

fn sound(url: &Url, http: Http) -> bool {
    let scheme = match (url.scheme(), http) {
        ("https", _) | ("http", Http::Anywhere) => true,
        ("http", Http::Loopback) => is_loopback(url),
        _ => false,
    };
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    scheme && bare && url.has_host()
}

/// Whether the URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// `scheme://host[:port]` and nothing more, as browsers send it; never `*`.
pub(super) fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let origin = url.origin().ascii_serialization();
    (!origin.contains('*') && origin == text.trim_end_matches('/').to_ascii_lowercase()).then_some(origin)
}

/// `example.com`, or `*.example.com` for all names below it.
pub(super) fn host_pattern(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let deep_enough = name.len() == text.len() || name.contains('.');
    (deep_enough && name.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

fn is_placeholder(secret: &str) -> bool {
    const STARTS: [&str; 11] = [
        "changeme",
        "change-me",
        "change_me",
        "change me",
        "placeholder",
        "replace",
        "your-",
        "your_",
        "<",
        "todo",
        "dev-only",
    ];
    let lower = secret.to_ascii_lowercase();
    let mut chars = lower.chars();
    let first = chars.next();
    STARTS.iter().any(|start| lower.starts_with(start)) || chars.all(|c| Some(c) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_known() {
        for weak in
            ["changeme", "ChangeMe-please-0123456789012345", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "<secret>", "x"]
        {
            assert!(is_placeholder(weak), "{weak}");
        }
        for strong in ["0123456789abcdef0123456789abcdef", "dG9rOjEyMzQ1", "a-test-secret-of-more-than-32-bytes"] {
            assert!(!is_placeholder(strong), "{strong}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let good =
            ["https://app.example.com", "http://localhost:3000", "https://app.example.com/", "http://[::1]:8080"];
        for origin_text in good {
            assert!(origin(origin_text).is_some(), "{origin_text}");
        }
        let bad = [
            "*",
            "null",
            "app.example.com",
            "https://*",
            "https://a.example/path",
            "https://a.example?x",
            "ftp://a.example",
            "https://u:p@a.example",
        ];
        for origin_text in bad {
            assert!(origin(origin_text).is_none(), "{origin_text}");
        }
    }

    #[test]
    fn a_host_pattern_is_a_name_or_all_below_it() {
        for good in ["example.com", "*.example.com", "localhost", "127.0.0.1"] {
            assert!(host_pattern(good).is_some(), "{good}");
        }
        for bad in ["*", "*.com", "a.*.com", "https://a.com", "a.com/x", ".com", ""] {
            assert!(host_pattern(bad).is_none(), "{bad}");
        }
    }
}
