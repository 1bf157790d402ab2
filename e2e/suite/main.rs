//! The end-to-end suite: a real API server, kubelet and Helm release. It proves the wiring; what each rule says is proved
//! without a cluster. Run with `make e2e`: one test at a time, since some change what all share.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it expects by panicking, and reads its cluster from the environment"
)]

mod bypass;
mod client;
mod conditions;
mod credentials;
mod exceptions;
mod figures;
mod identities;
mod own_cluster;
mod plugin;
mod pods;
mod policies;
mod release;
mod support;
mod suspensions;
mod workloads;
