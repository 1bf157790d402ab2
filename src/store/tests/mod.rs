mod crash;
mod faults;

use super::*;
use crate::audit::{Acknowledged, Entry, Kind, LogId, Recovered};
use k8s_openapi::jiff::Timestamp;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

const LOG: LogId = LogId(*b"a log id");

fn options() -> Options {
    Options {
        log: LOG,
        reserve: 4096,
        retry: Duration::from_millis(1),
        now: || Timestamp::UNIX_EPOCH,
        metrics: None,
    }
}

fn open(directory: &Path) -> (Wal, Recovered) {
    Wal::open(directory, &options()).unwrap()
}

fn read(directory: &Path) -> Vec<Vec<u8>> {
    let entries: Vec<_> = entries(directory).unwrap().map(Result::unwrap).collect();
    assert!(entries.iter().zip(0..).all(|((index, _), expected)| *index == expected));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn kind(entry: &[u8]) -> Kind {
    serde_json::from_slice::<Entry>(entry).unwrap().kind
}

/// A log of `entries` entries beside the first, closed.
async fn written(directory: &Path, entries: u64) {
    let (wal, _) = open(directory);
    for index in 1..=entries {
        assert_eq!(wal.append(format!("entry {index}").as_bytes()).await, Ok(index));
    }
}

#[tokio::test]
async fn a_log_is_begun_and_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let directory = &directory.path().join("made");
    {
        let (wal, found) = open(directory);
        assert_eq!(found, Recovered { log: LOG, entries: 0, length: 0, torn: 0 });
        assert_eq!((wal.append(b"a").await, wal.append(b"").await), (Ok(1), Ok(2)));
        assert!(*wal.writable().borrow());
        wal.append_unacked(b"b");
    }
    let (wal, found) = Wal::open(directory, &Options { log: LogId([0; 8]), ..options() }).unwrap();
    assert_eq!((found.log, found.entries, found.torn), (LOG, 4, 0), "a log keeps its id");
    assert_eq!((wal.log(), wal.append(b"c").await, wal.dropped(), wal.size()), (LOG, Ok(5), 0, 6));
    let found = read(directory);
    assert_eq!((kind(&found[0]), kind(&found[4])), (Kind::LogOpened, Kind::LogResumed));
    assert_eq!(found[1..4], [b"a".to_vec(), b"".to_vec(), b"b".to_vec()]);
    assert_eq!(found[5], b"c");
    for file in ["entries", "acknowledged", "reserve", "lock"] {
        assert_eq!(fs::metadata(directory.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(directory.join("reserve")).unwrap().len(), 4096);
}

#[tokio::test]
async fn a_log_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open(directory.path());
    let error = Wal::open(directory.path(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    drop(wal);
    open(directory.path());
}

#[tokio::test]
async fn what_a_crash_has_torn_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 3).await;
    let path = directory.path().join("entries");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
    let (wal, found) = open(directory.path());
    assert_eq!((found.entries, found.length, found.torn), (4, whole.len() as u64, 20));
    assert_eq!(wal.append(b"entry 4").await, Ok(5));
    let found = read(directory.path());
    let resumed: Entry = serde_json::from_slice(&found[4]).unwrap();
    let said = (resumed.kind, resumed.size, resumed.torn_bytes, found.len());
    assert_eq!(said, (Kind::LogResumed, Some(4), Some(20), 6), "the record tells what was cut of it");
}

#[tokio::test]
async fn a_log_whose_first_entry_was_never_finished_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("entries");
    drop(open(directory.path()));
    let first = fs::read(&path).unwrap();
    for (entries, acknowledged) in [(Some(&first[..30]), true), (None, true), (None, false)] {
        let known = Acknowledged { log: LogId([7; 8]), entries: 0 };
        fs::write(
            directory.path().join("acknowledged"),
            if acknowledged { known.file().to_vec() } else { vec![] },
        )
        .unwrap();
        match entries {
            Some(entries) => fs::write(&path, entries).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (wal, found) = open(directory.path());
        assert_eq!((found.log, found.entries, found.length), (LOG, 0, 0));
        assert_eq!(wal.append(b"a").await, Ok(1));
        drop(wal);
        assert_eq!(read(directory.path()).len(), 2);
    }
}

#[tokio::test]
async fn a_contradiction_is_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 3).await;
    let (path, beside) = (directory.path().join("entries"), directory.path().join("acknowledged"));
    let (whole, word) = (fs::read(&path).unwrap(), fs::read(&beside).unwrap());
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let cut = whole[..whole.len() - 39].to_vec();
    for (name, bytes) in [("damaged at its very end", damaged), ("cut", cut), ("emptied", vec![])] {
        fs::write(&path, &bytes).unwrap();
        let error = Wal::open(directory.path(), &options()).unwrap_err();
        assert!(matches!(error, OpenError::Contradiction { .. }), "{name}: {error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}: the evidence is left as it is");
    }
    fs::remove_file(&path).unwrap();
    let error = Wal::open(directory.path(), &options()).unwrap_err().to_string();
    assert!(error.contains("it has 0 entries, but 4 were acknowledged"), "{error}");

    fs::write(&path, &whole).unwrap();
    for unknown in [None, Some([0; 1024])] {
        match unknown {
            None => fs::remove_file(&beside).unwrap(),
            Some(bytes) => fs::write(&beside, bytes).unwrap(),
        }
        let error = Wal::open(directory.path(), &options()).unwrap_err();
        assert!(matches!(error, OpenError::Unknown(_)), "{error}");
    }
    fs::write(&beside, word).unwrap();
    assert_eq!(open(directory.path()).1.entries, 4);
}

#[tokio::test]
async fn a_reader_stops_at_what_is_not_the_next_entry() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _) = open(directory.path());
    let mut entries = entries(directory.path()).unwrap();
    assert!(entries.next().is_some() && entries.next().is_none());
    wal.append(&[7; 10_000]).await.unwrap();
    assert_eq!(entries.next().unwrap().unwrap(), (1, vec![7; 10_000]), "it goes on when there is more");
    drop(wal);
    let path = directory.path().join("entries");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
    let error = entries.next().unwrap().unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("what stands at byte {} is not entry 2 of this log", whole.len())),
        "{error}"
    );
    assert!(entries.next().is_none());
}
