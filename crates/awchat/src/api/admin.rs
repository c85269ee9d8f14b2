//! The operator's page: complaints, ratings and the state of the server, to read alone. Only with ADMIN_TOKEN.
//!
//! It is plain HTML without a script. The token comes in the `Authorization` header, or once by the form; a browser is
//! then known by a cookie that is signed with the token and holds for a working day, so that no session is stored and
//! another token ends them all.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::extract::{ClientAddress, Query};
use crate::app::App;
use crate::chat::feedback::Category;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::store::reports::{ComplaintRow, Place};

mod chart;
mod page;

const COOKIE: &str = "awchat_admin";
/// A working day.
const SESSION_S: i64 = 12 * 3600;
/// The form's only field.
const MAX_FORM_BYTES: usize = 4096;
/// The periods one can look at, in days; the second is shown first.
const DAYS: [i64; 4] = [7, 30, 90, 365];
const DAY_MS: i64 = 86_400_000;
/// The longest text to look for, in characters.
const TEXT_CHARS: usize = 100;
/// Complaints on a page.
const PAGE: usize = 50;
/// Complaints that are read at once, and at most, to find those with a text.
const BATCH: i64 = 500;
const MOST_READ: usize = 20_000;

/// The page's routes; none at all unless there is a token.
pub(super) fn router(token: Option<&Secret>) -> Router<App> {
    if token.is_none() {
        return Router::new();
    }
    Router::new()
        .route("/admin", get(overview))
        .route("/admin/login", get(login).post(log_in).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)))
        .route("/admin/logout", post(log_out))
        .route("/admin/style.css", get(style))
        .layer(middleware::map_response(private))
}

/// Nothing is kept by browsers and proxies, and nothing but this page's own style is let in.
async fn private(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                          frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        // The address has what was looked for.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

// ---- who looks ----

/// Somebody who has shown the token.
struct Operator;

impl FromRequestParts<App> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let token = app.config.admin_token.as_ref().ok_or_else(|| Error::NotFound.into_response())?;
        if parts.headers.contains_key(header::AUTHORIZATION) {
            let shown = bearer(&parts.headers).is_some_and(|shown| is_token(token, shown.as_bytes()));
            return if shown { Ok(Self) } else { Err(refused(parts, app).await.into_response()) };
        }
        match cookie(&parts.headers).is_some_and(|value| is_session(token, value, app.clock.now_s())) {
            true => Ok(Self),
            false => Err(see("/admin/login")),
        }
    }
}

/// Guessing is slowed down as it is for session tokens.
async fn refused(parts: &mut Parts, app: &App) -> Error {
    match ClientAddress::from_request_parts(parts, app).await {
        Ok(address) => failure(app, address).err().unwrap_or(Error::Unauthorized("admin token invalid")),
        Err(error) => error,
    }
}

fn failure(app: &App, ClientAddress(address): ClientAddress) -> Result<()> {
    let decision = app.edge.limits.check_failure(address);
    if decision.allowed { Ok(()) } else { Err(Error::RateLimited { retry_after_s: decision.retry_after_s }) }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Takes the same time for every text.
fn is_token(token: &Secret, shown: &[u8]) -> bool {
    Sha256::digest(token.expose()).ct_eq(&Sha256::digest(shown)).into()
}

/// `until.signature`, both checked.
fn is_session(token: &Secret, value: &str, now_s: i64) -> bool {
    let Some((until, _)) = value.split_once('.') else { return false };
    let Some(until_s) = until.parse().ok().filter(|until_s| now_s < *until_s) else { return false };
    session(token, until_s).as_bytes().ct_eq(value.as_bytes()).into()
}

fn session(token: &Secret, until_s: i64) -> String {
    let key = token.expose().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("awchat/admin/v1 {until_s}").as_bytes());
    format!("{until_s}.{}", hex::encode(mac.finalize().into_bytes()))
}

fn see(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

fn with_cookie(app: &App, value: &str, lifetime_s: i64) -> Response {
    let secure = if app.config.server_url.scheme() == "https" { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/admin; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}");
    let path = if value.is_empty() { "/admin/login" } else { "/admin" };
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], see(path)).into_response(),
        Err(error) => Error::internal(error).into_response(),
    }
}

#[derive(Deserialize)]
struct LoginQuery {
    wrong: Option<String>,
}

async fn login(Query(query): Query<LoginQuery>) -> Response {
    html(page::login(query.wrong.is_some()))
}

/// A wrong token leads back to the form: an error's answer is JSON here, and nothing for a person to read.
async fn log_in(State(app): State<App>, address: ClientAddress, form: Bytes) -> Result<Response> {
    let token = app.config.admin_token.as_ref().ok_or(Error::NotFound)?;
    let shown = url::form_urlencoded::parse(&form).find(|(name, _)| name == "token");
    if shown.is_some_and(|(_, shown)| is_token(token, shown.trim().as_bytes())) {
        return Ok(with_cookie(&app, &session(token, app.clock.now_s() + SESSION_S), SESSION_S));
    }
    failure(&app, address)?;
    Ok(see("/admin/login?wrong=1"))
}

async fn log_out(State(app): State<App>) -> Response {
    with_cookie(&app, "", 0)
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("admin/style.css")).into_response()
}

fn html(markup: maud::Markup) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], markup.into_string()).into_response()
}

// ---- what they see ----

#[derive(Deserialize)]
struct OverviewQuery {
    category: Option<String>,
    days: Option<String>,
    text: Option<String>,
    before: Option<String>,
}

/// Which complaints are shown, and of which time all is.
struct Filter {
    category: Option<Category>,
    days: i64,
    text: String,
    before: Place,
}

impl From<OverviewQuery> for Filter {
    /// What makes no sense does not count: a page for people has no use for an error.
    fn from(query: OverviewQuery) -> Self {
        let days = query.days.and_then(|days| days.parse().ok()).filter(|days| DAYS.contains(days));
        Self {
            category: query.category.and_then(|category| Category::try_from(category).ok()),
            days: days.unwrap_or(DAYS[1]),
            text: query.text.unwrap_or_default().trim().chars().take(TEXT_CHARS).collect(),
            before: query.before.and_then(|before| place(&before)).unwrap_or_else(Place::last),
        }
    }
}

/// `time-id`, as the link to older complaints has it.
fn place(text: &str) -> Option<Place> {
    let (created_ms, id) = text.split_once('-')?;
    Some(Place { created_ms: created_ms.parse().ok()?, id: id.to_owned() })
}

async fn overview(_: Operator, State(app): State<App>, Query(query): Query<OverviewQuery>) -> Result<Response> {
    let filter = Filter::from(query);
    let now_ms = app.clock.now_ms();
    // Whole days, the last of which is today.
    let since_ms = (now_ms.div_euclid(DAY_MS) + 1 - filter.days) * DAY_MS;
    let (complaints, older) = complaints(&app, &filter, since_ms).await?;
    let overview = page::Overview {
        now_ms,
        ratings: app.store.ratings_by_day(since_ms).await?,
        topics: app.store.ratings_by_topic(since_ms).await?,
        counts: app.store.complaint_counts(since_ms).await?,
        intercom: app.intercom.status(),
        swept_ms: app.chat.swept_ms().await?,
        backlog: app.store.backlog(now_ms).await?,
        complaints,
        older,
        filter,
    };
    Ok(html(page::overview(&overview)))
}

/// A page of complaints, newest first, and where the next begins. The text is looked for here: the databases know
/// capital letters of English alone.
async fn complaints(app: &App, filter: &Filter, since_ms: i64) -> Result<(Vec<ComplaintRow>, Option<Place>)> {
    let category = filter.category.map(Category::as_str);
    let text = filter.text.to_lowercase();
    let (mut found, mut before, mut read) = (Vec::new(), filter.before.clone(), 0);
    loop {
        let rows = app.store.complaints_before(category, since_ms, &before, BATCH).await?;
        let is_last = rows.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
        read += rows.len();
        for row in rows {
            if found.len() == PAGE {
                return Ok((found, Some(before)));
            }
            before = Place { created_ms: row.created_ms, id: row.id.clone() };
            if row.description.to_lowercase().contains(&text) {
                found.push(row);
            }
        }
        if is_last || read >= MOST_READ {
            return Ok((found, Some(before).filter(|_| !is_last)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_until_its_time_and_for_its_token() {
        let (token, other) = (Secret::new("a-token-for-the-page"), Secret::new("another-token-for-it"));
        let value = session(&token, 1_000);
        assert!(is_session(&token, &value, 999));
        assert!(!is_session(&token, &value, 1_000), "its time is over");
        assert!(!is_session(&other, &value, 999), "the token has changed");
        let later = value.replacen("1000", "9999", 1);
        let signature = value.split_once('.').expect("a signature").1;
        for forged in ["", ".", "1000", "1000.", &later, signature, &format!("+{value}"), &format!("{value}0")] {
            assert!(!is_session(&token, forged, 999), "{forged}");
        }
    }

    #[test]
    fn a_token_is_the_whole_token() {
        let token = Secret::new("a-token-for-the-page");
        assert!(is_token(&token, b"a-token-for-the-page"));
        for wrong in ["", "a-token-for-the-pag", "a-token-for-the-pagE", "a-token-for-the-page "] {
            assert!(!is_token(&token, wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_filter_is_what_makes_sense_of_the_address() {
        let none = || OverviewQuery { category: None, days: None, text: None, before: None };
        let filter = Filter::from(none());
        assert_eq!((filter.category, filter.days, filter.text.as_str()), (None, 30, ""));
        assert_eq!(filter.before, Place::last());
        let filter = Filter::from(OverviewQuery {
            category: Some("funds".to_owned()),
            days: Some("90".to_owned()),
            text: Some(" Card ".to_owned()),
            before: Some("12-ab".to_owned()),
        });
        assert_eq!((filter.category, filter.days, filter.text.as_str()), (Some(Category::Funds), 90, "Card"));
        assert_eq!(filter.before, Place { created_ms: 12, id: "ab".to_owned() });
        let odd = |text: &str| Some(text.to_owned());
        let filter = Filter::from(OverviewQuery { category: odd(""), days: odd("8"), text: odd(""), before: odd("x") });
        assert_eq!((filter.category, filter.days, filter.before), (None, 30, Place::last()));
    }
}
