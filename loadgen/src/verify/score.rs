//! The score of a comparison: how many samples were checked, and what was wrong with how many.

use std::fmt;

/// Differences of one target that are described in words; the others are only counted.
pub const EXAMPLES_MAX: usize = 20;

/// Counts of one target, or of many added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    /// Series with at least one acknowledged sample.
    pub series_checked: u64,
    /// Acknowledged samples that were looked for.
    pub samples_checked: u64,
    /// Acknowledged, but not there.
    pub lost: u64,
    /// There, with another value.
    pub altered: u64,
    /// Copies beyond the first of a sample.
    pub duplicated: u64,
    /// There, but never sent.
    pub unexpected: u64,
    /// Of unacknowledged requests, and there.
    pub unknown_present: u64,
    /// Of unacknowledged requests, and not there.
    pub unknown_absent: u64,
    /// Native histograms found; none at all means that the receiver does not keep them.
    pub histograms_found: u64,
    /// Acknowledged native histograms that are not there, not yet counted as lost.
    pub histograms_absent: u64,
    /// Stale markers that no query can show.
    pub markers_unchecked: u64,
    /// Series in the answers, whatever they were.
    pub series_found: u64,
    /// The first differences, in words.
    pub examples: Vec<String>,
    /// The first histograms of `histograms_absent`, in words.
    pub histogram_examples: Vec<String>,
}

impl Score {
    /// Number of differences.
    pub fn differences(&self) -> u64 {
        self.lost + self.altered + self.duplicated + self.unexpected
    }

    /// Adds up counts, and examples while there is room.
    pub fn add(&mut self, other: Score) {
        self.series_checked += other.series_checked;
        self.samples_checked += other.samples_checked;
        self.lost += other.lost;
        self.altered += other.altered;
        self.duplicated += other.duplicated;
        self.unexpected += other.unexpected;
        self.unknown_present += other.unknown_present;
        self.unknown_absent += other.unknown_absent;
        self.histograms_found += other.histograms_found;
        self.histograms_absent += other.histograms_absent;
        self.markers_unchecked += other.markers_unchecked;
        self.series_found += other.series_found;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        self.histogram_examples.extend(other.histogram_examples);
        self.histogram_examples.truncate(EXAMPLES_MAX);
    }

    /// Describes a difference, while there is room.
    pub fn example(&mut self, what: fmt::Arguments<'_>) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what.to_string());
        }
    }
}
