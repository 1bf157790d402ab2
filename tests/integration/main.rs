//! One binary for every test above the unit: one link, and helpers shared by all.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    reason = "a test says what it expects by panicking, and a table is as long as it is"
)]

mod admission;
mod apiserver;
mod broker;
mod broker_access;
mod bundle;
mod can_i;
mod chart;
mod controller;
mod corpus;
mod credentials;
mod delegation;
mod dependencies;
mod endpoint;
mod exceptions;
mod exchange;
mod layering;
mod metrics;
mod ordinary;
mod peers;
mod plugin;
mod policy;
mod record;
mod sarif;
mod scan;
mod tls;
