//! Events: all that changes for a user, on one connection.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::admission::Slot;
use crate::app::App;
use crate::auth::{User, bearer};
use crate::chat::streams::{Cursor, Listener, News};
use crate::error::{Error, Result};

/// A stream without news says at least this often that it lives; proxies give up after a minute.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// After which a client should open the stream anew once it has ended.
const RETRY: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn stream(State(app): State<App>, user: User, slot: Slot, headers: HeaderMap) -> Result<Response> {
    let listener = app.chat.listen(&user.id)?;
    slot.wait();
    let cursor = headers.get(LAST_EVENT_ID).and_then(|id| Cursor::parse(id.to_str().ok()?));
    // Of the head, the token alone is kept.
    let token = bearer(&headers)?.into();
    let told_ms = app.clock.now_ms();
    let open = Open { app, user, token, listener, cursor, is_new: true, told_ms };
    let mut response = Sse::new(stream::unfold(Some(open), next)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that would collect the answer first are told not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// A stream that is open.
struct Open {
    app: App,
    user: User,
    /// Verified again before anything is told, so that a stream ends with its token.
    token: Box<str>,
    listener: Listener,
    cursor: Option<Cursor>,
    is_new: bool,
    /// When the client was last told something, if only that the stream lives, Unix milliseconds.
    told_ms: i64,
}

/// Why the server ends a stream.
#[derive(Clone, Copy)]
enum End {
    /// The session token no longer holds.
    Token,
    /// The user has opened newer ones.
    Replaced,
    /// The server is going.
    Shutdown,
}

/// The next event, asked for when the client has taken those before.
async fn next(open: Option<Open>) -> Option<(Result<Event, Infallible>, Option<Open>)> {
    let mut open = open?;
    match open.event().await {
        Ok(Ok(event)) => {
            open.told_ms = open.app.clock.now_ms();
            Some((Ok(event), Some(open)))
        }
        Ok(Err(end)) => Some((Ok(end.event()), None)),
        Err(error) => {
            // The client comes back, and goes on where it was.
            tracing::warn!(cause = %error, "an event stream breaks off");
            None
        }
    }
}

impl Open {
    async fn event(&mut self) -> Result<Result<Event, End>> {
        loop {
            if self.listener.is_replaced() {
                return Ok(Err(End::Replaced));
            }
            if self.app.draining.is_cancelled() {
                return Ok(Err(End::Shutdown));
            }
            match self.app.edge.auth.verify_token(&self.token).await {
                Ok(_) => {}
                Err(Error::Unauthorized(_)) => return Ok(Err(End::Token)),
                Err(error) => return Err(error),
            }
            let news = Box::pin(self.app.chat.next_news(&self.user.id, &mut self.cursor)).await?;
            if let Some(news) = news {
                return self.told(&news).map(Ok);
            }
            if std::mem::take(&mut self.is_new) {
                return Ok(Ok(Event::default().retry(RETRY).comment("")));
            }
            let now_ms = self.app.clock.now_ms();
            let beat = HEARTBEAT.saturating_sub(Duration::from_millis(now_ms.abs_diff(self.told_ms)));
            if beat.is_zero() {
                return Ok(Ok(Event::default().comment("")));
            }
            let left_ms = self.user.ends_at().saturating_mul(1000).saturating_sub(now_ms).max(1);
            let left = Duration::from_millis(left_ms.unsigned_abs());
            tokio::select! {
                () = self.listener.news() => {}
                () = self.app.draining.cancelled() => {}
                () = self.app.clock.sleep(self.app.chat.rest(left.min(beat))) => {}
            }
        }
    }

    fn told(&mut self, news: &News) -> Result<Event> {
        let event = match std::mem::take(&mut self.is_new) {
            true => Event::default().retry(RETRY),
            false => Event::default(),
        };
        let event = match &self.cursor {
            Some(cursor) => event.id(cursor.to_string()),
            None => event,
        };
        match news {
            News::Resync => Ok(event.event("resync").data("{}")),
            News::Change(change) => event.event("change").json_data(change).map_err(Error::internal),
        }
    }
}

impl End {
    fn event(self) -> Event {
        let data = match self {
            Self::Token => r#"{"reason":"token"}"#,
            Self::Replaced => r#"{"reason":"replaced"}"#,
            Self::Shutdown => r#"{"reason":"shutdown"}"#,
        };
        Event::default().event("end").data(data)
    }
}
