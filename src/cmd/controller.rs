//! `deputy controller`.
use super::ProcessOptions;
use clap::Args;

/// Reconciles.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    process: ProcessOptions,
}

pub(super) async fn run(_options: Options) -> anyhow::Result<()> {
    Ok(())
}
