//! The record alone: many append, and each waits until its entry is durable; beside it the same bytes in as many writes on
//! the bare disk.

use super::{place, serve};
use deputy::{
    audit::{Frame, LogId, framed_length},
    runtime::clock,
    store::{Options, Wal},
};
use serde::{Deserialize, Serialize};
use std::{fs, fs::File, os::unix::fs::FileExt as _, path::Path, process, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// As long as the record of an exchange.
pub(super) const ENTRY: usize = 900;
/// Who appends, and how many entries they append together.
const APPENDERS: [(usize, usize); 4] = [(1, 2_000), (32, 60_000), (256, 200_000), (4096, 300_000)];
/// How often.
const ROUNDS: usize = 3;

/// How it went once.
#[derive(Serialize, Deserialize)]
pub(super) struct Appended {
    /// How many appended at the same time.
    pub appenders: usize,
    /// Entries in a second.
    pub rate: f64,
    /// Half of them were durable after so many microseconds.
    pub p50: u128,
    /// All but one in a hundred.
    pub p99: u128,
    /// Entries that one sync made durable.
    pub shared: f64,
    /// Entries in a second if nothing is done but to write and sync the same.
    pub floor: f64,
    /// Microseconds of the core for one.
    pub cost: f64,
}

/// How long the disk takes for one write of this many bytes and one sync.
#[derive(Serialize, Deserialize)]
pub(super) struct Synced {
    /// Bytes.
    pub bytes: usize,
    /// Syncs in a second.
    pub rate: f64,
    /// Half of them took so many microseconds.
    pub p50: u128,
    /// All but one in a hundred.
    pub p99: u128,
}

/// All of it.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// The log.
    pub appended: Vec<Appended>,
    /// The disk.
    pub synced: Vec<Synced>,
}

/// Has it measured on the server's core.
pub(super) fn measured() -> Record {
    let output = place::start("append", place::SERVER).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Measures, and prints it for [`measured`].
pub(super) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let rounds = (0..ROUNDS).flat_map(|_| APPENDERS);
    let appended = rounds.map(|(appenders, all)| runtime.block_on(append(appenders, all))).collect();
    let synced = [512, 4096, 64 << 10, 512 << 10].map(synced).into();
    println!("{}", serde_json::to_string(&Record { appended, synced }).unwrap());
}

async fn append(appenders: usize, all: usize) -> Appended {
    let directory = serve::directory();
    let options = Options {
        log: LogId([1; 8]),
        reserve: 4096,
        retry: Duration::from_secs(1),
        now: clock::now,
        metrics: None,
    };
    let wal = Arc::new(Wal::open(directory.path(), &options).unwrap().0);
    let (before, start) = (place::used(process::id()), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..appenders {
        tasks.spawn(append_each(Arc::clone(&wal), all / appenders));
    }
    let mut waits = tasks.join_all().await.concat();
    let (taken, used) = (start.elapsed(), place::used(process::id()) - before);
    drop(wal);
    waits.sort_unstable();
    let log = fs::read(directory.path().join("entries")).unwrap();
    let commits = commits(&log);
    let (entries, at) = (waits.len(), |percent: usize| waits[waits.len() * percent / 100].as_micros());
    Appended {
        appenders,
        rate: entries as f64 / taken.as_secs_f64(),
        p50: at(50),
        p99: at(99),
        shared: entries as f64 / commits.len() as f64,
        floor: entries as f64 / bare(directory.path(), &commits).as_secs_f64(),
        cost: used.as_secs_f64() * 1e6 / entries as f64,
    }
}

async fn append_each(wal: Arc<Wal>, each: usize) -> Vec<Duration> {
    let mut waits = Vec::with_capacity(each);
    for _ in 0..each {
        let start = Instant::now();
        wal.append(&[b'x'; ENTRY]).await.unwrap();
        waits.push(start.elapsed());
    }
    waits
}

/// The bytes of each commit of a log.
fn commits(mut log: &[u8]) -> Vec<&[u8]> {
    let mut commits = vec![];
    while !log.is_empty() {
        let mut length = 0;
        while let Ok(frame) = Frame::read(&log[length..])
            && (length == 0 || frame.position > 0)
        {
            length += framed_length(frame.entry.len()).unwrap() as usize;
        }
        let (commit, rest) = log.split_at(length);
        commits.push(commit);
        log = rest;
    }
    commits
}

/// How long the same writes take without all else.
fn bare(directory: &Path, commits: &[&[u8]]) -> Duration {
    let file = File::create(directory.join("bare")).unwrap();
    let (start, mut offset) = (Instant::now(), 0);
    for commit in commits {
        file.write_all_at(commit, offset).unwrap();
        file.sync_data().unwrap();
        offset += commit.len() as u64;
    }
    start.elapsed()
}

fn synced(bytes: usize) -> Synced {
    let directory = serve::directory();
    let file = File::create(directory.path().join("bare")).unwrap();
    let (data, mut waits, begin) = (vec![b'x'; bytes], vec![], Instant::now());
    while begin.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        file.write_all_at(&data, (waits.len() * bytes) as u64).unwrap();
        file.sync_data().unwrap();
        waits.push(start.elapsed());
    }
    let rate = waits.len() as f64 / begin.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |percent: usize| waits[waits.len() * percent / 100].as_micros();
    Synced { bytes, rate, p50: at(50), p99: at(99) }
}
