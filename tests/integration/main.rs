//! One binary for every test above the unit: one link, and helpers shared by all.

mod layering;
mod policy;
