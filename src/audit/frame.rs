//! How an entry lies in the log. All numbers are big-endian.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | the id of the log |
//! | 4 | the length of the entry |
//! | 4 | how many entries of the same commit come before it |
//! | 8 | how many entries of the log come before it: its index |
//! | length | the entry |
//! | 8 | the first bytes of SHA-256 over all of the above |

use super::TooLong;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;

/// Most bytes of an entry.
pub const MAX_ENTRY: usize = 16 * 1024;
/// Most bytes of a commit, frames included: what one `fdatasync` makes durable, and so what a crash can tear.
pub const MAX_COMMIT: usize = 1024 * 1024;

const ID: usize = 8;
const HEADER: usize = 24;
const CHECKSUM: usize = 8;

/// What tells one log from another: random, made with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(pub [u8; ID]);

impl LogId {
    /// Bytes it has; as text it is twice as long.
    pub const LENGTH: usize = ID;
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// An entry and what its frame says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The log it belongs to.
    pub log: LogId,
    /// How many entries of its commit come before it.
    pub position: u32,
    /// How many entries of the log come before it.
    pub index: u64,
    /// The entry.
    pub entry: &'a [u8],
}

/// Why there is no frame to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has no end yet.
    Incomplete,
    /// It is damaged, or was never one.
    Broken,
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`. Its own length is [`framed_length`] of its entry.
    ///
    /// # Errors
    /// When there is none. Whatever the bytes are.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unread> {
        let (log, rest) = number(bytes)?;
        let (length, rest) = number(rest)?;
        let (position, rest) = number(rest)?;
        let (index, rest) = number(rest)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ENTRY {
            return Err(Unread::Broken);
        }
        let (entry, rest) = rest.split_at_checked(length).ok_or(Unread::Incomplete)?;
        let (found, _) = number::<CHECKSUM>(rest)?;
        if bytes.get(..HEADER + length).map(checksum) != Some(found) {
            return Err(Unread::Broken);
        }
        let (position, index) = (u32::from_be_bytes(position), u64::from_be_bytes(index));
        Ok(Self { log: LogId(log), position, index, entry })
    }

    /// The index of the first entry of its commit, if it says something that can be.
    pub fn commit(&self) -> Option<u64> {
        self.index.checked_sub(u64::from(self.position))
    }
}

/// Bytes that an entry of `length` bytes takes in the log.
///
/// # Errors
/// When it is longer than [`MAX_ENTRY`].
pub fn framed_length(length: usize) -> Result<u32, TooLong> {
    if length > MAX_ENTRY {
        return Err(TooLong { length });
    }
    u32::try_from(HEADER + length + CHECKSUM).map_err(|_| TooLong { length })
}

fn number<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Unread> {
    bytes.split_first_chunk().map(|(number, rest)| (*number, rest)).ok_or(Unread::Incomplete)
}

/// The first bytes of SHA-256.
pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut short = [0; CHECKSUM];
    for (short, full) in short.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *short = *full;
    }
    short
}

/// Entries that become durable together. Entries are pushed by many and quickly; the checksums are made once, by the
/// one who writes.
#[derive(Debug)]
pub struct Commit {
    log: LogId,
    first: u64,
    entries: u32,
    bytes: Vec<u8>,
}

impl Commit {
    /// A commit without entries, whose first will have the index `first`.
    pub fn new(log: LogId, first: u64) -> Self {
        Self { log, first, entries: 0, bytes: vec![] }
    }

    /// The one that comes after this one, in the space of `spent`, which is over.
    #[must_use]
    pub fn next(&self, mut spent: Self) -> Self {
        spent.bytes.clear();
        Self { log: self.log, first: self.end(), entries: 0, bytes: spent.bytes }
    }

    /// Adds an entry; returns its index.
    ///
    /// # Errors
    /// When the entry is longer than [`MAX_ENTRY`].
    pub fn push(&mut self, entry: &[u8]) -> Result<u64, TooLong> {
        let length = framed_length(entry.len())? as usize - HEADER - CHECKSUM;
        let length = u32::try_from(length).map_err(|_| TooLong { length })?;
        let index = self.end();
        self.bytes.extend_from_slice(&self.log.0);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(&self.entries.to_be_bytes());
        self.bytes.extend_from_slice(&index.to_be_bytes());
        self.bytes.extend_from_slice(entry);
        self.bytes.extend_from_slice(&[0; CHECKSUM]);
        self.entries += 1;
        Ok(index)
    }

    /// Makes the checksums; returns what to write.
    pub fn seal(&mut self) -> &[u8] {
        let mut rest = self.bytes.as_mut_slice();
        while let Some(length) = rest.get(ID..ID + 4).and_then(|length| length.first_chunk()) {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((frame, others)) = rest.split_at_mut_checked(HEADER + length + CHECKSUM) else { break };
            let (sealed, space) = frame.split_at_mut(HEADER + length);
            space.copy_from_slice(&checksum(sealed));
            rest = others;
        }
        &self.bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// How many entries the log has without it.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many entries the log has with it.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: LogId = LogId(*b"a log id");

    #[test]
    fn a_frame_is_the_bytes_the_table_says() {
        let mut commit = Commit::new(LOG, 258);
        assert!(commit.is_empty());
        commit.push(b"").unwrap();
        assert_eq!(commit.push(b"ab"), Ok(259));
        let bytes = commit.seal();
        assert_eq!(bytes.len(), 66);
        assert_eq!(&bytes[32..58], b"a log id\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\x01\x03ab");
        assert_eq!(&bytes[58..], &digest(&SHA256, &bytes[32..58]).as_ref()[..8]);
        assert_eq!(commit.end(), 260);
        let next = commit.next(Commit::new(LOG, 0));
        assert!(next.is_empty() && next.end() == 260);
        assert_eq!(LogId([0, 1, 2, 3, 4, 5, 6, 0xff]).to_string(), "00010203040506ff");
    }

    #[test]
    fn no_entry_is_longer_than_a_reader_takes() {
        let mut commit = Commit::new(LOG, 0);
        assert_eq!(commit.push(&[7; MAX_ENTRY]), Ok(0));
        assert_eq!(commit.push(&[7; MAX_ENTRY + 1]), Err(TooLong { length: MAX_ENTRY + 1 }));
        assert_eq!(commit.end(), 1);
        assert_eq!(Frame::read(commit.seal()).unwrap().entry, [7; MAX_ENTRY]);
    }

    proptest! {
        #[test]
        fn reading_gives_what_was_pushed(first in 0..1u64 << 60, entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
            let mut commit = Commit::new(LOG, first);
            for entry in &entries {
                commit.push(entry).unwrap();
            }
            let mut rest = commit.seal();
            for (position, entry) in (0..).zip(&entries) {
                let frame = Frame::read(rest).unwrap();
                prop_assert_eq!(frame, Frame { log: LOG, position, index: first + u64::from(position), entry });
                prop_assert_eq!(frame.commit(), Some(first));
                rest = &rest[framed_length(entry.len()).unwrap() as usize..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn reading_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Frame::read(&bytes).is_err());
        }

        #[test]
        fn no_bit_may_be_another(entry in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>()) {
            let mut commit = Commit::new(LOG, 3);
            commit.push(&entry).unwrap();
            let mut bytes = commit.seal().to_vec();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::read(&bytes).is_err());
        }
    }
}
