//! Structured logs on standard error, panics included.

use clap::ValueEnum;
use std::{
    io::{self, IsTerminal as _},
    panic,
};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Sets the process' log up. `level` is a tracing filter such as `info` or `info,deputy::admission=debug`.
///
/// # Errors
/// When `level` is no filter.
pub fn init(format: Format, level: &str) -> Result<(), ParseError> {
    let filter: EnvFilter = level.parse()?;
    let colours = io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    // A second call keeps the first set-up: that is the process' own, and losing a line is no reason to end.
    let _ = match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => builder.try_init(),
    };
    // Where, and not what: the text of a panic may show a piece of what was being read, and that may be a key.
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "panicked");
    }));
    Ok(())
}
