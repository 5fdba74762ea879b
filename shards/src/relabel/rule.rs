//! One relabelling rule and what it does to a label set: Prometheus' `relabel.Process`, action by action.

use super::labels::LabelSet;
use crate::matcher::{CapturePattern, Template};
use crate::wire::{LABEL_BYTES_MAX, SERIES_BYTES_MAX};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Where the pattern matches, the target becomes the expanded replacement.
    Replace,
    /// Series whose sources do not match are dropped.
    Keep,
    /// Series whose sources match are dropped.
    Drop,
    /// Series whose sources are not the target's value are dropped.
    KeepEqual,
    /// Series whose sources are the target's value are dropped.
    DropEqual,
    /// The target becomes a hash of the sources modulo a number.
    HashMod,
    /// Labels whose names match are copied to names that the replacement makes.
    LabelMap,
    /// Labels whose names match are removed.
    LabelDrop,
    /// Labels whose names do not match are removed.
    LabelKeep,
    /// The target becomes the sources in lower case.
    Lowercase,
    /// The target becomes the sources in upper case.
    Uppercase,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 11] = [
        Action::Replace,
        Action::Keep,
        Action::Drop,
        Action::KeepEqual,
        Action::DropEqual,
        Action::HashMod,
        Action::LabelMap,
        Action::LabelDrop,
        Action::LabelKeep,
        Action::Lowercase,
        Action::Uppercase,
    ];

    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Action::Replace => "replace",
            Action::Keep => "keep",
            Action::Drop => "drop",
            Action::KeepEqual => "keepequal",
            Action::DropEqual => "dropequal",
            Action::HashMod => "hashmod",
            Action::LabelMap => "labelmap",
            Action::LabelDrop => "labeldrop",
            Action::LabelKeep => "labelkeep",
            Action::Lowercase => "lowercase",
            Action::Uppercase => "uppercase",
        }
    }
}

/// A rule that was checked.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) action: Action,
    pub(super) sources: Vec<String>,
    pub(super) separator: String,
    pub(super) pattern: CapturePattern,
    pub(super) target: String,
    pub(super) target_template: Template,
    pub(super) replacement: Template,
    pub(super) modulus: u64,
}

/// Bytes of labels that cost as much to match or to copy as to look at one label.
const LABEL_BYTES_PER_COST: usize = 256;

/// Rules in the order in which they apply.
#[derive(Debug, Clone, Default)]
pub struct Rules(pub(super) Vec<Rule>);

/// A label set that rules made is not one that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("relabelling makes labels that are too long")]
pub struct TooLong;

impl Rules {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// About what it costs to apply them to so many labels of so many bytes: each rule may look at all of them, and one
    /// that maps labels looks at all for each of them.
    pub fn cost(&self, label_count: usize, label_bytes: usize) -> usize {
        let once = label_count + label_bytes / LABEL_BYTES_PER_COST;
        let cost = |rule: &Rule| match rule.action {
            Action::LabelMap => once + label_count * label_count,
            _ => once,
        };
        self.0.iter().map(cost).sum()
    }

    /// Changes the labels of a series; answers whether the series is kept.
    ///
    /// # Errors
    /// When the labels outgrow what a series may have; rules that follow are not applied.
    pub fn apply(&self, labels: &mut LabelSet<'_>) -> Result<bool, TooLong> {
        for rule in &self.0 {
            if !rule.apply(labels)? {
                return Ok(false);
            }
            if labels.size_bytes() > SERIES_BYTES_MAX {
                return Err(TooLong);
            }
        }
        Ok(true)
    }
}

impl Rule {
    fn apply(&self, labels: &mut LabelSet<'_>) -> Result<bool, TooLong> {
        let source = || {
            let values: Vec<&str> = self.sources.iter().map(|name| labels.get(name)).collect();
            values.join(&self.separator)
        };
        match self.action {
            Action::Keep => return Ok(self.pattern.is_match(&source())),
            Action::Drop => return Ok(!self.pattern.is_match(&source())),
            Action::KeepEqual => return Ok(labels.get(&self.target) == source()),
            Action::DropEqual => return Ok(labels.get(&self.target) != source()),
            Action::Replace => {
                let source = source();
                let Some(captures) = self.pattern.captures(&source) else { return Ok(true) };
                let target = self.target_template.expand(&captures, LABEL_BYTES_MAX).ok_or(TooLong)?;
                let value = self.replacement.expand(&captures, LABEL_BYTES_MAX).ok_or(TooLong)?;
                if !target.is_empty() {
                    labels.set(target, value);
                }
            }
            Action::Lowercase => {
                let value = source().chars().map(simple_lower).collect::<String>();
                labels.set(self.target.clone(), value);
            }
            Action::Uppercase => {
                let value = source().chars().map(simple_upper).collect::<String>();
                labels.set(self.target.clone(), value);
            }
            Action::HashMod => {
                let [.., a, b, c, d, e, f, g, h] = md5::compute(source().as_bytes()).0;
                let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
                // A modulus of 0 does not pass the check of the configuration.
                labels.set(self.target.clone(), (hash % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let mut copies = Vec::new();
                for (name, value) in labels.iter() {
                    let Some(captures) = self.pattern.captures(name) else { continue };
                    let target = self.replacement.expand(&captures, LABEL_BYTES_MAX).ok_or(TooLong)?;
                    copies.push((target, value.to_owned()));
                }
                for (target, value) in copies {
                    labels.set(target, value);
                }
            }
            Action::LabelDrop => labels.retain(|name| !self.pattern.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.pattern.is_match(name)),
        }
        Ok(true)
    }
}

/// Go maps one character to one character, where the full mapping of Unicode may give several.
fn simple_lower(char: char) -> char {
    // Only U+0130 has more than one, and its first is the simple one.
    char.to_lowercase().next().unwrap_or(char)
}

fn simple_upper(char: char) -> char {
    let mut upper = char.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        // Greek letters with an iota below have a capital of their own; other characters stay.
        _ => match u32::from(char) {
            code @ (0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7) => {
                char::from_u32(code + 8).unwrap_or(char)
            }
            code @ (0x1fb3 | 0x1fc3 | 0x1ff3) => char::from_u32(code + 9).unwrap_or(char),
            _ => char,
        },
    }
}

#[cfg(test)]
mod tests;
