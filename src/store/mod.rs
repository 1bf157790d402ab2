//! Where the record rests: a write-ahead log in a directory of its own, written by one thread of one process.
//!
//! Entries are handed over by [`Wal::append`], gathered while the disk is busy, and made durable together: one write,
//! one `fdatasync`, then everybody who waited has the index of his entry. Who may not wait, because what he has to say
//! is a denial, uses [`Wal::append_unacked`].
//!
//! In the directory:
//!
//! | file | holds |
//! |---|---|
//! | `entries` | the log, as [`crate::audit::Frame`] says |
//! | `acknowledged` | how far it is known to be acknowledged ([`crate::audit::Acknowledged`]) |
//! | `reserve` | bytes that mean nothing, given up when the disk is full so that this is recorded as well |
//! | `lock` | held by the process that writes |
//!
//! A log that failed is over for this process: after a failed `fdatasync` the kernel may take for written what never
//! reached the disk, and says so once. Nothing is permitted then, and readiness drops. The next process reads the log
//! again, writes its last commit again for the same reason, and refuses to start on a [`Contradiction`].
//!
//! A disk that is only full is waited for: what it had no space for is cut and was never acknowledged, that it is full is
//! recorded in the reserve's space, and nothing is permitted until the reserve itself has space again. Each time a log is
//! gone on with, after a restart or after that, is an entry of its own, which says what a crash had torn of it.
//!
//! A [`Reader`] reads pages of it meanwhile, of what is durable.

mod entries;
mod files;
mod reader;
mod wal;
mod writer;

#[cfg(test)]
mod tests;

pub use entries::{Entries, ReadError, entries};
pub use files::OpenError;
pub use reader::{Page, Reader};
pub use wal::{AppendError, Options, Wal};

#[cfg(doc)]
use crate::audit::Contradiction;
