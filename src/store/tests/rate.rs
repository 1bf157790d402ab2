//! How fast, beside what the disk gives: the same bytes in as many writes, each made durable, and nothing else.
//! `cargo test --release --lib store::tests::rate -- --nocapture` prints it.

use super::open;
use crate::{
    audit::{Frame, framed_length},
    store::Wal,
};
use std::{fs, fs::File, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// As long as the record of an exchange.
const ENTRY: usize = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_a_sync() {
    let all = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let mut rates = vec![];
    for appenders in [1, 32, 256, 4096] {
        let each = if appenders == 1 { all / 50 } else { all / appenders };
        let directory = tempfile::tempdir().unwrap();
        let (taken, mut waits) = append(directory.path(), appenders, each).await;
        waits.sort_unstable();
        let (entries, at) = (waits.len(), |percent| waits[waits.len() * percent / 100]);
        let log = fs::read(directory.path().join("entries")).unwrap();
        let commits = commits(&log);
        let floor = bare(directory.path(), &commits);
        let rate = entries as f64 / taken.as_secs_f64();
        println!(
            "{appenders:5} appenders: {rate:8.0} entries/s, p50 {:?}, p99 {:?}, {:.1} entries a sync; the bare disk takes \
             {:.2} of the time",
            at(50),
            at(99),
            entries as f64 / commits.len() as f64,
            floor.as_secs_f64() / taken.as_secs_f64(),
        );
        rates.push(rate);
    }
    assert!(rates[2] > 4.0 * rates[0], "256 together are hardly faster than one: {rates:?}");
}

/// Lets so many append so often; returns how long it took, and how long each waited.
async fn append(directory: &Path, appenders: usize, each: usize) -> (Duration, Vec<Duration>) {
    let wal = Arc::new(open(directory).0);
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..appenders {
        tasks.spawn(append_each(Arc::clone(&wal), each));
    }
    let waits = tasks.join_all().await.concat();
    (start.elapsed(), waits)
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
