//! A session for who has no backend of the company's own behind them: the user of a Telegram Mini App.

use serde_json::{Map, Value};

use super::{init_data, mint};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::UserId;

/// A session is made soon after the Mini App was opened.
const INIT_DATA_AGE_S: i64 = 3_600;
const TOKEN_S: u32 = 900;

/// A session that the server has signed itself.
pub struct Session {
    /// `tg:` and the Telegram user id.
    pub user: UserId,
    /// The session token.
    pub token: String,
    /// When it expires, Unix seconds.
    pub expires_at: i64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(***)")
    }
}

/// A session for whom `init_data` proves.
///
/// # Errors
/// [`Error::NotFound`] without a bot, or without a secret to sign with: then there is no such thing.
/// [`Error::Unauthorized`] where the proof does not hold.
pub fn session(init_data: &str, config: &Config, clock: &Clock) -> Result<Session> {
    let (Some(bot_token), Some(secret)) = (&config.push.telegram_bot_token, config.session.secrets.first()) else {
        return Err(Error::NotFound);
    };
    let now_s = clock.now_s();
    let proved = init_data::user(init_data, bot_token, now_s, INIT_DATA_AGE_S)
        .map_err(|_| Error::Unauthorized("initData does not hold, or is more than an hour old"))?;
    let user = UserId::parse(&format!("tg:{}", proved.id)).ok_or_else(|| Error::internal("digits are visible"))?;
    let mut claims = Map::new();
    let said = [("name", proved.name), ("telegram_id", Some(proved.id))];
    let wanted = [("iss", config.session.issuer.clone()), ("aud", config.session.audience.clone())];
    for (claim, value) in said.into_iter().chain(wanted) {
        claims.extend(value.map(|value| (claim.to_owned(), Value::from(value))));
    }
    let token = mint(secret, &user, TOKEN_S, clock, claims);
    Ok(Session { user, token, expires_at: now_s + i64::from(TOKEN_S) })
}
