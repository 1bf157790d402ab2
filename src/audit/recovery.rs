//! What a log that was found is worth. The essay is [`super`]'s.

use super::{Acknowledged, Frame, LogId, MAX_COMMIT, Unread, framed_length};

/// A log that can be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Which one.
    pub log: LogId,
    /// How many entries it has.
    pub entries: u64,
    /// How many bytes they take. What comes after is to be cut.
    pub length: u64,
    /// How many bytes come after: a commit that a crash has torn, never acknowledged.
    pub torn: u64,
}

/// A log that says what cannot be. Nothing may be added to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct Contradiction {
    /// Where it begins.
    pub offset: u64,
    /// What it is.
    pub what: Fault,
}

/// What no crash does to a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An acknowledged entry cannot be read.
    #[error("entry {index} cannot be read, but entry {later}, written when it was already durable, can")]
    Damaged {
        /// The entry that should be there.
        index: u64,
        /// The one that shows that it was.
        later: u64,
    },
    /// The entry there is not the next one.
    #[error("entry {found} stands where entry {expected} belongs")]
    OutOfOrder {
        /// The next one.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// The entry there is of another log.
    #[error("an entry of log {found} stands in log {expected}")]
    OtherLog {
        /// This log.
        expected: LogId,
        /// The other.
        found: LogId,
    },
    /// No commit is as long as what cannot be read.
    #[error("more bytes cannot be read than an interrupted write leaves behind ({MAX_COMMIT})")]
    LongTail,
    /// Acknowledged entries are not there.
    #[error("it has {found} entries, but {acknowledged} were acknowledged")]
    Lost {
        /// How many were acknowledged at least.
        acknowledged: u64,
        /// How many there are.
        found: u64,
    },
}

/// Reads a log from its beginning, piece by piece, in the space of a commit.
#[derive(Debug)]
pub struct Recovery {
    acknowledged: Acknowledged,
    entries: u64,
    length: u64,
    /// How many entries of the commit that is being read came already.
    position: u32,
    /// What comes after the entries read so far.
    rest: Vec<u8>,
    /// Whether it begins with something that cannot be read.
    broken: bool,
}

impl Recovery {
    /// Nothing read yet of a log of which so much is known.
    pub fn new(acknowledged: Acknowledged) -> Self {
        Self { acknowledged, entries: 0, length: 0, position: 0, rest: vec![], broken: false }
    }

    /// Reads on.
    ///
    /// # Errors
    /// When the log says what cannot be.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Contradiction> {
        self.rest.extend_from_slice(bytes);
        let mut read = 0;
        while !self.broken {
            match Frame::read(self.rest.get(read..).unwrap_or_default()) {
                Ok(frame) => {
                    let size = framed_length(frame.entry.len()).unwrap_or_default();
                    self.position = self.check(&frame).map_err(|what| self.contradiction(what))? + 1;
                    read += size as usize;
                    self.length += u64::from(size);
                    self.entries += 1;
                }
                Err(Unread::Incomplete) => break,
                Err(Unread::Broken) => self.broken = true,
            }
        }
        self.rest.drain(..read);
        if self.rest.len() > MAX_COMMIT { Err(self.contradiction(Fault::LongTail)) } else { Ok(()) }
    }

    /// That was all.
    ///
    /// # Errors
    /// When the log says what cannot be.
    pub fn finish(self) -> Result<Recovered, Contradiction> {
        self.check_tail().map_err(|what| self.contradiction(what))?;
        let Self { acknowledged: Acknowledged { log, entries: acknowledged }, entries, length, .. } = self;
        if entries < acknowledged {
            return Err(self.contradiction(Fault::Lost { acknowledged, found: entries }));
        }
        Ok(Recovered { log, entries, length, torn: self.rest.len() as u64 })
    }

    /// Whether `frame` may come next; returns its position in its commit.
    fn check(&self, frame: &Frame<'_>) -> Result<u32, Fault> {
        let expected = self.acknowledged.log;
        if frame.log != expected {
            return Err(Fault::OtherLog { expected, found: frame.log });
        }
        let goes_on = frame.position == 0 || frame.position == self.position;
        if frame.index != self.entries || !goes_on {
            return Err(Fault::OutOfOrder { expected: self.entries, found: frame.index });
        }
        Ok(frame.position)
    }

    /// Whether what cannot be read may be a torn commit. The pages of a commit reach the disk in any order, so that
    /// later entries of the same commit may well be there; those of another may not.
    fn check_tail(&self) -> Result<(), Fault> {
        let index = self.entries;
        let tails = (1..self.rest.len()).filter_map(|at| self.rest.get(at..));
        for tail in tails.filter(|tail| tail.starts_with(&self.acknowledged.log.0)) {
            let Ok(frame) = Frame::read(tail) else { continue };
            if frame.index <= index {
                return Err(Fault::OutOfOrder { expected: index, found: frame.index });
            }
            if frame.commit().is_none_or(|commit| commit > index) {
                return Err(Fault::Damaged { index, later: frame.index });
            }
        }
        Ok(())
    }

    fn contradiction(&self, what: Fault) -> Contradiction {
        Contradiction { offset: self.length, what }
    }
}

/// What the log whose bytes are `segment` is worth.
///
/// # Errors
/// When it says what cannot be.
pub fn recover(segment: &[u8], acknowledged: Acknowledged) -> Result<Recovered, Contradiction> {
    let mut recovery = Recovery::new(acknowledged);
    recovery.push(segment)?;
    recovery.finish()
}

#[cfg(test)]
mod tests {
    use super::{super::Commit, *};
    use proptest::prelude::*;

    const LOG: LogId = LogId(*b"a log id");

    /// A log, the offsets at which its entries end, and of which commit each is.
    #[derive(Clone, Debug)]
    struct Log {
        bytes: Vec<u8>,
        ends: Vec<usize>,
        commits: Vec<usize>,
    }

    fn log(commits: &[Vec<Vec<u8>>]) -> Log {
        let mut log = Log { bytes: vec![], ends: vec![], commits: vec![] };
        for (number, entries) in commits.iter().enumerate() {
            let mut commit = Commit::new(LOG, log.ends.len() as u64);
            let mut end = log.bytes.len();
            for entry in entries {
                commit.push(entry).unwrap();
                end += framed_length(entry.len()).unwrap() as usize;
                log.ends.push(end);
                log.commits.push(number);
            }
            log.bytes.extend_from_slice(commit.seal());
        }
        log
    }

    impl Log {
        fn start(&self, entry: usize) -> usize {
            entry.checked_sub(1).map_or(0, |before| self.ends[before])
        }

        fn whole_at(&self, cut: usize) -> usize {
            self.ends.iter().filter(|end| **end <= cut).count()
        }
    }

    fn known(entries: usize) -> Acknowledged {
        Acknowledged { log: LOG, entries: entries as u64 }
    }

    fn logs() -> impl Strategy<Value = Log> {
        let entry = prop::collection::vec(any::<u8>(), 0..40);
        let commits = prop::collection::vec(prop::collection::vec(entry, 1..5), 1..6);
        commits.prop_map(|commits| log(&commits))
    }

    fn three() -> Log {
        log(&[vec![b"a".to_vec(), b"bb".to_vec()], vec![b"c".to_vec()], vec![b"d".to_vec(), b"e".to_vec()]])
    }

    #[test]
    fn a_whole_log_is_gone_on_with() {
        let log = three();
        let whole = Recovered { log: LOG, entries: 5, length: log.bytes.len() as u64, torn: 0 };
        assert_eq!(recover(&log.bytes, known(5)), Ok(whole));
        assert_eq!(recover(&log.bytes, known(0)), Ok(whole), "what was written may be more than is known");
        let lost = Fault::Lost { acknowledged: 6, found: 5 };
        assert_eq!(recover(&log.bytes, known(6)), Err(Contradiction { offset: whole.length, what: lost }));
        assert_eq!(recover(&[], known(0)), Ok(Recovered { log: LOG, entries: 0, length: 0, torn: 0 }));
    }

    #[test]
    fn pages_of_the_last_commit_that_came_out_of_order_are_cut() {
        let mut log = three();
        let (start, end) = (log.start(3), log.ends[3]);
        log.bytes[start..end].fill(0);
        let torn = (log.bytes.len() - start) as u64;
        let cut = Recovered { log: LOG, entries: 3, length: start as u64, torn };
        assert_eq!(recover(&log.bytes, known(3)), Ok(cut));
        let lost = Fault::Lost { acknowledged: 4, found: 3 };
        assert_eq!(recover(&log.bytes, known(4)).unwrap_err().what, lost);
    }

    #[test]
    fn entries_out_of_order_of_another_log_or_after_a_gap_are_contradictions() {
        let log = three();
        let frame = |entry: usize| log.bytes[log.start(entry)..log.ends[entry]].to_vec();
        let other = {
            let mut commit = Commit::new(LogId(*b"another."), 5);
            commit.push(b"f").unwrap();
            commit.seal().to_vec()
        };
        let out_of_order = |expected, found| Fault::OutOfOrder { expected, found };
        let rows: [(&str, Vec<Vec<u8>>, Fault); 6] = [
            ("repeated", vec![frame(0), frame(0)], out_of_order(1, 0)),
            ("swapped", vec![frame(1), frame(0)], out_of_order(0, 1)),
            ("left out", vec![frame(0), frame(2)], out_of_order(1, 2)),
            ("taken into another commit", vec![frame(0), frame(1), frame(2), frame(4)], out_of_order(3, 4)),
            (
                "of another log",
                vec![log.bytes.clone(), other],
                Fault::OtherLog { expected: LOG, found: LogId(*b"another.") },
            ),
            ("repeated after a gap", vec![frame(0), vec![1; 40], frame(0)], out_of_order(1, 0)),
        ];
        for (name, pieces, what) in rows {
            assert_eq!(recover(&pieces.concat(), known(0)).unwrap_err().what, what, "{name}");
        }
    }

    #[test]
    fn no_crash_leaves_more_than_a_commit() {
        let mut log = three();
        let length = log.bytes.len() as u64;
        log.bytes.extend(vec![0xff; MAX_COMMIT]);
        assert_eq!(recover(&log.bytes, known(5)).unwrap().torn, MAX_COMMIT as u64);
        log.bytes.push(0xff);
        assert_eq!(
            recover(&log.bytes, known(5)),
            Err(Contradiction { offset: length, what: Fault::LongTail })
        );
    }

    #[test]
    fn a_contradiction_says_where_and_what() {
        let mut log = three();
        log.bytes[40] ^= 1;
        let error = recover(&log.bytes, known(0)).unwrap_err();
        let text =
            "at byte 33: entry 1 cannot be read, but entry 2, written when it was already durable, can";
        assert_eq!(error.to_string(), text);
    }

    proptest! {
        /// Wherever it is cut, exactly the entries that were written in full are there.
        #[test]
        fn a_cut_log_has_what_was_written(log in logs(), at in any::<prop::sample::Index>(), piece in 1..50usize) {
            let cut = at.index(log.bytes.len() + 1);
            let whole = log.whole_at(cut);
            let length = log.start(whole) as u64;
            let mut recovery = Recovery::new(known(0));
            for piece in log.bytes[..cut].chunks(piece) {
                recovery.push(piece).unwrap();
            }
            let expected = Recovered { log: LOG, entries: whole as u64, length, torn: cut as u64 - length };
            prop_assert_eq!(recovery.finish(), Ok(expected));
            prop_assert_eq!(recover(&log.bytes[..cut], known(whole)), Ok(expected));
            prop_assert!(recover(&log.bytes[..cut], known(whole + 1)).is_err());
        }

        /// No bit of what is known to be acknowledged, or lies before the last commit, can change unseen. In the last
        /// commit a change is a cut, just there.
        #[test]
        fn a_changed_bit_is_seen(log in logs(), at in any::<prop::sample::Index>()) {
            let bit = at.index(log.bytes.len() * 8);
            let mut bytes = log.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let entry = log.whole_at(bit / 8);
            prop_assert!(recover(&bytes, known(log.ends.len())).is_err());
            prop_assert!(recover(&bytes, known(entry + 1)).is_err());
            let unknown = recover(&bytes, known(0));
            if log.commits[entry] < *log.commits.last().unwrap() {
                prop_assert!(unknown.is_err());
            } else {
                prop_assert_eq!(unknown.unwrap().entries, entry as u64);
            }
        }

        #[test]
        fn any_bytes_can_be_a_log(bytes in prop::collection::vec(any::<u8>(), 0..300), log in logs(), at in any::<prop::sample::Index>()) {
            let found = recover(&bytes, known(0)).unwrap();
            prop_assert_eq!((found.entries, found.torn), (0, bytes.len() as u64));
            let mut mixed = log.bytes;
            let at = at.index(mixed.len());
            mixed.splice(at..at, bytes);
            let _ = recover(&mixed, known(0));
        }
    }
}
