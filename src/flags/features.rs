//! `--enable-feature`: the experimental parts of PromQL, by the names that Prometheus has for them.

use crate::promql::value::QueryOptions;

/// What Prometheus or Thanos once had to be told to do, and annulus always does.
const ALWAYS_ON: [&str; 6] = [
    "exemplar-storage",
    "native-histograms",
    "promql-at-modifier",
    "promql-duration-expr",
    "promql-negative-offset",
    "remote-write-receiver",
];

/// Sets what the names enable. Prometheus starts whatever it is told to enable, and so do we, with a warning.
pub(super) fn enable(names: &[String], options: &mut QueryOptions, warnings: &mut Vec<String>) {
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        match name {
            "promql-experimental-functions" => options.features.experimental_functions = true,
            "promql-extended-range-selectors" => options.features.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => options.features.fill_modifiers = true,
            "promql-delayed-name-removal" => options.delayed_name_removal = true,
            _ if ALWAYS_ON.contains(&name) => {
                warnings.push(format!("--enable-feature={name} is not needed: it is always on"));
            }
            _ => warnings.push(format!("--enable-feature={name} has no effect in this version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parser::Features;

    #[test]
    fn features_are_enabled_by_the_names_of_prometheus() {
        let (mut options, mut warnings) = (QueryOptions::default(), Vec::new());
        assert!(!options.delayed_name_removal && options.features == Features::default());
        let names = [
            "promql-experimental-functions",
            "promql-extended-range-selectors",
            " promql-binop-fill-modifiers",
            "promql-delayed-name-removal",
            "",
        ];
        enable(&names.map(str::to_owned), &mut options, &mut warnings);
        assert!(options.delayed_name_removal && options.features == Features::ALL);
        assert!(warnings.is_empty(), "{warnings:?}");
        enable(&["promql-duration-expr".to_owned(), "agent".to_owned()], &mut options, &mut warnings);
        assert_eq!(
            warnings,
            [
                "--enable-feature=promql-duration-expr is not needed: it is always on",
                "--enable-feature=agent has no effect in this version"
            ]
        );
    }
}
