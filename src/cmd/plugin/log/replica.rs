//! One replica's record, read page by page over a connection that leads into its pod.

use crate::{
    plugin::record::{Found, Source, Unreadable},
    store,
};
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Bytes of a page, of which a replica fills no more than a quarter.
const PAGE: usize = 8 << 20;
/// How often a place is asked for that takes a replica long to get to.
const TRIES: usize = 1000;
/// Entries that are read rather than halved again to find out where to begin.
const NEAR: u64 = 1000;
/// How much earlier than what came before it an entry may be: a decision is recorded after it was made.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// What is wanted of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// This entry.
    One(u64),
    /// Those between two times.
    Between(Option<Timestamp>, Option<Timestamp>),
}

/// What a replica says of its record.
#[derive(Deserialize)]
struct Log {
    origin: String,
    size: u64,
}

/// What was read, also if something went wrong half-way.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The entries.
    pub(super) found: Vec<Found>,
    /// What could not be read.
    pub(super) unread: Vec<String>,
}

impl Read {
    fn take(&mut self, read: Result<Found, Unreadable>) {
        match read {
            Ok(found) => self.found.push(found),
            Err(unreadable) => self.unread.push(unreadable.to_string()),
        }
    }
}

/// Reads what is wanted of `replica`, which listens at the other end of `stream`; each answer may take so long.
pub(super) async fn read(
    replica: &str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    want: Want,
    patience: Option<Duration>,
) -> Read {
    let mut read = Read::default();
    let asked = async {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let mut replica = Replica { name: replica, sender, patience };
        tokio::select! {
            done = replica.read(want, &mut read) => done,
            // It ends when the other end goes, and what was asked then has no answer.
            ended = connection => Err(ended.map_or_else(|error| error.to_string(), |()| "it hung up".to_owned())),
        }
    };
    if let Err(why) = asked.await {
        read.unread.push(why);
    }
    read
}

/// Reads a copy of a record.
pub(super) fn read_copy(directory: &Path, want: Want) -> Read {
    let mut read = Read::default();
    let name = directory.display().to_string();
    let entries = match store::entries(directory) {
        Ok(entries) => entries,
        Err(error) => {
            read.unread.push(error.to_string());
            return read;
        }
    };
    let mut origin = String::new();
    for entry in entries {
        match entry {
            Ok((index, stored)) => {
                let source = Source { replica: &name, origin: &origin };
                let found = source.stored(index, &stored);
                if let Ok(Found { entry, .. }) = &found
                    && let Some(log) = &entry.log
                {
                    origin.clone_from(log);
                }
                if matches!(want, Want::Between(..)) || matches!(want, Want::One(one) if one == index) {
                    let origin = origin.clone();
                    read.take(found.map(|found| Found { origin, ..found }));
                }
            }
            Err(error) => read.unread.push(error.to_string()),
        }
    }
    read
}

struct Replica<'a> {
    name: &'a str,
    sender: SendRequest<Body>,
    patience: Option<Duration>,
}

impl Replica<'_> {
    async fn read(&mut self, want: Want, read: &mut Read) -> Result<(), String> {
        let log: Log = serde_json::from_slice(&self.get("/log").await?)
            .map_err(|error| format!("what it says is not a record's: {error}"))?;
        let (from, until) = match want {
            Want::One(index) => {
                if index < log.size {
                    read.found.extend(self.page(&log, index, Some(1), &mut read.unread).await?.0);
                }
                return Ok(());
            }
            Want::Between(None, until) => (0, until),
            Want::Between(Some(since), until) => (self.begin(&log, since).await?, until),
        };
        let mut next = from;
        while next < log.size {
            let (page, after) = self.page(&log, next, None, &mut read.unread).await?;
            if after <= next {
                return Err(format!("it does not give entry {next}, though it has {}", log.size));
            }
            let over = |until: Timestamp| page.first().is_some_and(|first| is_before(until, first));
            let is_over = until.is_some_and(over);
            next = after;
            // Of what was appended meanwhile, the next one who asks is told.
            read.found.extend(page.into_iter().filter(|found| found.index < log.size));
            if is_over {
                break;
            }
        }
        Ok(())
    }

    /// An entry before which none is of `since` or later.
    async fn begin(&mut self, log: &Log, since: Timestamp) -> Result<u64, String> {
        let (mut low, mut high) = (0, log.size);
        while high - low > NEAR {
            let middle = low + (high - low) / 2;
            let (found, _) = self.page(log, middle, Some(1), &mut vec![]).await?;
            // Where one cannot be read, nothing is passed over for it.
            if found.first().is_some_and(|found| is_before_by_far(found, since)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Entries from index `from` on, and the index after the last line.
    async fn page(
        &mut self,
        log: &Log,
        from: u64,
        limit: Option<usize>,
        unread: &mut Vec<String>,
    ) -> Result<(Vec<Found>, u64), String> {
        let limit = limit.map_or_else(String::new, |limit| format!("&limit={limit}"));
        let bytes = self.get(&format!("/entries?from={from}{limit}")).await?;
        let text = String::from_utf8(bytes).map_err(|_| "what it says is no text".to_owned())?;
        let source = Source { replica: self.name, origin: &log.origin };
        let (mut page, mut after) = (vec![], from);
        for line in text.lines() {
            match source.line(line) {
                Ok(found) if found.index == after => page.push(found),
                Ok(found) => return Err(format!("it gives entry {} for entry {after}", found.index)),
                Err(unreadable @ Unreadable::Entry(index, _)) if index == after => {
                    unread.push(unreadable.to_string());
                }
                Err(unreadable) => return Err(unreadable.to_string()),
            }
            after += 1;
        }
        Ok((page, after))
    }

    async fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        for _ in 0..TRIES {
            let answered = match self.patience {
                None => self.ask(path).await,
                Some(patience) => timeout(patience, self.ask(path))
                    .await
                    .map_err(|_| format!("no answer within {patience:?}; give a longer --request-timeout"))?,
            };
            match answered? {
                (StatusCode::OK, body) => return Ok(body),
                (StatusCode::SERVICE_UNAVAILABLE, _) => {}
                (status, body) => {
                    return Err(format!("it answers {status}: {}", String::from_utf8_lossy(&body)));
                }
            }
        }
        Err("it is busy".to_owned())
    }

    async fn ask(&mut self, path: &str) -> Result<(StatusCode, Vec<u8>), String> {
        let request = Request::get(path).header(header::HOST, "record").body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body =
            to_bytes(Body::new(response.into_body()), PAGE).await.map_err(|error| error.to_string())?;
        Ok((status, body.to_vec()))
    }
}

/// Whether nothing that comes after `first` can be of `until` or earlier.
fn is_before(until: Timestamp, first: &Found) -> bool {
    first.time().duration_since(until) > SLACK
}

/// Whether nothing that comes before `found` can be of `since` or later.
fn is_before_by_far(found: &Found, since: Timestamp) -> bool {
    since.duration_since(found.time()) > SLACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Entry, Kind, LogId},
        broker::reading::reading,
        store::{Options, Wal},
    };
    use axum::{Router, http::Uri, routing::get};
    use hyper::server::conn::http1::Builder;
    use hyper_util::service::TowerToHyperService;
    use std::sync::{Arc, Mutex};

    /// What is read of a replica that answers as `router` does.
    async fn read_from(router: Router, want: Want) -> Read {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let served = Builder::new().serve_connection(TokioIo::new(theirs), TowerToHyperService::new(router));
        let reading = read("b-0", ours, want, Some(Duration::from_secs(10)));
        tokio::select! {
            read = reading => read,
            ended = async { _ = served.await; std::future::pending::<Read>().await } => ended,
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_795_500_000 + 60 * minute).unwrap()
    }

    /// A record of 5000 entries beside the first, one a minute.
    async fn record(directory: &Path) -> Arc<Wal> {
        let options =
            Options { log: LogId([1; 8]), reserve: 16, retry: Options::RETRY, now: || at(0), metrics: None };
        let (wal, _) = Wal::open(directory, &options).unwrap();
        for minute in 1..=5000 {
            let entry = Entry::new(Kind::TokenExchange, at(minute)).to_bytes().unwrap();
            if minute % 500 == 0 {
                wal.append(&entry).await.unwrap();
            } else {
                wal.append_unacked(&entry);
            }
        }
        assert_eq!((wal.size(), wal.dropped()), (5001, 0));
        Arc::new(wal)
    }

    fn shown(directory: &Path, wal: &Arc<Wal>) -> Router {
        let of = Arc::clone(wal);
        reading(directory, wal.log().to_string(), move || of.size())
    }

    #[tokio::test]
    async fn a_record_is_read_whole_or_as_much_of_it_as_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let wal = record(directory.path()).await;
        let router = shown(directory.path(), &wal);
        let Read { found, unread } = read_from(router.clone(), Want::Between(None, None)).await;
        assert_eq!((found.len(), unread), (5001, vec![]));
        assert!(
            found
                .iter()
                .zip(0..)
                .all(|(found, index)| found.index == index && found.origin == "0101010101010101")
        );
        let Read { found, unread } = read_from(router.clone(), Want::One(17)).await;
        assert_eq!((found.len(), found[0].index, found[0].time(), unread), (1, 17, at(17), vec![]));
        assert!(read_from(router.clone(), Want::One(5001)).await.found.is_empty());
        for since in [0, 1, 1999, 4321, 5000, 9000] {
            let Read { found, unread } =
                read_from(router.clone(), Want::Between(Some(at(since)), None)).await;
            let kept = found.iter().filter(|found| found.time() >= at(since)).count();
            assert_eq!((kept as i64, unread), ((5001 - since).max(0), vec![]), "{since}");
            assert!(
                found.len() as i64 <= 5001 - since + 2 * NEAR as i64 || since > 5000,
                "{since}: {}",
                found.len()
            );
        }
        let until = read_from(router, Want::Between(None, Some(at(10)))).await.found;
        assert!((11..3000).contains(&until.len()), "{}", until.len());
    }

    #[tokio::test]
    async fn a_copy_is_read_as_the_replica_is() {
        let directory = tempfile::tempdir().unwrap();
        drop(record(directory.path()).await);
        let Read { found, unread } = read_copy(directory.path(), Want::Between(None, None));
        assert_eq!((found.len(), unread), (5001, vec![]));
        assert!(found.iter().all(|found| found.origin == "0101010101010101"));
        assert_eq!(read_copy(directory.path(), Want::One(17)).found[0].time(), at(17));
        std::fs::write(directory.path().join("entries"), [7; 200]).unwrap();
        let Read { found, unread } = read_copy(directory.path(), Want::Between(None, None));
        assert!(found.is_empty() && unread[0].contains("is not entry 0"), "{unread:?}");
        assert!(!read_copy(Path::new("/nowhere"), Want::One(0)).unread.is_empty());
    }

    /// What is wrong is told, and what was read before is kept.
    #[tokio::test]
    async fn a_replica_that_does_not_say_what_it_has_is_told_of() {
        let entry = |index: u64| {
            let entry = Entry::new(Kind::TokenExchange, at(0)).to_bytes().unwrap();
            format!("{{\"index\":{index},\"entry\":{}}}\n", String::from_utf8(entry).unwrap())
        };
        let later = entry(1).replace("token.exchange", "token.later");
        let cases = [
            ("none", vec![(200, String::new())], 0, "it does not give entry 0, though it has 3"),
            ("another", vec![(200, entry(0)), (200, entry(2))], 1, "it gives entry 2 for entry 1"),
            (
                "an error",
                vec![(200, entry(0)), (500, "torn".to_owned())],
                1,
                "500 Internal Server Error: torn",
            ),
            ("no entry", vec![(200, entry(0)), (200, "<html>\n".to_owned())], 1, "not a record's"),
            (
                "of a later form",
                vec![(200, entry(0) + &later), (200, entry(2))],
                2,
                "entry 1 cannot be read by this",
            ),
        ];
        for (what, answers, kept, why) in cases {
            let answers = Arc::new(Mutex::new(answers.into_iter()));
            let answer = move |_: Uri| async move {
                let (status, body) = answers.lock().unwrap().next().unwrap();
                (StatusCode::from_u16(status).unwrap(), body)
            };
            let router = Router::new()
                .route("/log", get(|| async { r#"{"origin":"o","size":3}"# }))
                .route("/entries", get(answer));
            let Read { found, unread } = read_from(router, Want::Between(None, None)).await;
            assert_eq!(found.len(), kept, "{what}");
            assert!(unread.len() == 1 && unread[0].contains(why), "{what}: {unread:?}");
        }
        let Read { unread, .. } = read_from(Router::new(), Want::One(0)).await;
        assert!(unread[0].contains("it answers 404 Not Found"), "{unread:?}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_and_a_replica_that_is_silent_are_told_of() {
        let (ours, theirs) = tokio::io::duplex(1024);
        drop(theirs);
        let read_of = read("b-0", ours, Want::One(0), None).await;
        assert!(!read_of.unread.is_empty());
        let (ours, _theirs) = tokio::io::duplex(1024);
        let silent = read("b-0", ours, Want::One(0), Some(Duration::from_millis(20))).await;
        assert!(silent.unread[0].contains("no answer within 20ms"), "{:?}", silent.unread);
    }

    /// A place that takes long to get to is asked for until it is there.
    #[tokio::test]
    async fn a_replica_that_is_busy_is_asked_again() {
        let turn = Arc::new(Mutex::new(0));
        let answer = move || async move {
            let mut turn = turn.lock().unwrap();
            *turn += 1;
            if *turn < 4 {
                (StatusCode::SERVICE_UNAVAILABLE, "")
            } else {
                (StatusCode::OK, r#"{"origin":"o","size":0}"#)
            }
        };
        let router = Router::new().route("/log", get(answer));
        assert_eq!(read_from(router, Want::One(0)).await.unread, Vec::<String>::new());
    }
}
