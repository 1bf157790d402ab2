//! How far the log is known to be acknowledged, kept beside it. It closes the one gap that frames leave: an entry that
//! is the last of its log and damaged looks like one that was never finished.

use super::{LogId, frame::checksum};

const SLOT: usize = 24;
/// One slot a sector: a disk writes a sector whole or not at all.
const SECTOR: usize = 512;

/// At least so many entries of this log were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The log.
    pub log: LogId,
    /// How many entries.
    pub entries: u64,
}

impl Acknowledged {
    /// Bytes of the file.
    pub const FILE: usize = 2 * SECTOR;

    /// The file as it begins.
    pub fn file(self) -> [u8; Self::FILE] {
        let mut file = [0; Self::FILE];
        for (to, from) in file.iter_mut().zip(self.slot(0).1) {
            *to = from;
        }
        file
    }

    /// Where in the file the `turn`th word is written, and its bytes. Turns alternate between two sectors, so that one
    /// that is never finished leaves the one before.
    pub fn slot(self, turn: u64) -> (u64, [u8; SLOT]) {
        let mut slot = [0; SLOT];
        let (words, end) = slot.split_at_mut(16);
        let (log, entries) = words.split_at_mut(8);
        log.copy_from_slice(&self.log.0);
        entries.copy_from_slice(&self.entries.to_be_bytes());
        end.copy_from_slice(&checksum(words));
        ((turn % 2) * SECTOR as u64, slot)
    }

    /// The furthest word in `file`, or none if there is not a whole one.
    pub fn read(file: &[u8]) -> Option<Self> {
        file.chunks(SECTOR).filter_map(Self::read_slot).max_by_key(|word| word.entries)
    }

    fn read_slot(sector: &[u8]) -> Option<Self> {
        let (words, end) = sector.get(..SLOT)?.split_at_checked(16)?;
        let (log, entries) = words.split_first_chunk()?;
        (checksum(words) == end)
            .then(|| Some(u64::from_be_bytes(*entries.first_chunk()?)))?
            .map(|entries| Self { log: LogId(*log), entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(entries: u64) -> Acknowledged {
        Acknowledged { log: LogId([9; 8]), entries }
    }

    #[test]
    fn the_furthest_whole_word_counts() {
        let mut file = word(0).file();
        assert_eq!(Acknowledged::read(&file), Some(word(0)));
        for turn in 1..6 {
            let (offset, slot) = word(turn * 10).slot(turn);
            let before = Acknowledged::read(&file);
            let at = usize::try_from(offset).unwrap();
            for written in 1..SLOT {
                let mut torn = file;
                torn[at..at + written].copy_from_slice(&slot[..written]);
                let found = Acknowledged::read(&torn);
                assert!(found == before || found == Some(word(turn * 10)), "{written} bytes: {found:?}");
            }
            file[at..at + SLOT].copy_from_slice(&slot);
            assert_eq!(Acknowledged::read(&file), Some(word(turn * 10)));
        }
        assert_eq!(Acknowledged::read(&[0; Acknowledged::FILE]), None);
        assert_eq!(Acknowledged::read(&[]), None);
    }
}
