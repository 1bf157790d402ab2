//! The broker's endpoints, asked over HTTP in this process, where the moment between two steps can be met.

mod desk;
mod evaluation;
mod races;
