//! Who may do what: rules by role, over patterns of keys.
//!
//! Rules are tried in their order; the first that speaks of the role, the key and the right decides. What
//! no rule speaks of is not allowed. A room without rules allows everything.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{Error, ErrorCode};
use super::limits::{MAX_KEY_BYTES, MAX_NAME_BYTES, MAX_PATTERNS_PER_RULE, MAX_RULES};
use super::names::{self, LOCK_KEY_PREFIX};

/// What a rule allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Right {
    /// To get a key, to listen to it, to check it.
    Read,
    /// To change the value of a key that is set.
    Write,
    /// To set a key that is absent.
    Create,
    /// To remove a key.
    Remove,
    /// To take a lock; the patterns are those of its name.
    Lock,
}

impl Right {
    /// Every right.
    pub const ALL: [Right; 5] = [Right::Read, Right::Write, Right::Create, Right::Remove, Right::Lock];

    /// The word for it in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::Create => "create",
            Right::Remove => "remove",
            Right::Lock => "lock",
        }
    }

    /// The right that a word stands for.
    pub fn from_name(name: &str) -> Option<Right> {
        Right::ALL.into_iter().find(|right| right.name() == name)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Its role.
    pub role: &'a str,
    /// Its peer id: `{peer_id}` in a pattern.
    pub peer_id: &'a str,
    /// Its user id, `{user_id}` in a pattern; an empty one matches nothing.
    pub user_id: &'a str,
}

/// One rule, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What refusals call it; unique among the rules.
    pub name: String,
    /// The roles it speaks of; `*` is any.
    pub roles: Vec<String>,
    /// Patterns of the keys it speaks of: `*` is any text, also across `/`, `{peer_id}` and `{user_id}` are
    /// the caller's own.
    pub keys: Vec<String>,
    /// What it allows.
    pub allow: Vec<Right>,
    /// What it denies.
    pub deny: Vec<Right>,
}

/// Which part of which rule is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule, counted from 0.
    pub rule: usize,
    /// Its part.
    pub part: Part,
    /// What is wrong with it.
    pub reason: String,
}

/// A part of a rule; lists are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The rule as a whole.
    Whole,
    /// One of the roles.
    Role(usize),
    /// One of the keys.
    Key(usize),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::new(ErrorCode::InvalidConfig, format!("rule {}: {}", fault.rule + 1, fault.reason))
    }
}

/// Rules that are in force.
///
/// ```
/// use sessionstore::core::rules::{Caller, Right, Rule, Rules};
/// let own_hand = Rule {
///     name: "viewers raise their own hand".into(),
///     roles: vec!["viewer".into()],
///     keys: vec!["hand/{peer_id}".into()],
///     allow: vec![Right::Read, Right::Create, Right::Remove],
///     ..Rule::default()
/// };
/// let rules = Rules::new(vec![own_hand], None).unwrap();
/// let eve = Caller { role: "viewer", peer_id: "eve", user_id: "" };
/// assert!(rules.allows(eve, Right::Create, "hand/eve"));
/// let refused = rules.check(eve, Right::Create, "hand/ada").unwrap_err();
/// assert_eq!(refused.to_string(), r#"FORBIDDEN (211): no rule allows the role "viewer" to create this key"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Compiled>,
    /// The roles that see who is in the room; `None`: all.
    see_peers: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Compiled {
    name: String,
    roles: Vec<String>,
    keys: Vec<Pattern>,
    allow: Vec<Right>,
    deny: Vec<Right>,
}

/// The texts between the stars; one alone has no star.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Vec<Piece>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    PeerId,
    UserId,
}

impl Rules {
    /// Checks rules and puts them into the form in which they are asked. `see_peers` has the roles that see
    /// who is in the room (`*`: any); `None`: all do.
    pub fn new(rules: Vec<Rule>, see_peers: Option<Vec<String>>) -> Result<Rules, Fault> {
        let whole = |rule, reason: String| Fault { rule, part: Part::Whole, reason };
        if rules.len() > MAX_RULES {
            return Err(whole(MAX_RULES, format!("there are {} rules; at most {MAX_RULES} are allowed", rules.len())));
        }
        let mut names = BTreeSet::new();
        let mut compiled = Vec::with_capacity(rules.len());
        for (nth, rule) in rules.into_iter().enumerate() {
            if rule.name.len() > MAX_NAME_BYTES || rule.name.chars().any(char::is_control) {
                return Err(whole(
                    nth,
                    format!("its name has more than {MAX_NAME_BYTES} bytes, or a control character"),
                ));
            }
            if rule.name.is_empty() || !names.insert(rule.name.clone()) {
                return Err(whole(nth, "its name is empty or that of a rule before it".into()));
            }
            compiled.push(rule.compile().map_err(|(part, reason)| Fault { rule: nth, part, reason })?);
        }
        Ok(Rules { rules: compiled, see_peers })
    }

    /// The rules as they were written, and the roles that see who is in the room.
    pub fn document(&self) -> (Vec<Rule>, Option<Vec<String>>) {
        (self.rules.iter().map(Compiled::rule).collect(), self.see_peers.clone())
    }

    /// Refuses with `FORBIDDEN` and the rule's name what is not allowed. Of a lock, `key` is its name.
    pub fn check(&self, caller: Caller<'_>, right: Right, key: &str) -> Result<(), Error> {
        if self.allows(caller, right, key) {
            return Ok(());
        }
        let role = caller.role;
        let what = match right {
            Right::Lock => "take this lock".to_owned(),
            _ => format!("{right} this key"),
        };
        let message = match self.deciding(caller, right, key) {
            Some(rule) => format!("the rule \"{}\" denies the role \"{role}\" to {what}", rule.name),
            None => format!("no rule allows the role \"{role}\" to {what}"),
        };
        Err(Error::new(ErrorCode::Forbidden, message))
    }

    /// The same without a reason. Who may take a lock may also see who holds it.
    pub fn allows(&self, caller: Caller<'_>, right: Right, key: &str) -> bool {
        let allows = |right, key| self.deciding(caller, right, key).is_some_and(|rule| rule.allow.contains(&right));
        let lock = key.strip_prefix(LOCK_KEY_PREFIX).filter(|_| right == Right::Read);
        allows(right, key) || lock.is_some_and(|name| allows(Right::Lock, name))
    }

    /// Whether a role sees who is in the room.
    pub fn sees_peers(&self, role: &str) -> bool {
        self.see_peers.as_ref().is_none_or(|roles| names_role(roles, role))
    }

    /// What tells callers apart that may read different keys: those with the same view may read the same.
    pub fn view(&self, caller: Caller<'_>) -> String {
        let reads = |rule: &&Compiled| {
            names_role(&rule.roles, caller.role) && (rule.speaks_of(Right::Read) || rule.speaks_of(Right::Lock))
        };
        let uses = |piece: &Piece| {
            let mut pieces =
                self.rules.iter().filter(reads).flat_map(|rule| &rule.keys).flat_map(|key| &key.0).flatten();
            pieces.any(|have| have == piece)
        };
        let peer_id = uses(&Piece::PeerId).then_some(caller.peer_id);
        let user_id = uses(&Piece::UserId).then_some(caller.user_id);
        // Quoted, so that no id can be taken for two.
        format!("{:?} {peer_id:?} {user_id:?}", caller.role)
    }

    /// The rule that decides.
    fn deciding(&self, caller: Caller<'_>, right: Right, key: &str) -> Option<&Compiled> {
        self.rules.iter().find(|rule| {
            rule.speaks_of(right)
                && names_role(&rule.roles, caller.role)
                && rule.keys.iter().any(|pattern| pattern.matches(caller, key))
        })
    }
}

fn names_role(roles: &[String], role: &str) -> bool {
    roles.iter().any(|have| have == role || have == "*")
}

impl Compiled {
    fn speaks_of(&self, right: Right) -> bool {
        self.allow.contains(&right) || self.deny.contains(&right)
    }

    fn rule(&self) -> Rule {
        let Compiled { name, roles, keys, allow, deny } = self.clone();
        Rule { name, roles, keys: keys.iter().map(Pattern::text).collect(), allow, deny }
    }
}

impl Rule {
    fn compile(self) -> Result<Compiled, (Part, String)> {
        let Rule { name, roles, keys, allow, deny } = self;
        let whole = |reason: &str| Err((Part::Whole, reason.to_owned()));
        if roles.is_empty() {
            return whole("it has no roles; [\"*\"] is every role");
        }
        if keys.is_empty() {
            return whole("it has no keys; [\"*\"] is every key");
        }
        if keys.len() > MAX_PATTERNS_PER_RULE {
            return Err((
                Part::Whole,
                format!("it has {} keys; at most {MAX_PATTERNS_PER_RULE} are allowed", keys.len()),
            ));
        }
        if allow.is_empty() && deny.is_empty() {
            return whole("it neither allows nor denies anything");
        }
        if let Some(both) = allow.iter().find(|right| deny.contains(right)) {
            return Err((Part::Whole, format!("it allows and denies {} at once", both.name())));
        }
        for (nth, role) in roles.iter().enumerate() {
            names::check_role(role).map_err(|error| (Part::Role(nth), error.message().to_owned()))?;
        }
        let patterns = keys.iter().enumerate();
        let patterns = patterns.map(|(nth, key)| Pattern::parse(key).map_err(|reason| (Part::Key(nth), reason)));
        Ok(Compiled { name, roles, keys: patterns.collect::<Result<_, _>>()?, allow, deny })
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() || text.len() > MAX_KEY_BYTES {
            return Err(format!("a key's pattern has 1 to {MAX_KEY_BYTES} bytes"));
        }
        let mut segments = vec![Vec::new()];
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let known = [("*", None), ("{peer_id}", Some(Piece::PeerId)), ("{user_id}", Some(Piece::UserId))];
            let special = known.into_iter().find(|(word, _)| rest.starts_with(word));
            let length = match special {
                Some((word, None)) => {
                    segments.push(Vec::new());
                    word.len()
                }
                Some((word, Some(piece))) => {
                    segments.last_mut().into_iter().for_each(|segment| segment.push(piece.clone()));
                    word.len()
                }
                None if matches!(first, '{' | '}') => {
                    return Err("braces stand for {peer_id} and {user_id} only".into());
                }
                None => {
                    let end = rest.find(['*', '{', '}']).unwrap_or(rest.len());
                    let text = Piece::Text(rest[..end].to_owned());
                    segments.last_mut().into_iter().for_each(|segment| segment.push(text.clone()));
                    end
                }
            };
            rest = &rest[length..];
        }
        Ok(Pattern(segments))
    }

    /// As it was written.
    fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::PeerId => "{peer_id}".into(),
            Piece::UserId => "{user_id}".into(),
        };
        let segments: Vec<String> = self.0.iter().map(|pieces| pieces.iter().map(piece).collect()).collect();
        segments.join("*")
    }

    /// Looks for each text between stars once, from left to right, so its time grows with the lengths of
    /// pattern and key alone.
    fn matches(&self, caller: Caller<'_>, key: &str) -> bool {
        let Some((first, others)) = self.0.split_first() else { return false };
        let Some(first) = text_of(first, caller) else { return false };
        let Some(mut rest) = key.strip_prefix(&*first) else { return false };
        let Some((last, middle)) = others.split_last() else { return rest.is_empty() };
        for segment in middle {
            let Some(text) = text_of(segment, caller) else { return false };
            let Some(at) = rest.find(&*text) else { return false };
            rest = &rest[at + text.len()..];
        }
        text_of(last, caller).is_some_and(|last| rest.ends_with(&*last))
    }
}

/// What a part of a pattern is for a caller; `None` when that is nothing.
fn text_of<'a>(pieces: &'a [Piece], caller: Caller<'a>) -> Option<Cow<'a, str>> {
    let text = |piece: &'a Piece| match piece {
        Piece::Text(text) => Some(&**text),
        Piece::PeerId => Some(caller.peer_id).filter(|id| !id.is_empty()),
        Piece::UserId => Some(caller.user_id).filter(|id| !id.is_empty()),
    };
    match pieces {
        [] => Some(Cow::Borrowed("")),
        [one] => text(one).map(Cow::Borrowed),
        several => several.iter().map(text).collect::<Option<String>>().map(Cow::Owned),
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVE: Caller<'static> = Caller { role: "viewer", peer_id: "eve*", user_id: "u{1}" };

    fn matches(pattern: &str, caller: Caller<'_>, key: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").matches(caller, key)
    }

    fn rule(name: &str, role: &str, key: &str, allow: &[Right], deny: &[Right]) -> Rule {
        let (roles, keys) = (vec![role.into()], vec![key.into()]);
        Rule { name: name.into(), roles, keys, allow: allow.to_vec(), deny: deny.to_vec() }
    }

    #[test]
    fn patterns_match_what_they_say_and_ids_only_as_they_are() {
        for (pattern, key, expected) in [
            ("pinned", "pinned", true),
            ("pinned", "pinned/1", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("hand/*", "hand/", true),
            ("hand/*", "hands", false),
            ("*/votes", "poll/1/votes", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("hand/{peer_id}", "hand/eve*", true),
            ("hand/{peer_id}", "hand/everybody", false),
            ("{user_id}/{peer_id}", "u{1}/eve*", true),
            ("é*é", "éé", true),
        ] {
            assert_eq!(matches(pattern, EVE, key), expected, "{pattern} {key}");
            assert_eq!(Pattern::parse(pattern).map(|parsed| parsed.text()), Ok(pattern.to_owned()));
        }
        let nobody = Caller { user_id: "", ..EVE };
        assert!(!matches("vote/{user_id}", nobody, "vote/"));
        assert!(!matches("{user_id}*", nobody, "anything"));
        for bad in ["", "{", "}", "{peer}", "a{peer_id", &"x".repeat(257)] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_rule_that_speaks_of_it_decides() {
        let all = Right::ALL;
        let rules = Rules::new(
            vec![
                rule("no secrets", "*", "secret/*", &[], &[Right::Read]),
                rule("hosts", "host", "*", &all, &[]),
                rule("show", "*", "*", &[Right::Read], &[]),
                rule("one lock", "viewer", "turn", &[Right::Lock], &[]),
            ],
            Some(vec!["host".into()]),
        )
        .expect("rules");
        let host = Caller { role: "host", ..EVE };
        assert!(rules.allows(host, Right::Write, "secret/a") && !rules.allows(host, Right::Read, "secret/a"));
        assert!(rules.allows(EVE, Right::Read, "pinned") && !rules.allows(EVE, Right::Write, "pinned"));
        assert!(rules.sees_peers("host") && !rules.sees_peers("viewer"));
        let message = |right, key| rules.check(EVE, right, key).expect_err("refused").message().to_owned();
        assert_eq!(
            message(Right::Read, "secret/a"),
            "the rule \"no secrets\" denies the role \"viewer\" to read this key"
        );
        assert_eq!(message(Right::Lock, "other"), "no rule allows the role \"viewer\" to take this lock");
        assert!(rules.check(EVE, Right::Lock, "turn").is_ok());
    }

    #[test]
    fn who_may_take_a_lock_may_see_who_holds_it() {
        let rules = Rules::new(vec![rule("turns", "*", "turn/{peer_id}", &[Right::Lock], &[])], None).expect("rules");
        assert!(rules.allows(EVE, Right::Read, "$lock/turn/eve*"));
        assert!(!rules.allows(EVE, Right::Read, "$lock/turn/ada") && !rules.allows(EVE, Right::Read, "turn/eve*"));
        assert!(rules.sees_peers("anybody"));
        let ada = Caller { peer_id: "ada", ..EVE };
        assert_ne!(rules.view(EVE), rules.view(ada), "they see different locks");
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let good = rule("r", "*", "*", &[Right::Read], &[]);
        let fault = |change: fn(&mut Rule)| {
            let mut bad = Rule { name: "bad".into(), ..good.clone() };
            change(&mut bad);
            let fault = Rules::new(vec![good.clone(), bad], None).expect_err("a fault");
            assert_eq!(fault.rule, 1);
            (fault.part, Error::from(fault).message().to_owned())
        };
        assert_eq!(fault(|rule| rule.name.clear()).0, Part::Whole);
        assert!(fault(|rule| rule.name = "a\nb".into()).1.contains("control character"));
        assert_eq!(fault(|rule| rule.name = "r".into()).1, "rule 2: its name is empty or that of a rule before it");
        assert!(fault(|rule| rule.roles.clear()).1.contains("no roles"));
        assert!(fault(|rule| rule.keys.clear()).1.contains("no keys"));
        assert!(fault(|rule| rule.allow.clear()).1.contains("neither"));
        assert!(fault(|rule| rule.deny.push(Right::Read)).1.contains("read at once"));
        assert_eq!(fault(|rule| rule.keys.push("{me}".into())).0, Part::Key(1));
        assert_eq!(fault(|rule| rule.roles.push(String::new())).0, Part::Role(1));
        assert!(fault(|rule| rule.keys = vec!["k".into(); MAX_PATTERNS_PER_RULE + 1]).1.contains("at most"));
        assert!(Rules::new(vec![good; MAX_RULES + 1], None).is_err());
    }

    /// As a pattern is explained, without a thought for time.
    fn naive(pattern: &[char], caller: Caller<'_>, key: &[char]) -> bool {
        let own = |id: &str, length: usize| {
            let id: Vec<char> = id.chars().collect();
            !id.is_empty() && key.starts_with(&id) && naive(&pattern[length..], caller, &key[id.len()..])
        };
        let text: String = pattern.iter().collect();
        match pattern.first() {
            None => key.is_empty(),
            Some('*') => (0..=key.len()).any(|skipped| naive(&pattern[1..], caller, &key[skipped..])),
            Some('{') if text.starts_with("{peer_id}") => own(caller.peer_id, 9),
            Some('{') => own(caller.user_id, 9),
            Some(first) => key.first() == Some(first) && naive(&pattern[1..], caller, &key[1..]),
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[ab/]",
            2 => Just("*".to_owned()),
            1 => Just("{peer_id}".to_owned()),
            1 => Just("{user_id}".to_owned()),
        ];
        proptest::collection::vec(piece, 1..7).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn patterns_match_as_they_are_explained(pattern in pattern(), key in "[ab/]{0,8}", peer in "[ab]{0,2}", user in "[ab]{0,2}") {
            let caller = Caller { role: "r", peer_id: &peer, user_id: &user };
            let (letters, of_key): (Vec<char>, Vec<char>) = (pattern.chars().collect(), key.chars().collect());
            prop_assert_eq!(matches(&pattern, caller, &key), naive(&letters, caller, &of_key), "{} {}", pattern, key);
        }

        #[test]
        fn callers_with_the_same_view_may_read_the_same(
            patterns in proptest::collection::vec((pattern(), any::<bool>(), 0..2usize), 1..4),
            ids in proptest::collection::vec("[ab]{0,2}", 4),
            roles in (0..2usize, 0..2usize),
            keys in proptest::collection::vec("[ab/]{0,5}", 8),
        ) {
            let rule_of = |(nth, (pattern, allows, role)): (usize, &(String, bool, usize))| {
                let right = [Right::Read];
                let (allow, deny): (&[Right], &[Right]) = if *allows { (&right, &[]) } else { (&[], &right) };
                rule(&nth.to_string(), ["r", "*"][*role], pattern, allow, deny)
            };
            let rules = Rules::new(patterns.iter().enumerate().map(rule_of).collect(), None).expect("rules");
            let one = Caller { role: ["r", "s"][roles.0], peer_id: &ids[0], user_id: &ids[1] };
            let other = Caller { role: ["r", "s"][roles.1], peer_id: &ids[2], user_id: &ids[3] };
            if rules.view(one) == rules.view(other) {
                for key in &keys {
                    prop_assert_eq!(rules.allows(one, Right::Read, key), rules.allows(other, Right::Read, key));
                }
            }
        }
    }
}
