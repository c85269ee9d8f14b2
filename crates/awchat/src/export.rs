//! Ratings and complaints as a file for people and other programs; read in pages, so that there can be any number.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::clock;
use crate::error::{Cause, Error};
use crate::store::Store;
use crate::store::reports::{ComplaintRow, Place, RatingRow};

/// What can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Users' ratings.
    Csat,
    /// Users' complaints.
    Complaints,
}

/// How an export looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a spreadsheet; a cell that one would take for a formula begins with a quote instead.
    Csv,
    /// One array.
    Json,
    /// One object a line.
    Jsonl,
}

const PAGE: i64 = 500;

/// Writes everything from `since_ms` on, oldest first.
///
/// # Errors
/// When the database cannot be read or `out` not be written.
pub async fn write(
    store: &Store,
    what: What,
    since_ms: i64,
    format: Format,
    out: &mut (impl Write + Send),
) -> Result<(), Cause> {
    let mut sheet = Sheet::begin(what, format, out)?;
    let mut after = Place::first();
    loop {
        let rows: Vec<Row> = match what {
            What::Csat => store.ratings_after(since_ms, &after, PAGE).await?.into_iter().map(Row::from).collect(),
            What::Complaints => {
                store.complaints_after(since_ms, &after, PAGE).await?.into_iter().map(Row::from).collect()
            }
        };
        let Some(last) = rows.last() else { return Ok(sheet.end()?) };
        after = last.place.clone();
        for row in rows {
            sheet.put(row.line)?;
        }
    }
}

struct Row {
    place: Place,
    line: Line,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Rating(Rating),
    Complaint(Complaint),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rating {
    id: String,
    created_at: String,
    stars: i64,
    comment: Option<String>,
    ticket_id: Option<String>,
    conversation_id: Option<String>,
    topic_main: Option<String>,
    topic_sub: Option<String>,
    user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Complaint {
    id: String,
    created_at: String,
    category: String,
    description: String,
    chat_id: Option<String>,
    dialog_id: Option<String>,
    user_id: String,
}

/// The fields of [`Rating`] and [`Complaint`], for a file that has no other line.
const RATING: &[&str] =
    &["id", "createdAt", "stars", "comment", "ticketId", "conversationId", "topicMain", "topicSub", "userId"];
const COMPLAINT: &[&str] = &["id", "createdAt", "category", "description", "chatId", "dialogId", "userId"];

impl From<RatingRow> for Row {
    fn from(row: RatingRow) -> Self {
        let line = Line::Rating(Rating {
            id: row.id.clone(),
            created_at: clock::rfc3339(row.created_ms),
            stars: row.stars,
            comment: row.comment,
            ticket_id: row.ticket_id,
            conversation_id: row.conversation_id,
            topic_main: row.topic_main,
            topic_sub: row.topic_sub,
            user_id: row.user,
        });
        Self { place: Place { created_ms: row.created_ms, id: row.id }, line }
    }
}

impl From<ComplaintRow> for Row {
    fn from(row: ComplaintRow) -> Self {
        let line = Line::Complaint(Complaint {
            id: row.id.clone(),
            created_at: clock::rfc3339(row.created_ms),
            category: row.category,
            description: row.description,
            chat_id: row.chat_id,
            dialog_id: row.dialog_id,
            user_id: row.user,
        });
        Self { place: Place { created_ms: row.created_ms, id: row.id }, line }
    }
}

/// A file that is being written.
enum Sheet<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Json { out: W, is_empty: bool },
    Jsonl(W),
}

impl<W: Write> Sheet<W> {
    fn begin(what: What, format: Format, mut out: W) -> io::Result<Self> {
        Ok(match format {
            Format::Csv => {
                let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                csv.write_record(match what {
                    What::Csat => RATING,
                    What::Complaints => COMPLAINT,
                })?;
                Self::Csv(Box::new(csv))
            }
            Format::Json => {
                out.write_all(b"[")?;
                Self::Json { out, is_empty: true }
            }
            Format::Jsonl => Self::Jsonl(out),
        })
    }

    fn put(&mut self, line: Line) -> io::Result<()> {
        match self {
            Self::Csv(csv) => csv.serialize(line.guarded())?,
            Self::Json { out, is_empty } => {
                out.write_all(if *is_empty { b"\n" } else { b",\n" })?;
                *is_empty = false;
                serde_json::to_writer(out, &line)?;
            }
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Csv(mut csv) => csv.flush(),
            Self::Json { mut out, is_empty } => {
                out.write_all(if is_empty { b"]\n" } else { b"\n]\n" })?;
                out.flush()
            }
            Self::Jsonl(mut out) => out.flush(),
        }
    }
}

impl Line {
    /// With nothing of users in it that a spreadsheet would carry out.
    fn guarded(self) -> Self {
        match self {
            Self::Rating(line) => Self::Rating(Rating {
                comment: line.comment.map(guarded),
                topic_main: line.topic_main.map(guarded),
                topic_sub: line.topic_sub.map(guarded),
                user_id: guarded(line.user_id),
                ..line
            }),
            Self::Complaint(line) => Self::Complaint(Complaint {
                description: guarded(line.description),
                chat_id: line.chat_id.map(guarded),
                dialog_id: line.dialog_id.map(guarded),
                user_id: guarded(line.user_id),
                ..line
            }),
        }
    }
}

fn guarded(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// Whether the reader of a pipe has seen enough.
pub fn is_broken_pipe(cause: &Cause) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The beginning of an export: an RFC 3339 time, a day (UTC), or nothing for everything.
///
/// # Errors
/// When it is neither.
pub fn since_ms(text: Option<&str>) -> Result<i64, Error> {
    let rule = || {
        Error::Validation("--since: must be a day such as 2026-01-31 or a time such as 2026-01-31T08:00:00Z".to_owned())
    };
    text.map_or(Ok(i64::MIN), |text| clock::parse(text).ok_or_else(rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, descriptions: &[&str]) -> String {
        let mut out = Vec::new();
        let mut sheet = Sheet::begin(What::Complaints, format, &mut out).expect("memory");
        for description in descriptions {
            let row = ComplaintRow {
                id: "c1".to_owned(),
                user: "@ada".to_owned(),
                category: "other".to_owned(),
                description: (*description).to_owned(),
                chat_id: None,
                dialog_id: Some("d".to_owned()),
                created_ms: 1_784_000_000_123,
            };
            sheet.put(Row::from(row).line).expect("memory");
        }
        sheet.end().expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_spreadsheet_gets_columns_quotes_and_no_formula() {
        let head = "id,createdAt,category,description,chatId,dialogId,userId\n";
        assert_eq!(written(Format::Csv, &[]), head);
        assert_eq!(
            written(Format::Csv, &["=HYPERLINK(\"x\")", "two\nlines, and \"quotes\""]),
            format!(
                "{head}c1,2026-07-14T03:33:20.123Z,other,\"'=HYPERLINK(\"\"x\"\")\",,d,'@ada\n\
                 c1,2026-07-14T03:33:20.123Z,other,\"two\nlines, and \"\"quotes\"\"\",,d,'@ada\n"
            )
        );
    }

    #[test]
    fn json_is_one_array_and_jsonl_an_object_a_line() {
        let object = r#"{"id":"c1","createdAt":"2026-07-14T03:33:20.123Z","category":"other","description":"=1","chatId":null,"dialogId":"d","userId":"@ada"}"#;
        assert_eq!(written(Format::Json, &[]), "[]\n");
        assert_eq!(written(Format::Json, &["=1", "=1"]), format!("[\n{object},\n{object}\n]\n"));
        assert_eq!(written(Format::Jsonl, &[]), "");
        assert_eq!(written(Format::Jsonl, &["=1", "=1"]), format!("{object}\n{object}\n"));
    }

    #[test]
    fn the_columns_are_the_fields_of_the_lines() {
        let fields = |line: &Line| {
            let text = serde_json::to_string(line).expect("JSON");
            // An object's text has the fields in their order, its map has not.
            let places = |name: &&str| text.find(&format!("\"{name}\":"));
            let columns = if matches!(line, Line::Rating(_)) { RATING } else { COMPLAINT };
            let at: Vec<_> = columns.iter().map(places).collect();
            assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{text}");
            let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("an object");
            assert_eq!(map.len(), columns.len(), "{text}");
        };
        fields(&Line::Rating(Rating {
            id: String::new(),
            created_at: String::new(),
            stars: 5,
            comment: None,
            ticket_id: None,
            conversation_id: None,
            topic_main: None,
            topic_sub: None,
            user_id: String::new(),
        }));
        fields(&Line::Complaint(Complaint {
            id: String::new(),
            created_at: String::new(),
            category: String::new(),
            description: String::new(),
            chat_id: None,
            dialog_id: None,
            user_id: String::new(),
        }));
    }

    #[test]
    fn an_export_begins_at_a_day_or_a_time() {
        assert_eq!(since_ms(None).expect("everything"), i64::MIN);
        assert_eq!(since_ms(Some("1970-01-02")).expect("a day"), 86_400_000);
        assert_eq!(since_ms(Some("1970-01-01T01:00:00.5+01:00")).expect("a time"), 500);
        for bad in ["", "yesterday", "2026-02-30", "2026-01-31T08:00:00", "1700000000"] {
            since_ms(Some(bad)).expect_err(bad);
        }
    }
}
