//! Log lines on stderr.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

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
pub(super) struct Filter(String);

impl Default for Filter {
    fn default() -> Filter {
        Filter("info".into())
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        // A lone word that is no level would be taken for the name of a module, and mute the rest;
        // nothing would be taken for `error`.
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let stray = text.split(',').map(str::trim).find(|part| !part.contains('=') && !is_level(part));
        if let Some(stray) = stray {
            return Err(format!("\"{stray}\" is no level; levels are off, error, warn, info, debug, trace"));
        }
        EnvFilter::builder().parse(text).map_err(|error| error.to_string())?;
        Ok(Filter(text.to_owned()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Begins to log, for the whole process.
pub(super) fn start(format: LogFormat, filter: &Filter) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&filter.0))
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_levels_of_modules() {
        for good in ["info", "off", "warn,sessionstore::server=debug", "INFO"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for bad in ["loud", "", "info,loud", "sessionstore=loud"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
