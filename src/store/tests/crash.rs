//! A process that is killed while it writes. What it had acknowledged is in the log, whatever the moment.

use super::{open, options, read};
use crate::store::Wal;
use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// Makes [`child`] the process that is killed: the directory of its log.
const DIRECTORY: &str = "DEPUTY_TEST_KILLED_LOG";
/// How it says that an entry is.
const ACKNOWLEDGED: &str = "acknowledged ";
const ROUNDS: u64 = 8;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let told = kill_one(directory.path(), Duration::from_millis(3 + 17 * round));
        let (wal, found) = open(directory.path());
        drop(wal);
        let entries = read(directory.path());
        assert_eq!(entries.len() as u64, found.entries + 1, "that it was opened is on record");
        acknowledged += told.len();
        for (index, entry) in told {
            let found = entries.get(index).map(|entry| String::from_utf8_lossy(entry));
            assert_eq!(found.as_deref(), Some(entry.as_str()), "entry {index}");
        }
    }
    assert!(acknowledged > 1000, "only {acknowledged} acknowledged: it tested nothing");
}

/// Lets a child write until `after` its first word; returns what it said was acknowledged.
fn kill_one(directory: &Path, after: Duration) -> Vec<(usize, String)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::child", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut told = vec![];
    let (mut line, mut first) = (String::new(), None);
    while said.read_line(&mut line).unwrap() > 0 {
        // The last line may be cut as well.
        if let Some((index, entry)) = acknowledged(&line) {
            told.push((index.parse().unwrap(), entry.to_owned()));
            if first.get_or_insert_with(Instant::now).elapsed() > after {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    assert!(!child.wait().unwrap().success());
    told
}

fn acknowledged(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix(ACKNOWLEDGED)?.strip_suffix('\n')?.split_once(' ')
}

/// Does nothing unless [`kill_one`] calls it; then writes, and says so, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let (wal, _) = Wal::open(Path::new(&directory), &options()).unwrap();
    let wal = Arc::new(wal);
    let mut tasks: JoinSet<_> = (0..64).map(|task| write(Arc::clone(&wal), task)).collect();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn write(wal: Arc<Wal>, task: usize) {
    for number in 0_usize.. {
        let entry = format!("{task}-{number}-{}", "x".repeat(number % 700));
        let index = wal.append(entry.as_bytes()).await.unwrap();
        println!("{ACKNOWLEDGED}{index} {entry}");
    }
}
