//! The topic picker's content: read from a file once, checked as it must be for `reason` of a new conversation.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use serde::{Deserialize, Serialize};

use super::read::Reader;

/// The longest name of a topic, in characters: that of `reason`.
const LONGEST: usize = 100;

/// Something that a request can be about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// What operators see, and `reason.main` says.
    pub main: String,
    /// What users see, by language: `en`, `ru`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What can be told apart within it.
    #[serde(default)]
    pub subs: Vec<SubTopic>,
}

/// Something within a topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubTopic {
    /// What operators see, and `reason.sub` says.
    pub sub: String,
    /// What users see, by language.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Reader<'_> {
    pub(super) fn topics(&mut self) -> Vec<Topic> {
        let Some(path) = self.path("TOPICS_FILE") else { return Vec::new() };
        match fs::read_to_string(path).map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
            Ok(topics) => topics,
            Err(why) => {
                self.problem("TOPICS_FILE", format!("must name a file of topics (docs/guide.md): {why}"));
                Vec::new()
            }
        }
    }
}

/// A list of topics as JSON; names are not empty, not too long, and each there once.
fn parse(text: &str) -> Result<Vec<Topic>, String> {
    let topics: Vec<Topic> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    check(topics.iter().map(|topic| topic.main.as_str()))?;
    for topic in &topics {
        check(topic.subs.iter().map(|sub| sub.sub.as_str()))?;
    }
    Ok(topics)
}

fn check<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.trim().is_empty() || name.chars().count() > LONGEST {
            return Err(format!("a name has 1 to {LONGEST} characters: \"{name}\""));
        }
        if !seen.insert(name) {
            return Err(format!("a name is there twice: \"{name}\""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_topics_is_read() {
        let topics = parse(r#"[{"main":"Cards","labels":{"ru":"Карты"},"subs":[{"sub":"Lost"}]},{"main":"Else"}]"#);
        let topics = topics.expect("a list of topics");
        assert_eq!((topics[0].labels["ru"].as_str(), topics[0].subs[0].sub.as_str()), ("Карты", "Lost"));
        assert!(topics[1].labels.is_empty() && topics[1].subs.is_empty());
    }

    #[test]
    fn what_no_conversation_could_begin_with_is_refused() {
        let long = format!(r#"[{{"main":"{}"}}]"#, "x".repeat(101));
        for wrong in [
            "",
            "{}",
            r#"[{"labels":{}}]"#,
            r#"[{"main":" "}]"#,
            r#"[{"main":"A","sub":"B"}]"#,
            r#"[{"main":"A"},{"main":"A"}]"#,
            r#"[{"main":"A","subs":[{"sub":"B"},{"sub":"B"}]}]"#,
            &long,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
