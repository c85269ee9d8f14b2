//! The widget: what the web build made, carried by the binary, each file compressed in advance.
//!
//! A debug build reads the files from disk, so that a web build is seen at once. Without a web build there is none, and
//! whoever asks is told how to make it.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{Embed, EmbeddedFile};

use crate::app::App;
use crate::error::{Error, ErrorBody};

/// Made by `npm ci` or `npm run build`.
#[derive(Embed)]
#[folder = "../../web/packages/widget/dist"]
#[allow_missing = true]
struct Built;

/// The full page, which is Telegram's Mini App as well.
const PAGE: &str = "index.html";
/// Telegram's own script is the only thing from elsewhere; the page's one policy of that name makes its address.
const TELEGRAM: &str = "https://telegram.org/js/telegram-web-app.js";
/// Who may show the page in a frame besides the apps that may call the API.
const FRAMES: &str = "'self' https://web.telegram.org https://*.telegram.org";

/// Its routes; `origins` are the apps that may show the page in a frame.
pub(super) fn router(origins: &[String]) -> Router<App> {
    let policy = HeaderValue::from_str(&page_policy(origins)).expect("origins are visible ASCII");
    let page = move |headers: HeaderMap| {
        let mut response = file(PAGE, &headers);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        std::future::ready(response)
    };
    Router::new()
        .route("/widget", get(|| std::future::ready(Redirect::permanent("/widget/"))))
        .route("/widget/", get(page))
        .route("/widget/{*path}", get(part))
}

async fn part(Path(path): Path<String>, headers: HeaderMap) -> Response {
    // The page has its own address, where its policy is.
    if path == PAGE || path.ends_with(".br") || path.ends_with(".gz") {
        return Error::NotFound.into_response();
    }
    file(&path, &headers)
}

fn page_policy(origins: &[String]) -> String {
    format!(
        "default-src 'none'; script-src 'self' {TELEGRAM}; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {FRAMES} {}; \
         require-trusted-types-for 'script'; trusted-types aw-telegram",
        origins.join(" ")
    )
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(content_type) = content_type(path) else { return Error::NotFound.into_response() };
    let Some((found, encoding)) = encoded(path, headers) else {
        return if Built::get(PAGE).is_some() { Error::NotFound.into_response() } else { not_built() };
    };
    let tag = format!("\"{}\"", hex::encode(&found.metadata.sha256_hash()[..16]));
    let asked = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = asked.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let body = if is_known { Body::empty() } else { Body::from(found.data) };
    let mut response = (status, body).into_response();
    let out = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, caching(path)),
        (header::VARY, "accept-encoding"),
        // Any page may have the widget: what it may do there, its token says.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        out.insert(name, HeaderValue::from_static(value));
    }
    if let Some(encoding) = encoding {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    out.insert(header::ETAG, HeaderValue::from_str(&tag).expect("hexadecimal"));
    response
}

/// The smallest form of a file that the client takes.
fn encoded(path: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
        if accepts(accepted, encoding)
            && let Some(found) = Built::get(&format!("{path}.{ending}"))
        {
            return Some((found, Some(encoding)));
        }
    }
    Built::get(path).map(|found| (found, None))
}

/// Whether `Accept-Encoding` names an encoding, and not to refuse it.
fn accepts(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let refused = |rule: &str| rule.strip_prefix("q=").is_some_and(|q| q.parse::<f32>() == Ok(0.0));
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding)) && !parts.any(refused)
    })
}

fn content_type(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        _ => None,
    }
}

/// What has its content's hash in its name never changes; what keeps its name is asked for again.
fn caching(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("v1/c/") => "public, max-age=31536000, immutable",
        "v1/aw-chat.js" => "public, max-age=300, stale-while-revalidate=86400",
        _ => "no-cache",
    }
}

fn not_built() -> Response {
    let message = "this binary carries no widget: run `npm ci`, then build it again";
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    response.extensions_mut().insert(ErrorBody { error: "service_unavailable", message: message.to_owned() });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_sent_to_whoever_names_it() {
        for (accepted, encoding, expected) in [
            ("gzip, deflate, br, zstd", "br", true),
            ("BR;q=0.5", "br", true),
            ("br;q=0, gzip", "br", false),
            ("br;q=0.0", "br", false),
            ("brotli, *", "br", false),
            ("", "gzip", false),
        ] {
            assert_eq!(accepts(accepted, encoding), expected, "{accepted}");
        }
    }

    #[test]
    fn only_what_is_named_by_its_content_is_kept_for_good() {
        assert!(caching("v1/c/app-1234.js").contains("immutable"));
        assert!(!caching("v1/aw-chat.js").contains("immutable"));
        assert_eq!(caching("v1/page.js"), "no-cache");
    }

    #[test]
    fn the_page_runs_only_its_own_script_and_telegrams() {
        let policy = page_policy(&["https://app.example.com".to_owned()]);
        assert!(!policy.contains("unsafe") && !policy.contains(" *;"), "{policy}");
        assert!(policy.contains(
            "frame-ancestors 'self' https://web.telegram.org https://*.telegram.org https://app.example.com;"
        ));
    }
}
