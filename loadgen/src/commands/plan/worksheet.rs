//! Arithmetic that shows itself: every figure carries the text of how it was computed.
//!
//! The text and the value come out of the same operations, so they cannot say different things, and a person can check
//! any line with a pocket calculator.

use std::ops::{Add, Div, Mul, Sub};

use crate::quantity;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number, followed by its name.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes per second, shown in bits.
    Traffic,
    /// A share, shown in percent.
    Share,
}

impl Unit {
    /// The value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Count => quantity::count(value),
            Unit::Bytes => quantity::bytes(value),
            Unit::Traffic => quantity::bits_per_second(value),
            Unit::Share => quantity::percent(value),
        }
    }
}

/// How tightly the text of a term holds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Sum,
    Product,
    Single,
}

/// A value and the text of where it comes from.
#[derive(Debug, Clone)]
pub struct Term {
    /// The value.
    pub value: f64,
    text: String,
    binding: Binding,
}

impl Term {
    /// A number with its name: "400 targets".
    pub fn count(value: f64, name: &str) -> Term {
        Term::single(value, format!("{} {name}", quantity::count(value)))
    }

    /// A value in a unit with its name: "15 d of raw samples".
    pub fn of(value: f64, unit: Unit, name: &str) -> Term {
        Term::single(value, format!("{} {name}", unit.show(value)))
    }

    /// A bare number: "1.3".
    pub fn bare(value: f64) -> Term {
        Term::single(value, quantity::number(value))
    }

    /// A length of time shown in days, and counted in seconds.
    pub fn days(seconds: f64, name: &str) -> Term {
        let days = Term::count(seconds / 86_400.0, &format!("d {name}"));
        days * Term::of(86_400.0, Unit::Count, "s per d")
    }

    /// The larger of two: "max(a, b)".
    pub fn max(self, other: Term) -> Term {
        // The text of a maximum begins like this, and nothing else does: one bracket holds them all.
        let text = match self.text.strip_prefix("max(").and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) => format!("max({inner}, {})", other.text),
            None => format!("max({}, {})", self.text, other.text),
        };
        Term::single(self.value.max(other.value), text)
    }

    /// Rounded up: "up(7.2 / 2)".
    pub fn up(self) -> Term {
        // 3.0000000001 comes from rounding, and must not buy a fourth machine.
        Term::single((self.value - 1e-9).ceil(), format!("up({})", self.text))
    }

    /// The text so far.
    #[cfg(test)]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn single(value: f64, text: String) -> Term {
        let text = text.trim_end().to_owned();
        Term { value, text, binding: Binding::Single }
    }

    fn within(&self, outer: Binding) -> String {
        if self.binding < outer { format!("({})", self.text) } else { self.text.clone() }
    }
}

impl Mul for Term {
    type Output = Term;

    fn mul(self, other: Term) -> Term {
        let text = format!("{} x {}", self.within(Binding::Product), other.within(Binding::Single));
        Term { value: self.value * other.value, text, binding: Binding::Product }
    }
}

impl Div for Term {
    type Output = Term;

    fn div(self, other: Term) -> Term {
        let text = format!("{} / {}", self.within(Binding::Product), other.within(Binding::Single));
        Term { value: self.value / other.value, text, binding: Binding::Product }
    }
}

impl Add for Term {
    type Output = Term;

    fn add(self, other: Term) -> Term {
        Term {
            value: self.value + other.value,
            text: format!("{} + {}", self.text, other.text),
            binding: Binding::Sum,
        }
    }
}

impl Sub for Term {
    type Output = Term;

    fn sub(self, other: Term) -> Term {
        let text = format!("{} - {}", self.text, other.within(Binding::Product));
        Term { value: self.value - other.value, text, binding: Binding::Sum }
    }
}

/// One line of the worksheet.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Line {
    /// Under which heading it stands.
    pub section: &'static str,
    /// What is computed. It never changes, so that scripts can find it.
    pub name: &'static str,
    /// The result, in the base unit: bytes, seconds, cores.
    pub value: f64,
    /// The result as people write it.
    pub shown: String,
    /// How it was computed.
    pub arithmetic: String,
}

/// The lines in the order in which they were computed.
#[derive(Debug, Default)]
pub struct Worksheet {
    section: &'static str,
    lines: Vec<Line>,
}

impl Worksheet {
    /// Begins a section.
    pub fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    /// Writes a line; the result is a term of its own, with this name, for the lines below.
    pub fn line(&mut self, name: &'static str, unit: Unit, what: &str, term: Term) -> Term {
        let what = if term.value == 1.0 && what == "nodes" { "node" } else { what };
        let shown = format!("{} {what}", unit.show(term.value)).trim_end().to_owned();
        self.lines.push(Line {
            section: self.section,
            name,
            value: term.value,
            shown: shown.clone(),
            arithmetic: term.text,
        });
        Term::single(term.value, shown)
    }

    /// All lines.
    pub fn finish(self) -> Vec<Line> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_its_arithmetic_and_becomes_a_term() {
        let mut sheet = Worksheet::default();
        let term =
            Term::count(12.0, "clusters") * Term::count(400.0, "targets") * Term::count(1500.0, "series");
        let series = sheet.line("active_series", Unit::Count, "series", term);
        let lines = sheet.finish();
        assert_eq!(lines[0].arithmetic, "12 clusters x 400 targets x 1,500 series");
        assert_eq!((lines[0].shown.as_str(), lines[0].value), ("7.2 M series", 7_200_000.0));
        let rate = series / Term::count(30.0, "s");
        assert_eq!((rate.text(), rate.value), ("7.2 M series / 30 s", 240_000.0));
    }

    #[test]
    fn brackets_stand_exactly_where_they_are_needed() {
        let bare = Term::bare;
        assert_eq!((bare(1.0) * (bare(2.0) + bare(3.0))).text(), "1 x (2 + 3)");
        assert_eq!((bare(1.0) + bare(2.0) * bare(3.0)).text(), "1 + 2 x 3");
        assert_eq!((bare(8.0) / (bare(2.0) * bare(4.0))).text(), "8 / (2 x 4)");
        assert_eq!((bare(8.0) / bare(2.0) * bare(4.0)).text(), "8 / 2 x 4");
    }

    #[test]
    fn rounding_up_forgives_what_floating_point_adds() {
        assert_eq!(Term::bare(3.000_000_000_1).up().value, 3.0);
        assert_eq!(Term::bare(3.1).up().value, 4.0);
    }
}
