//! What was measured, to be pasted.

use super::{
    append::{Appended, Record},
    drive::{CONNECTIONS, Measured},
    load::Run,
    parts::Parts,
    place,
};

/// The median, the least and the most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    Spread { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
}

impl Spread {
    fn shown(&self) -> String {
        format!("{:.0} ({:.0}-{:.0})", self.median, self.least, self.most)
    }
}

impl Measured {
    fn of(&self, value: impl Fn(&Run) -> f64) -> Spread {
        spread(self.runs.iter().map(value))
    }

    /// Microseconds of the server's core.
    fn cost(&self) -> f64 {
        self.of(Run::cost).median
    }
}

/// Prints all of it.
pub(super) fn print(measured: &[Measured], record: &Record, parts: &Parts) {
    let pinned = if place::is_pinned() { "one core for the server, one for who asks" } else { "NOT PINNED" };
    println!(
        "\n{pinned}; {CONNECTIONS} connections, HTTP/1.1 over TLS; record on the disk, each permit waits for it\n"
    );
    requests(measured, parts);
    appends(record);
    steps(measured, record, parts);
}

fn requests(measured: &[Measured], parts: &Parts) {
    println!(
        "| over TLS | mode | /s: median (least-most) | p50 us | p99 us | server's core us each | /s of a whole core | server's core, driver's | floor /s | reached of it | goal /s | reached of it |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for of in measured {
        let full = 1e6 / of.cost();
        let floor = floor(of, measured, parts);
        let or_empty = |value: Option<String>| value.unwrap_or_default();
        let share = |of: Option<f64>| or_empty(of.map(|of| format!("{:.0} %", 100.0 * full / of)));
        let number = |value: Option<f64>| or_empty(value.map(|value| format!("{value:.0}")));
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.1} | {full:.0} | {:.0} %, {:.0} % | {} | {} | {} | {} |",
            of.name,
            if of.name.starts_with("constant") { "" } else { of.mode },
            of.of(Run::rate).shown(),
            of.of(|run| run.percentile(50).into()).median,
            of.of(|run| run.percentile(99).into()).median,
            of.cost(),
            of.of(|run| 100.0 * run.server.as_secs_f64() / run.wall.as_secs_f64()).median,
            of.of(|run| 100.0 * run.driver.as_secs_f64() / run.wall.as_secs_f64()).median,
            number(floor),
            share(floor),
            number(of.goal),
            share(of.goal),
        );
    }
}

/// What a core could do at most: the constant answer, and the signatures it takes.
fn floor(of: &Measured, all: &[Measured], parts: &Parts) -> Option<f64> {
    let (kind, signatures) = match of.name {
        "exchange, cold" => ("exchange", parts.verify + parts.sign),
        "exchange, warm" => ("exchange", parts.sign),
        name if name.starts_with("evaluation") => ("evaluation", 0.0),
        _ => return None,
    };
    let is_constant = |other: &&Measured| other.name.starts_with("constant") && other.name.contains(kind);
    Some(1e6 / (all.iter().find(is_constant)?.cost() + signatures))
}

fn appends(record: &Record) {
    println!(
        "\n| append, entries of 900 bytes, one core | /s: median (least-most) | p50 us | p99 us | entries a sync | core us each | floor /s: same writes, bare disk | reached of it |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut appenders: Vec<_> = record.appended.iter().map(|of| of.appenders).collect();
    appenders.dedup();
    appenders.truncate(4);
    for appenders in appenders {
        let of = |value: fn(&Appended) -> f64| {
            spread(record.appended.iter().filter(|of| of.appenders == appenders).map(value))
        };
        let (rate, floor) = (of(|of| of.rate), of(|of| of.floor));
        println!(
            "| {appenders} at once | {} | {:.0} | {:.0} | {:.0} | {:.1} | {} | {:.0} % |",
            rate.shown(),
            of(|of| of.p50 as f64).median,
            of(|of| of.p99 as f64).median,
            of(|of| of.shared).median,
            of(|of| of.cost).median,
            floor.shown(),
            100.0 * rate.median / floor.median,
        );
    }
    println!("\n| the disk: one write, one fdatasync | /s | p50 us | p99 us | MB/s |\n|---|---|---|---|---|");
    for of in &record.synced {
        let megabytes = of.bytes as f64 * of.rate / 1e6;
        println!("| {} bytes | {:.0} | {} | {} | {megabytes:.0} |", of.bytes, of.rate, of.p50, of.p99);
    }
}

fn steps(measured: &[Measured], record: &Record, parts: &Parts) {
    println!("\n| where the time goes | us |\n|---|---|");
    println!("| ES256 verified, bare | {:.1} |\n| ES256 signed, bare | {:.1} |", parts.verify, parts.sign);
    for of in measured.iter().filter(|of| of.name.starts_with("constant")) {
        println!("| TLS and HTTP: {} | {:.1} |", of.name, of.cost());
    }
    let shared = record.appended.iter().filter(|of| of.appenders == 256).map(|of| of.cost);
    println!("| an entry appended, 256 at once | {:.1} |", spread(shared).median);
    for (kind, steps) in [("exchange", &parts.exchange), ("evaluation", &parts.evaluation)] {
        for (step, took) in steps {
            println!("| {kind}: {step} | {took:.1} |");
        }
    }
    let [exchange, evaluation] = parts.entries;
    println!("\nan exchange takes {exchange} bytes of the log, an evaluation {evaluation}");
}
