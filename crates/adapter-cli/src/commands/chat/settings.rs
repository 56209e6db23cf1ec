//! What `/set` changes and `/show settings` shows.

use adapter_engine::sampler::Sampling;

use super::flags::Chat;
use crate::failure::Failure;
use crate::flags::{self, Global};
use crate::printable::printable;

/// Settings of a chat that can be changed while it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the model is told before the conversation.
    pub system: Option<String>,
    /// Texts that end an answer.
    pub stops: Vec<String>,
    /// The most tokens of an answer.
    pub max_tokens: Option<u32>,
    /// Strength of the adapter.
    pub strength: f32,
    /// Whether speeds are shown after each answer.
    pub verbose: bool,
}

/// What a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The next answer.
    Answer,
    /// The adapter's gates.
    Strength,
}

impl Settings {
    /// The settings of the flags.
    ///
    /// # Errors
    /// One that is out of its range.
    pub fn new(global: &Global, flags: &Chat) -> Result<Self, Failure> {
        Ok(Self {
            sampling: flags.sampling.sampling()?,
            system: flags.prompt.system.clone(),
            stops: flags.sampling.stop.clone(),
            max_tokens: flags.sampling.max_tokens,
            strength: flags.adapter.strength,
            verbose: global.verbose,
        })
    }

    /// Changes one; on an error nothing is changed.
    ///
    /// # Errors
    /// A sentence with the range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Changed, String> {
        let mut new = self.clone();
        let number = || value.parse::<f32>().map_err(|_| format!("{name} needs a number, not {value:?}"));
        let whole = || value.parse::<u32>().map_err(|_| format!("{name} needs a whole number, not {value:?}"));
        let mut changed = Changed::Answer;
        match name.replace('_', "-").as_str() {
            "temperature" => new.sampling.temperature = number()?,
            "top-k" => new.sampling.top_k = whole()?,
            "top-p" => new.sampling.top_p = number()?,
            "min-p" => new.sampling.min_p = number()?,
            "repeat-penalty" => new.sampling.repeat_penalty = number()?,
            "repeat-last-n" => new.sampling.repeat_last_n = whole()?,
            "seed" if value.is_empty() => new.sampling.seed = flags::random_seed(),
            "seed" => {
                new.sampling.seed =
                    flags::seed(value).map_err(|wanted| format!("seed must be {wanted}, not {value:?}"))?;
            }
            "max-tokens" => new.max_tokens = if value == "off" { None } else { Some(whole()?).filter(|max| *max > 0) },
            "stop" if value.is_empty() || value == "off" => new.stops.clear(),
            // A line break cannot be typed here, and is the most wanted stop of all.
            "stop" => new.stops.push(value.replace("\\n", "\n")),
            "system" => new.system = if value.is_empty() || value == "off" { None } else { Some(value.to_owned()) },
            "strength" => {
                new.strength = flags::strength(value).map_err(|range| format!("strength must be {range}"))?;
                changed = Changed::Strength;
            }
            "verbose" => {
                new.verbose = match value {
                    "on" | "" => true,
                    "off" => false,
                    _ => return Err("verbose is on or off".to_owned()),
                };
            }
            _ => return Err(format!("there is no setting {name:?}; /set lists them")),
        }
        new.sampling.check().map_err(|error| error.to_string())?;
        *self = new;
        Ok(changed)
    }

    /// All of them, a line each, in the words of `/set`.
    pub fn lines(&self) -> Vec<String> {
        let sampling = &self.sampling;
        let or_off = |value: Option<String>| value.unwrap_or_else(|| "off".to_owned());
        let stops = self.stops.iter().map(|stop| format!("{stop:?}")).collect::<Vec<_>>().join(" ");
        let system = self.system.as_deref().map(|text| printable(text).into_owned());
        [
            ("temperature", sampling.temperature.to_string(), "0 takes the most likely token"),
            ("top-k", sampling.top_k.to_string(), "this many candidates, 0 all"),
            ("top-p", sampling.top_p.to_string(), "candidates up to this probability, 1 all"),
            ("min-p", sampling.min_p.to_string(), "drop those less likely than this share of the best"),
            ("repeat-penalty", sampling.repeat_penalty.to_string(), "1 is off"),
            ("repeat-last-n", sampling.repeat_last_n.to_string(), "tokens the penalty looks at, at most 256"),
            ("seed", sampling.seed.to_string(), "a number, or random"),
            ("max-tokens", or_off(self.max_tokens.map(|max| max.to_string())), "of one answer, or off"),
            (
                "stop",
                or_off(Some(stops).filter(|stops| !stops.is_empty())),
                "adds a text that ends an answer (\\n: line break), off clears",
            ),
            ("system", or_off(system), "what the model is told first, or off"),
            ("strength", self.strength.to_string(), "of the adapter, 0 to 2"),
            ("verbose", if self.verbose { "on" } else { "off" }.to_owned(), "speeds after each answer"),
        ]
        .into_iter()
        .map(|(name, value, about)| format!("  {name:<15} {value:<12} {about}"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            sampling: Sampling::default(),
            system: None,
            stops: Vec::new(),
            max_tokens: None,
            strength: 1.0,
            verbose: false,
        }
    }

    #[test]
    fn every_line_names_a_setting_that_can_be_set() {
        let mut settings = settings();
        for line in settings.lines() {
            let mut words = line.split_whitespace();
            let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            assert!(settings.set(name, value).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut changed = settings();
        for (name, value) in [("temperature", "-1"), ("top-p", "0"), ("top-k", "x"), ("strength", "2.5"), ("heat", "1")]
        {
            assert!(changed.set(name, value).is_err(), "{name}");
        }
        assert_eq!(changed, settings());
        assert_eq!(changed.set("strength", "0.5"), Ok(Changed::Strength));
        assert_eq!(changed.set("top_k", "7"), Ok(Changed::Answer));
        assert_eq!(changed.sampling.top_k, 7);
    }

    #[test]
    fn stops_add_up_and_are_cleared() {
        let mut settings = settings();
        settings.set("stop", "\\n\\n").expect("any text");
        assert_eq!(settings.stops, ["\n\n"]);
        settings.set("stop", "User:").expect("any text");
        assert_eq!(settings.stops.len(), 2);
        settings.set("stop", "off").expect("clears");
        assert!(settings.stops.is_empty());
    }
}
