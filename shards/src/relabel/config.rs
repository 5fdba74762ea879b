//! Relabelling rules as Prometheus' configuration writes them: strict YAML, with errors that name the rule.

use serde::Deserialize;

use super::rule::{Action, Rule, Rules};
use crate::matcher::{CapturePattern, Template};

/// What rules do that name no action.
const DEFAULT_ACTION: &str = "replace";
const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_PATTERN: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// Every series that is not known yet goes through all rules.
const RULES_MAX: usize = 1000;

/// Why a text is not a list of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelConfigError {
    /// Not YAML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// Too many rules.
    #[error("{count} rules are more than {RULES_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A rule that contradicts itself.
    #[error("rule {number}: {reason}")]
    Rule {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    source_labels: Option<Vec<String>>,
    separator: Option<String>,
    regex: Option<String>,
    modulus: Option<u64>,
    target_label: Option<String>,
    replacement: Option<String>,
    action: Option<String>,
}

/// Reads a list of rules; an empty text is an empty list.
pub fn parse_rules(yaml: &str) -> Result<Rules, RelabelConfigError> {
    let raw: Option<Vec<RawRule>> = serde_saphyr::from_str(yaml)
        .map_err(|error| RelabelConfigError::Syntax(error.without_snippet().to_string()))?;
    let raw = raw.unwrap_or_default();
    if raw.len() > RULES_MAX {
        return Err(RelabelConfigError::TooMany { count: raw.len() });
    }
    let rules = raw.into_iter().enumerate().map(|(index, raw)| {
        raw.check().map_err(|reason| RelabelConfigError::Rule { number: index + 1, reason })
    });
    Ok(Rules(rules.collect::<Result<_, _>>()?))
}

impl RawRule {
    /// The checks of Prometheus' `relabel.Config.Validate`.
    fn check(self) -> Result<Rule, String> {
        let action = self.action.as_deref().unwrap_or(DEFAULT_ACTION).to_lowercase();
        let action = Action::ALL
            .into_iter()
            .find(|known| known.name() == action)
            .ok_or_else(|| format!("unknown relabel action {action:?}"))?;
        let name = action.name();
        let separator = self.separator.as_deref().unwrap_or(DEFAULT_SEPARATOR);
        let regex = self.regex.as_deref().unwrap_or(DEFAULT_PATTERN);
        let replacement = self.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT);
        let target = self.target_label.as_deref().unwrap_or_default();
        let modulus = self.modulus.unwrap_or(0);
        let is_default_tail =
            separator == DEFAULT_SEPARATOR && replacement == DEFAULT_REPLACEMENT && modulus == 0;
        match action {
            Action::Keep | Action::Drop => {}
            Action::LabelMap if replacement.is_empty() => {
                return Err("labelmap needs a 'replacement' that makes a label name".to_owned());
            }
            Action::LabelMap => {}
            Action::LabelDrop | Action::LabelKeep => {
                if self.source_labels.is_some() || !target.is_empty() || !is_default_tail {
                    return Err(format!("{name} takes only 'regex', and no other field"));
                }
            }
            Action::Replace
            | Action::KeepEqual
            | Action::DropEqual
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase => {
                if target.is_empty() {
                    return Err(format!("{name} needs a 'target_label'"));
                }
            }
        }
        match action {
            Action::HashMod if modulus == 0 => {
                return Err("hashmod needs a 'modulus' that is not 0".to_owned());
            }
            Action::KeepEqual | Action::DropEqual if regex != DEFAULT_PATTERN || !is_default_tail => {
                return Err(format!(
                    "{name} takes only 'source_labels' and 'target_label', and no other field"
                ));
            }
            Action::Lowercase | Action::Uppercase if replacement != DEFAULT_REPLACEMENT => {
                return Err(format!("'replacement' cannot be set for {name}"));
            }
            _ => {}
        }
        if self.source_labels.iter().flatten().any(String::is_empty) {
            return Err("'source_labels' has an empty name".to_owned());
        }
        let pattern =
            CapturePattern::new(regex).map_err(|error| format!("invalid 'regex' {regex:?}: {error}"))?;
        Ok(Rule {
            action,
            sources: self.source_labels.unwrap_or_default(),
            separator: separator.to_owned(),
            target: target.to_owned(),
            target_template: Template::new(target, &pattern),
            replacement: Template::new(replacement, &pattern),
            pattern,
            modulus,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: &str = r#"
- source_labels: [__name__, job]
  separator: "@"
  regex: "go_(.*)@api"
  target_label: kind
  replacement: "${1}"
- action: labeldrop
  regex: "tmp_.*"
- {action: HashMod, source_labels: [pod], modulus: 4, target_label: shard}
"#;

    fn message(yaml: &str) -> String {
        parse_rules(yaml).unwrap_err().to_string()
    }

    #[test]
    fn a_list_of_rules_is_read() {
        let rules = parse_rules(RULES).unwrap();
        let actions: Vec<_> = rules.0.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [Action::Replace, Action::LabelDrop, Action::HashMod]);
        assert!(parse_rules("").unwrap().is_empty() && parse_rules("[]").unwrap().is_empty());
        assert_eq!(parse_rules("- {regex: 5, target_label: a, replacement: 1}").unwrap().len(), 1);
    }

    #[test]
    fn a_mistake_is_named_with_its_rule() {
        for (rule, expected) in [
            ("{action: relabel}", "rule 2: unknown relabel action \"relabel\""),
            ("{action: replace}", "replace needs a 'target_label'"),
            ("{action: hashmod, target_label: a}", "hashmod needs a 'modulus'"),
            ("{action: lowercase}", "lowercase needs a 'target_label'"),
            ("{action: uppercase, target_label: a, replacement: x}", "'replacement' cannot be set"),
            ("{action: keepequal, target_label: a, regex: x}", "keepequal takes only"),
            ("{action: dropequal, target_label: a, separator: x}", "dropequal takes only"),
            ("{action: labeldrop, source_labels: [a]}", "labeldrop takes only 'regex'"),
            ("{action: labelkeep, target_label: a}", "labelkeep takes only 'regex'"),
            ("{action: labelmap, replacement: ''}", "labelmap needs a 'replacement'"),
            ("{action: drop, source_labels: ['']}", "'source_labels' has an empty name"),
            (
                "{action: drop, regex: '('}",
                "invalid 'regex' \"(\": error parsing regexp: missing closing ): `(`",
            ),
            ("{action: drop, regex: 'a)|(b'}", "invalid 'regex'"),
            ("{action: drop, regex: '.{1000}{1000}'}", "invalid 'regex'"),
        ] {
            let text = message(&format!("- {{action: keep}}\n- {rule}\n"));
            assert!(text.starts_with("rule 2: ") && text.contains(expected), "{rule}: {text}");
            assert!(!text.contains('\n'), "{text}");
        }
        let text = message("- {action: keep}\n- {actoin: keep}\n");
        assert!(text.contains("actoin") && text.contains("line 2"), "{text}");
        assert!(parse_rules("rules: []").is_err());
        assert!(message("- {action: hashmod, target_label: a, modulus: -1}").contains("line 1"));
    }

    proptest! {
        #[test]
        fn damaged_rules_are_an_error_or_other_rules(at in 0..RULES.len(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = RULES.as_bytes().to_vec();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let _ = parse_rules(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = parse_rules(&text);
        }
    }
}
