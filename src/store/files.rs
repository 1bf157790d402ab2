//! The files of a log.

use super::{Options, writer::Disk};
use crate::audit::{Acknowledged, Contradiction, LogId, MAX_COMMIT, Recovered, Recovery, recover};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Bytes read or written at a time.
const PIECE: usize = 64 * 1024;

/// Name of the file of entries.
pub(super) const ENTRIES: &str = "entries";
const ACKNOWLEDGED: &str = "acknowledged";
const RESERVE: &str = "reserve";

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log says what cannot be.
    #[error(
        "{path} contradicts itself: {source}. Nothing may be added to it: keep the directory as evidence, find out \
         what has happened to the disk, and let Deputy start with an empty directory"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: Contradiction,
    },
    /// The disk does not do what it should.
    #[error("{step} {path}: {source}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Another process writes the log.
    #[error("{0} is locked: another process writes this log. Each needs a directory of its own")]
    Locked(PathBuf),
    /// The file that says how far the log was acknowledged is not there or cannot be read.
    #[error(
        "{0} is missing or damaged, so that nobody can say whether the log beside it is whole: keep the directory as \
         evidence, and let Deputy start with an empty one"
    )]
    Unknown(PathBuf),
}

impl OpenError {
    /// For `map_err`: what went wrong doing `step` to `path`.
    pub(super) fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { step, path: path.to_owned(), source }
    }
}

/// The open files of a log.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    log: LogId,
    entries: File,
    acknowledged: File,
    /// How often `acknowledged` was written.
    turn: u64,
    /// Bytes kept for the entry that says that the disk is full.
    reserve: u64,
    /// Held as long as it is open.
    _lock: File,
}

impl Files {
    /// Opens the log in `directory`, which is made if it is not there, and cuts what a crash has left of it. A log
    /// without a whole entry begins anew, as `options.log`.
    pub(super) fn open(directory: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(OpenError::io("making", directory))?;
        let lock = lock(&directory.join("lock"))?;
        let (path, beside) = (directory.join(ENTRIES), directory.join(ACKNOWLEDGED));
        let known = match fs::read(&beside) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            read => Acknowledged::read(&read.map_err(OpenError::io("reading", &beside))?),
        };
        let exists = path.try_exists().map_err(OpenError::io("looking for", &path))?;
        let nothing = Recovered { log: options.log, entries: 0, length: 0, torn: 0 };
        let found = match known {
            None if exists => return Err(OpenError::Unknown(beside)),
            Some(known) if exists => read(&path, known)?,
            Some(known) => contradiction(&path, recover(&[], known))?,
            None => nothing,
        };
        let recovered = if found.entries == 0 { Recovered { torn: found.torn, ..nothing } } else { found };
        if recovered.entries == 0 {
            begin(directory, recovered.log)?;
        }
        let (entries, acknowledged) = (open(&path)?, open(&beside)?);
        settle(&entries, &recovered).map_err(OpenError::io("making durable", &path))?;
        let directory = directory.to_owned();
        let (log, reserve) = (recovered.log, options.reserve);
        let files = Self { directory, log, entries, acknowledged, turn: 0, reserve, _lock: lock };
        Ok((files, recovered))
    }
}

impl Disk for Files {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.entries.write_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.entries.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.entries.set_len(length)
    }

    fn keep_reserve(&mut self) -> io::Result<()> {
        let path = self.directory.join(RESERVE);
        if fs::metadata(&path).is_ok_and(|found| found.len() == self.reserve) {
            return Ok(());
        }
        write_reserve(&path, self.reserve).inspect_err(|_| {
            // Half a reserve would only take the space that is needed.
            let _ = fs::remove_file(&path);
        })
    }

    fn release_reserve(&mut self) -> io::Result<()> {
        fs::remove_file(self.directory.join(RESERVE))?;
        // The space is free once the removal is on the disk.
        File::open(&self.directory)?.sync_all()
    }

    fn acknowledge(&mut self, entries: u64) {
        let (offset, slot) = Acknowledged { log: self.log, entries }.slot(self.turn);
        self.turn += 1;
        // What it says already stays true.
        let _ = self.acknowledged.write_at(&slot, offset);
    }

    fn close(&mut self) {
        let _ = self.acknowledged.sync_data();
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock = open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::io("locking", path)(error)),
    }
}

/// Opened for writing, made if it is not there, for its owner alone.
fn open(path: &Path) -> Result<File, OpenError> {
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(OpenError::io("opening", path))
}

fn contradiction<T>(path: &Path, found: Result<T, Contradiction>) -> Result<T, OpenError> {
    found.map_err(|source| OpenError::Contradiction { path: path.to_owned(), source })
}

/// What the entries at `path` are worth.
fn read(path: &Path, known: Acknowledged) -> Result<Recovered, OpenError> {
    let mut file = File::open(path).map_err(OpenError::io("opening", path))?;
    let mut recovery = Recovery::new(known);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return contradiction(path, recovery.finish()),
            Ok(read) => contradiction(path, recovery.push(piece.get(..read).unwrap_or_default()))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(OpenError::io("reading", path)(error)),
        }
    }
}

/// Makes an empty log. What says that nothing of it is acknowledged is durable before there is an entry.
fn begin(directory: &Path, log: LogId) -> Result<(), OpenError> {
    let path = directory.join(ACKNOWLEDGED);
    let beside = open(&path)?;
    let word = Acknowledged { log, entries: 0 }.file();
    let made = beside.set_len(word.len() as u64).and_then(|()| beside.write_all_at(&word, 0));
    made.and_then(|()| beside.sync_all()).map_err(OpenError::io("writing", &path))?;
    sync_directory(directory)?;
    open(&directory.join(ENTRIES))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), OpenError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(OpenError::io("making durable", directory))
}

/// Cuts what is torn. The last commit is written again: if its `fdatasync` failed, the process before this one stopped
/// for it, but the kernel holds pages of it that it believes are on the disk.
fn settle(entries: &File, recovered: &Recovered) -> io::Result<()> {
    entries.set_len(recovered.length)?;
    let start = recovered.length.saturating_sub(MAX_COMMIT as u64);
    let mut last = vec![0; usize::try_from(recovered.length - start).unwrap_or_default()];
    entries.read_exact_at(&mut last, start)?;
    entries.write_all_at(&last, start)?;
    entries.sync_all()
}

/// Bytes that no filesystem stores in less space than they have.
fn write_reserve(path: &Path, size: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut written = 0;
    while written < size {
        let piece: Vec<u8> = (0..PIECE / 8).flat_map(|_| step(&mut state).to_be_bytes()).collect();
        let rest = usize::try_from(size - written).unwrap_or(PIECE).min(PIECE);
        file.write_all_at(piece.get(..rest).unwrap_or_default(), written)?;
        written += rest as u64;
    }
    file.sync_all()
}

/// Marsaglia's xorshift: enough not to be compressed.
fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
