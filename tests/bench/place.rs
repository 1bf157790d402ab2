//! Which core does what, and how much of it.

use std::{env, fs, process::Command, thread, time::Duration};

/// The core of the server, and of what is measured without one.
pub(super) const SERVER: usize = 0;
/// The core of who asks.
pub(super) const DRIVER: usize = 1;

/// Whether there is a core for each.
pub(super) fn is_pinned() -> bool {
    let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default().matches("processor\t").count();
    has_taskset && cores.max(thread::available_parallelism().map_or(1, usize::from)) >= 2
}

/// This program as `role`, on this core.
pub(super) fn start(role: &str, core: usize) -> Command {
    let this = env::current_exe().unwrap();
    let mut command = if is_pinned() {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core.to_string()).arg(this);
        command
    } else {
        eprintln!(
            "NOT PINNED: without taskset and two cores `{role}` runs wherever there is room; do not quote the figures"
        );
        Command::new(this)
    };
    command.arg(role);
    command
}

/// The time that a process has had on a core: its own and the kernel's for it. Children of `taskset` have its id.
pub(super) fn used(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // After the name, which may hold anything: utime and stime are the 12th and 13th, in hundredths.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
