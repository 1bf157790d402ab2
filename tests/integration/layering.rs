//! Holds `src/` to the directions that `src/lib.rs` promises: a room uses the rooms it may use and no other.

use std::{fs, path::Path};

/// Room, and what it may use. Nothing else of ours may appear behind `crate::` in its files.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("identity", &["api"]),
    ("index", &["api", "identity"]),
    ("policy", &["api", "identity", "oauth", "index"]),
    ("token", &[]),
    ("metrics", &[]),
    ("oauth", &["identity"]),
    ("authzen", &["oauth"]),
    ("verify", &["api", "index", "oauth", "metrics"]),
    ("audit", &[]),
    ("store", &["audit", "metrics"]),
    (
        "broker",
        &[
            "api", "identity", "oauth", "authzen", "index", "policy", "token", "verify", "audit", "metrics",
            "store",
        ],
    ),
    ("plugin", &["api", "audit", "identity", "index", "policy"]),
    ("scan", &["api", "identity", "index", "policy", "plugin"]),
    ("runtime", &["api", "index", "metrics"]),
    ("admission", &["api", "identity", "index", "policy", "metrics"]),
    ("controller", &["api", "identity", "index", "policy", "token", "audit", "metrics", "runtime"]),
    (
        "cmd",
        &[
            "api",
            "identity",
            "index",
            "policy",
            "token",
            "metrics",
            "oauth",
            "verify",
            "audit",
            "store",
            "plugin",
            "scan",
            "runtime",
            "admission",
            "broker",
            "controller",
        ],
    ),
];

/// What the pure rooms may not name: they take time, randomness and the world as arguments.
const IMPURE: [&str; 7] =
    ["tokio::", "axum::", "kube::Client", "kube::Api", "tracing::", "SystemTime", "std::env"];
const PURE_ROOMS: &[&str] = &[
    "api",
    "audit",
    "authzen",
    "identity",
    "index",
    "oauth",
    "plugin",
    "policy",
    "scan",
    "token",
    // Of a room that also reaches out, the files that decide.
    "verify/cache",
    "verify/json",
    "verify/jwks",
    "verify/jws",
    "verify/subject",
];

fn sources(room: &str) -> Vec<(String, String)> {
    fn collect(path: &Path, found: &mut Vec<(String, String)>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                collect(&entry.unwrap().path(), found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            // Prose may point anywhere; code may not.
            let text = fs::read_to_string(path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>();
            found.push((path.display().to_string(), code.join("\n")));
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    for path in [src.join(room), src.join(format!("{room}.rs"))] {
        if path.exists() {
            collect(&path, &mut found);
        }
    }
    found
}

/// The rooms a line names after `crate::`, braces included.
fn used_rooms(text: &str) -> Vec<String> {
    let mut rooms = vec![];
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            rooms.push(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    let mut broken = vec![];
    for (room, allowed) in ALLOWED {
        for (path, text) in sources(room) {
            for used in used_rooms(&text) {
                if used != *room && !allowed.contains(&used.as_str()) {
                    broken.push(format!("{path} uses crate::{used}"));
                }
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn pure_rooms_do_no_io() {
    let mut broken = vec![];
    for room in PURE_ROOMS {
        for (path, text) in sources(room) {
            broken.extend(
                IMPURE.iter().filter(|word| text.contains(*word)).map(|word| format!("{path}: {word}")),
            );
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_room_is_on_the_map() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for line in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let room = line.trim_end_matches(';');
        assert!(ALLOWED.iter().any(|(known, _)| *known == room), "src/lib.rs: {room} has no row in ALLOWED");
    }
}

#[test]
fn the_reader_of_use_lines_sees_groups() {
    let text = "use crate::{api::{self, v1}, index::Snapshot};\nlet x = crate::policy::admit();";
    assert_eq!(used_rooms(text), ["api", "index", "policy"]);
}
