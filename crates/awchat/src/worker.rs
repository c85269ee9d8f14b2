//! What happens without a request: webhooks are applied, jobs are done, old rows are forgotten.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::error::{Error, Result};
use crate::files::ORPHAN_AGE;
use crate::push::AskLooks;
use crate::store::devices::Platform;
use crate::store::nodes::RENEW_MS;

/// Without a bell, how soon due work is noticed.
const LOOK: Duration = Duration::from_millis(250);
/// Jobs at once: one that waits for Intercom does not hold up the others.
const LANES: usize = 4;
/// How often this node says that it is alive.
const RENEW: Duration = Duration::from_millis(RENEW_MS);
const PLATFORMS: [Platform; 2] = [Platform::Mobile, Platform::Tma];
/// How often old rows are forgotten, and after how long.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
const KEYS_KEPT_MS: i64 = 48 * 3_600_000;
/// How long an upload waits for its message.
const LOOSE_FILES_KEPT_MS: i64 = 24 * 3_600_000;
const WEBHOOK_IDS_KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// Works until `shutdown`.
pub async fn run(app: App, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    tasks.spawn(lane(app.clone(), shutdown.clone(), Lane::Inbox));
    for _ in 0..LANES {
        tasks.spawn(lane(app.clone(), shutdown.clone(), Lane::Jobs));
    }
    for platform in PLATFORMS {
        tasks.spawn(lane(app.clone(), shutdown.clone(), Lane::Push(platform)));
    }
    tasks.spawn(sweeping(app.clone(), shutdown.clone()));
    tasks.spawn(housekeeping(app.clone(), shutdown.clone()));
    let probed = app.clone();
    tasks.spawn(async move { probed.intercom.run_probe(shutdown).await });
    tasks.close();
    // As long as there is work, and apart from it: what is slow must not look dead.
    let (life, end) = (TaskTracker::new(), CancellationToken::new());
    life.spawn(live(app.clone(), end.clone()));
    life.close();
    tasks.wait().await;
    end.cancel();
    life.wait().await;
    if let Err(error) = app.store.leave().await {
        tracing::warn!(cause = ?error, "other nodes learn a little later that this one has gone");
    }
}

/// Tells the other nodes that this one is alive, and takes up what dead ones leave, until `shutdown`.
async fn live(app: App, shutdown: CancellationToken) {
    while app.store.serves_many() {
        if let Err(error) = app.chat.tend_nodes().await {
            tracing::warn!(cause = ?error, "other nodes may not know that this one is alive");
        }
        tokio::select! {
            () = app.clock.sleep(RENEW) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Does what is due now, all of it, and returns when nothing is.
///
/// # Errors
/// When the database fails.
pub async fn run_due(app: &App) -> Result<()> {
    let never = CancellationToken::new();
    let push = PLATFORMS.map(Lane::Push);
    loop {
        let mut did = false;
        for lane in [Lane::Inbox, Lane::Jobs].into_iter().chain(push) {
            did |= step(app, lane, &never).await?;
        }
        if !did {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy)]
enum Lane {
    Inbox,
    Jobs,
    Push(Platform),
}

async fn step(app: &App, lane: Lane, shutdown: &CancellationToken) -> Result<bool> {
    match lane {
        Lane::Inbox => Ok(app.chat.apply_inbox().await? > 0),
        Lane::Jobs => Ok(app.chat.run_job().await? || app.chat.ask_about_watched().await?),
        // Telegram counts what all nodes send together.
        Lane::Push(Platform::Tma) if !app.leads_in("telegram").await? => Ok(false),
        Lane::Push(platform) => app.push.tell(platform, &looks(app), shutdown).await,
    }
}

fn looks(app: &App) -> AskLooks {
    let chat = app.chat.clone();
    Arc::new(move |user, id| {
        let chat = chat.clone();
        Box::pin(async move { chat.looks(&user, &id).await })
    })
}

async fn lane(app: App, shutdown: CancellationToken, lane: Lane) {
    while !shutdown.is_cancelled() {
        let did = step(&app, lane, &shutdown).await.unwrap_or_else(|error| {
            tracing::error!(cause = ?error, "the worker could not work");
            false
        });
        if !did {
            let bell = async {
                match lane {
                    Lane::Inbox => app.chat.received().await,
                    Lane::Jobs => app.chat.work().await,
                    Lane::Push(platform) => app.chat.noticed(platform).await,
                }
            };
            tokio::select! {
                () = bell => {}
                () = app.clock.sleep(LOOK) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

/// At the start, for what happened while nobody listened, and then at every interval.
async fn sweeping(app: App, shutdown: CancellationToken) {
    loop {
        if let Err(error) = app.chat.recover_forgotten().await {
            tracing::warn!(cause = ?error, "messages that nobody is sending any more could not be looked for");
        }
        if let Err(error) = sweep(&app).await {
            tracing::warn!(cause = %error, "the sweep will be tried again");
        }
        tokio::select! {
            () = app.clock.sleep(app.config.intercom.sweep_interval) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// The sweep, unless another node does it for all; whether it was this one.
///
/// # Errors
/// When Intercom or the database fails.
pub async fn sweep(app: &App) -> Result<bool> {
    let leads = app.leads_in("sweep").await?;
    if leads {
        app.chat.sweep().await?;
    }
    Ok(leads)
}

/// Forgets what is old, and removes files that nobody has.
///
/// # Errors
/// When the database or the storage fails.
pub async fn keep_house(app: &App) -> Result<()> {
    let now_ms = app.clock.now_ms();
    app.store.outbound_forget(now_ms - KEYS_KEPT_MS).await?;
    app.store.forget_feedback_keys(now_ms - KEYS_KEPT_MS).await?;
    app.store.inbox_forget(now_ms - WEBHOOK_IDS_KEPT_MS).await?;
    app.push.forget_old().await?;
    app.store.give_up_loose_files(now_ms - LOOSE_FILES_KEPT_MS).await?;
    app.chat.remove_files().await?;
    let storage = app.files.storage();
    // A row follows its object within seconds: what has none by now is left of a crash.
    let mut old = storage.older_than(ORPHAN_AGE, now_ms).await.map_err(Error::internal)?;
    while let Some(key) = old.try_next().await.map_err(Error::internal)? {
        if !app.store.has_object(key.as_str()).await? {
            storage.remove(&key).await.map_err(Error::internal)?;
        }
    }
    // What was deleted leaves SQLite's write-ahead log too; a reader in the way has an hour until the next time.
    app.store.scrub().await.map(drop)
}

async fn housekeeping(app: App, shutdown: CancellationToken) {
    loop {
        let kept = async { if app.leads_in("housekeeping").await? { keep_house(&app).await } else { Ok(()) } };
        if let Err(error) = kept.await {
            tracing::warn!(cause = ?error, "what is old could not be forgotten");
        }
        tokio::select! {
            () = app.clock.sleep(HOUSEKEEPING) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
