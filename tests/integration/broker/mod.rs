//! The broker's endpoints, asked over HTTP in this process, where the moment between two steps can be met.

#[path = "../../support/desk.rs"]
mod desk;
mod evaluation;
mod races;
