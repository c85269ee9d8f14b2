//! How many uploads are taken at once: each holds a file and a few buffers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::UserId;

/// Uploads at once of all users.
const NODE: usize = 8;
/// Uploads at once of one user.
const USER: usize = 2;

/// Why an upload is not taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The server has as many as it takes.
    Busy,
    /// The user has.
    TooMany,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<UserId, usize>>>);

/// One upload's place; dropped, it is free again.
#[derive(Debug)]
pub struct Place {
    places: Places,
    user: UserId,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, user: &UserId) -> Result<Place, NoPlace> {
        let mut taken = self.lock();
        if taken.get(user).is_some_and(|own| *own >= USER) {
            return Err(NoPlace::TooMany);
        }
        if taken.values().sum::<usize>() >= NODE {
            return Err(NoPlace::Busy);
        }
        *taken.entry(user.clone()).or_default() += 1;
        Ok(Place { places: self.clone(), user: user.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_two_uploads_at_once_and_all_users_eight() {
        let user = |n: usize| UserId::parse(&format!("user-{n}")).expect("an id");
        let places = Places::default();
        let mut held = Vec::new();
        for n in 0..4 {
            held.push(places.take(&user(n)).expect("a place"));
            held.push(places.take(&user(n)).expect("a place"));
            assert_eq!(places.take(&user(n)).err(), Some(NoPlace::TooMany));
        }
        assert_eq!(places.take(&user(9)).err(), Some(NoPlace::Busy));
        held.pop();
        held.push(places.take(&user(9)).expect("a place that became free"));
        held.clear();
        assert!(places.lock().is_empty());
    }
}
