//! The record: what an entry says, how it lies on disk, and what a log found after a crash is worth. Pure; the room
//! [`crate::store`] does the writing.
//!
//! A log is a sequence of [`Entry`]s, each in a [`Frame`] that binds it to its log, its place and its commit. A commit
//! is what one `fdatasync` makes durable: nothing of it is acknowledged before, and no byte of the next is written
//! before. [`Recovery`] rests on exactly that to tell a tail that a crash has torn from a log that was tampered with:
//!
//! | found | meaning |
//! |---|---|
//! | the last commit incomplete or damaged, none of it known to be acknowledged | a crash: it is cut at the first entry that cannot be read |
//! | an entry that cannot be read, and one of a later commit that can | what was acknowledged is damaged: [`Contradiction`] |
//! | more unreadable bytes than a commit holds | the same |
//! | an entry out of order, twice, or of another log | no crash does that: [`Contradiction`] |
//! | fewer entries than [`Acknowledged`] says | acknowledged entries are lost: [`Contradiction`] |
//!
//! What this does *not* see: [`Acknowledged`] is written after each commit without waiting for the disk, so that power
//! loss can take the word of the last half minute with it. Damage to the very last commit in just that time looks like
//! a torn tail. A directory that is emptied is a new log: that there was another shows only elsewhere. And the
//! checksums carry no key: they answer to accidents, not to a person who rewrites the log and [`Acknowledged`] alike.

mod acknowledged;
mod entry;
mod frame;
mod noise;
mod pseudonym;
mod recovery;

pub use acknowledged::Acknowledged;
pub use entry::{Agent, Basis, Decision, Entry, Kind, Rights, RightsMode, TooLong, User, Version};
pub use frame::{Commit, Frame, LogId, MAX_COMMIT, MAX_ENTRY, Unread, framed_length};
pub use noise::Noise;
pub use pseudonym::{PSEUDONYM_KEY_ENTRY, PseudonymKey, WeakKey};
pub use recovery::{Contradiction, Recovered, Recovery, recover};
