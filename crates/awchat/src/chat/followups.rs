//! What follows a user's request and must never fail it: notes, tags, the team, the contact's attributes,
//! refreshes. Jobs with backoff, each done as often as asked for and harmless when done again.

use super::draft::{self, Opening};
use super::mirror::Put;
use super::sweep::SWEPT;
use super::sync::Applied;
use super::{Chat, reopening, view};
use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::intercom::{CallError, Class};
use crate::model::Topic;
use crate::store::Tx;
use crate::store::conversations::Conversation;
use crate::store::feedback::Rating;
use crate::store::jobs::Job;
use crate::store::outbound::{Kind, Outbound};

/// A lease is longer than any job takes.
const LEASE_MS: i64 = 60_000;
/// Given up after about a day.
const ATTEMPTS: i64 = 100;
/// How far Intercom's clock may be behind ours where a note is looked for.
const CLOCK_DIFFERENCE_S: i64 = 5;

impl Chat {
    /// Asks, in the transaction that stores a message of the user's, for what belongs to it.
    pub(super) async fn follow_up(
        &self,
        tx: &mut Tx,
        row: &Outbound,
        put: &Put,
        now: &Conversation,
        now_ms: i64,
    ) -> Result<()> {
        let opening = draft::opening(row)?;
        if now.is_ticket {
            reopening::ask(tx, &now.id, &put.message, now_ms).await?;
        }
        if let Some(ticket) = &opening.clarifies {
            tx.enqueue("clarified", &format!("{} {ticket}", now.id), "{}", now_ms, now_ms).await?;
        }
        let (Kind::Create, id) = (row.kind, &now.id) else { return Ok(()) };
        let mut jobs = vec!["enrich"];
        jobs.extend((opening.topic.is_some() || !opening.meta.is_empty()).then_some("opening_note"));
        jobs.extend(opening.topic.iter().map(|_| "topic_tag"));
        jobs.extend(self.settings.team_id.iter().map(|_| "assign"));
        for kind in jobs {
            let subject = if kind == "enrich" { row.user.as_str() } else { id.as_str() };
            tx.enqueue(kind, subject, &row.payload, now_ms, now_ms).await?;
        }
        Ok(())
    }

    /// Does the job that has been due longest; `false` if none is due.
    pub async fn run_job(&self) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        if !self.store.job_is_due(now_ms).await? {
            return Ok(false);
        }
        let Some(job) = self.store.lease_job(now_ms, now_ms + LEASE_MS).await? else {
            // Another lane or node took it; there may be more.
            return Ok(true);
        };
        match self.perform(&job).await {
            Ok(None) => {
                self.store.finish_job(&job).await?;
                if keeps_trying(&job) {
                    // Its row named the user.
                    self.scrub_now().await?;
                }
            }
            Ok(Some(again_ms)) => self.store.retry_job(&job, self.clock.now_ms() + again_ms).await?,
            Err(error) if keeps_trying(&job) || (job.attempt < ATTEMPTS && !is_final(&error)) => {
                tracing::debug!(kind = job.kind, attempt = job.attempt, cause = %error, "job failed, will retry");
                self.store.retry_job(&job, self.clock.now_ms() + backoff_ms(&error, job.attempt)).await?;
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(kind = job.kind, cause = %error, source, "job given up");
                self.store.finish_job(&job).await?;
            }
        }
        Ok(true)
    }

    /// `Some`: not done yet, again after so many milliseconds.
    async fn perform(&self, job: &Job) -> Result<Option<i64>> {
        match job.kind.as_str() {
            "settle" => return self.settle(&job.subject).await,
            "erase" => return self.erase_as_job(&job.subject).await,
            "forget_contact" => return self.forget_contact(job).await,
            "scrub" => return self.scrub().await,
            "remove_files" => return self.remove_files().await.map(|()| None),
            "enrich" => {
                let opening = opening(job)?;
                if let Some(user) = crate::id::UserId::parse(&job.subject) {
                    self.enrich(&user, &opening.profile, &opening.meta).await?;
                }
                return Ok(None);
            }
            "clarified" => {
                self.note_clarified(job).await?;
                return Ok(None);
            }
            _ => {}
        }
        let Some(id) = ConversationId::parse(&job.subject) else { return Ok(None) };
        match job.kind.as_str() {
            "refresh" => {
                let applied = self.refresh(&id, Class::Refresh).await?;
                if job.payload == SWEPT && matches!(applied, Applied::Changed) {
                    self.count_repair();
                }
            }
            "reopen" => self.reopen(&id, &job.payload).await?,
            "read" => self.intercom.mark_read(&id).await?,
            "closed" => self.note_once(&id, "Closed by the customer.", job).await?,
            "opening_note" => self.note_once(&id, &opening_note(&opening(job)?), job).await?,
            "twice" => {
                let text = "The customer's message arrived here twice; the customer sees it once.";
                self.note_once(&id, text, job).await?;
            }
            "duplicate" => {
                self.intercom.close(&id).await?;
                self.intercom.tag(&id, "aw-duplicate").await?;
            }
            "topic_tag" => {
                if let Some(topic) = opening(job)?.topic {
                    self.intercom.tag(&id, &topic_tag(&topic)).await?;
                }
            }
            "csat_tag" => {
                if let Some(rating) = self.rating_by_owner(&id).await? {
                    self.intercom.tag(&id, &format!("csat-{}", rating.stars)).await?;
                }
            }
            "csat_note" => {
                if let Some(Rating { stars, comment: Some(comment), .. }) = self.rating_by_owner(&id).await? {
                    self.note_once(&id, &format!("Rated {stars} of 5 by the customer:\n{comment}"), job).await?;
                }
            }
            "assign" => {
                if let Some(team) = &self.settings.team_id {
                    self.intercom.assign_team(&id, team).await?;
                }
            }
            unknown => tracing::warn!(kind = unknown, "unknown kind of job"),
        }
        Ok(None)
    }

    /// What the user says now: a rating that was erased is not told any more.
    async fn rating_by_owner(&self, id: &ConversationId) -> Result<Option<Rating>> {
        self.store.begin().await?.rating_by_owner(id).await
    }

    /// Tells the operators, in the conversation, which ticket the user asks about.
    async fn note_clarified(&self, job: &Job) -> Result<()> {
        let ids = job.subject.split_once(' ');
        let ids = ids.and_then(|(chat, ticket)| Some((ConversationId::parse(chat)?, ConversationId::parse(ticket)?)));
        let Some((id, ticket_id)) = ids else { return Ok(()) };
        // Gone meanwhile, it cannot be named.
        let Some((ticket, _)) = self.store.begin().await?.mirrored_ticket(&ticket_id).await? else { return Ok(()) };
        let reference = self.reference(&ticket.number);
        let mut lines = vec![format!("The customer asks about ticket {reference} (id {ticket_id}).")];
        lines.extend(ticket.title);
        lines.extend(self.settings.app_id.iter().map(|app| inbox_address(app, &ticket_id)));
        self.note_once(&id, &lines.join("\n"), job).await
    }

    /// A note has no key at Intercom either: a second attempt looks whether the first has come.
    async fn note_once(&self, id: &ConversationId, text: &str, job: &Job) -> Result<()> {
        let since_s = (job.created_ms - self.intercom.behind_ms()).div_euclid(1000) - CLOCK_DIFFERENCE_S;
        let is_it = |html: &str| view::normalised_html(html) == view::normalised_text(text);
        if job.attempt > 1 && self.intercom.has_note(id, since_s, is_it).await? {
            return Ok(());
        }
        Ok(self.intercom.note(id, &view::html_of_plain(text)).await?)
    }
}

fn opening(job: &Job) -> Result<Opening> {
    serde_json::from_str(&job.payload).map_err(Error::internal)
}

/// Where an operator finds a conversation or ticket.
fn inbox_address(app_id: &str, id: &ConversationId) -> String {
    format!("https://app.intercom.com/a/apps/{app_id}/conversations/{id}")
}

/// Topic and context for the operators: the contact takes only attributes that the workspace has.
fn opening_note(opening: &Opening) -> String {
    let mut lines = Vec::new();
    if let Some(topic) = &opening.topic {
        lines.push(topic.line());
    }
    lines.extend(opening.meta.iter().map(|(key, value)| match value {
        serde_json::Value::String(text) => format!("{key}: {text}"),
        other => format!("{key}: {other}"),
    }));
    lines.join("\n")
}

/// Tags are short: the main topic is what reports are made by.
fn topic_tag(topic: &Topic) -> String {
    format!("topic: {}", topic.main).chars().take(100).collect()
}

/// What a person has a right to is tried until it is done.
fn keeps_trying(job: &Job) -> bool {
    ["erase", "forget_contact"].contains(&job.kind.as_str())
}

/// Refused for what it says: trying again changes nothing.
fn is_final(error: &Error) -> bool {
    let Error::Unavailable { cause: Some(cause), .. } = error else { return false };
    matches!(cause.downcast_ref(), Some(CallError::Rejected { .. }))
}

/// One second, doubled to ten minutes, or what Intercom asked for if that is longer.
fn backoff_ms(error: &Error, attempt: i64) -> i64 {
    let asked_ms = error.retry_after_s().and_then(|s| i64::try_from(s).ok()).unwrap_or(0).saturating_mul(1000);
    (1_000_i64 << (attempt - 1).clamp(0, 10)).min(600_000).max(asked_ms)
}
