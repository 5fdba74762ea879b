//! Finds the series that fulfil a set of matchers, in steps of bounded work, so that a pattern over a million
//! values never stalls the shard.
//!
//! Values that a matcher names are looked up, and those of a quick one are compared here. What any other pattern costs
//! is bounded neither by the number of values nor by their bytes, so it is never run on the shard: the search asks a
//! [`Question`], which is answered where there is time.

use std::sync::Arc;

use super::bitset::BitSet;
use super::index::Pair;
use super::store::Head;
use crate::Matcher;
use crate::matcher::MatchOp;

/// Values that one step looks up, compares or asks about: some 100 µs of work.
const STEP_VALUES: usize = 1000;

/// Bytes of values that one step compares or copies; one value more may come on top.
const STEP_BYTES: usize = 64 << 10;

/// Series that one step collects; those of one value more may come on top.
const STEP_SERIES: usize = 32 << 10;

/// A search in progress. It sees the series that existed when it began.
pub struct Finder {
    tenant: u32,
    /// What costs least, and narrows most, comes first.
    matchers: Arc<[Matcher]>,
    /// Which matcher is worked on, and how many of its values were looked at.
    matcher_at: usize,
    value_at: usize,
    way: Way,
    /// Places of the values that the question is about.
    asked: Vec<usize>,
    /// Places of values that matter, as the answer says; their series are still to be collected.
    answered: Vec<usize>,
    bound: u32,
    found: BitSet,
    current: BitSet,
    /// Lists of values are as they were at this count of removals.
    removals: u64,
}

/// How the values that matter to a matcher are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The matcher names them.
    LookUp,
    /// All values of its label are compared.
    Compare,
    /// The values of its label are sent to where there is time.
    Ask,
}

/// What a step of a search came to.
#[derive(Debug)]
pub enum Step {
    /// All matchers are worked on.
    Done,
    /// There is more to do.
    More,
    /// The search goes on with [`Finder::take`].
    Ask(Question),
}

/// Values to compare with a pattern that may be costly.
#[derive(Debug)]
pub struct Question {
    matchers: Arc<[Matcher]>,
    matcher_at: usize,
    /// The values, one behind the other, and where each ends.
    texts: String,
    ends: Vec<usize>,
}

/// Which of a question's values matter.
#[derive(Debug)]
pub struct Answer(Vec<bool>);

impl Question {
    /// Compares the values, for as long as anybody wants to know.
    pub fn answer(&self, is_wanted: impl Fn() -> bool) -> Answer {
        let matcher = &self.matchers[self.matcher_at];
        let mut start = 0;
        let matters = |end: &usize| {
            let value = &self.texts[std::mem::replace(&mut start, *end)..*end];
            is_wanted() && is_relevant(matcher, value)
        };
        Answer(self.ends.iter().map(matters).collect())
    }
}

/// A matcher that accepts an absent label is easier to see as what it rejects.
fn is_relevant(matcher: &Matcher, value: &str) -> bool {
    matcher.matches(value) != matcher.matches_empty()
}

/// The values that matter, where the matcher names them.
fn named_values(matcher: &Matcher) -> Option<Box<dyn ExactSizeIterator<Item = &str> + '_>> {
    let is_negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
    if matcher.matches_empty() != is_negative {
        return None;
    }
    match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => Some(Box::new(std::iter::once(matcher.value.as_str()))),
        MatchOp::Regex | MatchOp::NotRegex => Some(Box::new(matcher.listed_values()?)),
    }
}

impl Way {
    /// The way for a label of so many values.
    fn of(matcher: &Matcher, value_count: usize) -> Way {
        match named_values(matcher) {
            Some(named) if named.len() <= value_count.max(1) => Way::LookUp,
            _ if matcher.is_quick() => Way::Compare,
            _ => Way::Ask,
        }
    }
}

/// What one step may still do.
struct Effort {
    values: usize,
    bytes: usize,
    series: usize,
}

impl Effort {
    fn of_step() -> Effort {
        Effort { values: STEP_VALUES, bytes: STEP_BYTES, series: STEP_SERIES }
    }

    fn is_spent(&self) -> bool {
        self.values == 0 || self.bytes == 0 || self.series == 0
    }

    fn spend(&mut self, bytes: usize, series: usize) {
        self.values = self.values.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.series = self.series.saturating_sub(series);
    }
}

impl Finder {
    /// Begins a search among one tenant's series; `None` when the tenant is unknown.
    pub fn new(head: &Head, tenant: &str, matchers: &SearchOrder) -> Option<Finder> {
        let tenant = head.symbols.find(tenant)?;
        let index = head.index.tenants.get(&tenant)?;
        let all = &index.series;
        let bound = head.series_count();
        let mut found = BitSet::empty(bound);
        found.extend(all);
        Some(Finder {
            tenant,
            matchers: Arc::clone(&matchers.0),
            matcher_at: 0,
            value_at: 0,
            way: Way::Compare,
            asked: Vec::new(),
            answered: Vec::new(),
            bound,
            found,
            current: BitSet::empty(bound),
            removals: index.removals,
        })
    }

    /// Does a bounded amount of work.
    pub fn step(&mut self, head: &Head) -> Step {
        let matchers = Arc::clone(&self.matchers);
        let Some(matcher) = matchers.get(self.matcher_at) else { return Step::Done };
        let removals = head.index.tenants.get(&self.tenant).map_or(0, |tenant| tenant.removals);
        if self.removals != removals {
            // Positions in the list have shifted: this matcher begins again.
            self.removals = removals;
            self.begin_matcher();
        }
        let pairs = head
            .symbols
            .find(&matcher.name)
            .and_then(|name| head.index.tenants.get(&self.tenant)?.names.get(&name))
            .map_or(&[][..], Vec::as_slice);
        if self.value_at == 0 {
            self.way = Way::of(matcher, pairs.len());
        }
        let mut effort = Effort::of_step();
        let is_whole = match self.way {
            Way::LookUp => self.look_up(head, matcher, &mut effort),
            Way::Compare => self.compare(head, matcher, pairs, &mut effort),
            Way::Ask => {
                self.collect_answered(head, pairs, &mut effort);
                if effort.is_spent() {
                    return Step::More;
                }
                if let Some(question) = self.ask(head, pairs, &mut effort) {
                    return Step::Ask(question);
                }
                self.value_at == pairs.len()
            }
        };
        if is_whole {
            if matcher.matches_empty() {
                self.found.subtract(&self.current);
            } else {
                self.found.intersect(&self.current);
            }
            self.matcher_at += 1;
            self.begin_matcher();
        }
        if self.matcher_at == self.matchers.len() { Step::Done } else { Step::More }
    }

    /// Takes the answer to the question that was asked last.
    pub fn take(&mut self, answer: Answer) {
        assert_eq!(answer.0.len(), self.asked.len(), "an answer is about what was asked");
        let matter = self.asked.drain(..).zip(answer.0).filter(|(_, matters)| *matters);
        self.answered = matter.map(|(place, _)| place).collect();
    }

    fn begin_matcher(&mut self) {
        self.current = BitSet::empty(self.bound);
        self.value_at = 0;
        self.answered.clear();
    }

    fn look_up(&mut self, head: &Head, matcher: &Matcher, effort: &mut Effort) -> bool {
        let name = head.symbols.find(&matcher.name);
        let mut named = named_values(matcher).into_iter().flatten().skip(self.value_at);
        while !effort.is_spent() {
            let Some(value) = named.next() else { return true };
            self.value_at += 1;
            let pair = name.zip(head.symbols.find(value));
            let pair =
                pair.and_then(|(name, value)| head.index.find(Pair { tenant: self.tenant, name, value }));
            let series = pair.map_or(&[][..], |pair| head.index.postings(pair));
            self.current.extend(series);
            effort.spend(value.len(), series.len());
        }
        named.next().is_none()
    }

    fn compare(&mut self, head: &Head, matcher: &Matcher, pairs: &[u32], effort: &mut Effort) -> bool {
        while self.value_at < pairs.len() && !effort.is_spent() {
            let pair = pairs[self.value_at];
            self.value_at += 1;
            let value = head.symbols.text(head.index.pair(pair).value);
            let series = if is_relevant(matcher, value) { head.index.postings(pair) } else { &[] };
            self.current.extend(series);
            effort.spend(value.len(), series.len());
        }
        self.value_at == pairs.len()
    }

    fn collect_answered(&mut self, head: &Head, pairs: &[u32], effort: &mut Effort) {
        while !effort.is_spent()
            && let Some(place) = self.answered.pop()
        {
            let series = head.index.postings(pairs[place]);
            self.current.extend(series);
            effort.spend(0, series.len());
        }
    }

    /// Asks about values of series that the other matchers have left.
    fn ask(&mut self, head: &Head, pairs: &[u32], effort: &mut Effort) -> Option<Question> {
        self.asked.clear();
        let (mut texts, mut ends) = (String::new(), Vec::new());
        while self.value_at < pairs.len() && !effort.is_spent() {
            let pair = pairs[self.value_at];
            let series = head.index.postings(pair);
            let looked_at = series.iter().position(|one| self.found.contains(*one));
            let mut bytes = 0;
            if looked_at.is_some() {
                let value = head.symbols.text(head.index.pair(pair).value);
                texts.push_str(value);
                ends.push(texts.len());
                self.asked.push(self.value_at);
                bytes = value.len();
            }
            effort.spend(bytes, looked_at.map_or(series.len(), |before| before + 1));
            self.value_at += 1;
        }
        let (matchers, matcher_at) = (Arc::clone(&self.matchers), self.matcher_at);
        (!ends.is_empty()).then_some(Question { matchers, matcher_at, texts, ends })
    }

    /// The numbers of the series found, rising.
    pub fn finish(self) -> Vec<u32> {
        self.found.iter().collect()
    }
}

/// Matchers in the order in which a search works on them: what is looked up narrows what others have to be asked about.
#[derive(Debug, Clone)]
pub struct SearchOrder(Arc<[Matcher]>);

impl SearchOrder {
    /// Puts matchers in order.
    pub fn of(mut matchers: Vec<Matcher>) -> SearchOrder {
        matchers.sort_by_key(|matcher| (Way::of(matcher, usize::MAX), matcher.matches_empty()));
        SearchOrder(matchers.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::SeriesKey;
    use proptest::prelude::*;

    fn find(head: &Head, tenant: &str, matchers: &[Matcher]) -> Vec<u32> {
        let order = SearchOrder::of(matchers.to_vec());
        let Some(finder) = Finder::new(head, tenant, &order) else { return Vec::new() };
        run(finder, head).0
    }

    /// The series found, and the steps and the questions that it took.
    fn run(mut finder: Finder, head: &Head) -> (Vec<u32>, usize, usize) {
        let (mut steps, mut questions) = (1, 0);
        loop {
            match finder.step(head) {
                Step::Done => return (finder.finish(), steps, questions),
                Step::More => steps += 1,
                Step::Ask(question) => {
                    (steps, questions) = (steps + 1, questions + 1);
                    finder.take(question.answer(|| true));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_scan_finds(
            sets in proptest::collection::vec((0u32..2, proptest::collection::btree_map("[a-c]", "[x-z]{1,2}", 1..3)), 0..40),
            conditions in proptest::collection::vec((0usize..4, "[a-d]", prop_oneof!["[x-z]{0,2}", Just("x.*|zz".to_owned()), Just("x|zz|y".to_owned()), Just("x||zy".to_owned()), Just("[xy]+".to_owned()), Just("(x|z)*".to_owned()), Just(".*".to_owned())]), 0..4),
        ) {
            let mut head = Head::default();
            for (number, (tenant, labels)) in sets.iter().enumerate() {
                let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                head.create(SeriesKey(number as u128), &tenant.to_string(), &labels).unwrap();
            }
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let matchers: Vec<_> = conditions.into_iter()
                .map(|(op, name, value)| Matcher::new(ops[op], name, value).unwrap()).collect();
            for tenant in 0..3 {
                let expected: Vec<u32> = sets.iter().enumerate()
                    .filter(|(_, (owner, labels))| *owner == tenant && matchers.iter().all(|matcher| {
                        matcher.matches(labels.get(&matcher.name).map_or("", String::as_str))
                    }))
                    .map(|(number, _)| number as u32)
                    .collect();
                prop_assert_eq!(find(&head, &tenant.to_string(), &matchers), expected);
            }
        }
    }

    fn head_of(values: impl Iterator<Item = String>) -> Head {
        let mut head = Head::default();
        for (number, value) in values.enumerate() {
            let job = if number % 100 == 0 { "rare" } else { "frequent" };
            let labels = [("job", job), ("pod", value.as_str())];
            head.create(SeriesKey(number as u128), "t", &labels).unwrap();
        }
        head
    }

    fn finder(head: &Head, matchers: &[(MatchOp, &str, &str)]) -> Finder {
        let matchers = matchers.iter().map(|(op, name, value)| Matcher::new(*op, *name, *value).unwrap());
        Finder::new(head, "t", &SearchOrder::of(matchers.collect())).unwrap()
    }

    #[test]
    fn a_search_over_many_values_takes_many_steps() {
        let head = head_of((0..10_000).map(|number| number.to_string()));
        let (found, steps, questions) = run(finder(&head, &[(MatchOp::Regex, "pod", "1.*")]), &head);
        assert_eq!((found.len(), steps, questions), (1111, 10, 0));
    }

    #[test]
    fn a_step_over_long_values_takes_few_of_them() {
        let head = head_of((0..100).map(|number| format!("{number}{}", "x".repeat(STEP_BYTES / 4))));
        let (found, steps, _) = run(finder(&head, &[(MatchOp::Regex, "pod", "1.*")]), &head);
        assert!(found.len() == 11 && steps >= 25, "{} {steps}", found.len());
    }

    #[test]
    fn a_costly_pattern_is_never_run_in_a_step() {
        let head = head_of((0..3_000).map(|number| format!("{number}{}", "x".repeat(100))));
        for pattern in [".*[0-4].{3}x", ".*1.*2.*", "(1|2).*x{3}.*"] {
            let mut finder = finder(&head, &[(MatchOp::Regex, "pod", pattern)]);
            let Step::Ask(question) = finder.step(&head) else { panic!("{pattern} was not asked about") };
            assert!(question.texts.len() < STEP_BYTES + 200 && question.ends.len() <= STEP_VALUES);
            finder.take(question.answer(|| true));
            assert!(run(finder, &head).2 >= 4);
        }
    }

    #[test]
    fn only_values_of_series_that_are_left_are_asked_about() {
        let head = head_of((0..1_000).map(|number| number.to_string()));
        let matchers = [(MatchOp::Regex, "pod", ".*[0-4]00"), (MatchOp::Equal, "job", "rare")];
        let mut finder = finder(&head, &matchers);
        assert!(matches!(finder.step(&head), Step::More));
        let Step::Ask(question) = finder.step(&head) else { panic!("there is a costly pattern") };
        assert_eq!(question.texts, "0100200300400500600700800900");
        finder.take(question.answer(|| true));
        assert_eq!(run(finder, &head).0, [100, 200, 300, 400]);
    }

    #[test]
    fn a_question_that_nobody_asks_any_more_costs_nothing() {
        let head = head_of((0..100).map(|number| number.to_string()));
        let mut finder = finder(&head, &[(MatchOp::Regex, "pod", "[0-9]+")]);
        let Step::Ask(question) = finder.step(&head) else { panic!("there is a costly pattern") };
        assert!(question.answer(|| false).0.iter().all(|matters| !matters));
    }

    #[test]
    fn listed_values_are_looked_up_where_a_walk_takes_longer() {
        let head = head_of((0..4_000).map(|number| number.to_string()));
        let list: Vec<String> = (2_000..5_000).map(|number| number.to_string()).collect();
        let list = list.join("|");
        for (op, found) in [(MatchOp::Regex, 2_000), (MatchOp::NotRegex, 2_000)] {
            let (series, steps, questions) = run(finder(&head, &[(op, "pod", &list)]), &head);
            assert_eq!((series.len(), steps, questions), (found, 3, 0), "{op:?}");
        }
    }

    #[test]
    fn a_search_that_meets_removals_begins_its_matcher_again() {
        let mut head = head_of((0..2_000).map(|number| number.to_string()));
        let mut finder = finder(&head, &[(MatchOp::Regex, "pod", "[0-9]*7")]);
        let Step::Ask(question) = finder.step(&head) else { panic!("there is a costly pattern") };
        finder.take(question.answer(|| true));
        let tenant = head.symbols.find("t").unwrap();
        head.index.tenants.get_mut(&tenant).unwrap().removals += 1;
        assert_eq!(run(finder, &head).0.len(), 200);
    }
}
