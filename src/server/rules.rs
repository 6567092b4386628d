//! Rules from a file: TOML, each mistake told with its line.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::core::error::{Error, ErrorCode};
use crate::core::rules::{Fault, Part, Right, Rule, Rules};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    see_peers: Option<Vec<String>>,
    #[serde(default)]
    rule: Vec<Spanned<FileRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    name: Option<String>,
    roles: Vec<Spanned<String>>,
    keys: Vec<Spanned<String>>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
}

impl Rules {
    /// Rules as a file has them; docs/rules.md has what can be in it.
    ///
    /// Errors: `INVALID_CONFIG` with the line and the reason.
    ///
    /// ```
    /// use sessionstore::core::rules::Rules;
    /// let error = Rules::from_toml("[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"reed\"]").unwrap_err();
    /// assert_eq!(error.message(), "line 4: \"reed\" is no right; rights are read, write, create, remove, lock");
    /// ```
    pub fn from_toml(text: &str) -> Result<Rules, Error> {
        let at = |span: Range<usize>, reason: &str| {
            let line = text.get(..span.start).unwrap_or("").matches('\n').count() + 1;
            Error::new(ErrorCode::InvalidConfig, format!("line {line}: {reason}"))
        };
        let file: File =
            toml::from_str(text).map_err(|error| at(error.span().unwrap_or(0..0), error.message().trim_end()))?;
        if file.rule.is_empty() {
            // A file that is being written must not take every right away.
            return Err(at(
                0..0,
                "there is no rule, and nothing would be allowed; leave the file out to allow everything",
            ));
        }
        let rights = |words: &[Spanned<String>]| {
            let right = |word: &Spanned<String>| {
                Right::from_name(word.get_ref()).ok_or_else(|| {
                    let all: Vec<&str> = Right::ALL.iter().map(|right| right.name()).collect();
                    at(word.span(), &format!("{:?} is no right; rights are {}", word.get_ref(), all.join(", ")))
                })
            };
            words.iter().map(right).collect::<Result<Vec<Right>, Error>>()
        };
        let texts = |list: &[Spanned<String>]| list.iter().map(|text| text.get_ref().clone()).collect();
        let mut rules = Vec::with_capacity(file.rule.len());
        for (nth, rule) in file.rule.iter().enumerate() {
            let rule = rule.get_ref();
            rules.push(Rule {
                name: rule.name.clone().unwrap_or_else(|| format!("rule {}", nth + 1)),
                roles: texts(&rule.roles),
                keys: texts(&rule.keys),
                allow: rights(&rule.allow)?,
                deny: rights(&rule.deny)?,
            });
        }
        Rules::new(rules, file.see_peers).map_err(|Fault { rule, part, reason }| {
            let Some(place) = file.rule.get(rule) else { return at(0..0, &reason) };
            let span = match part {
                Part::Whole => None,
                Part::Role(nth) => place.get_ref().roles.get(nth).map(Spanned::span),
                Part::Key(nth) => place.get_ref().keys.get(nth).map(Spanned::span),
            };
            at(span.unwrap_or_else(|| place.span()), &reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rules::Caller;

    fn reason(text: &str) -> String {
        let error = Rules::from_toml(text).expect_err("a mistake");
        assert_eq!(error, ErrorCode::InvalidConfig);
        error.message().to_owned()
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let rule = |change: &str| format!("\n[[rule]]\nname = \"n\"\nroles = [\"r\"]\nkeys = [\"k\"]\n{change}\n");
        assert!(Rules::from_toml(&rule("allow = [\"read\"]")).is_ok());
        assert!(reason("").starts_with("line 1: there is no rule"));
        for (text, line, part) in [
            ("rule = 1".into(), 1, "expected"),
            ("\n\nsee_peers = \"host\"".into(), 3, "expected"),
            ("[[rules]]".into(), 1, "unknown field `rules`"),
            ("[[rule]]\nroles = [\"r\"".into(), 2, "array"),
            ("[[rule]]\nroles = [\"r\"]\nallow = [\"read\"]".into(), 1, "missing field `keys`"),
            (rule("allow = [\"reed\"]"), 6, "\"reed\" is no right"),
            (rule("deny = [\"read\",\n \"Write\"]"), 7, "\"Write\" is no right"),
            (rule("allow = [\"read\"]\ndeny = [\"read\"]"), 2, "at once"),
            (rule(""), 2, "neither"),
            (rule("allow = [\"read\"]\nrole = \"x\""), 7, "unknown field `role`"),
            (rule("allow = [\"read\"]") + &rule("allow = [\"lock\"]"), 8, "that of a rule before it"),
            (rule("allow = [\"read\"]").replace("\"k\"", "\"k\",\n\"{me}\""), 6, "braces"),
            (rule("allow = [\"read\"]").replace("\"r\"", "\"\""), 4, "role"),
            (rule("allow = [\"read\"]").replace("\"k\"", ""), 2, "no keys"),
        ] {
            let reason = reason(&text);
            assert!(reason.starts_with(&format!("line {line}: ")) && reason.contains(part), "{text}\ngave {reason}");
        }
    }

    #[test]
    fn a_rule_without_a_name_has_its_number() {
        let text = "[[rule]]\nroles = [\"*\"]\nkeys = [\"a\"]\nallow = [\"read\"]\n[[rule]]\nroles = [\"*\"]\nkeys = [\"b\"]\ndeny = [\"read\"]";
        let rules = Rules::from_toml(text).expect("rules");
        let caller = Caller { role: "r", peer_id: "p", user_id: "" };
        let refused = rules.check(caller, Right::Read, "b").expect_err("refused");
        assert!(refused.message().contains("\"rule 2\""), "{refused}");
    }

    /// The rules that docs/rules.md offers do what it says.
    #[test]
    fn the_rules_for_a_webinar_do_what_a_webinar_needs() {
        let rules = Rules::from_toml(include_str!("../../docs/rules/webinar.toml")).expect("the file in the docs");
        let caller = |role| Caller { role, peer_id: "me", user_id: "me@example.org" };
        use Right::{Create, Lock, Read, Remove, Write};
        let table: &[(&str, Right, &str, bool)] = &[
            ("host", Create, "pinned", true),
            ("host", Write, "spotlight", true),
            ("host", Remove, "hand/somebody", true),
            ("host", Lock, "presenter", true),
            ("host", Read, "poll/vote/somebody", true),
            ("speaker", Lock, "presenter", true),
            ("speaker", Lock, "other", false),
            ("speaker", Read, "$lock/presenter", true),
            ("speaker", Write, "pinned", false),
            ("speaker", Create, "hand/me", true),
            ("viewer", Read, "pinned", true),
            ("viewer", Read, "pinned/2", true),
            ("viewer", Read, "spotlight", true),
            ("viewer", Read, "$lock/presenter", true),
            ("viewer", Write, "spotlight", false),
            ("viewer", Create, "hand/me", true),
            ("viewer", Remove, "hand/me", true),
            ("viewer", Create, "hand/somebody", false),
            ("viewer", Read, "hand/somebody", true),
            ("viewer", Lock, "presenter", false),
            ("viewer", Read, "poll/question", true),
            ("viewer", Create, "poll/question", false),
            ("viewer", Create, "poll/vote/me@example.org", true),
            ("viewer", Write, "poll/vote/me@example.org", true),
            ("viewer", Read, "poll/vote/me@example.org", true),
            ("viewer", Read, "poll/vote/somebody", false),
            ("viewer", Create, "poll/vote/somebody", false),
            ("viewer", Create, "anything else", false),
            ("stranger", Read, "pinned", false),
        ];
        for (role, right, key, expected) in table {
            assert_eq!(rules.allows(caller(role), *right, key), *expected, "{role} {right} {key}");
        }
        assert!(rules.sees_peers("host") && rules.sees_peers("viewer") && !rules.sees_peers("stranger"));
    }
}
