//! The webhook's protocol: a review comes in, is judged on one snapshot, and an answer goes out.
//!
//! [`review`] holds the shapes of `admission.k8s.io/v1`, [`handler`] the way of a request. Between the parsed body and
//! the answer there is no await, except for the bounded wait of the mutating side for an identity on its way.

mod handler;
mod review;

pub use handler::{Limits, Webhook, router};
