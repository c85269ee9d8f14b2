//! `awchat export` and `awchat erase`: one user's data, from the command line.

use std::time::Duration;

use awchat::app::App;
use awchat::chat::{erasure, export};
use awchat::clock::Clock;
use awchat::config::{self, Config};
use awchat::id::UserId;
use awchat::store::Store;
use awchat::worker;

use super::Failure;

/// How often a running server is looked at, and how often at most.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: usize = 150;

/// Prints everything that is kept of the user.
pub(super) async fn export(user: &str) -> Result<(), Failure> {
    let user = parse(user)?;
    let url = config::database_url(&config::environment()?);
    let store = Store::open_to_read(url.expose()).await?;
    let export = export::export(&store, &user, Clock::system().now_s(), std::convert::identity).await?;
    println!("{}", serde_json::to_string_pretty(&export)?);
    store.close().await;
    Ok(())
}

/// Erases the user. A running server is asked to: it has things in memory.
pub(super) async fn erase(user: &str) -> Result<(), Failure> {
    let user = parse(user)?;
    let config = Config::from_lookup(&config::environment()?)?;
    let database = config.database_url.expose().to_owned();
    let clock = Clock::system();
    let store = if Store::is_in_use(&database) == Some(false) {
        erase_here(config, &user, clock).await?
    } else {
        let store = Store::open_beside(&database).await?;
        if ask(&store, &user, &clock).await? {
            store
        } else {
            store.close().await;
            erase_here(config, &user, clock).await?
        }
    };
    let contact_gone = store.erasure(&user).await?.is_some_and(|erasure| erasure.contact_gone);
    println!("erased: nothing of this user is left here");
    println!(
        "the contact at Intercom {}",
        if contact_gone { "is deleted" } else { "is deleted as soon as Intercom can be reached" }
    );
    store.close().await;
    Ok(())
}

/// Does it without a server; the database that it was done in.
async fn erase_here(config: Config, user: &UserId, clock: Clock) -> Result<Store, Failure> {
    let app = App::open(config, clock).await?;
    app.chat.erase(user).await?;
    worker::run_due(&app).await?;
    app.store.leave().await?;
    Ok(app.store.clone())
}

/// Leaves the work to a running server, and waits until it is done; `false` if there is none, or it has gone.
async fn ask(store: &Store, user: &UserId, clock: &Clock) -> Result<bool, Failure> {
    let (kind, now_ms) = (erasure::JOB, clock.now_ms());
    if !store.is_served(now_ms).await? {
        return Ok(false);
    }
    store.enqueue(kind, user.as_str(), "{}", now_ms, now_ms).await?;
    for _ in 0..LOOKS {
        clock.sleep(LOOK).await;
        let done = store.erasure(user).await?.is_some_and(|erasure| erasure.erased_ms >= now_ms);
        if done && !store.has_job(kind, user.as_str()).await? {
            return Ok(true);
        }
        if !store.is_served(clock.now_ms()).await? {
            return Ok(false);
        }
    }
    Err("no server has done it yet; the next one that runs with this database will".into())
}

fn parse(user: &str) -> Result<UserId, Failure> {
    UserId::parse(user).ok_or_else(|| "--user: must be 1 to 128 visible characters".into())
}
