//! Every long-lived handle, concrete.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::chat::{self, Chat};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::intercom::downloads::Downloads;
use crate::intercom::{self, Intercom};
use crate::limits::Limits;
use crate::metrics::Requests;
use crate::push::Push;
use crate::shared::Shared;
use crate::store::Store;

/// The server's handles; a clone is a pointer.
#[derive(Clone, Debug)]
pub struct App(Arc<Handles>);

/// What an [`App`] points to.
#[derive(Debug)]
pub struct Handles {
    /// The configuration.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// The database.
    pub store: Store,
    /// Intercom's REST API.
    pub intercom: Intercom,
    /// What users upload.
    pub files: Files,
    /// The domain.
    pub chat: Arc<Chat>,
    /// Notices to users' devices.
    pub push: Push,
    /// What nodes share beside the database.
    pub shared: Shared,
    /// Who asks, and how often.
    pub edge: Arc<Edge>,
    /// What was asked, and how it was answered.
    pub requests: Arc<Requests>,
    /// Whether the database took a write, and when that was tried; a crowd of questions costs one try a second.
    writable: Mutex<Option<(i64, bool)>>,
    /// Cancelled when the server begins to shut down: `/ready` says so, long polls answer.
    pub draining: CancellationToken,
}

impl Deref for App {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// What decides who may ask, and how often.
#[derive(Debug)]
pub struct Edge {
    /// Verifies session tokens.
    pub auth: Authenticator,
    /// Counts requests.
    pub limits: Limits,
}

impl App {
    /// Whether the database takes writes, as of the last second.
    pub async fn is_writable(&self) -> bool {
        let now_ms = self.clock.now_ms();
        let mut known = self.writable.lock().await;
        match *known {
            Some((tried_ms, writable)) if (0..1_000).contains(&(now_ms - tried_ms)) => writable,
            _ => known.insert((now_ms, self.store.is_writable().await)).1,
        }
    }

    /// Whether this process does `what` for all that have its database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leads_in(&self, what: &str) -> Result<bool> {
        self.store.leads_in(what, self.clock.now_ms()).await
    }

    /// Opens the database, brings it up to date and takes up what a dead process left.
    ///
    /// # Errors
    /// When the database cannot be opened, or a setting cannot work.
    pub async fn open(config: Config, clock: Clock) -> Result<Self> {
        let store = Store::open(config.database_url.expose()).await?;
        let intercom = Intercom::new(
            intercom::Settings {
                base_url: config.intercom.base_url.to_string(),
                access_token: config.intercom.access_token.expose().to_owned(),
                admin_id: config.intercom.admin_id.clone(),
                timeout: config.intercom.timeout,
                breaker_open: config.intercom.breaker_open,
            },
            clock.clone(),
        )
        .map_err(Error::internal)?;
        let push = Push::open(&config, store.clone(), clock.clone()).await?;
        let settings = chat::Settings {
            settle: config.intercom.settle,
            timeout: config.intercom.timeout,
            team_id: config.intercom.team_id.clone(),
            ticket_prefix: config.ticket_prefix.clone(),
            app_id: config.intercom.app_id.clone(),
            notified: push.platforms(),
        };
        let files = Files::open(&config)?;
        let downloads = Downloads::new(config.intercom.clone()).map_err(Error::internal)?;
        let shared = match &config.redis_url {
            Some(url) => Shared::open(url, &store.secret_for("redis"), clock.clone()).await?,
            None => Shared::default(),
        };
        let ours = (store.clone(), shared.clone());
        let chat = Chat::new(ours, intercom.clone(), (files.clone(), downloads), clock.clone(), settings);
        store.join(clock.now_ms()).await?;
        chat.recover().await?;
        let edge = Arc::new(Edge {
            auth: Authenticator::new(&config, clock.clone()).heeding(store.clone()),
            limits: Limits::new(&config, shared.clone(), clock.clone()),
        });
        let draining = CancellationToken::new();
        Ok(Self(Arc::new(Handles {
            config,
            clock,
            store,
            intercom,
            files,
            chat,
            push,
            shared,
            edge,
            requests: Arc::default(),
            writable: Mutex::new(None),
            draining,
        })))
    }
}
