//! The record as those read it who may reach this pod's loopback address: in the clear, read-only, entry by entry.
//!
//! | request | answer |
//! |---|---|
//! | `GET /log` | `{"origin": ID, "size": N}`: which log this is, and how many of its entries are durable |
//! | `GET /entries?from=N&limit=M` | the entries from index `N` on, one a line: `{"index":N,"entry":ENTRY}` |
//!
//! `ENTRY` is, byte for byte, what is stored: what a later hash is over. An entry that was given once is given for ever
//! under its index; what is not durable is not given. A page ends after [`PAGE`], or where the log does; whoever wants
//! more asks again from the index after the last. A place that takes long to get to is answered 503 with `Retry-After: 0`,
//! and is nearer the next time. Signed checkpoints and tiles get paths of their own, over the same bytes.
//!
//! Who may read is the API server's to say: the address is reached by `pods/portforward`, and from within the pod.

use crate::store::{Page, Reader};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use std::{fmt::Display, path::Path, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// A page: a quarter of a commit, and no more than is read in a second.
const PAGE: Page = Page { entries: 1000, bytes: 256 << 10, passed: 100_000 };
/// Pages read at once.
const READERS: usize = 2;
/// How long one may take, the wait for its turn included.
const PATIENCE: Duration = Duration::from_secs(10);

/// The record of a broker.
struct Record {
    origin: String,
    size: Box<dyn Fn() -> u64 + Send + Sync>,
    reader: Reader,
    turns: Semaphore,
}

/// What of the log is wanted.
#[derive(Deserialize)]
struct Wanted {
    from: u64,
    limit: Option<usize>,
}

/// The routes `/log` and `/entries` over the log `origin` in `directory`, of which `size` says how much is durable.
pub fn reading(directory: &Path, origin: String, size: impl Fn() -> u64 + Send + Sync + 'static) -> Router {
    let (size, turns) = (Box::new(size), Semaphore::new(READERS));
    let record = Record { origin, size, reader: Reader::new(directory), turns };
    Router::new().route("/log", get(log)).route("/entries", get(entries)).with_state(Arc::new(record))
}

async fn log(State(record): State<Arc<Record>>) -> Json<Value> {
    Json(json!({"origin": record.origin, "size": (record.size)()}))
}

async fn entries(State(record): State<Arc<Record>>, Query(wanted): Query<Wanted>) -> Response {
    match timeout(PATIENCE, record.page(wanted)).await {
        Ok(answer) => answer,
        Err(_) => later(),
    }
}

impl Record {
    async fn page(self: Arc<Self>, Wanted { from, limit }: Wanted) -> Response {
        let Ok(_turn) = self.turns.acquire().await else { return later() };
        let size = (self.size)();
        let page = Page { entries: limit.unwrap_or(PAGE.entries).min(PAGE.entries), ..PAGE };
        let record = Arc::clone(&self);
        let read = spawn_blocking(move || record.reader.page(from, size, page)).await;
        match read {
            Ok(Ok(found)) if found.is_empty() && from < size && page.entries > 0 => later(),
            Ok(Ok(found)) => match lines(&found) {
                Ok(lines) => ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response(),
                Err(error) => broken(&error),
            },
            Ok(Err(error)) => broken(&error),
            Err(error) => broken(&error),
        }
    }
}

/// The entries as they are stored, one a line.
fn lines(entries: &[(u64, Vec<u8>)]) -> Result<Vec<u8>, Unshowable> {
    let mut lines = vec![];
    for (index, entry) in entries {
        let is_json = serde_json::from_slice::<IgnoredAny>(entry).is_ok();
        if !is_json || entry.contains(&b'\n') {
            return Err(Unshowable(*index));
        }
        lines.extend_from_slice(format!("{{\"index\":{index},\"entry\":").as_bytes());
        lines.extend_from_slice(entry);
        lines.extend_from_slice(b"}\n");
    }
    Ok(lines)
}

/// What is stored would not be one line of JSON.
#[derive(Debug, thiserror::Error)]
#[error("entry {0} is not JSON on one line")]
struct Unshowable(u64);

fn later() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "not there yet; ask again\n")
        .into_response()
}

fn broken(error: &dyn Display) -> Response {
    tracing::error!(%error, "the record cannot be read");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Entry, Kind, LogId},
        store::{Options, Wal},
    };
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use k8s_openapi::jiff::Timestamp;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn open(directory: &Path) -> Arc<Wal> {
        let options = Options {
            log: LogId([1; 8]),
            reserve: 16,
            retry: Options::RETRY,
            now: || Timestamp::UNIX_EPOCH,
            metrics: None,
        };
        Arc::new(Wal::open(directory, &options).unwrap().0)
    }

    fn shown(directory: &Path, wal: &Arc<Wal>) -> Router {
        let of = Arc::clone(wal);
        reading(directory, wal.log().to_string(), move || of.size())
    }

    #[tokio::test]
    async fn what_is_durable_is_shown_as_it_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let wal = open(directory.path());
        let router = shown(directory.path(), &wal);
        let entry = Entry::new(Kind::TokenExchange, Timestamp::UNIX_EPOCH).to_bytes().unwrap();
        // White space that a second encoder would not make: it is not encoded a second time.
        let odd = br#"{"v":1, "x":"\u0041"}"#;
        wal.append(&entry).await.unwrap();
        wal.append(odd).await.unwrap();
        let log = json!({"origin": "0101010101010101", "size": 3});
        assert_eq!(ask(&router, "GET", "/log").await, (200, log.to_string()));
        let line = |index, entry: &[u8]| {
            format!("{{\"index\":{index},\"entry\":{}}}\n", String::from_utf8_lossy(entry))
        };
        let expected = line(1, &entry) + &line(2, odd);
        assert_eq!(ask(&router, "GET", "/entries?from=1").await, (200, expected));
        assert_eq!(ask(&router, "GET", "/entries?from=1&limit=1").await, (200, line(1, &entry)));
        assert_eq!(ask(&router, "GET", "/entries?from=3").await, (200, String::new()));
        assert_eq!(ask(&router, "GET", "/entries?from=0&limit=0").await, (200, String::new()));
        for (method, path, status) in [
            ("GET", "/entries", 400),
            ("GET", "/entries?from=-1", 400),
            ("GET", "/entries?from=x", 400),
            ("POST", "/entries?from=1", 405),
            ("DELETE", "/log", 405),
            ("GET", "/", 404),
        ] {
            assert_eq!(ask(&router, method, path).await.0, status, "{method} {path}");
        }
    }

    /// The file holds more than is durable while a commit is under way; the size is what is asked, not the file.
    #[tokio::test]
    async fn what_is_not_durable_is_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let wal = open(directory.path());
        wal.append(b"1").await.unwrap();
        let router = reading(directory.path(), String::new(), || 1);
        let (_, first) = ask(&router, "GET", "/entries?from=0").await;
        assert_eq!(first.lines().count(), 1, "{first}");
        assert_eq!(ask(&router, "GET", "/entries?from=1").await, (200, String::new()));
    }

    #[tokio::test]
    async fn a_page_has_an_end_and_the_next_begins_there() {
        let directory = tempfile::tempdir().unwrap();
        let wal = open(directory.path());
        for index in 1..=2500_u64 {
            wal.append_unacked(index.to_string().as_bytes());
        }
        wal.append(b"\"last\"").await.unwrap();
        let router = shown(directory.path(), &wal);
        let (mut from, mut pages) = (0, vec![]);
        while from < wal.size() {
            let (status, page) = ask(&router, "GET", &format!("/entries?from={from}&limit=5000")).await;
            assert_eq!(status, 200);
            pages.push(page.lines().count());
            from += page.lines().count() as u64;
        }
        assert_eq!(pages, [1000, 1000, 502]);
    }

    #[tokio::test]
    async fn damage_is_told_and_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let wal = open(directory.path());
        for odd in [&b"no JSON"[..], b"[1,\n2]", b"{}{}", b""] {
            let index = wal.append(odd).await.unwrap();
            let (status, why) =
                ask(&shown(directory.path(), &wal), "GET", &format!("/entries?from={index}")).await;
            assert_eq!((status, why), (500, format!("entry {index} is not JSON on one line\n")));
        }
        let router = shown(directory.path(), &wal);
        std::fs::write(directory.path().join("entries"), [7; 200]).unwrap();
        let (status, why) = ask(&router, "GET", "/entries?from=0").await;
        assert!(status == 500 && why.contains("is not entry 0"), "{why}");
    }
}
