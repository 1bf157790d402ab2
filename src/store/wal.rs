//! The log as those see it who have something to record.

use super::{
    OpenError,
    files::{ENTRIES, Files},
    writer::{Disk, Failure, Tape, Writer, is_full},
};
use crate::audit::{Commit, Entry, LogId, MAX_COMMIT, Recovered, TooLong, framed_length};
use k8s_openapi::jiff::Timestamp;
use std::{
    mem,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};
use tokio::sync::{Semaphore, watch};

/// Why a log has stopped that did not say why.
pub(super) const ENDED: &str = "its writer has ended";

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The id of the log if one begins: random.
    pub log: LogId,
    /// Bytes kept for the entry that says that the disk is full.
    pub reserve: u64,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl Options {
    /// What is kept by default: more than filesystems keep to themselves.
    pub const RESERVE: u64 = 16 * 1024 * 1024;
}

/// Why an entry is not on record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log does not go on in this process.
    #[error(
        "the log has stopped: {0}. Nothing is permitted until the disk is seen to and the process started again"
    )]
    Stopped(Arc<str>),
    /// The entry is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// A log open for writing. Dropped, it writes what was handed over, and closes, which takes as long as the disk takes.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Wal {
    /// Opens the log in `directory`, which may not exist yet, and says what was found there: no entries, and a log
    /// begins. A log whose disk is full opens, and has stopped. Blocks.
    ///
    /// # Errors
    /// When the log contradicts itself, another process writes it, or the disk fails.
    pub fn open(directory: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        let (files, recovered) = Files::open(directory, options)?;
        match files.keep_reserve(options.reserve) {
            Err(OpenError::Io { source, path, .. }) if is_full(&source) => {
                let shared = Arc::new(Shared::new(recovered.log, recovered.entries));
                shared.stop(&format!("there is no space for {}: {source}", path.display()));
                return Ok((Self { shared, writer: None }, recovered));
            }
            kept => kept?,
        }
        let failed = |Failure { step, error }| OpenError::io(step, &directory.join(ENTRIES))(error);
        Ok((Self::start(files, &recovered, options.now).map_err(failed)?, recovered))
    }

    /// Goes on with a log that has been found on `disk`.
    pub(super) fn start(disk: impl Disk, found: &Recovered, now: fn() -> Timestamp) -> Result<Self, Failure> {
        let mut tape = Tape::new(disk, found.length);
        if found.entries == 0 {
            tape.write_entry(found.log, 0, &Entry::opened(found.log, now()))?;
        }
        let shared = Arc::new(Shared::new(found.log, found.entries.max(1)));
        let writer = Writer { tape, shared: Arc::clone(&shared), now };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(|| writer.run());
        Ok(Self { shared, writer: Some(thread.map_err(Failure::of("starting the writer of"))?) })
    }

    /// Puts `entry` on record; returns its index once it is durable. Waits while there is more to write than the disk
    /// takes. Whoever stops waiting leaves open whether it will be on record.
    ///
    /// # Errors
    /// When it is not on record, and will not be.
    pub async fn append(&self, entry: &[u8]) -> Result<u64, AppendError> {
        let length = framed_length(entry.len())?;
        let Ok(room) = self.shared.room.acquire_many(length).await else { return Err(self.shared.stopped()) };
        room.forget();
        let (index, mut done) = self.shared.hand_over(entry)?;
        match done.wait_for(|done| *done).await {
            Ok(_) => Ok(index),
            Err(_) => Err(self.shared.stopped()),
        }
    }

    /// Puts `entry` on record some time, if the log goes on and has room: half of it is kept for those who wait. What
    /// is dropped is counted.
    pub fn append_unacked(&self, entry: &[u8]) {
        if !self.shared.try_hand_over(entry) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many entries [`Self::append_unacked`] has dropped.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether anything can be put on record, for readiness. What is not, is never again.
    pub fn writable(&self) -> watch::Receiver<bool> {
        self.shared.writable.subscribe()
    }

    /// The log's id.
    pub fn log(&self) -> LogId {
        self.shared.log
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // It has said to everybody that it is gone, also if it panicked.
            let _ = writer.join();
        }
    }
}

/// What those who hand over and the one who writes have in common.
#[derive(Debug)]
pub(super) struct Shared {
    log: LogId,
    queue: Mutex<Queue>,
    /// There is something to write, or will never be again.
    ready: Condvar,
    /// Bytes that may still be handed over before the writer takes them: the length of a commit. Closed when the log
    /// has stopped.
    room: Semaphore,
    writable: watch::Sender<bool>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    commit: Commit,
    /// Becomes true when the commit is durable; is gone when it never will be.
    done: watch::Sender<bool>,
    /// Whether the writer waits. Waking it costs a system call.
    is_idle: bool,
    is_closed: bool,
    stopped: Option<Arc<str>>,
}

impl Shared {
    /// For a log of so many entries.
    pub(super) fn new(log: LogId, entries: u64) -> Self {
        let commit = Commit::new(log, entries);
        let done = watch::Sender::new(false);
        Self {
            log,
            queue: Mutex::new(Queue { commit, done, is_idle: false, is_closed: false, stopped: None }),
            ready: Condvar::new(),
            room: Semaphore::new(MAX_COMMIT),
            writable: watch::Sender::new(true),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn log(&self) -> LogId {
        self.log
    }

    /// Waits for something to write; returns it and whom to tell, or none if there will be nothing more. `spent` is a
    /// commit that is over, for its space.
    pub(super) fn take(&self, spent: Commit) -> Option<(Commit, watch::Sender<bool>)> {
        let mut queue = self.lock();
        while queue.commit.is_empty() {
            if queue.is_closed {
                return None;
            }
            queue.is_idle = true;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.is_idle = false;
        }
        let next = queue.commit.next(spent);
        let commit = mem::replace(&mut queue.commit, next);
        let done = mem::replace(&mut queue.done, watch::Sender::new(false));
        drop(queue);
        self.room.add_permits(commit.length());
        Some((commit, done))
    }

    /// The log does not go on, for the first reason given. Nobody who waits waits any longer.
    pub(super) fn stop(&self, why: &str) {
        let mut queue = self.lock();
        queue.stopped.get_or_insert_with(|| why.into());
        // Those who wait hold receivers: with its sender gone they know.
        queue.done = watch::Sender::new(false);
        drop(queue);
        self.room.close();
        self.writable.send_replace(false);
    }

    /// Nothing more will be handed over.
    fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_one();
    }

    /// Why it stopped.
    fn stopped(&self) -> AppendError {
        AppendError::Stopped(self.lock().stopped.clone().unwrap_or_else(|| ENDED.into()))
    }

    /// Hands over an entry for which there is room; returns its index and what becomes true when it is durable.
    fn hand_over(&self, entry: &[u8]) -> Result<(u64, watch::Receiver<bool>), AppendError> {
        let mut queue = self.lock();
        if let Some(why) = &queue.stopped {
            return Err(AppendError::Stopped(Arc::clone(why)));
        }
        let index = queue.commit.push(entry)?;
        let done = queue.done.subscribe();
        let wake = mem::take(&mut queue.is_idle);
        drop(queue);
        if wake {
            self.ready.notify_one();
        }
        Ok((index, done))
    }

    fn try_hand_over(&self, entry: &[u8]) -> bool {
        let Ok(length) = framed_length(entry.len()) else { return false };
        if self.room.available_permits() < MAX_COMMIT / 2 + length as usize {
            return false;
        }
        let Ok(room) = self.room.try_acquire_many(length) else { return false };
        room.forget();
        self.hand_over(entry).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
