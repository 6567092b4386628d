//! Log lines on stderr.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::exit::Failure;
use super::traces::Traces;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// What is logged: a level, or levels of modules.
#[derive(Clone, Debug)]
pub(super) struct Filter(Targets);

impl Default for Filter {
    fn default() -> Filter {
        Filter(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let mut targets = Targets::new();
        for part in text.split(',').map(str::trim) {
            let (module, level) = part.rsplit_once('=').map_or((None, part), |(module, level)| (Some(module), level));
            // Nothing would be taken for `error`.
            let Some(level) = level.parse::<LevelFilter>().ok().filter(|_| !level.is_empty()) else {
                return Err(format!("\"{level}\" is no level; levels are off, error, warn, info, debug, trace"));
            };
            targets = match module {
                None => targets.with_default(level),
                Some(module) if is_path(module) => targets.with_target(module, level),
                Some(module) => {
                    return Err(format!("\"{module}\" is no module; modules are such as sessionstore::server"))
                }
            };
        }
        Ok(Filter(targets))
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':')
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Begins to log, for the whole process, and to send traces, if there is somewhere to send them to, until what is
/// returned is dropped.
pub(super) fn start(format: LogFormat, filter: &Filter) -> Result<Option<Traces>, Failure> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let traces = Traces::start()?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    // One of the two, in a box, because each format makes lines of another type.
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let all = tracing_subscriber::registry().with(lines.with_filter(filter.0.clone()));
    all.with(traces.as_ref().map(Traces::layer)).init();
    Ok(traces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_levels_of_modules() {
        for good in ["info", "off", "warn,sessionstore::server=debug", "info, hyper_util=off", "INFO"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,", "info,loud", "sessionstore", "sessionstore=loud", "sessionstore="] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
        for bad in ["=info", "[span]=info", "a=b=info"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
