//! The operator's page as HTML. Whatever users wrote is escaped by the template.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, html};

use super::chart::{self, Column, Stars};
use super::{DAY_MS, DAYS, Filter, TEXT_CHARS};
use crate::chat::feedback::Category;
use crate::clock;
use crate::intercom::{Circuit, Reason, Status};
use crate::store::reports::{Backlog, ComplaintRow, Count, Place, Waiting};

/// Everything that is shown.
pub(super) struct Overview {
    pub(super) now_ms: i64,
    pub(super) filter: Filter,
    pub(super) ratings: Vec<Count<i64>>,
    pub(super) topics: Vec<Count<Option<String>>>,
    /// Complaints by category.
    pub(super) counts: Vec<(String, i64)>,
    pub(super) complaints: Vec<ComplaintRow>,
    /// Where older complaints begin.
    pub(super) older: Option<Place>,
    pub(super) intercom: Status,
    pub(super) swept_ms: Option<i64>,
    pub(super) backlog: Backlog,
}

/// Topics with a bar of their own.
const TOPICS: usize = 12;
/// What waits longer than this needs a look.
const LATE_MS: i64 = 300_000;

/// The form that takes the token.
pub(super) fn login(was_wrong: bool) -> Markup {
    let form = html! {
        main.login {
            h1 { "AW Chat" }
            form method="post" action="/admin/login" {
                label for="token" { "Admin token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus
                    aria-describedby=[was_wrong.then_some("wrong")];
                @if was_wrong {
                    p.wrong id="wrong" role="alert" { "That is not the token." }
                }
                button { "Open" }
            }
        }
    };
    document("Sign in", &form)
}

/// The page itself.
pub(super) fn overview(overview: &Overview) -> Markup {
    let content = html! {
        header {
            h1 { "AW Chat" }
            p.faint { (time(overview.now_ms)) " UTC" }
            form method="post" action="/admin/logout" { button.plain { "Sign out" } }
        }
        main {
            (state(overview))
            (periods(&overview.filter))
            (ratings(overview))
            (topics(overview))
            (complaints(overview))
        }
    };
    document("Overview", &content)
}

fn document(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · AW Chat" }
                link rel="stylesheet" href="/admin/style.css";
            }
            body { (content) }
        }
    }
}

// ---- the server ----

fn state(overview: &Overview) -> Markup {
    let now_ms = overview.now_ms;
    let (well, intercom) = match overview.intercom.circuit {
        Circuit::Closed => (true, "Connected".to_owned()),
        Circuit::HalfOpen => (false, "Down, trying again".to_owned()),
        Circuit::Open { reason, retry_after } => {
            let why = match reason {
                Reason::Failures => "calls fail",
                Reason::Slow => "calls are slow",
                Reason::Auth => "token refused",
            };
            (false, format!("Down: {why}; next try in {} s", retry_after.as_secs()))
        }
    };
    let budget = overview.intercom.budget_left.map(|share| format!("{:.0} % left", share * 100.0));
    let backlog = &overview.backlog;
    html! {
        section aria-labelledby="state" {
            h2 id="state" { "Server" }
            dl.tiles {
                (tile("Intercom", well, &intercom))
                (tile("Rate limit", overview.intercom.budget_left.is_none_or(|share| share > 0.0),
                    budget.as_deref().unwrap_or("Not known yet")))
                (tile("Last sweep", overview.swept_ms.is_none_or(|swept_ms| now_ms - swept_ms < LATE_MS),
                    &overview.swept_ms.map_or("None yet".to_owned(), |swept_ms| format!("{} ago", span(now_ms - swept_ms)))))
                (waiting("Webhooks waiting", backlog.webhooks, now_ms))
                (waiting("Jobs due", backlog.jobs, now_ms))
                (waiting("Messages in doubt", backlog.unresolved, now_ms))
            }
        }
    }
}

fn waiting(name: &str, waiting: Waiting, now_ms: i64) -> Markup {
    let oldest_ms = waiting.oldest_ms.map(|oldest_ms| now_ms - oldest_ms).filter(|_| waiting.count > 0);
    let text = match oldest_ms {
        Some(age_ms) => format!("{}, oldest {}", waiting.count, span(age_ms)),
        None => "None".to_owned(),
    };
    tile(name, oldest_ms.is_none_or(|age_ms| age_ms < LATE_MS), &text)
}

/// The sign says what the colour does.
fn tile(name: &str, is_well: bool, text: &str) -> Markup {
    html! {
        div.tile.bad[!is_well] {
            dt { (name) }
            dd { span.sign aria-label=(if is_well { "well:" } else { "needs a look:" }) role="img" {
                (if is_well { "●" } else { "▲" }) } " " (text) }
        }
    }
}

// ---- ratings ----

fn periods(filter: &Filter) -> Markup {
    let name = |days| if days == 365 { "A year".to_owned() } else { format!("{days} days") };
    html! {
        nav aria-label="Period" {
            @for days in DAYS {
                a href=(address(filter, days, None)) aria-current=[(days == filter.days).then_some("true")] { (name(days)) }
            }
        }
    }
}

fn ratings(overview: &Overview) -> Markup {
    let mut all = Stars::default();
    for count in &overview.ratings {
        all.add(count.stars, count.ratings);
    }
    let columns = chart::columns(&overview.ratings, overview.now_ms.div_euclid(DAY_MS), overview.filter.days);
    let most = columns.iter().map(|column| column.stars.total()).max().unwrap_or(0);
    let weekly = columns.last().is_some_and(|column| column.days > 1);
    html! {
        section aria-labelledby="ratings" {
            h2 id="ratings" { "Ratings" }
            @match all.average() {
                None => p.faint { "No ratings in this time." },
                Some(average) => {
                    p.sum { strong { (average) } " of 5 on average, " (all.total()) " ratings" }
                    (legend(&all))
                    figure {
                        figcaption.faint { "Ratings a " (if weekly { "week" } else { "day" }) ", at most " (most) }
                        (chart::over_time(&columns, column_name))
                        div.axis aria-hidden="true" {
                            span { (columns.first().map(|column| day(column.first_day)).unwrap_or_default()) }
                            span { (columns.get(columns.len() / 2).map(|column| day(column.first_day)).unwrap_or_default()) }
                            span { "today" }
                        }
                    }
                    details {
                        summary { "As a table" }
                        div.scroll { (table(&columns)) }
                    }
                }
            }
        }
    }
}

fn legend(all: &Stars) -> Markup {
    html! {
        ul.legend {
            @for stars in (1..=5).rev() {
                li {
                    svg.swatch viewBox="0 0 1 1" aria-hidden="true" { rect class={ "s" (stars) } width="1" height="1" {} }
                    (stars) " ★ " span.faint { (all.percent(stars)) " %" }
                }
            }
        }
    }
}

fn table(columns: &[Column]) -> Markup {
    html! {
        table {
            thead { tr { th scope="col" { "From" } th scope="col" { "Ratings" } th scope="col" { "Average" }
                @for stars in 1..=5 { th scope="col" { (stars) " ★" } } } }
            tbody {
                @for column in columns.iter().rev().filter(|column| column.stars.total() > 0) {
                    tr {
                        th scope="row" { (day(column.first_day)) }
                        td { (column.stars.total()) }
                        td { (column.stars.average().unwrap_or_default()) }
                        @for count in column.stars.0 { td { (count) } }
                    }
                }
            }
        }
    }
}

fn column_name(column: &Column) -> String {
    let ends =
        if column.days > 1 { format!(" – {}", day(column.first_day + column.days - 1)) } else { String::new() };
    let what = match column.stars.average() {
        Some(average) => format!("{} ratings, {average} on average", column.stars.total()),
        None => "no ratings".to_owned(),
    };
    format!("{}{ends}: {what}", day(column.first_day))
}

fn topics(overview: &Overview) -> Markup {
    let mut topics: BTreeMap<&str, Stars> = BTreeMap::new();
    for count in &overview.topics {
        topics.entry(count.key.as_deref().unwrap_or("Without a topic")).or_default().add(count.stars, count.ratings);
    }
    let mut topics: Vec<(&str, Stars)> = topics.into_iter().collect();
    topics.sort_by_key(|(_, stars)| -stars.total());
    html! {
        @if !topics.is_empty() {
            section aria-labelledby="topics" {
                h2 id="topics" { "Ratings by topic" }
                div.scroll {
                    table.topics {
                        thead { tr { th scope="col" { "Topic" } th scope="col" { "Average" } th scope="col" { "Ratings" }
                            th.bar scope="col" { "1 ★ to 5 ★" } } }
                        tbody {
                            @for (name, stars) in topics.iter().take(TOPICS) {
                                tr {
                                    th scope="row" { (name) }
                                    td { (stars.average().unwrap_or_default()) }
                                    td { (stars.total()) }
                                    td.bar { (chart::share(stars, &shares(stars))) }
                                }
                            }
                        }
                    }
                }
                @if topics.len() > TOPICS {
                    p.faint { "And " (topics.len() - TOPICS) " topics with fewer ratings." }
                }
            }
        }
    }
}

fn shares(stars: &Stars) -> String {
    let each: Vec<String> = (1..=5).map(|count| format!("{count} ★: {}", stars.0[count - 1])).collect();
    each.join(", ")
}

// ---- complaints ----

fn complaints(overview: &Overview) -> Markup {
    let filter = &overview.filter;
    let of = |category: Category| {
        let own = overview.counts.iter().find(|(name, _)| name == category.as_str());
        own.map_or(0, |(_, count)| *count)
    };
    let all: i64 = overview.counts.iter().map(|(_, count)| count).sum();
    html! {
        section aria-labelledby="complaints" {
            h2 id="complaints" { "Complaints" }
            form.filter method="get" action="/admin" {
                input type="hidden" name="days" value=(filter.days);
                label { "Category"
                    select name="category" {
                        option value="" { "All (" (all) ")" }
                        @for category in Category::ALL {
                            option value=(category.as_str()) selected[filter.category == Some(category)] {
                                (capitalised(category.as_str())) " (" (of(category)) ")"
                            }
                        }
                    }
                }
                label { "With the words"
                    input type="search" name="text" value=(filter.text) maxlength=(TEXT_CHARS);
                }
                button { "Show" }
            }
            @if overview.complaints.is_empty() {
                p.faint { "No complaints." }
            }
            ol.complaints {
                @for complaint in &overview.complaints { li { (one(complaint)) } }
            }
            @if let Some(older) = &overview.older {
                p { a.button href=(address(filter, filter.days, Some(older))) { "Older" } }
            }
        }
    }
}

fn one(complaint: &ComplaintRow) -> Markup {
    html! {
        article {
            p.head {
                span.category { (capitalised(&complaint.category)) }
                time datetime=(clock::rfc3339(complaint.created_ms)) { (time(complaint.created_ms)) }
            }
            p.description dir="auto" { (complaint.description) }
            dl.about {
                (about("User", Some(&complaint.user)))
                (about("Chat", complaint.chat_id.as_ref()))
                (about("Dialog", complaint.dialog_id.as_ref()))
                (about("Complaint", Some(&complaint.id)))
            }
        }
    }
}

fn about(name: &str, value: Option<&String>) -> Markup {
    html! {
        @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
    }
}

/// Where the same filter leads with another period, or to older complaints.
fn address(filter: &Filter, days: i64, before: Option<&Place>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::from("/admin?"));
    query.append_pair("days", &days.to_string());
    if let Some(category) = filter.category {
        query.append_pair("category", category.as_str());
    }
    if !filter.text.is_empty() {
        query.append_pair("text", &filter.text);
    }
    if let Some(before) = before {
        query.append_pair("before", &format!("{}-{}", before.created_ms, before.id));
    }
    query.finish()
}

// ---- words ----

/// `2026-11-22 11:43`
fn time(unix_ms: i64) -> String {
    clock::rfc3339(unix_ms).chars().take("2026-11-22T11:43".len()).collect::<String>().replace('T', " ")
}

/// `2026-11-22`
fn day(since_1970: i64) -> String {
    clock::rfc3339(since_1970 * DAY_MS).chars().take("2026-11-22".len()).collect()
}

/// `40 s`, `12 min`, `5 h`, `3 d`
fn span(ms: i64) -> String {
    match ms.div_euclid(1000).max(0) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
