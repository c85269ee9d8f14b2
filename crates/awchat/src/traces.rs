//! Traces by OpenTelemetry, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set; without it nothing of this is built.
//!
//! What is traced is this list: requests by method and route (but for idle polls that memory answers before the routes,
//! unless their callers trace them), calls to Intercom, FCM and Telegram, webhooks as they are
//! applied. A span has a name, a status and a time. It never has an id, a path, a query, a word or a name of anybody's, and
//! no log line comes with it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::field::Empty;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::config;
use crate::error::{Error, Result};

/// The header by which callers say that they trace a request.
pub const TRACEPARENT: &str = "traceparent";
/// What is traced has this target, which no log line has, and a level below any line's: logs leave it out.
const TARGET: &str = "traced";

/// One batch to the collector; and at the end, all that is left.
const PATIENCE: Duration = Duration::from_secs(3);

/// The way to the collector.
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send, in batches from a thread of its own: what the collector does not take in time is dropped, and
    /// nobody waits for it.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub fn open(settings: &config::Traces) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
        let collector = Collector {
            http: http.build().map_err(Error::internal)?,
            runtime: Handle::current(),
            fails: Arc::default(),
        };
        let endpoint = format!("{}/v1/traces", settings.endpoint.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(collector)
            .with_protocol(Protocol::HttpBinary)
            .with_retry_policy(RetryPolicy::disabled())
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(Error::internal)?;
        let resource = Resource::builder().with_service_name(settings.service.clone()).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).build())
            .with_sampler(sampler(&settings.sampler))
            .with_resource(resource);
        Ok(Self(provider.build()))
    }

    /// Where spans of [`TARGET`] go, and nothing else.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("awchat"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(
                filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET)
                    .with_max_level_hint(LevelFilter::DEBUG),
            )
    }

    /// Sends what is left, for as long as the collector may take.
    pub async fn close(self) {
        let closed = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(PATIENCE)).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!("the last traces may not have come");
        }
    }
}

/// A request, as a child of whatever its `traceparent` names, which is looked for if requests are traced.
pub fn request<'a>(method: &str, route: &str, traceparent: impl FnOnce() -> Option<&'a str>) -> Span {
    let span = tracing::debug_span!(
        target: TARGET, "request", otel.name = %format_args!("{method} {route}"), otel.kind = "server",
        http.request.method = method, http.route = route, http.response.status_code = Empty, otel.status_code = Empty,
    );
    if !span.is_disabled()
        && let Some(traceparent) = traceparent()
    {
        // Only a span that is disabled has no parent to set.
        let _ = span.set_parent(parent(traceparent));
    }
    span
}

/// A request to another service: `operation` is one of few.
pub fn call(service: &'static str, operation: impl fmt::Display) -> Span {
    tracing::debug_span!(
        target: TARGET, "call", otel.name = %format_args!("{service} {operation}"), otel.kind = "client",
        peer.service = service, http.response.status_code = Empty, otel.status_code = Empty,
    )
}

/// Something that is done without a request.
pub fn work(name: &'static str) -> Span {
    tracing::debug_span!(target: TARGET, "work", otel.name = name, otel.kind = "internal", otel.status_code = Empty)
}

/// What a request has begun and does not wait for: a child of it that may outlive it.
pub fn begun(name: &'static str) -> Span {
    let span = tracing::debug_span!(target: TARGET, parent: None, "work", otel.name = name, otel.kind = "internal");
    if !span.is_disabled() {
        let _ = span.set_parent(Context::current());
    }
    span
}

/// How it ended: the status of the answer, if there was one. A server's own failures are errors; whatever a service that
/// was called did not take is one.
pub fn ended(span: &Span, status: Option<u16>, is_error: bool) {
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}

/// What W3C's `traceparent` names. Its `tracestate` is anybody's text, and is not read.
fn parent(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(traceparent))
}

fn sampler(wanted: &config::Sampler) -> Sampler {
    let root = match wanted.share {
        share if share >= 1.0 => Sampler::AlwaysOn,
        share if share <= 0.0 => Sampler::AlwaysOff,
        share => Sampler::TraceIdRatioBased(share),
    };
    if wanted.follows_parent { Sampler::ParentBased(Box::new(root)) } else { root }
}

struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Takes batches to the collector: the exporter's thread has no runtime, so the server's does the work.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    fails: Arc<AtomicBool>,
}

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            // What it says is of no use.
            Ok::<_, HttpError>(answer.status())
        });
        Box::pin(async move {
            let status = sent.await.unwrap_or_else(|cause| Err(cause.into()));
            self.note(status.as_ref().is_ok_and(reqwest::StatusCode::is_success));
            let mut answer = Response::new(Bytes::new());
            *answer.status_mut() = status?;
            Ok(answer)
        })
    }
}

impl Collector {
    /// One line when it begins to fail, and one when it is over.
    fn note(&self, is_well: bool) {
        match (self.fails.swap(!is_well, Ordering::AcqRel), is_well) {
            (false, false) => {
                tracing::warn!("the traces' collector does not take them; until it does, they are dropped")
            }
            (true, true) => tracing::info!("the traces' collector takes them again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    #[test]
    fn a_parent_is_read_from_a_sound_header_alone() {
        let of = |text: &str| parent(text).span().span_context().clone();
        let sound = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(sound.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(sound.is_sampled() && sound.is_remote());
        for odd in ["", "00-", "00-zz", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert!(!of(odd).is_valid(), "{odd}");
        }
    }

    #[test]
    fn where_there_are_only_logs_nothing_is_traced() {
        let logs = tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).finish();
        tracing::subscriber::with_default(logs, || {
            assert!(!tracing::info_span!("a span of the log's").is_disabled());
            let never = || -> Option<&str> { panic!("nobody wants the header") };
            let spans = [request("GET", "/", never), call("fcm", "send"), work("apply webhook"), begun("send message")];
            assert!(spans.iter().all(Span::is_disabled));
        });
    }
}
