//! The house's rules, kept by reading the text: what is deliberately absent from where.
//!
//! Each rule is a line of a table, or a small function with a message that says what to do instead. What the compiler
//! sees better is in `crates/awchat/clippy.toml`.

use std::fs;
use std::path::{Path, PathBuf};

const SERVER: &str = "crates/awchat/src/";
const SANDBOX: &str = "crates/sandbox/";
const MIGRATIONS: &str = "crates/awchat/migrations/";
const MAX_LINES: usize = 500;

/// Words that have their place: (words, the modules that may use them, what the others do).
const PLACES: &[(&[&str], &[&str], &str)] = &[
    (
        &["axum", "hyper", "tower", "tower_http"],
        &["api", "auth", "dev", "error", "main", "server"],
        "the edge alone knows HTTP's server side: take and give plain values",
    ),
    (&["sqlx"], &["store", "error"], "SQL is written in `store` alone: add a method there"),
    (
        &[
            "admin_assignee_id",
            "app_package_code",
            "contact_ids",
            "conversation_message",
            "conversation_parts",
            "display_as",
            "external_id",
            "intercom_user_id",
            "message_type",
            "notification_event",
            "part_type",
            "team_assignee_id",
            "ticket_attributes",
        ],
        &["intercom", "chat/view"],
        "Intercom's names stay in `intercom` and `chat/view.rs`: use ours",
    ),
    (
        &["admin_id"],
        &["intercom", "chat/view", "config", "app", "dev"],
        "Intercom's names stay in `intercom` and `chat/view.rs`: say operator",
    ),
    (
        &["env::var", "env::vars", "env::var_os", "env::vars_os", "dotenvy"],
        &["config"],
        "`config` alone reads the environment: take the value from `Config`",
    ),
    (
        &["SystemTime", "Instant::now", "OffsetDateTime", "chrono", "jiff"],
        &["clock"],
        "`clock.rs` alone asks the time: take a `Clock`",
    ),
    (
        &["rand::", "getrandom", "fastrand", "uuid"],
        &["id"],
        "`id.rs` alone asks chance: use `id::random` or `id::chance`",
    ),
    (
        &["tokio::spawn", "task::spawn", "thread::spawn"],
        &["main"],
        "a task has an owner who waits for it: spawn on a `TaskTracker`",
    ),
];

/// Words that have no place in the server's code outside its tests.
const NOWHERE: &[(&str, &str)] = &[
    (".unwrap()", "say why it cannot fail with `expect`, or return the error"),
    ("thread_local!", "no static state: what lives long is in `App`"),
    ("lazy_static!", "no static state: what lives long is in `App`"),
];

/// Words that no handler needs: whose data it is comes from the session token.
const NOT_IN_API: &[&str] = &["UserId", "user_id", "userId"];

/// Who may import whom. `error`, `clock` and `id` are open to everyone; `main` and `lib` may import all.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("clock", &[]),
    ("id", &[]),
    ("model", &[]),
    ("breaker", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("traces", &["config"]),
    ("store", &["config"]),
    ("intercom", &["breaker", "config", "metrics", "traces"]),
    ("export", &["store"]),
    ("files", &["config"]),
    ("shared", &["breaker", "config"]),
    ("push", &["breaker", "config", "metrics", "store", "traces"]),
    ("chat", &["config", "intercom", "store", "files", "shared", "traces"]),
    ("limits", &["config", "shared"]),
    ("auth", &["app", "config", "limits", "store"]),
    ("app", &["auth", "chat", "config", "files", "intercom", "limits", "metrics", "push", "shared", "store"]),
    ("worker", &["app", "chat", "config", "files", "push", "store"]),
    (
        "api",
        &[
            "app", "auth", "chat", "config", "files", "intercom", "limits", "metrics", "push", "shared", "store",
            "traces",
        ],
    ),
    ("server", &["api", "app", "config", "limits", "worker"]),
    ("dev", &["api", "app", "auth", "config", "server"]),
];
const OPEN_TO_ALL: &[&str] = &["error", "clock", "id", "model"];

const VAGUE_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "inner", "manager", "misc"];
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "FIXME"];

// Put together here, so that this file does not name them.
const REGISTRIES: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("files.", "pythonhosted.org"),
];
const MACHINE_PATHS: &[&str] = &[concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];

#[test]
fn the_repository_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = files_below(&root);
    let mut found = Vec::new();
    let mut read = 0;
    for path in &files {
        // What is no UTF-8 is no text.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            read += 1;
            found.extend(violations(path, &text));
        }
    }
    let mut folders: Vec<&str> = files.iter().filter_map(|path| Some(path.split_once('/')?.0)).collect();
    folders.dedup();
    for map in ["README.md", "ARCHITECTURE.md"] {
        if let Ok(text) = fs::read_to_string(root.join(map)) {
            found.extend(unmapped(map, &text, &folders));
        }
    }
    assert!(read > 20, "read only {read} files: the walk is broken");
    assert!(found.is_empty(), "{} to tidy:\n{}", found.len(), found.join("\n"));
}

/// What is wrong with one file; `path` is relative to the repository's root, with forward slashes.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = any_file(path, text);
    if path.starts_with(SERVER) && path.ends_with(".rs") {
        found.extend(shape(path, text));
        if !is_test_file(path) {
            let code = shipped_code(text);
            found.extend(words(path, &code));
            found.extend(imports(path, &code));
        }
    }
    if path.starts_with(SANDBOX) && (path.ends_with(".rs") || path.ends_with("Cargo.toml")) {
        found.extend(lines_with(text, "awchat").map(|n| {
            format!("{path}:{n}: the sandbox must not know the server, or it shares its misreadings of Intercom")
        }));
    }
    if path.starts_with(MIGRATIONS) && path.ends_with(".sql") {
        found.extend(columns(path, text));
    }
    found
}

/// Rules for every file of the repository.
fn any_file(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in REGISTRIES {
        found.extend(lines_with(text, word).map(|n| format!("{path}:{n}: no registry's host: {word}")));
    }
    for word in MACHINE_PATHS {
        found.extend(lines_with(text, word).map(|n| format!("{path}:{n}: no path of one machine: {word}")));
    }
    found
}

/// Rules for a file of the server as a whole, tests included.
fn shape(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//! ") {
        found.push(format!("{path}:1: begin with `//!`: what is this file for?"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{path}: {lines} lines, more than {MAX_LINES}: is it two things?"));
    }
    for word in UNFINISHED {
        found.extend(lines_with(text, word).map(|n| format!("{path}:{n}: unfinished: {word}")));
    }
    for part in module(path).split('/').filter(|part| VAGUE_NAMES.contains(part)) {
        found.push(format!("{path}: `{part}` says nothing: name the module after what it does"));
    }
    found
}

/// Rules about words in the server's code.
fn words(path: &str, code: &str) -> Vec<String> {
    let file = module(path);
    let mut found = Vec::new();
    let mut forbid = |word: &str, why: &str| {
        found.extend(lines_with(code, word).map(|n| format!("{path}:{n}: {word}: {why}")));
    };
    for (words, places, instead) in PLACES {
        if !places.iter().any(|place| is_within(file, place)) {
            words.iter().for_each(|word| forbid(word, instead));
        }
    }
    if is_within(file, "api") {
        NOT_IN_API.iter().for_each(|word| forbid(word, "whose data it is comes from `User`, never from path or body"));
    }
    NOWHERE.iter().for_each(|(word, instead)| forbid(word, instead));
    for (n, _) in code.lines().enumerate().filter(|(_, line)| declares_static(line)) {
        found.push(format!("{path}:{}: no static state: what lives long is in `App`", n + 1));
    }
    found
}

/// The table of who imports whom, over every `crate::…` in the code, grouped ones included.
fn imports(path: &str, code: &str) -> Vec<String> {
    let file = module(path);
    let own = file.split('/').next().unwrap_or_default();
    if own == "main" || own == "lib" {
        return Vec::new();
    }
    let Some((_, may)) = IMPORTS.iter().find(|(module, _)| *module == own) else {
        return vec![format!("{path}: the module `{own}` is new: give it a line in the table of tests/tidy.rs")];
    };
    // From a module n deep, n times `super::` is the crate's root.
    let code = code.replace(&"super::".repeat(file.split('/').count()), "crate::");
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        for name in first_names(&code[at + start.len()..]) {
            let is_module = IMPORTS.iter().any(|(module, _)| *module == name);
            if is_module && name != own && !may.contains(&name) && !OPEN_TO_ALL.contains(&name) {
                found.push(format!("{path}:{line}: `{own}` may not import `{name}`"));
            }
        }
    }
    found
}

/// `chat::Message` → chat; `{chat::{Message, State}, store}` → chat, store.
fn first_names(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else { return vec![leading_word(path)] };
    let mut depth = 1;
    let end = group.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    let items = split_outside(&group[..end.unwrap_or(group.len())], '{', '}');
    items.into_iter().map(|item| leading_word(item.trim_start())).collect()
}

/// A migration's columns: TEXT and BIGINT mean the same on SQLite and PostgreSQL.
fn columns(path: &str, text: &str) -> Vec<String> {
    let without_comments: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let sql = without_comments.join("\n").to_lowercase();
    let mut found = Vec::new();
    for statement in sql.split(';').map(str::trim) {
        for definition in column_definitions(statement) {
            let mut words = definition.split_whitespace();
            let name = leading_word(words.next().unwrap_or_default());
            let kind = leading_word(words.next().unwrap_or_default());
            let is_column = !["", "primary", "unique", "foreign", "check", "constraint"].contains(&name);
            if is_column && kind != "text" && kind != "bigint" {
                found.push(format!("{path}: column {name} is {kind:?}: TEXT and BIGINT mean the same on both engines"));
            }
        }
    }
    found
}

fn column_definitions(statement: &str) -> Vec<&str> {
    if statement.starts_with("create table")
        && let (Some(open), Some(close)) = (statement.find('('), statement.rfind(')'))
    {
        return split_outside(&statement[open + 1..close], '(', ')');
    }
    if statement.starts_with("alter table")
        && let Some((_, added)) = statement.split_once(" add column ")
    {
        return vec![added.trim_start_matches("if not exists ")];
    }
    Vec::new()
}

/// The top-level folders that `text`, a map of the repository, leaves out.
fn unmapped(map: &str, text: &str, folders: &[&str]) -> Vec<String> {
    let missing = |folder: &&&str| !folder.starts_with('.') && !text.contains(&format!("{folder}/"));
    folders.iter().filter(missing).map(|folder| format!("{map}: says nothing of {folder}/")).collect()
}

// Reading text.

/// Without comments, and without the tests at the end of the file. Line numbers stay.
fn shipped_code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.starts_with("mod ")) {
            break;
        }
        if !line.trim_start().starts_with("//") {
            code.push_str(line.split(" // ").next().unwrap_or_default());
        }
        code.push('\n');
    }
    code
}

/// `crates/awchat/src/chat/mod.rs` → `chat`, `crates/awchat/src/chat/view.rs` → `chat/view`.
fn module(path: &str) -> &str {
    let file = path.strip_prefix(SERVER).unwrap_or(path);
    let file = file.strip_suffix(".rs").unwrap_or(file);
    file.strip_suffix("/mod").unwrap_or(file)
}

fn is_within(file: &str, place: &str) -> bool {
    file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/chat/simulation")
}

/// The numbers of the lines that contain `word` as a whole word.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.lines().enumerate().filter(move |(_, line)| has_word(line, word)).map(|(n, _)| n + 1)
}

/// No letter, digit or `_` may touch an end of `word`, but for a method's name, which always follows something.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let begins = word.starts_with('.') || !line[..at].ends_with(is_word_char);
        let ends = !word.ends_with(is_word_char) || !line[at + word.len()..].starts_with(is_word_char);
        begins && ends
    })
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn leading_word(text: &str) -> &str {
    text.split(|c| !is_word_char(c)).next().unwrap_or_default()
}

fn declares_static(line: &str) -> bool {
    line.split_whitespace().find(|word| !word.starts_with("pub")) == Some("static")
}

/// Splits at the commas that stand outside brackets.
fn split_outside(text: &str, open: char, close: char) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        depth += i32::from(c == open) - i32::from(c == close);
        c == ',' && depth == 0
    })
    .collect()
}

/// Every file of the repository, relative to its root and sorted; what is built, installed or stored at run time left
/// out.
fn files_below(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a folder of the repository can be read") {
            let entry = entry.expect("a folder of the repository can be read");
            let kind = entry.file_type().expect("a file's type is known");
            let name = entry.file_name().to_string_lossy().into_owned();
            if [".git", ".env", "data", "dist", "node_modules", "target"].contains(&name.as_str()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(folder.join(name));
            } else if kind.is_file() {
                files.push(folder.join(name).to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

// Each rule can fail, and says so in its own words.

/// The violations of `text`, were it below the server's sources as `path`; it starts on the second line.
fn in_server(path: &str, text: &str) -> String {
    violations(&format!("{SERVER}{path}"), &format!("//! A file.\n{text}\n")).join("\n")
}

fn in_file(path: &str, text: &str) -> String {
    violations(path, text).join("\n")
}

/// Nothing is found where nothing is expected.
#[track_caller]
fn check(found: &str, expected: &str) {
    let as_expected = if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
    assert!(as_expected, "found {found:?}, expected {expected:?}");
}

#[test]
fn words_stay_in_their_places() {
    let table = [
        ("use axum::Json;", "chat/mod.rs", "api/mod.rs"),
        ("use tower::Layer;", "worker.rs", "server.rs"),
        ("sqlx::query(text)", "chat/sync.rs", "store/mod.rs"),
        ("impl From<sqlx::Error> for Error {}", "api/mod.rs", "error.rs"),
        ("let parts = &json[\"conversation_parts\"];", "chat/sync.rs", "chat/view.rs"),
        ("part_type: String,", "store/messages.rs", "intercom/wire.rs"),
        ("pub admin_id: String,", "chat/mod.rs", "config/settings.rs"),
        ("std::env::var(\"PATH\")", "server.rs", "config.rs"),
        ("dotenvy::dotenv()", "main.rs", "config/read.rs"),
        ("std::time::SystemTime::now()", "chat/heads.rs", "clock.rs"),
        ("let now = Instant::now();", "intercom/breaker.rs", "clock.rs"),
        ("rand::rng()", "worker.rs", "id.rs"),
    ];
    for (line, wrong, right) in table {
        check(&in_server(wrong, line), &format!("{SERVER}{wrong}:2: "));
        check(&in_server(right, line), "");
    }
}

#[test]
fn a_word_is_found_whole_and_in_shipped_code_only() {
    check(&in_server("chat/mod.rs", "let relaxum = intercom_admin_id;"), "");
    check(&in_server("chat/mod.rs", "// axum would answer this"), "");
    check(&in_server("chat/mod.rs", "let a = 1; // unlike axum"), "");
    check(&in_server("chat/mod.rs", "#[cfg(test)]\nmod tests {\n    use axum::Json;\n}"), "");
    check(&in_server("chat/mod.rs", "#[cfg(test)]\nuse axum::Json;"), ":3: axum");
    check(&in_server("config/tests.rs", "let set = read().unwrap();"), "");
}

#[test]
fn nothing_unwraps_or_is_static() {
    check(&in_server("chat/mod.rs", "let a = b.unwrap();"), "say why it cannot fail");
    check(&in_server("chat/mod.rs", "let a = b.unwrap_or_default();"), "");
    for state in ["static A: u8 = 0;", "    pub(crate) static A: u8 = 0;", "thread_local! {}", "lazy_static! {}"] {
        check(&in_server("chat/mod.rs", state), "no static state");
    }
    check(&in_server("chat/mod.rs", "pub const NAME: &'static str = \"a static text\";"), "");
}

#[test]
fn a_file_says_what_it_is_for_and_is_one_thing() {
    check(&in_file("crates/awchat/src/chat/mod.rs", "use std::fmt;\n"), "what is this file for?");
    check(&in_server("chat/mod.rs", &"\n".repeat(MAX_LINES)), "is it two things?");
    check(&in_server("chat/mod.rs", &"\n".repeat(MAX_LINES - 2)), "");
    for path in ["chat/util.rs", "manager.rs", "store/common/mod.rs", "intercom/inner.rs"] {
        check(&in_server(path, ""), "says nothing");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    for word in UNFINISHED {
        check(&in_server("chat/tests.rs", word), "unfinished");
        check(&in_server("chat/mod.rs", &format!("// {word}: later")), "unfinished");
    }
}

#[test]
fn a_handler_takes_no_user_id_from_path_or_body() {
    check(&in_server("api/tickets.rs", "async fn list(Path(id): Path<UserId>) {}"), "comes from `User`");
    check(&in_server("api/tickets.rs", "    user_id: String,"), "comes from `User`");
    check(&in_server("api/tickets.rs", "app.chat.close(&user.id, &id).await"), "");
}

#[test]
fn imports_follow_the_table() {
    let table = [
        ("use crate::chat::Message;", "store/messages.rs", "api/conversations.rs"),
        ("use crate::api;", "chat/mod.rs", "server.rs"),
        ("use crate::{error::Error, chat::{State, Message}, store};", "files/mod.rs", "worker.rs"),
        ("let a = crate::store::open();", "intercom/mod.rs", "chat/mod.rs"),
        ("use super::store::Store;", "intercom/mod.rs", "chat/mod.rs"),
        ("use super::super::push::Push;", "chat/sync.rs", "push/fcm.rs"),
        ("use crate::{\n    clock::Clock,\n    worker::Worker,\n};", "api/mod.rs", "server.rs"),
    ];
    for (line, wrong, right) in table {
        check(&in_server(wrong, line), "may not import");
        check(&in_server(right, line), "");
    }
    check(&in_server("store/mod.rs", "use crate::{clock::Clock, error::Error, id};"), "");
    check(&in_server("clock.rs", "use crate::store::Store;"), "`clock` may not import `store`");
    check(&in_server("store/mod.rs", "use super::chat;"), "`store` may not import `chat`");
    check(&in_server("store/messages.rs", "use super::chat;"), "");
    check(&in_server("novelty.rs", ""), "give it a line");
    check(&in_server("main.rs", "use crate::anything;"), "");
}

#[test]
fn the_sandbox_does_not_know_the_server() {
    check(&in_file("crates/sandbox/src/lib.rs", "use awchat::chat::Message;\n"), ":1: the sandbox must not know");
    check(&in_file("crates/sandbox/Cargo.toml", "awchat.path = \"../awchat\""), "the sandbox must not know");
    check(&in_file("crates/bench/src/main.rs", "use awchat::chat::Message;\n"), "");
}

#[test]
fn columns_mean_the_same_on_both_engines() {
    let found = |sql| in_file("crates/awchat/migrations/0001_start.sql", sql);
    check(&found("CREATE TABLE a (id TEXT PRIMARY KEY, n BIGINT CHECK (n IN (0, 1)), PRIMARY KEY (id, n));"), "");
    check(&found("create table a (\n  id text, -- no integer\n  unique (id)\n);\ncreate index i on a (id);"), "");
    check(&found("alter table a add column at bigint not null default 0"), "");
    check(&found("create table a (id text, rated boolean not null)"), "column rated is \"boolean\"");
    check(&found("create table a (id text); alter table a add column at timestamptz"), "column at is");
}

#[test]
fn the_repository_names_no_registry_and_no_machine() {
    for host in REGISTRIES {
        check(&in_file("package-lock.json", &format!("\"https://{host}/x\"")), "no registry's host");
    }
    for path in MACHINE_PATHS {
        check(&in_file("docs/operations.md", &format!("see {path}notes")), "no path of one machine");
        check(&in_file("docs/operations.md", &format!("see https://example.com{path}notes")), "");
    }
}

#[test]
fn the_maps_name_every_folder() {
    let folders = [".ci", "api", "crates"];
    check(&unmapped("README.md", "`api/` is the contract", &folders).join("\n"), "README.md: says nothing of crates/");
    check(&unmapped("README.md", "`api/` and `crates/`", &folders).join("\n"), "");
}
