//! The people who can sign in.

use super::State;
use crate::config::DevUser;

impl State {
    /// All users, by their `sub`.
    pub(crate) fn users(&self) -> impl Iterator<Item = &DevUser> {
        self.users.values()
    }

    pub(crate) fn user(&self, sub: &str) -> Option<&DevUser> {
        self.users.get(sub)
    }

    /// Adds a user, or replaces the claims of the one with the same `sub`.
    pub(crate) fn put_user(&mut self, user: DevUser) {
        self.users.insert(user.sub.clone(), user);
    }

    /// Adds a user unless one with the same `sub` is there already: what was edited before a restart stays edited.
    pub(crate) fn seed_user(&mut self, user: DevUser) {
        self.users.entry(user.sub.clone()).or_insert(user);
    }
}
