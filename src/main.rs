//! The `deputy` binary: everything is in the library.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    // One cryptographic provider for the whole process, before anything speaks TLS. An error means that one is
    // installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    deputy::cmd::Cli::read(env::args_os()).run()
}
