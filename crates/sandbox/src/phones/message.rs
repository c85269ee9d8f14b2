//! What a message to FCM may look like: its fields and their types, and then what it may say.

use serde_json::{Map, Value};

use super::outcome::Violation;

/// The most a payload may weigh, in bytes, on Android and on an iPhone.
const MAX_PAYLOAD: usize = 4096;
const MAX_TTL_S: u64 = 2_419_200;
const MAX_TOKEN: usize = 4096;
const MAX_COLLAPSE_ID: usize = 64;
const PUSH_TYPES: [&str; 8] =
    ["alert", "background", "location", "voip", "complication", "fileprovider", "mdm", "liveactivity"];
const LEVELS: [&str; 4] = ["passive", "active", "time-sensitive", "critical"];

/// The type of a field.
#[derive(Clone, Copy)]
enum Is {
    Text,
    Texts,
    Flag,
    Number,
    /// Seconds with an `s`.
    Duration,
    /// Words in whatever case.
    OneOf(&'static [&'static str]),
    /// Texts by names of the sender's own.
    TextMap,
    /// JSON of the sender's own.
    Free,
    Object(&'static [(&'static str, Is)]),
}

const REQUEST: &[(&str, Is)] = &[("validate_only", Is::Flag), ("message", Is::Object(MESSAGE))];
const MESSAGE: &[(&str, Is)] = &[
    ("name", Is::Text),
    ("data", Is::TextMap),
    ("notification", Is::Object(NOTIFICATION)),
    ("android", Is::Object(ANDROID)),
    ("webpush", Is::Object(WEBPUSH)),
    ("apns", Is::Object(APNS)),
    ("fcm_options", Is::Object(OPTIONS)),
    ("token", Is::Text),
    ("topic", Is::Text),
    ("condition", Is::Text),
];
const NOTIFICATION: &[(&str, Is)] = &[("title", Is::Text), ("body", Is::Text), ("image", Is::Text)];
const OPTIONS: &[(&str, Is)] = &[("analytics_label", Is::Text)];
const ANDROID: &[(&str, Is)] = &[
    ("collapse_key", Is::Text),
    ("priority", Is::OneOf(&["NORMAL", "HIGH"])),
    ("ttl", Is::Duration),
    ("restricted_package_name", Is::Text),
    ("data", Is::TextMap),
    ("notification", Is::Object(ANDROID_NOTIFICATION)),
    ("fcm_options", Is::Object(OPTIONS)),
    ("direct_boot_ok", Is::Flag),
];
const ANDROID_NOTIFICATION: &[(&str, Is)] = &[
    ("title", Is::Text),
    ("body", Is::Text),
    ("icon", Is::Text),
    ("color", Is::Text),
    ("sound", Is::Text),
    ("tag", Is::Text),
    ("click_action", Is::Text),
    ("body_loc_key", Is::Text),
    ("body_loc_args", Is::Texts),
    ("title_loc_key", Is::Text),
    ("title_loc_args", Is::Texts),
    ("channel_id", Is::Text),
    ("ticker", Is::Text),
    ("sticky", Is::Flag),
    ("event_time", Is::Text),
    ("local_only", Is::Flag),
    (
        "notification_priority",
        Is::OneOf(&[
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ]),
    ),
    ("default_sound", Is::Flag),
    ("default_vibrate_timings", Is::Flag),
    ("default_light_settings", Is::Flag),
    ("vibrate_timings", Is::Texts),
    ("visibility", Is::OneOf(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"])),
    ("notification_count", Is::Number),
    ("image", Is::Text),
];
const WEBPUSH: &[(&str, Is)] =
    &[("headers", Is::TextMap), ("data", Is::TextMap), ("notification", Is::Free), ("fcm_options", Is::Free)];
const APNS: &[(&str, Is)] = &[
    ("headers", Is::TextMap),
    ("payload", Is::Free),
    ("fcm_options", Is::Object(&[("analytics_label", Is::Text), ("image", Is::Text)])),
    ("live_activity_token", Is::Text),
];

/// Why a request is refused before anybody looks at its recipient.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not the JSON of a message.
    Form(Vec<Violation>),
    /// It is, but says what it may not.
    Content(Violation),
}

/// A request to send, as FCM understands it: names in `snake_case`, whatever case they came in.
#[derive(Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) validate_only: bool,
    pub(crate) message: Value,
}

/// Holds a request against all rules.
pub(crate) fn accept(request: &Value) -> Result<Accepted, Refused> {
    let mut wrong = Vec::new();
    let request = typed(request, Is::Object(REQUEST), "", &mut wrong);
    if !wrong.is_empty() {
        return Err(Refused::Form(wrong));
    }
    let message = request["message"].clone();
    let targets: Vec<&str> =
        ["token", "topic", "condition"].into_iter().filter(|target| message.get(target).is_some()).collect();
    if let [_, second, ..] = targets[..] {
        let why =
            format!("Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{second}'");
        return Err(Refused::Form(vec![Violation::new("message", why)]));
    }
    match said(&message).or_else(|| android_says(&message["android"])).or_else(|| apns_says(&message["apns"])) {
        Some(violation) => Err(Refused::Content(violation)),
        None => Ok(Accepted { validate_only: request["validate_only"] == true, message }),
    }
}

/// Whether a text could be a registration token.
pub(crate) fn is_token(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
    (1..=MAX_TOKEN).contains(&text.len()) && text.chars().all(fits)
}

/// The value as its type has it; what does not fit is noted and left out.
fn typed(value: &Value, is: Is, path: &str, wrong: &mut Vec<Violation>) -> Value {
    let mut refuse = |kind: &str| {
        wrong.push(Violation::new(path, format!("Invalid value at '{path}' ({kind}), {value}")));
        Value::Null
    };
    match (is, value) {
        (Is::Text, Value::String(_)) | (Is::Flag, Value::Bool(_)) | (Is::Free, Value::Object(_)) => value.clone(),
        (Is::Text, _) => refuse("TYPE_STRING"),
        (Is::Flag, _) => refuse("TYPE_BOOL"),
        (Is::Free, _) => refuse("type.googleapis.com/google.protobuf.Struct"),
        (Is::Number, Value::Number(number)) if number.as_i64().is_some() => value.clone(),
        (Is::Number, _) => refuse("TYPE_INT32"),
        (Is::Duration, Value::String(text)) if seconds(text).is_some() => value.clone(),
        (Is::Duration, _) => {
            let why = format!(
                "Invalid value at '{path}' (type.googleapis.com/google.protobuf.Duration), Field '{}', Illegal duration \
                 format; duration must end with 's'",
                path.rsplit('.').next().unwrap_or(path)
            );
            wrong.push(Violation::new(path, why));
            Value::Null
        }
        (Is::OneOf(words), Value::String(text)) if words.iter().any(|word| word.eq_ignore_ascii_case(text)) => {
            Value::String(text.to_ascii_uppercase())
        }
        (Is::OneOf(_), _) => refuse("TYPE_ENUM"),
        (Is::Texts, Value::Array(items)) => {
            let item = |(at, item)| typed(item, Is::Text, &format!("{path}[{at}]"), wrong);
            items.iter().enumerate().map(item).collect()
        }
        (Is::Texts, _) => refuse("TYPE_STRING"),
        (Is::TextMap, Value::Object(map)) => {
            let entry = |(at, (key, value)): (usize, (&String, &Value))| {
                (key.clone(), typed(value, Is::Text, &format!("{path}[{at}].value"), wrong))
            };
            map.iter().enumerate().map(entry).collect::<Map<_, _>>().into()
        }
        (Is::Object(fields), Value::Object(map)) => object(map, fields, path, wrong),
        (Is::TextMap | Is::Object(_), _) => refuse("TYPE_MESSAGE"),
    }
}

fn object(map: &Map<String, Value>, fields: &[(&str, Is)], path: &str, wrong: &mut Vec<Violation>) -> Value {
    let mut known = Map::new();
    // Null is as good as absent.
    for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let snake = snake_case(name);
        match fields.iter().find(|(field, _)| *field == snake) {
            Some((field, is)) => {
                let below = if path.is_empty() { snake.clone() } else { format!("{path}.{field}") };
                known.insert(snake, typed(value, *is, &below, wrong));
            }
            None => {
                let place = if path.is_empty() { String::new() } else { format!(" at '{path}'") };
                let why = format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
                wrong.push(Violation::new(path, why));
            }
        }
    }
    known.into()
}

/// Fields are known by two names: `collapse_key`, `collapseKey`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Whole seconds of a duration such as `900s` or `3.5s`.
pub(crate) fn seconds(duration: &str) -> Option<u64> {
    let number = duration.strip_suffix('s')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(fraction) && fraction.len() <= 9).then(|| whole.parse().ok())?
}

fn said(message: &Value) -> Option<Violation> {
    let token = message["token"].as_str();
    if message["topic"].is_null() && message["condition"].is_null() && token.is_none_or(str::is_empty) {
        return Some(Violation::new("message", "Recipient of the message is not set."));
    }
    for (field, data) in [("message.data", &message["data"]), ("message.android.data", &message["android"]["data"])] {
        let mut keys = data.as_object().into_iter().flat_map(Map::keys);
        if let Some(key) = keys.find(|key| is_reserved(key)) {
            return Some(Violation::new(field, format!("Invalid data payload key: {key}")));
        }
    }
    let (android, apple) = weights(message);
    if android > MAX_PAYLOAD {
        return Some(Violation::new("message", "Android message is too big"));
    }
    (apple > MAX_PAYLOAD).then(|| Violation::new("message", "APNs message is too big"))
}

fn is_reserved(key: &str) -> bool {
    key.is_empty() || ["from", "message_type"].contains(&key) || key.starts_with("google") || key.starts_with("gcm")
}

/// Bytes of what would travel to an Android phone, and to an iPhone.
fn weights(message: &Value) -> (usize, usize) {
    let weigh = |parts: &[&Value]| {
        parts.iter().filter(|part| !part.is_null()).map(|part| part.to_string().len()).sum::<usize>()
    };
    let (data, notification, android) = (&message["data"], &message["notification"], &message["android"]);
    let on_android = weigh(&[data, notification, &android["data"], &android["notification"]]);
    (on_android, weigh(&[data, notification, &message["apns"]["payload"]]))
}

fn android_says(android: &Value) -> Option<Violation> {
    if android["ttl"].as_str().and_then(seconds).is_some_and(|ttl| ttl > MAX_TTL_S) {
        return Some(Violation::new("message.android.ttl", "Invalid ttl: must be from 0 to 2419200 seconds."));
    }
    let color = android["notification"]["color"].as_str()?;
    let hex = color.strip_prefix('#').filter(|hex| hex.len() == 6);
    let fine = hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (!fine).then(|| Violation::new("message.android.notification.color", "Invalid color: must be #RRGGBB."))
}

fn apns_says(apns: &Value) -> Option<Violation> {
    let headers = apns["headers"].as_object().into_iter().flatten();
    for (name, value) in headers {
        let value = value.as_str().unwrap_or_default();
        let fine = match name.to_ascii_lowercase().as_str() {
            "apns-priority" => ["1", "5", "10"].contains(&value),
            "apns-push-type" => PUSH_TYPES.contains(&value),
            "apns-expiration" => value.parse::<u64>().is_ok(),
            "apns-collapse-id" => (1..=MAX_COLLAPSE_ID).contains(&value.len()),
            "apns-topic" => !value.is_empty(),
            _ => false,
        };
        if !fine {
            return Some(Violation::new("message.apns.headers", format!("Invalid APNs header: {name}")));
        }
    }
    let aps = match apns["payload"].get("aps") {
        None => return None,
        Some(Value::Object(aps)) => aps,
        Some(_) => return Some(Violation::new("message.apns.payload", "Invalid APNs payload: aps must be an object")),
    };
    let wrong = aps.iter().find(|(name, value)| !aps_field_fits(name, value));
    wrong.map(|(name, _)| Violation::new("message.apns.payload", format!("Invalid APNs payload: aps.{name}")))
}

/// Whether a field of `aps` is of the type Apple has it in. Others are the app's own business.
fn aps_field_fits(name: &str, value: &Value) -> bool {
    match name {
        "badge" => value.as_u64().is_some(),
        "alert" | "sound" => value.is_string() || value.is_object(),
        "thread-id" | "category" | "target-content-id" => value.is_string(),
        "content-available" | "mutable-content" => matches!(value.as_i64(), Some(0 | 1)),
        "interruption-level" => value.as_str().is_some_and(|level| LEVELS.contains(&level)),
        _ => true,
    }
}
