//! Queries that are wrong on purpose: while they are parsed, while their types are checked, and while they run.

use super::grammar::{Place, vector};
use super::metrics::METRICS;
use super::pick::Pick;

/// `$` is a metric.
const WRONG: [&str; 63] = [
    "nosuch($)",
    "sum($",
    "sum(1)",
    "sum($[5m])",
    "rate($)",
    "rate($[5m]",
    "rate($[])",
    "rate($[5x])",
    "rate($[-5m])",
    "rate($[5m][5m])",
    "rate($[5m] + 1)",
    "$[5m] + 1",
    "$ offset",
    "($) offset 5m",
    "$ offset 5m offset 5m",
    "$ @ 10 @ 20",
    "$ @ foo",
    "sum($) @ 10",
    "$[5m:1m][5m]",
    "$[5m:0s]",
    "1[5m]",
    "$[5m] offset 1m[5m:1m]",
    "$ + \"text\"",
    "$ and 1",
    "1 or $",
    "1 == 1",
    "$ + bool $",
    "$ and bool $",
    "$ and on (job) group_left $",
    "$ + group_left $",
    "$ + on (job) group_left (job) $",
    "$ + on (job $",
    "$ +",
    "* $",
    "$ $",
    "{}",
    "{job=~\".*\"}",
    "{job!=\"a\", job=\"\"}",
    "$$",
    "$ == == $",
    "$ =~ 1",
    "${job=~\"(\"}",
    "${job!~\"a**\"}",
    "${job=~\"[z-a]\"}",
    "${job=\"a\"",
    "${job=a}",
    "${=\"a\"}",
    "${__name__=\"other\"}",
    "topk($)",
    "topk(\"1\", $)",
    "topk(NaN, $)",
    "count_values(1, $)",
    "quantile(\"0.5\", $)",
    "sum by job ($)",
    "sum by (job) without (job) ($)",
    "histogram_quantile($)",
    "label_replace($, \"x\", \"$1\", \"job\")",
    "label_replace($, \"x\", \"1\", \"job\", \"(\")",
    "label_replace($, 1, \"1\", \"job\", \"x\")",
    "holt_winters($[5m], 2, 0.5)",
    "holt_winters($[5m], 0.5, 0)",
    "clamp($, 1)",
    "scalar(1)",
];

/// What is wrong only because of the series that there are.
const WRONG_SERIES: [&str; 12] = [
    "temperature + on (floor) balance",
    "temperature + ignoring (room) balance",
    "requests_total / on (job) errors_total",
    "requests_total / on (job, instance) errors_total",
    "errors_total / on (job) group_left requests_total",
    "rate({__name__=~\"temperature|balance\"}[5m])",
    "-{__name__=~\"temperature|balance\"}",
    "{__name__=~\"temperature|balance|temperature_limit\"} * 2",
    "abs({__name__=~\"temperature|balance\"})",
    "max_over_time({__name__=~\"latency_seconds_.+\"}[1m])",
    "label_replace(temperature, \"floor\", \"3\", \"room\", \".*\")",
    "requests_total * on (job) group_left (code) job_info",
];

/// One of them.
pub fn wrong(pick: &mut Pick) -> String {
    if pick.chance(25) {
        return pick.one(&WRONG_SERIES).to_owned();
    }
    let metric = pick.one(METRICS).name;
    // A replacement of a regular expression has a `$` of its own.
    pick.one(&WRONG).replace("\"$1\"", "\"\u{0}\"").replace('$', metric).replace('\u{0}', "$1")
}

/// A query of which one token is missing, there twice, or in the place of its neighbour. It may be right by chance.
/// Nothing that 3.x can make more of: it calculates with durations, and takes a window with `@` in parentheses.
pub fn mutated(pick: &mut Pick) -> String {
    let text = loop {
        let text = format!("({})", vector(pick, 2, Place::Outside).text);
        if !text.contains("offset -") && !text.contains(" @ ") {
            break text;
        }
    };
    let mut tokens = tokens(&text);
    let index = pick.below(tokens.len() - 1);
    match pick.below(3) {
        _ if tokens[index] == "offset" => tokens.insert(index, ")".to_owned()),
        0 => drop(tokens.remove(index)),
        1 => tokens.insert(index, tokens[index].clone()),
        _ => tokens.swap(index, index + 1),
    }
    tokens.join(" ")
}

/// Words, numbers and durations; strings; signs.
fn tokens(text: &str) -> Vec<String> {
    let is_of_word = |char: char| char.is_ascii_alphanumeric() || "_.:".contains(char);
    let (mut tokens, mut is_string, mut last) = (Vec::<String>::new(), false, ' ');
    for char in text.chars() {
        let goes_on = is_of_word(last) && is_of_word(char) || "=!<>".contains(last) && "=~".contains(char);
        match tokens.last_mut() {
            Some(token) if is_string || goes_on => token.push(char),
            _ if char == ' ' => {}
            _ => tokens.push(char.to_string()),
        }
        is_string ^= char == '"';
        last = char;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_into_its_tokens() {
        let text = "sum by(job)(rate(m{a!~\"x \\\\w\",b=\"\"}[5m] offset -1m)) >= bool 1e3";
        let expected =
            "sum|by|(|job|)|(|rate|(|m|{|a|!~|\"x \\\\w\"|,|b|=|\"\"|}|[|5m|]|offset|-|1m|)|)|>=|bool|1e3";
        assert_eq!(tokens(text).join("|"), expected);
    }
}
