//! Kingpin's rules, by which Thanos reads its command line, turned into what clap reads.
//!
//! `--no-switch`, flags before the command, flags given twice, and flags that only Thanos knows are settled here; what
//! is left are `--flag=value` pairs, each once unless it is a list.

use clap::{Arg, ArgAction, Command};

use super::thanos::{self, Inert};

/// A command line that clap can read.
#[derive(Debug, Default)]
pub struct Normal {
    /// The command and its flags.
    pub args: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One known flag of a command line.
enum Known<'a> {
    Ours(&'a Arg),
    Inert(&'static Inert),
}

/// Settles what clap does not do the way that kingpin does; an error is one line for the operator.
pub fn normalise(root: &Command, args: &[String]) -> Result<Normal, String> {
    let is_help = args.first().is_some_and(|first| first == "help");
    let index = args.iter().position(|arg| root.find_subcommand(arg).is_some());
    let (Some(index), false) = (index, is_help) else {
        if let Some(word) = args.iter().find(|arg| !arg.starts_with('-') && !is_help) {
            return Err(format!(
                "unknown command {word:?}: this version has `annulus all` and `annulus receive`"
            ));
        }
        return Ok(Normal { args: args.to_vec(), warnings: Vec::new() });
    };
    let role = root.find_subcommand(&args[index]).expect("position() found it");
    let mut normal = Normal { args: vec![args[index].clone()], warnings: Vec::new() };
    let mut tokens = args[..index].iter().chain(&args[index + 1..]).peekable();
    // The last value of each single-value flag, by name, in order of first mention.
    let mut singles: Vec<(String, String)> = Vec::new();
    while let Some(token) = tokens.next() {
        let Some(long) = token.strip_prefix("--").filter(|long| !long.is_empty()) else {
            normal.args.push(token.clone()); // -h, -V or a stray word: clap knows what to say.
            continue;
        };
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let (known, negated) = find(role, name).ok_or_else(|| unknown(role, name))?;
        if let Known::Ours(arg) = &known
            && matches!(
                arg.get_action(),
                ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version
            )
        {
            normal.args.push(token.clone());
            continue;
        }
        let value = match inline {
            Some(_) if negated => return Err(format!("--{name} takes no value")),
            Some(value) => Some(value),
            None if known.is_switch() => Some((!negated).to_string()),
            None => tokens.next_if(|next| !next.starts_with("--")).cloned(),
        };
        match (known, value) {
            (Known::Inert(_), None) => return Err(format!("--{name} needs a value")),
            (Known::Inert(inert), Some(value)) => normal.warnings.extend(inert.accept(&value)?),
            (Known::Ours(_), None) => normal.args.push(token.clone()), // clap says that the value is missing.
            (Known::Ours(arg), Some(value)) => {
                let canonical = arg.get_long().unwrap_or(name).to_owned();
                if matches!(arg.get_action(), ArgAction::Append) {
                    normal.args.push(format!("--{canonical}={value}"));
                } else if let Some((_, last)) = singles.iter_mut().find(|(other, _)| *other == canonical) {
                    normal.warnings.push(format!(
                        "--{canonical} is given more than once: {value:?} takes the place of {last:?}"
                    ));
                    *last = value;
                } else {
                    singles.push((canonical, value));
                }
            }
        }
    }
    normal.args.extend(singles.into_iter().map(|(name, value)| format!("--{name}={value}")));
    Ok(normal)
}

impl Known<'_> {
    fn is_switch(&self) -> bool {
        match self {
            Known::Ours(arg) => arg.get_num_args().is_some_and(|count| count.min_values() == 0),
            Known::Inert(inert) => inert.is_switch,
        }
    }
}

/// The flag of that name, and whether `no-` stands before it.
fn find<'a>(role: &'a Command, name: &str) -> Option<(Known<'a>, bool)> {
    let exact = |name: &str| {
        let ours = role.get_arguments().find(|arg| longs(arg).contains(&name)).map(Known::Ours);
        ours.or_else(|| thanos::find(name).map(Known::Inert))
    };
    exact(name).map(|known| (known, false)).or_else(|| {
        let known = exact(name.strip_prefix("no-")?).filter(Known::is_switch)?;
        Some((known, true))
    })
}

fn longs(arg: &Arg) -> Vec<&str> {
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(aliases).collect()
}

fn unknown(role: &Command, name: &str) -> String {
    let rate = |other: &str| (distance(name, other), other.to_owned());
    let ours = role.get_arguments().flat_map(longs).map(rate);
    let nearest = ours.chain(thanos::names().map(rate)).min();
    let hint = match nearest {
        Some((distance, other)) if distance <= 2 + name.len() / 6 => format!("; did you mean --{other}?"),
        _ => format!("; `annulus {} --help` lists all flags", role.get_name()),
    };
    format!("unknown flag --{name}{hint}")
}

/// How many letters must be added, removed or replaced to turn one text into the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
