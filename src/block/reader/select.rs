//! Finds the series of an index that fulfil a set of matchers, with Prometheus' rules: an absent label is empty.

use annulus_shards::Matcher;

use super::IndexReader;
use super::offsets::OffsetEntries;
use super::pattern::Values;
use super::postings::{decode_postings, intersect, subtract, unite};
use super::range::{RangeRead, ReadAhead};
use super::series::SeriesRef;
use crate::block::codec::section_bytes;
use crate::block::error::BlockError;

/// A matcher, and how the index answers it.
struct Condition<'m> {
    /// A matcher that accepts an absent label is easier to see as what it rejects.
    rejects: bool,
    values: Values<'m>,
    matcher: &'m Matcher,
}

impl<F: RangeRead> IndexReader<F> {
    /// The series that fulfil all matchers, in the order of their labels. A pattern over many values may take any time:
    /// once `goes_on` says no, the rest is left out, and what was found is of no use.
    pub fn postings(
        &self,
        matchers: &[Matcher],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Vec<SeriesRef>, BlockError> {
        let mut conditions: Vec<_> = matchers
            .iter()
            // The most frequent pattern in dashboards, and it says nothing.
            .filter(|matcher| {
                !(matcher.op == annulus_shards::matcher::MatchOp::Regex && matcher.value == ".*")
            })
            .map(|matcher| Condition {
                rejects: matcher.matches_empty(),
                values: Values::of(matcher),
                matcher,
            })
            .collect();
        // What narrows most comes first, and what only takes away comes last.
        conditions.sort_by(|a, b| (a.rejects, &a.values).cmp(&(b.rejects, &b.values)));
        let mut found = match conditions.first() {
            Some(first) if !first.rejects => self.series_of(&conditions.remove(0), goes_on)?,
            _ => self.all_series()?,
        };
        for condition in conditions {
            if found.is_empty() {
                break;
            }
            let series = self.series_of(&condition, goes_on)?;
            if condition.rejects {
                subtract(&mut found, &series);
            } else {
                intersect(&mut found, &series);
            }
        }
        Ok(found)
    }

    /// All series, in the order of their labels.
    pub fn all_series(&self) -> Result<Vec<SeriesRef>, BlockError> {
        let mut series = Vec::new();
        self.lists_of("", &Values::Some(vec![""]), |_| Some(true), &mut series)?;
        Ok(series)
    }

    /// The names of all labels, in order.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.offsets.names().filter(|name| !name.is_empty())
    }

    /// The values of a label, in order.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, BlockError> {
        let mut values = Vec::with_capacity(self.offsets.value_count(name) as usize);
        self.walk(name, |value, _| {
            values.push(value.to_owned());
            Ok(())
        })?;
        Ok(values)
    }

    /// The values that a label has in some of the series, in order.
    pub fn label_values_of(&self, name: &str, series: &[SeriesRef]) -> Result<Vec<String>, BlockError> {
        let (mut values, mut ahead, mut list) = (Vec::new(), ReadAhead::new(), Vec::new());
        self.walk(name, |value, offset| {
            list.clear();
            self.read_list(&mut ahead, offset, &mut list)?;
            intersect(&mut list, series);
            if !list.is_empty() {
                values.push(value.to_owned());
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// Calls `each` with every label pair and its list of postings.
    pub fn each_list(&self, mut each: impl FnMut(&str, &str, &[SeriesRef])) -> Result<(), BlockError> {
        let (mut ahead, mut list) = (ReadAhead::new(), Vec::new());
        for name in self.offsets.names() {
            self.walk(name, |value, offset| {
                list.clear();
                self.read_list(&mut ahead, offset, &mut list)?;
                each(name, value, &list);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn series_of(
        &self,
        condition: &Condition<'_>,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Vec<SeriesRef>, BlockError> {
        let matters = |value: &str| goes_on().then(|| condition.matcher.matches(value) != condition.rejects);
        let mut series = Vec::new();
        self.lists_of(&condition.matcher.name, &condition.values, matters, &mut series)?;
        unite(&mut series);
        Ok(series)
    }

    /// Appends the lists of those values of a label for which `matters` holds, until it says nothing.
    fn lists_of(
        &self,
        name: &str,
        values: &Values<'_>,
        matters: impl Fn(&str) -> Option<bool>,
        into: &mut Vec<SeriesRef>,
    ) -> Result<(), BlockError> {
        let ranges = match values {
            Values::Some(values) => {
                values.iter().filter_map(|value| self.offsets.range_of_value(name, value)).collect()
            }
            Values::Prefix(prefix) => Vec::from_iter(self.offsets.range_of_prefix(name, prefix)),
            Values::All => Vec::from_iter(self.offsets.range_of_name(name)),
        };
        let mut ahead = ReadAhead::new();
        let mut done = 0;
        for range in ranges {
            // Two wanted values can be in one range.
            if range.start < done {
                continue;
            }
            done = range.end;
            let bytes = self.file.read(range.start, range.end - range.start)?;
            for entry in OffsetEntries::new(&bytes, range.start) {
                let entry = entry.map_err(|error| error.in_file(&self.file.name))?;
                match matters(entry.value) {
                    Some(true) => self.read_list(&mut ahead, entry.offset, into)?,
                    Some(false) => {}
                    None => return Ok(()),
                }
            }
        }
        Ok(())
    }

    fn walk(
        &self,
        name: &str,
        mut each: impl FnMut(&str, u64) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let Some(range) = self.offsets.range_of_name(name) else { return Ok(()) };
        let bytes = self.file.read(range.start, range.end - range.start)?;
        for entry in OffsetEntries::new(&bytes, range.start) {
            let entry = entry.map_err(|error| error.in_file(&self.file.name))?;
            each(entry.value, entry.offset)?;
        }
        Ok(())
    }

    fn read_list(
        &self,
        ahead: &mut ReadAhead,
        offset: u64,
        into: &mut Vec<SeriesRef>,
    ) -> Result<(), BlockError> {
        let head = ahead.exact(&self.file, offset, 4)?;
        let length = section_bytes(head.try_into().expect("four bytes were read"));
        let bytes = ahead.exact(&self.file, offset, length)?;
        decode_postings(bytes, offset, into).map_err(|error| error.in_file(&self.file.name))
    }
}
