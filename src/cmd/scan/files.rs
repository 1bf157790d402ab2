//! Files and directory trees, one file at a time.

use crate::scan::Unread;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Bytes of one file.
const MOST_BYTES: u64 = 64 << 20;
/// Directories within directories.
const DEPTH: usize = 64;

/// A file.
pub(super) struct Source {
    /// Its path as people know it.
    pub(super) name: String,
    /// What is in it.
    pub(super) content: Result<Vec<u8>, Unread>,
    /// Whether it is a template of a Helm chart.
    pub(super) of_chart: bool,
}

/// Visits the file at `path`, or the manifests of the directory there, by name; `-` is standard input.
pub(super) fn visit(path: &Path, visit: &mut dyn FnMut(Source)) {
    if path == Path::new("-") {
        let content = bounded(io::stdin().lock());
        return visit(Source { name: "-".to_owned(), content, of_chart: false });
    }
    if !path.is_dir() {
        return visit(file(path));
    }
    match path.canonicalize() {
        Ok(root) => Tree { root, seen: BTreeSet::new(), visit }.walk(path, DEPTH),
        Err(error) => visit(unreadable(path, &error.to_string())),
    }
}

/// A directory tree.
struct Tree<'v> {
    root: PathBuf,
    /// What was visited, by its true path: a tree whose links lead in a circle ends.
    seen: BTreeSet<PathBuf>,
    visit: &'v mut dyn FnMut(Source),
}

impl Tree<'_> {
    fn walk(&mut self, directory: &Path, depth: usize) {
        if depth == 0 {
            return (self.visit)(unreadable(directory, "more than 64 directories within one another"));
        }
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return (self.visit)(unreadable(directory, &error.to_string())),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // What begins with a dot is a tool's: .git, .terraform, the hidden half of a mounted ConfigMap.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                self.enter(&entry.path(), depth);
            }
        }
    }

    fn enter(&mut self, path: &Path, depth: usize) {
        let (is_directory, is_manifest) = (path.is_dir(), is_manifest(path));
        if !is_directory && !is_manifest {
            return;
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return (self.visit)(unreadable(path, &error.to_string())),
        };
        if !real.starts_with(&self.root) {
            let what = "a symbolic link that leads out of the directory; name what it leads to with -f";
            return (self.visit)(unreadable(path, what));
        }
        if !self.seen.insert(real) {
            return;
        }
        if is_directory {
            self.walk(path, depth - 1);
        } else if path.is_file() {
            (self.visit)(file(path));
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn file(path: &Path) -> Source {
    let content = File::open(path).map_err(|error| Unread::whole(error.to_string())).and_then(bounded);
    Source { name: path.display().to_string(), content, of_chart: is_of_chart(path) }
}

fn unreadable(path: &Path, what: &str) -> Source {
    Source { name: path.display().to_string(), content: Err(Unread::whole(what)), of_chart: false }
}

fn bounded(from: impl Read) -> Result<Vec<u8>, Unread> {
    let mut bytes = vec![];
    match from.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
        Err(error) => Err(Unread::whole(error.to_string())),
        Ok(_) if bytes.len() as u64 > MOST_BYTES => {
            Err(Unread::whole(format!("larger than {} MiB; split it", MOST_BYTES >> 20)))
        }
        Ok(_) => Ok(bytes),
    }
}

/// Whether it lies under the `templates` of a chart.
fn is_of_chart(path: &Path) -> bool {
    path.ancestors().skip(1).any(|directory| {
        directory.file_name().is_some_and(|name| name == "templates")
            && directory.parent().is_some_and(|chart| chart.join("Chart.yaml").is_file())
    })
}
