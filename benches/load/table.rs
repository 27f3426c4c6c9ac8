//! The table that is printed.

use std::time::Duration;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things a second: more is better.
    Rate,
    /// Seconds: less is better.
    Seconds,
    /// Bytes: less is better.
    Bytes,
}

/// One line: what was measured, of which server, and what it should be.
pub struct Row {
    name: String,
    unit: Unit,
    ours: Option<f64>,
    original: Option<f64>,
    goal: Option<f64>,
    note: String,
}

impl Row {
    /// Things a second.
    pub fn rate(name: impl Into<String>, count: usize, took: Duration) -> Self {
        Self::new(name, Unit::Rate, count as f64 / took.as_secs_f64())
    }

    /// A time.
    pub fn time(name: impl Into<String>, time: Duration) -> Self {
        Self::new(name, Unit::Seconds, time.as_secs_f64())
    }

    /// An amount of memory.
    pub fn bytes(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, Unit::Bytes, bytes as f64)
    }

    fn new(name: impl Into<String>, unit: Unit, value: f64) -> Self {
        Self { name: name.into(), unit, ours: Some(value), original: None, goal: None, note: String::new() }
    }

    /// At least (rates) or at most (everything else) that much.
    pub fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Something to say at the end of the line.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn met(&self) -> Option<bool> {
        let (ours, goal) = (self.ours?, self.goal?);
        Some(if self.unit == Unit::Rate { ours >= goal } else { ours <= goal })
    }

    /// How many times better this server is than the original.
    fn ratio(&self) -> Option<f64> {
        let (ours, original) = (self.ours?, self.original?);
        Some(if self.unit == Unit::Rate { ours / original } else { original / ours })
    }
}

/// Lines in the order they were measured.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a line of this server.
    pub fn push(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Adds what the original server was measured at, to the line of the same name or as its own.
    pub fn push_original(&mut self, row: Row) {
        match self.0.iter_mut().find(|own| own.name == row.name) {
            Some(own) => {
                own.original = row.ours;
                if !row.note.is_empty() {
                    own.note = format!("{} [original: {}]", own.note, row.note).trim().to_owned();
                }
            }
            None => self.0.push(Row { original: row.ours, ours: None, ..row }),
        }
    }

    /// Prints it.
    pub fn print(&self) {
        let cell = |value: Option<f64>, unit| value.map_or_else(|| "-".to_owned(), |value| show(value, unit));
        let mut lines = vec![["", "Rushlight", "goal", "", "original", "ratio", ""].map(str::to_owned)];
        for row in &self.0 {
            let sign = if row.unit == Unit::Rate { ">=" } else { "<=" };
            lines.push([
                row.name.clone(),
                cell(row.ours, row.unit),
                row.goal.map_or_else(String::new, |goal| format!("{sign} {}", show(goal, row.unit))),
                row.met().map_or("", |met| if met { "met" } else { "MISSED" }).to_owned(),
                cell(row.original, row.unit),
                row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}x")),
                row.note.clone(),
            ]);
        }
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..7).map(width).collect();
        for line in &lines {
            let mut text = String::new();
            for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Numbers to the right, words to the left.
                if matches!(index, 1 | 2 | 4 | 5) {
                    text.push_str(&format!("{cell:>width$}  "));
                } else {
                    text.push_str(&format!("{cell:<width$}  "));
                }
            }
            println!("{}", text.trim_end());
        }
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Rate if value >= 100.0 => format!("{value:.0} /s"),
        Unit::Rate => format!("{value:.1} /s"),
        Unit::Seconds if value >= 1.0 => format!("{value:.2} s"),
        Unit::Seconds if value >= 0.001 => format!("{:.2} ms", value * 1e3),
        Unit::Seconds => format!("{:.0} us", value * 1e6),
        Unit::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
    }
}
