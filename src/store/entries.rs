//! Reading a log, also while it is written.

use super::files::ENTRIES;
use crate::audit::{Frame, LogId, Unread, framed_length};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes read at a time.
const PIECE: u64 = 64 * 1024;

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What comes next is not the next entry.
    #[error("{path}: what stands at byte {offset} is not entry {index} of this log")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What should be there.
        index: u64,
    },
    /// The disk does not do what it should.
    #[error("reading {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

/// The entries of a log in their order, each with its index. Ends before an entry that is being written.
#[derive(Debug)]
pub struct Entries {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// How many bytes of the buffer were given out.
    used: usize,
    /// How many bytes of the log were.
    offset: u64,
    log: Option<LogId>,
    index: u64,
    has_failed: bool,
}

/// The entries of the log in `directory`. Needs no lock and takes none.
///
/// # Errors
/// When there is no log, or it may not be read.
pub fn entries(directory: &Path) -> Result<Entries, ReadError> {
    let path = directory.join(ENTRIES);
    let file = File::open(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
    Ok(Entries { path, file, buffer: vec![], used: 0, offset: 0, log: None, index: 0, has_failed: false })
}

impl Entries {
    /// The same log from entry `index` on, which begins at byte `offset`.
    pub(super) fn at(mut self, index: u64, offset: u64) -> Result<Self, ReadError> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought.map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
        (self.index, self.offset) = (index, offset);
        Ok(self)
    }

    /// The index of the next entry.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The byte at which the next entry begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry, if it is there.
    fn read(&mut self) -> Result<Option<(u64, Vec<u8>)>, ReadError> {
        loop {
            match Frame::read(self.buffer.get(self.used..).unwrap_or_default()) {
                Ok(frame) if frame.index == self.index && self.log.is_none_or(|log| log == frame.log) => {
                    let size = framed_length(frame.entry.len()).unwrap_or_default();
                    let found = (frame.index, frame.entry.to_vec());
                    self.log = Some(frame.log);
                    self.used += size as usize;
                    self.offset += u64::from(size);
                    self.index += 1;
                    return Ok(Some(found));
                }
                Err(Unread::Incomplete) => {
                    if !self.fill()? {
                        return Ok(None);
                    }
                }
                Ok(_) | Err(Unread::Broken) => {
                    let Self { path, offset, index, .. } = self;
                    return Err(ReadError::Broken { path: path.clone(), offset: *offset, index: *index });
                }
            }
        }
    }

    /// Whether there was more to read.
    fn fill(&mut self) -> Result<bool, ReadError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let read = (&self.file).take(PIECE).read_to_end(&mut self.buffer);
        read.map(|read| read > 0).map_err(|source| ReadError::Io { path: self.path.clone(), source })
    }
}

impl Iterator for Entries {
    type Item = Result<(u64, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let read = self.read().transpose();
        self.has_failed = matches!(read, Some(Err(_)));
        read
    }
}
