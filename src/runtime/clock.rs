//! The wall clock. Decisions take the time as an argument; this is where shells get it.

use k8s_openapi::jiff::Timestamp;

/// Now, by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
