//! The HTTP server: its own accept loop, so that it can break connections the way faults ask for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use crate::control;
use crate::core::Core;
use crate::exchange::{Answer, Reply, Request};
use crate::faults::{Kind, Plan};
use crate::phones::Service;
use crate::rest::official;

/// The version of the API that is spoken here.
pub(crate) const VERSION: &str = "2.16";
/// Ten files of 20 MB in base64 do not fit; Intercom's own limit is not known.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Lets the first half of a broken-off answer get out before the connection ends.
const BEFORE_BREAKING_OFF: Duration = Duration::from_millis(20);

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is broken on purpose")
    }
}

impl std::error::Error for Broken {}

/// Accepts connections for ever.
pub(crate) async fn serve(core: Arc<Core>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let owned = Arc::clone(&core);
                core.spawn(async move { connection(owned, stream).await });
            }
            Err(error) => {
                tracing::warn!(%error, "the sandbox could not accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream) {
    // Answers are small: without this, delayed acknowledgements would add 40 ms to some.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| respond(Arc::clone(&core), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new());
    // An error here is a client gone, or a connection broken on purpose.
    builder.serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn respond(core: Arc<Core>, request: hyper::Request<Incoming>) -> Result<hyper::Response<AnswerBody>, Broken> {
    let (head, body) = request.into_parts();
    let mut request = Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization: text(&head.headers, &header::AUTHORIZATION),
        accept: text(&head.headers, &header::ACCEPT),
        content_type: text(&head.headers, &header::CONTENT_TYPE),
        version: text(&head.headers, &HeaderName::from_static("intercom-version")),
        ..Request::default()
    };
    if control::is_ours(&request.path) {
        read(&mut request, body).await?;
        return respond_with(control::answer(&core, &request).await, false);
    }
    let service = Service::at(&request.path);
    let plan = core.rules().for_call(&request.method, &request.path);
    let there = service.is_none_or(|service| core.network.arrives(service));
    if plan.kind == Some(Kind::Refuse) || !there {
        if service.is_none() {
            core.log_call(&request);
        }
        return Err(Broken);
    }
    read(&mut request, body).await?;
    let truncated = plan.kind == Some(Kind::TruncatedBody);
    let Some(service) = service else {
        let entry = core.log_call(&request);
        core.add_violations(official::violations(core.document.as_ref(), &request));
        let answer = call(&core, None, request, plan).await?;
        core.log_answer(entry, answer.status);
        let answer = answer.with("date", core.clock.date()).with("intercom-version", VERSION);
        return respond_with(answer, truncated);
    };
    respond_with(call(&core, Some(service), request, plan).await?, truncated)
}

/// A call of Intercom (None) or another service, and what goes wrong with it.
async fn call(core: &Arc<Core>, service: Option<Service>, request: Request, plan: Plan) -> Result<Answer, Broken> {
    let apply = |request: &Request| core.apply_at(service, request, plan.search_lag_ms);
    let reply: Reply = match plan.kind {
        Some(Kind::ResetBeforeApply) => return Err(Broken),
        Some(Kind::LostAnswer) => {
            apply(&request);
            return Err(Broken);
        }
        Some(Kind::AppliedLate { after_ms, hang }) => {
            core.apply_after(Duration::from_millis(after_ms), service, request, plan.search_lag_ms);
            sleep(Duration::from_millis(if hang { after_ms } else { 0 })).await;
            return Err(Broken);
        }
        Some(Kind::Hang { ms, applied }) => {
            if applied {
                apply(&request);
            }
            sleep(Duration::from_millis(ms)).await;
            return Err(Broken);
        }
        Some(Kind::RateLimit { reset_after_s }) => match service {
            None => core.rate_limited_for(reset_after_s),
            Some(service) => service.rate_limited(reset_after_s),
        }
        .into(),
        Some(Kind::Error { status, applied, html }) => {
            if applied {
                apply(&request);
            }
            match service {
                Some(service) if !html => service.failure(status),
                _ => failure(status, html),
            }
            .into()
        }
        Some(Kind::Slow { ms }) => {
            let answer = apply(&request);
            sleep(Duration::from_millis(ms)).await;
            answer
        }
        Some(Kind::DoubleApply) => {
            apply(&request);
            apply(&request)
        }
        _ => apply(&request),
    };
    reply.when_due().await.ok_or(Broken)
}

fn failure(status: u16, html: bool) -> Answer {
    if html {
        let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>");
        return Answer::bytes(status, "text/html", page.into_bytes());
    }
    let code = match status {
        408 => "request_timeout",
        429 => "rate_limit_exceeded",
        503 => "service_unavailable",
        500.. => "server_error",
        _ => "client_error",
    };
    Answer::refusal(status, code, "Something went wrong")
}

async fn read(request: &mut Request, body: Incoming) -> Result<(), Broken> {
    let whole = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Broken)?;
    request.raw = whole.to_bytes();
    request.body = serde_json::from_slice(&request.raw).unwrap_or(Value::Null);
    Ok(())
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn respond_with(answer: Answer, truncated: bool) -> Result<hyper::Response<AnswerBody>, Broken> {
    let mut response =
        hyper::Response::builder().status(answer.status).header(header::CONTENT_TYPE, answer.content_type);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(AnswerBody::new(answer.body, truncated)).map_err(|_| Broken)
}

/// An answer's body, whole, or breaking off in the middle of what `Content-Length` promised.
struct AnswerBody {
    promised: u64,
    rest: Option<Bytes>,
    breaks_off: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    fn new(body: Bytes, truncated: bool) -> Self {
        let promised = body.len() as u64;
        let sent = if truncated { body.slice(..body.len() / 2) } else { body };
        let breaks_off = truncated.then(|| Box::pin(sleep(BEFORE_BREAKING_OFF)));
        Self { promised, rest: Some(sent).filter(|sent| !sent.is_empty()), breaks_off }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(bytes) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.breaks_off.as_mut() {
            None => Poll::Ready(None),
            Some(pause) => pause.as_mut().poll(cx).map(|()| Some(Err(io::Error::other(Broken)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.breaks_off.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked once, before the first frame: it becomes the Content-Length.
        SizeHint::with_exact(self.promised)
    }
}

/// A random version 4 UUID.
pub(crate) fn uuid() -> String {
    let mut bits = rand::random::<u128>();
    bits = bits & !(0xf << 76) | 0x4 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Percent-encodes a text to stand as one path segment.
pub(crate) fn encode_segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
