//! Process plumbing: what every role needs to live in a cluster and which decides nothing.
//!
//! Long-lived tasks are futures handed back to the composition root in [`crate::cmd`], which joins them: a task the
//! process cannot live without takes the process with it when it ends.

pub mod admin;
pub mod audiences;
pub mod client;
pub mod clock;
pub mod freshness;
pub mod log;
mod places;
pub mod secret;
pub mod server;
pub mod shutdown;
pub mod tls;
pub mod watch;
