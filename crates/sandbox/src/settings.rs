//! What can be set about a sandbox.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How a sandbox behaves. The defaults are for development; nothing in them is secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The bearer token REST calls must bring.
    pub access_token: String,
    /// The key of webhook signatures.
    pub client_secret: String,
    /// The workspace's id, in webhooks and in `/me`.
    pub app_id: String,
    /// The service teammate's id, digits. The token is theirs.
    pub admin_id: String,
    /// REST calls in a window of ten seconds before 429.
    pub rate_limit_per_10s: u32,
    /// Intercom's OpenAPI description. Requests are held against it if the file exists.
    pub description: Option<PathBuf>,
    /// How long after a failed delivery the one retry comes.
    pub webhook_retry_after: Duration,
    /// How long a receiver may take to answer.
    pub webhook_timeout: Duration,
    /// How far searches are behind, in milliseconds. The fault `search_lag` overrides it.
    pub search_lag_ms: i64,
    /// Whether searches compare dates by whole UTC days, as measured. Otherwise by the second.
    pub whole_day_dates: bool,
    /// How long after a contact's reply the bot takes up a ticket again that was resolved, or waiting for the contact. None: never.
    pub ticket_reopens_after: Option<Duration>,
    /// Whether Customer tickets, being conversations, send `conversation.*` notifications too. Nobody has told what Intercom does.
    pub tickets_as_conversations: bool,
    /// Whether notifications of tickets are as before 2.15: no `ticket.resolved`, but a bare ticket as `ticket.closed` when it is
    /// resolved, and assignees as text.
    pub ticket_webhooks_before_2_15: bool,
    /// How long an attachment's address works.
    pub attachment_urls_live_for: Duration,
    /// The Firebase project whose messages FCM takes.
    pub fcm_project: String,
    /// The bot's token: its id, a colon, a secret.
    pub telegram_bot_token: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_token: "sandbox-token".to_owned(),
            client_secret: "sandbox-client-secret-0123456789abcdef".to_owned(),
            app_id: "abc123def".to_owned(),
            admin_id: "9000001".to_owned(),
            rate_limit_per_10s: 1667,
            description: None,
            webhook_retry_after: Duration::from_secs(60),
            webhook_timeout: Duration::from_secs(5),
            search_lag_ms: 0,
            whole_day_dates: true,
            ticket_reopens_after: Some(Duration::from_secs(1)),
            tickets_as_conversations: false,
            ticket_webhooks_before_2_15: false,
            attachment_urls_live_for: Duration::from_secs(30 * 60),
            fcm_project: "sandbox-project".to_owned(),
            telegram_bot_token: "7000000001:sandbox-bot-token-0123456789abcdefg".to_owned(),
        }
    }
}
