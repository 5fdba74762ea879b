//! Which receivers are compared: ones that run already, and ones that are started here.

use std::path::PathBuf;
use std::time::Duration;

/// A receiver that can be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in tables.
    pub name: String,
    /// Where it takes remote write.
    pub url: String,
    /// Where its Prometheus query API is.
    pub query_url: Option<String>,
    /// Its processes on this machine, whose cost is measured.
    pub pids: Vec<u32>,
    /// What it is, if that is known.
    pub kind: Option<Kind>,
}

/// A receiver that this program can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `annulus all`; it flushes before each answer.
    Annulus,
    /// Prometheus with its remote write receiver; it does not flush.
    Prometheus,
    /// Single-node VictoriaMetrics; it does not flush.
    VictoriaMetrics,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Annulus, Kind::Prometheus, Kind::VictoriaMetrics];

    /// Its name, which is also that of its program.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Annulus => "annulus",
            Kind::Prometheus => "prometheus",
            Kind::VictoriaMetrics => "victoria-metrics",
        }
    }

    /// Where it takes remote write.
    pub fn write_path(self) -> &'static str {
        match self {
            Kind::Annulus => "/api/v1/receive",
            Kind::Prometheus | Kind::VictoriaMetrics => "/api/v1/write",
        }
    }

    /// How long it may take until it shows what it has acknowledged.
    pub fn settle(self) -> Duration {
        match self {
            Kind::Annulus | Kind::Prometheus => Duration::ZERO,
            Kind::VictoriaMetrics => Duration::from_secs(30),
        }
    }

    /// The relative error to which it rounds values.
    pub fn tolerance(self) -> f64 {
        match self {
            Kind::Annulus | Kind::Prometheus => 0.0,
            Kind::VictoriaMetrics => 1e-11,
        }
    }
}

/// A receiver to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// Which.
    pub kind: Kind,
    /// Its program; by default the one of that name beside this program, or else in `PATH`.
    pub binary: Option<PathBuf>,
    /// Flags beside those that it needs.
    pub flags: Vec<String>,
}

/// One of the receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It runs, and keeps running.
    Running(Target),
    /// It is started anew for each round, with an empty directory.
    Spawned {
        /// Its name in tables.
        name: String,
        /// What to start.
        spawn: Spawn,
    },
}

impl Choice {
    /// Its name in tables.
    pub fn name(&self) -> &str {
        match self {
            Choice::Running(target) => &target.name,
            Choice::Spawned { name, .. } => name,
        }
    }
}

/// Reads "name=a,url=http://…,query-url=http://…,pid=123,pid=124".
pub fn parse_target(text: &str) -> Result<Target, String> {
    let (mut name, mut url, mut query_url, mut pids) = (None, None, None, Vec::new());
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not key=value"))?;
        let slot = match key {
            "name" => &mut name,
            "url" => &mut url,
            "query-url" => &mut query_url,
            "pid" => {
                let pid = value.parse().ok().filter(|pid| *pid > 0);
                pids.push(pid.ok_or_else(|| format!("{value:?} is not a process id"))?);
                continue;
            }
            _ => return Err(format!("{key:?} is none of name, url, query-url, pid")),
        };
        if value.is_empty() || slot.replace(value.to_owned()).is_some() {
            return Err(format!("{key} must be given once, and not be empty"));
        }
    }
    let url = url.ok_or("url=… is missing")?;
    for url in [Some(&url), query_url.as_ref()].into_iter().flatten() {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(format!("{url:?} does not begin with http:// or https://"));
        }
    }
    Ok(Target { name: name.ok_or("name=… is missing")?, url, query_url, pids, kind: None })
}

/// Reads "annulus" or "annulus=/path/to/program".
pub fn parse_spawn(text: &str) -> Result<Spawn, String> {
    let (name, binary) = match text.split_once('=') {
        Some((name, binary)) => (name, Some(PathBuf::from(binary))),
        None => (text, None),
    };
    Ok(Spawn { kind: parse_kind(name)?, binary, flags: Vec::new() })
}

/// Reads "annulus=--wal.ring-size=1GiB": a flag for every receiver of that kind.
pub fn parse_spawn_flag(text: &str) -> Result<(Kind, String), String> {
    let (name, flag) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KIND=FLAG"))?;
    Ok((parse_kind(name)?, flag.to_owned()))
}

fn parse_kind(name: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| format!("{name:?} is none of {}", Kind::ALL.map(Kind::name).join(", ")))
}

/// Gives each receiver the flags of its kind.
pub fn with_flags(mut spawned: Vec<Spawn>, flags: &[(Kind, String)]) -> Result<Vec<Spawn>, String> {
    for (kind, flag) in flags {
        let mut of_kind = spawned.iter_mut().filter(|spawn| spawn.kind == *kind).peekable();
        if of_kind.peek().is_none() {
            return Err(format!("--spawn-flag {}={flag}: there is no --spawn {0}", kind.name()));
        }
        of_kind.for_each(|spawn| spawn.flags.push(flag.clone()));
    }
    Ok(spawned)
}

/// All receivers, the base of the ratios first. Two builds of one program get different names.
pub fn choices(running: &[Target], spawned: &[Spawn], base: Option<&str>) -> Result<Vec<Choice>, String> {
    let mut choices: Vec<Choice> = Vec::new();
    for target in running {
        if choices.iter().any(|choice| choice.name() == target.name) {
            return Err(format!("two receivers are named {:?}", target.name));
        }
        choices.push(Choice::Running(target.clone()));
    }
    for spawn in spawned {
        let plain = spawn.kind.name();
        let numbered = (1..)
            .map(|number: usize| if number == 1 { plain.to_owned() } else { format!("{plain}-{number}") });
        let is_free = |name: &String| choices.iter().all(|choice| choice.name() != name);
        // Among one more numbers than there are choices, one is free.
        let name = numbered.take(choices.len() + 1).find(is_free).unwrap_or_else(|| plain.to_owned());
        choices.push(Choice::Spawned { name, spawn: spawn.clone() });
    }
    if choices.is_empty() {
        return Err("give at least one --receiver or --spawn".to_owned());
    }
    if let Some(base) = base {
        let names: Vec<&str> = choices.iter().map(Choice::name).collect();
        let index = names.iter().position(|name| *name == base);
        let index = index.ok_or_else(|| format!("--base: {base:?} is none of {}", names.join(", ")))?;
        choices[..=index].rotate_right(1);
    }
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_receiver_is_read_with_all_its_parts() {
        let target = parse_target("name=a,url=http://h:1/w,query-url=http://h:2,pid=5,pid=6").unwrap();
        assert_eq!((target.name.as_str(), target.url.as_str()), ("a", "http://h:1/w"));
        assert_eq!((target.query_url.as_deref(), target.pids), (Some("http://h:2"), vec![5, 6]));
        assert_eq!(parse_target("name=a,url=https://h/w?x=y").unwrap().url, "https://h/w?x=y");
    }

    #[test]
    fn mistakes_in_a_receiver_are_named() {
        for (text, reason) in [
            ("", "is not key=value"),
            ("name=a", "url=… is missing"),
            ("url=http://h", "name=… is missing"),
            ("name=a,url=h:1", "does not begin with http://"),
            ("name=a,url=http://h,query-url=h", "does not begin with http://"),
            ("name=a,name=b,url=http://h", "name must be given once"),
            ("name=,url=http://h", "name must be given once"),
            ("name=a,url=http://h,pid=-1", "is not a process id"),
            ("name=a,url=http://h,port=5", "is none of name"),
        ] {
            assert!(parse_target(text).unwrap_err().contains(reason), "{text:?}");
        }
    }

    #[test]
    fn two_builds_of_one_program_get_different_names() {
        let spawned =
            ["annulus", "annulus=/old/annulus", "prometheus"].map(|text| parse_spawn(text).unwrap());
        let choices = choices(&[], &spawned, Some("prometheus")).unwrap();
        let names: Vec<&str> = choices.iter().map(Choice::name).collect();
        assert_eq!(names, ["prometheus", "annulus", "annulus-2"]);
    }

    #[test]
    fn flags_reach_the_receivers_of_their_kind() {
        let spawned = ["annulus", "prometheus"].map(|text| parse_spawn(text).unwrap()).to_vec();
        let flag = parse_spawn_flag("annulus=--shards=2").unwrap();
        let flagged = with_flags(spawned.clone(), &[flag]).unwrap();
        assert_eq!(
            (flagged[0].flags.as_slice(), flagged[1].flags.len()),
            (&["--shards=2".to_owned()][..], 0)
        );
        let flag = parse_spawn_flag("victoria-metrics=-x").unwrap();
        assert!(with_flags(spawned, &[flag]).unwrap_err().contains("there is no --spawn victoria-metrics"));
        assert!(parse_spawn_flag("--shards").is_err() && parse_spawn_flag("influx=-x").is_err());
    }

    #[test]
    fn nothing_to_compare_is_an_error() {
        assert!(choices(&[], &[], None).unwrap_err().contains("at least one"));
        assert!(parse_spawn("influx").unwrap_err().contains("is none of annulus, prometheus"));
        let target = parse_target("name=a,url=http://h").unwrap();
        assert!(choices(&[target.clone(), target.clone()], &[], None).unwrap_err().contains("two receivers"));
        assert!(choices(&[target], &[], Some("b")).unwrap_err().contains("--base"));
    }
}
