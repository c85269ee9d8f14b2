//! How soon a telephone is told.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use awchat::clock::Clock;
use sandbox::To;
use serde_json::json;

use super::chat::{PER_SECOND, Said, settle, speak, users};
use super::folder;
use crate::load::{self, Connection, quantile};
use crate::report::Row;
use crate::servers::{Server, intercom};
use crate::{Effort, Result};

/// From the operator's message to FCM, at a hundred a second; each to a user of its own, for a user is told once of several.
pub(crate) async fn pushes(effort: Effort) -> Result<Vec<Row>> {
    let home = folder()?;
    let intercom = intercom().await?;
    let (account, phones, google) = (home.path().join("account.json"), intercom.phones(), intercom.url());
    std::fs::write(&account, phones.service_account().to_string())?;
    let account = account.display().to_string();
    let settings = [("FCM_SERVICE_ACCOUNT_FILE", &*account), ("FCM_BASE_URL", &*google)];
    let server = Server::awchat(home.path(), &intercom, &settings)?;
    let messages = PER_SECOND * effort.turn.as_secs().max(1) * 2;
    let users = users(&server, usize::try_from(messages)?).await?;
    let mut connection = Connection::open(server.address).await?;
    for (n, user) in users.iter().enumerate() {
        let body = json!({ "platform": "mobile", "token": format!("said-{n}") }).to_string();
        connection
            .exchange(&load::post("/api/devices/register", &user.token, "application/json", body.as_bytes()))
            .await?;
    }
    settle(&intercom).await;
    let said = Said::default();
    speak(&intercom, &users, messages, &said).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while (phones.sent().len() as u64) < messages && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (now, now_ms, sent) = (Instant::now(), Clock::system().now_ms(), phones.sent());
    // The telephone has the name of the message that its user hears of.
    let told: HashMap<String, i64> = sent
        .into_iter()
        .filter_map(|sent| match sent.to {
            To::Phone(token) => Some((token, sent.at_ms)),
            To::Chat(_) => None,
        })
        .collect();
    let mut took = Vec::new();
    for (name, began) in said.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let at_ms = told.get(name).ok_or_else(|| format!("nobody was told of {name}"))?;
        let since = Duration::from_millis(u64::try_from(now_ms - at_ms)?);
        took.push((now - *began).saturating_sub(since));
    }
    let p50 = quantile(&mut took, 0.5).as_secs_f64() * 1_000.0;
    let p99 = quantile(&mut took, 0.99).as_secs_f64() * 1_000.0;
    let note = format!("p50 {p50:.1} ms, {messages} messages at {PER_SECOND}/s");
    Ok(vec![Row::new("operator's message to FCM: p99", p99, "ms").at_most(1_000.0).note(note)])
}
