//! For people: by file, each finding with its line, what is wrong and what to do.

use crate::{
    plugin::escaped,
    policy::Action,
    scan::{Judged, LocatedFinding, Report},
};
use std::fmt::Write as _;

/// How something is coloured, on a terminal.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Red,
    Yellow,
    Dim,
}

/// What colours are written with.
#[derive(Clone, Copy)]
struct Brush {
    is_coloured: bool,
}

impl Brush {
    fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Red => "31",
            Ink::Yellow => "33",
            Ink::Dim => "2",
        };
        if self.is_coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The report for a terminal. What could not be read is not in it: that is for standard error.
pub fn table(report: &Report, is_coloured: bool) -> String {
    let brush = Brush { is_coloured };
    let mut text = String::new();
    let mut last = None;
    for judged in report.results.iter().filter(|judged| !judged.findings.is_empty()) {
        if last != Some(&judged.source) {
            _ = writeln!(text, "{}", brush.paint(Ink::Bold, &escaped(&judged.source)));
            last = Some(&judged.source);
        }
        object(&mut text, judged, brush);
    }
    summary(&mut text, report, brush);
    text
}

fn object(text: &mut String, judged: &Judged, brush: Brush) {
    let Judged { kind, namespace, name, .. } = judged;
    let of = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    _ = writeln!(text, "  {} {}", escaped(kind), escaped(&of));
    for LocatedFinding { finding, line } in &judged.findings {
        let word = match finding.action {
            Action::Deny => brush.paint(Ink::Red, "deny"),
            Action::Warn => brush.paint(Ink::Yellow, "warn"),
        };
        let rule = brush.paint(Ink::Bold, finding.rule.id);
        _ = writeln!(text, "  {line:>5}  {word}  {rule}  {}", escaped(&finding.path));
        _ = writeln!(text, "                      {}", escaped(&finding.message));
        _ = writeln!(
            text,
            "                      {}",
            brush.paint(Ink::Dim, &format!("-> {}", finding.rule.remedy))
        );
    }
    text.push('\n');
}

fn summary(text: &mut String, report: &Report, brush: Brush) {
    let count =
        |number: usize, one: &str, more: &str| format!("{number} {}", if number == 1 { one } else { more });
    let objects = count(report.results.len(), "object", "objects");
    let skipped = match report.skipped {
        0 => String::new(),
        number => format!("; {} of other kinds skipped", count(number, "document", "documents")),
    };
    let unread = match report.unread.len() {
        0 => String::new(),
        number => brush.paint(Ink::Red, &format!("; {} could not be read", count(number, "part", "parts"))),
    };
    let (denied, warned) = (report.denied(), report.warned());
    _ = writeln!(text, "{objects} judged: {denied} would be refused, {warned} warned of{skipped}{unread}");
    if denied + warned > 0 {
        _ = writeln!(text, "each rule is explained in docs/rules.md");
    }
}
