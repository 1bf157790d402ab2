//! `make bench`: how fast the exchange, the evaluation and the record are, each beside its floor, and where the time goes.
//! `docs/performance.md` says what is measured and what it came to.
//!
//! The server has one core and who asks has another: `main` starts this program again under `taskset` for each. Everything
//! is as shipped (router, TLS, server, record on the disk, signatures) but for the API server, which answers in the broker's
//! own process.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has nothing to say"
)]

mod append;
#[allow(dead_code, reason = "the integration tests do more with it")]
#[path = "../support/desk.rs"]
mod desk;
mod drive;
mod load;
mod parts;
mod place;
mod scene;
mod serve;
mod table;

use std::env;

fn main() {
    // As `main` of the binary.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match env::args().nth(1).as_deref() {
        Some("drive") => drive::run(),
        Some("serve") => serve::run(),
        Some("append") => append::run(),
        _ => place::start("drive", place::DRIVER).status().map(drop).unwrap(),
    }
}
