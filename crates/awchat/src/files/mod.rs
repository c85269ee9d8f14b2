//! Files: what users upload, where it is kept, and who may have it.
//!
//! An object is there before its row, and a row goes before its object: what a crash leaves behind is an object that
//! nobody knows, and that is swept.

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::error::{Error, Result};

pub mod check;
pub mod intake;
pub mod link;
pub mod name;
mod places;
pub mod storage;

pub use places::{NoPlace, Place};

use link::Links;
use places::Places;
use storage::Storage;

/// How long an object may be without a row: a row follows within seconds.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// The files, with everything they need. A clone is a pointer.
#[derive(Clone, Debug)]
pub struct Files(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    storage: Storage,
    links: Links,
    places: Places,
}

impl Files {
    /// Opens the storage.
    ///
    /// # Errors
    /// When a directory cannot be made, or a setting cannot work.
    pub fn open(config: &config::Config) -> Result<Self> {
        let storage = Storage::open(&config.files.storage).map_err(Error::internal)?;
        let links = Links::new(config.server_url.as_str(), &config.files.url_secrets);
        Ok(Self(Arc::new(Shared { storage, links, places: Places::default() })))
    }

    /// Signs addresses and verifies them.
    pub fn links(&self) -> &Links {
        &self.0.links
    }

    /// Where the objects are.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// A place among the uploads that are being taken, for this user.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub fn place(&self, user: &crate::id::UserId) -> Result<Place, NoPlace> {
        self.0.places.take(user)
    }
}
