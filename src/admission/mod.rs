//! The webhook's protocol: a review comes in, is judged on one snapshot, and an answer goes out.
//!
//! `intake` turns bytes into a review within bounds, `weight` tells beforehand what one costs, `review` holds the shapes of `admission.k8s.io/v1`, `handler`
//! decides, `wording` makes findings fit for people. Between the parsed body and the answer there is no await, except
//! for the bounded wait for an identity on its way.

mod handler;
mod intake;
mod review;
mod weight;
mod wording;

pub use handler::{Limits, Webhook, router};
