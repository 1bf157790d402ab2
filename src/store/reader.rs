//! Reading a log page by page while it is written.

use super::{Entries, ReadError, entries};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Entries between two places that are remembered.
const STRIDE: u64 = 1024;

/// How much is read at a time.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Entries a page has at most.
    pub entries: usize,
    /// Bytes after which a page ends.
    pub bytes: usize,
    /// Entries that are passed over at most to get to the first: more than 1024, or a page may never be reached.
    pub passed: u64,
}

/// Reads pages of the log in a directory. Where it has been it finds again without reading what comes before.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// Byte at which every [`STRIDE`]th entry begins, as far as anybody has read.
    places: Mutex<Vec<u64>>,
}

impl Reader {
    /// Reads the log in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), places: Mutex::new(vec![]) }
    }

    /// Entries from index `from` on, each with its index, of the first `size`. None although there are some: so much comes
    /// before that has not been read yet that it was not reached; asked again, it will be. Blocks.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn page(&self, from: u64, size: u64, page: Page) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let (mut found, mut bytes, mut passed) = (vec![], 0, 0);
        if from >= size {
            return Ok(found);
        }
        let mut entries = self.before(from)?;
        while found.len() < page.entries && bytes < page.bytes && entries.index() < size {
            let place = (entries.index(), entries.offset());
            let Some(read) = entries.next() else { break };
            self.remember(place);
            let (index, entry) = read?;
            if index >= from {
                bytes += entry.len();
                found.push((index, entry));
            } else {
                passed += 1;
                if passed > page.passed {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The log from the last remembered place before entry `from` on.
    fn before(&self, from: u64) -> Result<Entries, ReadError> {
        let place = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let last = (places.len() as u64).saturating_sub(1).min(from / STRIDE);
            usize::try_from(last).ok().and_then(|at| Some((last * STRIDE, *places.get(at)?)))
        };
        let entries = entries(&self.directory)?;
        match place {
            Some((index, offset)) => entries.at(index, offset),
            None => Ok(entries),
        }
    }

    fn remember(&self, (index, offset): (u64, u64)) {
        if index % STRIDE == 0 {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if places.len() as u64 == index / STRIDE {
                places.push(offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::LogId;
    use crate::store::{Options, Wal};
    use k8s_openapi::jiff::Timestamp;

    const PAGE: Page = Page { entries: 100, bytes: 1 << 20, passed: u64::MAX };

    /// A log of 5000 entries, the first of which says that it begins.
    async fn log(directory: &Path) -> Wal {
        let options = Options {
            log: LogId([1; 8]),
            reserve: 16,
            retry: Options::RETRY,
            now: || Timestamp::UNIX_EPOCH,
            metrics: None,
        };
        let (wal, _) = Wal::open(directory, &options).unwrap();
        for index in 1..4999_u64 {
            wal.append_unacked(index.to_string().as_bytes());
            if index % 500 == 0 {
                wal.append(b"durable").await.unwrap();
            }
        }
        wal
    }

    #[tokio::test]
    async fn pages_go_on_where_the_last_one_ended_and_begin_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let wal = log(directory.path()).await;
        assert_eq!(wal.dropped(), 0);
        let size = wal.append(b"last").await.unwrap() + 1;
        let all: Vec<_> = entries(directory.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!((all.len() as u64, wal.size()), (size, size));
        let reader = Reader::new(directory.path());
        // Backwards first: nothing before is remembered yet.
        for from in [4999, 3000, 1024, 1023, 1, 0, 2048, 4096, 4990] {
            let at = usize::try_from(from).unwrap();
            let end = all.len().min(at + 100);
            assert_eq!(reader.page(from, size, PAGE).unwrap(), all[at..end], "{from}");
        }
        assert_eq!(reader.places.lock().unwrap().len(), 5);
        assert!(reader.page(size, size, PAGE).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_page_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let wal = log(directory.path()).await;
        wal.append(&[b'x'; 1000]).await.unwrap();
        let reader = Reader::new(directory.path());
        let count = |from, size, page| reader.page(from, size, page).unwrap().len();
        assert_eq!(count(10, 15, PAGE), 5, "what is not durable is not shown");
        assert_eq!(count(10, 5000, Page { entries: 3, ..PAGE }), 3);
        assert_eq!(count(10, 5000, Page { bytes: 7, ..PAGE }), 4, "two bytes each");
        // Too far to go at once; each time it comes further.
        let far = Page { passed: 1500, ..PAGE };
        assert_eq!((0..5).map(|_| count(4900, 4950, far)).collect::<Vec<_>>(), [0, 0, 0, 0, 50]);
    }
}
