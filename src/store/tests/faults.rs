//! Disks that fail.

#![expect(clippy::unwrap_in_result, reason = "a disk for tests says what it expects by panicking")]

use super::{LOG, kind, options};
use crate::{
    audit::{Acknowledged, Frame, Kind, MAX_COMMIT, Recovered, framed_length, recover},
    store::{AppendError, Wal, writer::Disk},
};
use futures::future::join_all;
use std::{
    io::{self, ErrorKind},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};
use tokio::time::timeout;

/// A disk in memory that fails as it is told to.
#[derive(Clone, Default)]
struct Memory(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    acknowledged: u64,
    /// Bytes it has room for.
    capacity: Option<usize>,
    /// Bytes that are kept, and that releasing them adds.
    reserve: usize,
    is_released: bool,
    /// How often it was tried to keep them again.
    kept: usize,
    /// Most bytes that one call writes.
    piece: Option<usize>,
    interrupts: usize,
    write_fails: Option<ErrorKind>,
    sync_fails: Option<ErrorKind>,
    sync_panics: bool,
    /// Whether `sync` waits.
    is_held: bool,
    syncs: usize,
}

impl Memory {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Lets `sync` wait until it is released.
    fn hold(&self) -> Held<'_> {
        self.set(|state| state.is_held = true);
        Held(self)
    }

    fn start(&self) -> Wal {
        Wal::start(self.clone(), recovered(), &options()).unwrap()
    }

    /// The entries beside the first.
    fn entries(&self) -> Vec<Vec<u8>> {
        let state = self.0.0.lock().unwrap();
        let known = Acknowledged { log: LOG, entries: state.acknowledged };
        let found = recover(&state.bytes, known).unwrap();
        assert_eq!(found.torn, 0);
        let mut rest = &state.bytes[..];
        let mut entries = vec![];
        while let Ok(frame) = Frame::read(rest) {
            entries.push(frame.entry.to_vec());
            rest = &rest[framed_length(frame.entry.len()).unwrap() as usize..];
        }
        entries.split_off(1)
    }
}

/// A disk that is busy. Released however the test ends: closing a log waits for its disk.
struct Held<'a>(&'a Memory);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set(|state| state.is_held = false);
    }
}

fn recovered() -> Recovered {
    Recovered { log: LOG, entries: 0, length: 0, torn: 0 }
}

impl Disk for Memory {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        if let Some(left) = state.interrupts.checked_sub(1) {
            state.interrupts = left;
            return Err(ErrorKind::Interrupted.into());
        }
        if let Some(kind) = state.write_fails {
            return Err(kind.into());
        }
        let offset = usize::try_from(offset).unwrap();
        let room = state.capacity.map_or(bytes.len(), |capacity| capacity.saturating_sub(offset));
        let written = bytes.len().min(room).min(state.piece.unwrap_or(bytes.len()));
        if written == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        let end = offset + written;
        let length = end.max(state.bytes.len());
        state.bytes.resize(length, 0);
        state.bytes[offset..end].copy_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = self.0.0.lock().unwrap();
        let mut state = self.0.1.wait_while(state, |state| state.is_held).unwrap();
        assert!(!state.sync_panics, "as it was told to");
        state.syncs += 1;
        state.sync_fails.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.0.lock().unwrap().bytes.truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn keep_reserve(&mut self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.kept += 1;
        if let Some(kind) = state.write_fails {
            return Err(kind.into());
        }
        if !state.is_released {
            return Ok(());
        }
        if state.capacity.is_some_and(|capacity| capacity < state.bytes.len() + state.reserve) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.capacity = state.capacity.map(|capacity| capacity - state.reserve);
        state.is_released = false;
        Ok(())
    }

    fn release_reserve(&mut self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.capacity = state.capacity.map(|capacity| capacity + state.reserve);
        state.is_released = true;
        state.sync_fails = None;
        Ok(())
    }

    fn acknowledge(&mut self, entries: u64) {
        self.0.0.lock().unwrap().acknowledged = entries;
    }

    fn close(&mut self) {}
}

fn is_stopped<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Stopped(_)))
}

/// Everything about a log that has stopped.
async fn assert_stopped(wal: &Wal) {
    wal.writable().wait_for(|writable| !writable).await.unwrap();
    let second = timeout(Duration::from_secs(5), wal.append(b"later")).await.unwrap();
    assert!(is_stopped(&second), "{second:?}");
    let dropped = wal.dropped();
    wal.append_unacked(b"a denial");
    assert_eq!(wal.dropped(), dropped + 1);
}

#[tokio::test]
async fn a_write_that_is_interrupted_or_short_is_finished() {
    let disk = Memory::default();
    disk.set(|state| (state.piece, state.interrupts) = (Some(5), 3));
    let wal = disk.start();
    assert_eq!(wal.append(b"a longer entry").await, Ok(1));
    assert_eq!(disk.entries(), [b"a longer entry"]);
}

fn is_full<T>(result: &Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Full(_)))
}

/// Fills a disk; the entry that finds it full is lost.
async fn filled(disk: &Memory) -> Wal {
    let wal = disk.start();
    wal.append(b"before").await.unwrap();
    disk.set(|state| (state.capacity, state.reserve) = (Some(state.bytes.len() + 50), 4096));
    let lost = join_all((0..3).map(|_| wal.append(&[b'x'; 40]))).await;
    assert!(lost.iter().all(is_full), "{lost:?}");
    wal
}

/// Waits until it has been tried so often whether there is space.
async fn tried(disk: &Memory, times: usize) {
    let begun = disk.0.0.lock().unwrap().kept;
    let tries = async {
        while disk.0.0.lock().unwrap().kept < begun + times {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), tries).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_recorded_and_nothing_else_while_it_is_full() {
    let disk = Memory::default();
    let wal = filled(&disk).await;
    tried(&disk, 3).await;
    assert!(!*wal.writable().borrow(), "it is full still");
    assert!(is_full(&wal.append(b"later").await));
    let dropped = wal.dropped();
    wal.append_unacked(b"a denial");
    assert_eq!((wal.dropped(), wal.size()), (dropped + 1, 3));
    let entries = disk.entries();
    assert_eq!((entries.len(), &entries[0][..], kind(&entries[1])), (2, &b"before"[..], Kind::LogFull));
}

#[tokio::test]
async fn a_log_goes_on_once_there_is_space_again() {
    let disk = Memory::default();
    let wal = filled(&disk).await;
    // As much as the log needs, and not the reserve: the next time it could not say that it is full.
    disk.set(|state| state.capacity = Some(state.bytes.len() + 4000));
    tried(&disk, 3).await;
    assert!(!*wal.writable().borrow());
    disk.set(|state| state.capacity = None);
    let mut writable = wal.writable();
    timeout(Duration::from_secs(10), writable.wait_for(|writable| *writable)).await.unwrap().unwrap();
    assert_eq!(wal.append(b"after").await, Ok(4), "no index is left out");
    let entries = disk.entries();
    let kinds: Vec<_> = entries[1..3].iter().map(|entry| kind(entry)).collect();
    assert_eq!((kinds, &entries[3][..]), (vec![Kind::LogFull, Kind::LogResumed], &b"after"[..]));
}

#[tokio::test]
async fn what_was_lost_on_a_full_disk_takes_no_room_afterwards() {
    let disk = Memory::default();
    let wal = disk.start();
    let denials = || {
        let before = wal.dropped();
        (0..40).for_each(|_| wal.append_unacked(&[0; 16_000]));
        40 - (wal.dropped() - before)
    };
    let length = || disk.0.0.lock().unwrap().bytes.len();
    for round in 0..3 {
        let (held, before) = (disk.hold(), length());
        wal.append_unacked(b"keeps the writer busy");
        let busy = async {
            while length() == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), busy).await.unwrap();
        let taken = denials();
        assert!(taken >= MAX_COMMIT as u64 / 2 / 16_100, "round {round}: {taken} taken");
        disk.set(|state| state.sync_fails = Some(ErrorKind::StorageFull));
        let mut writable = wal.writable();
        writable.mark_unchanged();
        drop(held);
        timeout(Duration::from_secs(10), writable.changed()).await.unwrap().unwrap();
        timeout(Duration::from_secs(10), writable.wait_for(|writable| *writable)).await.unwrap().unwrap();
    }
    let kinds: Vec<_> = disk.entries().iter().map(|entry| kind(entry)).collect();
    assert_eq!(kinds, [Kind::LogFull, Kind::LogResumed].repeat(3));
}

#[tokio::test]
async fn a_disk_that_breaks_while_it_is_full_is_not_gone_on_with() {
    let disk = Memory::default();
    let wal = filled(&disk).await;
    disk.set(|state| (state.capacity, state.write_fails) = (None, Some(ErrorKind::Other)));
    let stopped = async {
        while !is_stopped(&wal.append(b"later").await) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), stopped).await.unwrap();
    disk.set(|state| state.write_fails = None);
    assert_stopped(&wal).await;
}

#[tokio::test]
async fn a_log_whose_disk_is_full_from_the_start_begins_once_there_is_space() {
    let disk = Memory::default();
    disk.set(|state| state.capacity = Some(10));
    let wal = disk.start();
    assert!(!*wal.writable().borrow() && is_full(&wal.append(b"early").await));
    assert_eq!(wal.size(), 0);
    disk.set(|state| state.capacity = None);
    wal.writable().wait_for(|writable| *writable).await.unwrap();
    assert_eq!(wal.append(b"first").await, Ok(1));
    assert_eq!(disk.entries(), [b"first"]);
}

#[tokio::test]
async fn a_disk_that_says_so_late_is_as_full() {
    let disk = Memory::default();
    let wal = disk.start();
    disk.set(|state| state.sync_fails = Some(ErrorKind::QuotaExceeded));
    assert!(is_full(&wal.append(b"lost").await));
    wal.writable().wait_for(|writable| *writable).await.unwrap();
    assert_eq!(wal.append(b"after").await, Ok(3));
    let entries = disk.entries();
    let kinds: Vec<_> = entries[..2].iter().map(|entry| kind(entry)).collect();
    assert_eq!((kinds, &entries[2][..]), (vec![Kind::LogFull, Kind::LogResumed], &b"after"[..]));
}

#[tokio::test]
async fn a_failed_sync_is_not_tried_again() {
    for write_fails in [false, true] {
        let disk = Memory::default();
        let wal = disk.start();
        wal.append(b"before").await.unwrap();
        let broken = Some(ErrorKind::Other);
        disk.set(|state| if write_fails { state.write_fails = broken } else { state.sync_fails = broken });
        let both = join_all([wal.append(b"lost"), wal.append(b"lost as well")]).await;
        assert!(both.iter().all(is_stopped), "{both:?}");
        disk.set(|state| (state.write_fails, state.sync_fails) = (None, None));
        assert_stopped(&wal).await;
        assert_eq!(disk.entries(), [b"before"], "nobody finds what was said to be lost");
        drop(wal);
        assert_eq!(disk.0.0.lock().unwrap().syncs, if write_fails { 2 } else { 3 });
    }
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let disk = Memory::default();
    let wal = disk.start();
    disk.set(|state| state.sync_panics = true);
    assert!(is_stopped(&timeout(Duration::from_secs(5), wal.append(b"a")).await.unwrap()));
    assert_stopped(&wal).await;
}

#[tokio::test]
async fn a_log_that_cannot_begin_is_not_opened() {
    let disk = Memory::default();
    disk.set(|state| state.sync_fails = Some(ErrorKind::Other));
    assert!(Wal::start(disk, recovered(), &options()).is_err());
}

#[tokio::test]
async fn entries_that_come_while_the_disk_is_busy_share_a_sync() {
    let disk = Memory::default();
    let wal = disk.start();
    let held = disk.hold();
    let many = join_all((0..100).map(|_| wal.append(b"together")));
    let release = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held);
    };
    let (indexes, ()) = tokio::join!(many, release);
    assert_eq!(indexes, (1..=100).map(Ok).collect::<Vec<_>>());
    assert!(
        disk.0.0.lock().unwrap().syncs <= 3,
        "one for the first of all, one for who came first, one for the rest"
    );
}

/// This disk is faster than anybody who appends: without the writer's patience each entry would have a sync of its own.
#[tokio::test]
async fn many_who_append_again_and_again_share_syncs_also_on_a_fast_disk() {
    let disk = Memory::default();
    let wal = disk.start();
    let again = async || {
        for _ in 0..50 {
            wal.append(b"again").await.unwrap();
        }
    };
    join_all((0..8).map(|_| again())).await;
    let syncs = disk.0.0.lock().unwrap().syncs;
    assert!(syncs < 150, "{syncs} syncs for {} entries", disk.entries().len());
}

#[tokio::test]
async fn denials_leave_half_of_the_room_to_those_who_wait_and_are_counted() {
    let disk = Memory::default();
    let wal = disk.start();
    let held = disk.hold();
    let first = wal.append(b"keeps the writer busy");
    let rest = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let denial = [0; 16_000];
        for _ in 0..100 {
            wal.append_unacked(&denial);
        }
        let taken = 100 - wal.dropped();
        assert!((25..=MAX_COMMIT as u64 / 2 / 16_000).contains(&taken), "{taken} taken");
        let permits = join_all((0..80).map(|_| wal.append(&denial)));
        let release = async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(held);
        };
        let (permits, ()) = tokio::join!(permits, release);
        assert!(permits.iter().all(Result::is_ok), "those who find no room wait for it");
        taken
    };
    let (first, taken) = tokio::join!(first, rest);
    assert!(first.is_ok());
    assert_eq!(disk.entries().len() as u64, 1 + taken + 80);
}
