//! The thread that writes the log.

use super::wal::{AppendError, ENDED, Shared};
use crate::{
    audit::{Commit, Entry, LogId, Recovered},
    metrics::RecordMetrics,
};
use k8s_openapi::jiff::Timestamp;
use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A commit of so many entries shows that many wait at a time.
const MANY: u64 = 4;
/// How long after such a commit has begun the next begins at the earliest: a sync takes much of a core, however few share it.
const SPACING: Duration = Duration::from_millis(1);

/// What the writer asks of the files of a log.
pub(super) trait Disk: Send + 'static {
    /// Writes some of `bytes` at `offset`; returns how many.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes away what comes after `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Sees to it that there is a reserve: space for the entry that says that the disk is full.
    fn keep_reserve(&mut self) -> io::Result<()>;
    /// Gives the reserve's space to whoever writes next.
    fn release_reserve(&mut self) -> io::Result<()>;
    /// Keeps in mind that so many entries are acknowledged, without waiting for the disk.
    fn acknowledge(&mut self, entries: u64);
    /// There is nothing more to come.
    fn close(&mut self);
}

/// What failed, and how.
#[derive(Debug, thiserror::Error)]
#[error("{step} it failed: {error}")]
pub(super) struct Failure {
    pub(super) step: &'static str,
    pub(super) error: io::Error,
}

impl Failure {
    pub(super) fn of(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { step, error }
    }

    /// Whether there is no space left, rather than something broken.
    pub(super) fn is_full(&self) -> bool {
        is_full(&self.error)
    }
}

/// See [`Failure::is_full`].
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A log on its disk, as far as it is durable.
pub(super) struct Tape<D> {
    disk: D,
    length: u64,
}

impl<D: Disk> Tape<D> {
    /// A log of so many bytes.
    pub(super) fn new(disk: D, length: u64) -> Self {
        Self { disk, length }
    }

    /// Makes a commit durable.
    pub(super) fn write(&mut self, commit: &mut Commit) -> Result<(), Failure> {
        let bytes = commit.seal();
        write_all(&mut self.disk, bytes, self.length).map_err(Failure::of("writing"))?;
        self.disk.sync().map_err(Failure::of("making durable"))?;
        self.length += bytes.len() as u64;
        self.disk.acknowledge(commit.end());
        Ok(())
    }

    /// Makes one entry durable, at `index`.
    pub(super) fn write_entry(&mut self, log: LogId, index: u64, entry: &Entry) -> Result<(), Failure> {
        let mut commit = Commit::new(log, index);
        let pushed = entry.to_bytes().and_then(|entry| commit.push(&entry));
        pushed.map_err(io::Error::other).map_err(Failure::of("writing"))?;
        self.write(&mut commit)
    }
}

/// The one writer of a log.
pub(super) struct Writer<D> {
    pub(super) tape: Tape<D>,
    pub(super) shared: Arc<Shared>,
    pub(super) now: fn() -> Timestamp,
    /// How long a full disk is left alone before it is tried again.
    pub(super) retry: Duration,
    /// Where it is told how long the disk takes.
    pub(super) metrics: Option<Arc<RecordMetrics>>,
    /// How many entries the log has, and what was torn of it.
    pub(super) found: Recovered,
}

impl<D: Disk> Writer<D> {
    /// Writes what is handed over until there is nothing more to come or the disk fails. A disk that is only full is
    /// waited for.
    pub(super) fn run(mut self) {
        let mut spent = Commit::new(self.shared.log(), 0);
        let mut is_full = self.shared.is_full();
        let mut gathers = None;
        loop {
            if is_full {
                if self.shared.wait(self.retry) {
                    break;
                }
                match self.open() {
                    Err(failure) if !failure.is_full() => return self.shared.stop(&failure.to_string()),
                    opened => is_full = opened.is_err(),
                }
                continue;
            }
            let Some((mut commit, done)) = self.shared.take(spent, gathers) else { break };
            let began = Instant::now();
            gathers = (commit.end() - commit.first() >= MANY).then(|| began + SPACING);
            match self.tape.write(&mut commit) {
                Ok(()) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.synced(began.elapsed());
                    }
                    self.found.entries = commit.end();
                    self.shared.is_durable(commit.end());
                    done.send_replace(true);
                }
                Err(failure) if self.fail(&failure) => is_full = true,
                Err(_) => return,
            }
            spent = commit;
        }
        self.tape.disk.close();
    }

    /// Puts on record that the log begins, or is gone on with. What was written of it before, and failed, is cut.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        let Self { tape, shared, found, .. } = self;
        tape.disk.keep_reserve().map_err(Failure::of("reserving space for"))?;
        tape.disk.cut(tape.length).map_err(Failure::of("cutting"))?;
        tape.write_entry(found.log, found.entries, &Entry::opened(found, (self.now)()))?;
        *found = Recovered { entries: found.entries + 1, torn: 0, ..*found };
        shared.resume(found.entries);
        Ok(())
    }

    /// A commit is lost. A full disk is recorded, in the space kept for that; returns whether it is no more than full.
    fn fail(&mut self, failure: &Failure) -> bool {
        // Its entries go: those who handed them over hear that they are not recorded. This also drops the pages whose
        // state nobody knows, so that writing there again is no retry. If it fails, recovery cuts them.
        let is_cut = self.tape.disk.cut(self.tape.length).is_ok();
        let is_full = is_cut && failure.is_full();
        if is_full {
            let entry = Entry::full(self.shared.log(), (self.now)());
            // One try: with the disk full there is nobody to tell that this failed as well.
            let _ = self.tape.disk.release_reserve();
            if self.tape.write_entry(self.shared.log(), self.found.entries, &entry).is_ok() {
                self.found.entries += 1;
                self.shared.is_durable(self.found.entries);
            }
            self.shared.pause(AppendError::Full(failure.error.to_string().into()));
        } else {
            self.shared.stop(&failure.to_string());
        }
        is_full
    }
}

impl<D> Drop for Writer<D> {
    /// However it ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.shared.stop(ENDED);
    }
}

fn write_all(disk: &mut impl Disk, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
