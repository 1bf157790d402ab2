//! The log as those see it who have something to record.

use super::{
    OpenError,
    files::{ENTRIES, Files},
    writer::{Disk, Failure, Tape, Writer},
};
use crate::{
    audit::{Commit, LogId, MAX_COMMIT, Recovered, TooLong, framed_length},
    metrics::RecordMetrics,
};
use k8s_openapi::jiff::Timestamp;
use std::{
    mem,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

/// Why a log has stopped that did not say why.
pub(super) const ENDED: &str = "its writer has ended";

/// A commit of this many bytes is not waited for any longer.
const PLENTY: usize = MAX_COMMIT / 4 * 3;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The id of the log if one begins: random.
    pub log: LogId,
    /// Bytes kept for the entry that says that the disk is full.
    pub reserve: u64,
    /// How long a full disk is left alone before it is tried again.
    pub retry: Duration,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// What is measured, if anything is.
    pub metrics: Option<Arc<RecordMetrics>>,
}

impl Options {
    /// What is kept by default: more than filesystems keep to themselves.
    pub const RESERVE: u64 = 16 * 1024 * 1024;
    /// How long a full disk is left alone by default: each try may write as much as the reserve.
    pub const RETRY: Duration = Duration::from_secs(10);
}

/// Why an entry is not on record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no space.
    #[error("there is no space for the log: {0}. Nothing is permitted until there is")]
    Full(Arc<str>),
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
    /// begins. That it was opened is on record. A log whose disk is full opens, and goes on once there is space. Blocks.
    ///
    /// # Errors
    /// When the log contradicts itself, another process writes it, or the disk fails.
    pub fn open(directory: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        let (files, recovered) = Files::open(directory, options)?;
        let failed = |Failure { step, error }| OpenError::io(step, &directory.join(ENTRIES))(error);
        Ok((Self::start(files, recovered, options).map_err(failed)?, recovered))
    }

    /// Goes on with a log that has been found on `disk`.
    pub(super) fn start(disk: impl Disk, found: Recovered, options: &Options) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::new(found.log, found.entries));
        let tape = Tape::new(disk, found.length);
        let &Options { now, retry, .. } = options;
        let metrics = options.metrics.clone();
        let mut writer = Writer { tape, shared: Arc::clone(&shared), now, retry, metrics, found };
        match writer.open() {
            Err(failure) if failure.is_full() => {
                shared.pause(AppendError::Full(failure.error.to_string().into()));
            }
            opened => opened?,
        }
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
        let (index, mut done) = self.shared.hand_over(entry)?;
        room.forget();
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

    /// How many entries are durable: what may be shown.
    pub fn size(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Whether anything can be put on record, for readiness.
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
    /// How many entries are durable.
    durable: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    commit: Commit,
    /// Becomes true when the commit is durable; is gone when it never will be.
    done: watch::Sender<bool>,
    /// Of how many bytes a commit must be for the writer to be woken, if it waits. Waking it costs a system call.
    wake_from: Option<usize>,
    is_closed: bool,
    /// Why nothing is taken now.
    stopped: Option<AppendError>,
    /// Why what was handed over last and lost was lost.
    lost: Option<AppendError>,
}

impl Shared {
    /// For a log of so many entries.
    pub(super) fn new(log: LogId, entries: u64) -> Self {
        let commit = Commit::new(log, entries);
        let done = watch::Sender::new(false);
        Self {
            log,
            queue: Mutex::new(Queue {
                commit,
                done,
                wake_from: None,
                is_closed: false,
                stopped: None,
                lost: None,
            }),
            ready: Condvar::new(),
            room: Semaphore::new(MAX_COMMIT),
            writable: watch::Sender::new(true),
            dropped: AtomicU64::new(0),
            durable: AtomicU64::new(entries),
        }
    }

    pub(super) fn log(&self) -> LogId {
        self.log
    }

    /// Waits for something to write; returns it and whom to tell, or none if there will be nothing more. What comes before
    /// `gathers` shares the commit, unless there is plenty. `spent` is a commit that is over, for its space.
    pub(super) fn take(
        &self,
        spent: Commit,
        gathers: Option<Instant>,
    ) -> Option<(Commit, watch::Sender<bool>)> {
        let mut queue = self.lock();
        while queue.commit.is_empty() {
            if queue.is_closed {
                return None;
            }
            queue.wake_from = Some(0);
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        while let Some(left) = gathers.map(|end| end.saturating_duration_since(Instant::now()))
            && !left.is_zero()
            && queue.commit.length() < PLENTY
            && !queue.is_closed
        {
            queue.wake_from = Some(PLENTY);
            queue = self.ready.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.wake_from = None;
        let next = queue.commit.next(spent);
        let commit = mem::replace(&mut queue.commit, next);
        let done = mem::replace(&mut queue.done, watch::Sender::new(false));
        drop(queue);
        self.room.add_permits(commit.length());
        Some((commit, done))
    }

    /// So many entries are durable.
    pub(super) fn is_durable(&self, entries: u64) {
        self.durable.store(entries, Ordering::Release);
    }

    /// Whether the log waits for space.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.lock().stopped, Some(AppendError::Full(_)))
    }

    /// Waits for so long; returns whether there will be nothing more to write.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let queue = self.lock();
        let waited = self.ready.wait_timeout_while(queue, time, |queue| !queue.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    /// The log does not go on for now, and what was handed over is lost. Nobody who waits waits any longer.
    pub(super) fn pause(&self, why: AppendError) {
        let mut queue = self.lock();
        queue.lost = Some(queue.stopped.get_or_insert(why).clone());
        // Those who wait hold receivers: with its sender gone they know.
        queue.done = watch::Sender::new(false);
        let lost = mem::replace(&mut queue.commit, Commit::new(self.log, 0));
        drop(queue);
        self.room.add_permits(lost.length());
        self.writable.send_replace(false);
    }

    /// The log goes on, with so many entries, all of them durable.
    pub(super) fn resume(&self, entries: u64) {
        let mut queue = self.lock();
        queue.stopped = None;
        queue.commit = Commit::new(self.log, entries);
        drop(queue);
        self.is_durable(entries);
        self.writable.send_replace(true);
    }

    /// The log does not go on in this process, for the first reason given.
    pub(super) fn stop(&self, why: &str) {
        let mut queue = self.lock();
        if !matches!(queue.stopped, Some(AppendError::Stopped(_))) {
            queue.stopped = Some(AppendError::Stopped(why.into()));
        }
        drop(queue);
        self.room.close();
        self.pause(AppendError::Stopped(why.into()));
    }

    /// Nothing more will be handed over.
    fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_one();
    }

    /// Why it stopped.
    fn stopped(&self) -> AppendError {
        self.lock().lost.clone().unwrap_or_else(|| AppendError::Stopped(ENDED.into()))
    }

    /// Hands over an entry for which there is room; returns its index and what becomes true when it is durable.
    fn hand_over(&self, entry: &[u8]) -> Result<(u64, watch::Receiver<bool>), AppendError> {
        let mut queue = self.lock();
        if let Some(why) = &queue.stopped {
            return Err(why.clone());
        }
        let index = queue.commit.push(entry)?;
        let done = queue.done.subscribe();
        let length = queue.commit.length();
        let wake = queue.wake_from.take_if(|from| length >= *from).is_some();
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
        let handed_over = self.hand_over(entry).is_ok();
        if handed_over {
            room.forget();
        }
        handed_over
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
