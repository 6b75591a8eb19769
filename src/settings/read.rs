//! From layers to [`Settings`]: setting by setting, so that every mistake is found, not only the first.

use std::{borrow::Cow, time::Duration};

use figment::{
    Figment, Metadata, Source,
    value::{Dict, Value},
};

use super::{
    Settings, database,
    parse::Refusal,
    table::{self, Form, PREFIX, Setting, by_variable},
};
use crate::{Error, ErrorKind, Result};

/// The longest value that a message quotes.
const QUOTED_LEN: usize = 60;

/// The TTL of what never ends: longer than any in whole seconds.
const NEVER: Duration = Duration::MAX;

type Limit = (&'static str, Option<Duration>);

/// The settings in `figment`, or everything that is wrong with them after the `problems` that came before.
pub(super) fn settings(figment: &Figment, problems: Vec<String>) -> Result<Settings> {
    let mut reader = Reader {
        figment,
        keys: Dict::new(),
        wrong: Vec::new(),
        problems,
    };
    // The empty path is the whole dictionary, every layer merged.
    match figment.find_value("") {
        Ok(merged) => reader.keys = merged.into_dict().unwrap_or_default(),
        Err(errors) => {
            for error in errors {
                // figment's own message may show the value that it stumbled over.
                let origin = origin(error.metadata.as_ref());
                reader
                    .problems
                    .push(format!("a layer of the figment cannot be read ({origin})"));
            }
        }
    }
    reader.refuse_unknown_keys();
    let settings = reader.read();
    reader.refuse_contradictions(&settings);
    if reader.problems.is_empty() {
        Ok(settings)
    } else {
        Err(Error::new(ErrorKind::Settings, reader.problems.join("\n")))
    }
}

struct Reader<'a> {
    figment: &'a Figment,
    keys: Dict,
    /// Variables whose value was refused, so that nothing more is said about them.
    wrong: Vec<&'static str>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn refuse_unknown_keys(&mut self) {
        for (key, value) in &self.keys {
            if table::all().any(|setting| setting.key() == *key) {
                continue;
            }
            let set = origin(self.figment.get_metadata(value.tag()));
            if matches!(value, Value::Dict(..)) {
                self.problems.push(format!(
                    "[{}] is not a section of larder, whose settings stand outside any ({set})",
                    key.escape_debug()
                ));
                continue;
            }
            let lower = key.to_ascii_lowercase();
            let bare = lower.strip_prefix("cache_").unwrap_or(&lower);
            let variable = format!("{PREFIX}{}", bare.to_ascii_uppercase());
            let meant = table::meant(&variable).and_then(|(known, _)| by_variable(known));
            let hint = meant.map_or_else(String::new, |known| {
                format!("; did you mean {}?", known.key())
            });
            self.problems
                .push(format!("{key:?} is not a setting of larder ({set}){hint}"));
        }
    }

    fn read(&mut self) -> Settings {
        let mut settings = Settings::default();
        for setting in table::all() {
            let refusal = match self.text(setting) {
                Ok(None) => continue,
                Ok(Some(text)) => match (setting.read)(&mut settings, &text) {
                    Ok(()) => continue,
                    Err(refusal) => self.sentence(setting, &text, &refusal),
                },
                Err(it_is) => self.expected(setting, it_is),
            };
            self.wrong.push(setting.variable);
            self.problems.push(refusal);
        }
        settings
    }

    /// The value of `setting` as text: what was set, else its default. A value that is no text is an error that says
    /// what it is.
    fn text(&self, setting: &Setting) -> Result<Option<Cow<'static, str>>, &'static str> {
        let text = match self.value(setting) {
            None => return Ok(setting.default.map(Cow::Borrowed)),
            Some(Value::String(_, text)) => text.clone(),
            Some(Value::Char(_, letter)) => letter.to_string(),
            Some(Value::Dict(..)) => return Err("a table"),
            Some(Value::Array(..)) => return Err("a list"),
            Some(_) if setting.form != Form::Word => return Err("not in quotes"),
            Some(Value::Bool(_, flag)) => flag.to_string(),
            Some(Value::Num(_, number)) => match (number.to_u128(), number.to_i128()) {
                (Some(number), _) => number.to_string(),
                (None, Some(number)) => number.to_string(),
                (None, None) => return Err("a fraction"),
            },
            Some(Value::Empty(..)) => return Err("empty"),
        };
        Ok(Some(Cow::Owned(match setting.form {
            Form::Word => text.trim().to_owned(),
            Form::Text | Form::Secret => text,
        })))
    }

    /// What was set; an empty text is nothing.
    fn value(&self, setting: &Setting) -> Option<&Value> {
        self.keys
            .get(&setting.key())
            .filter(|value| value.as_str() != Some(""))
    }

    fn origin(&self, setting: &Setting) -> String {
        self.value(setting).map_or_else(
            || "the default".to_owned(),
            |value| origin(self.figment.get_metadata(value.tag())),
        )
    }

    fn sentence(&self, setting: &Setting, text: &str, refusal: &Refusal) -> String {
        match refusal {
            Refusal::Because(reason) => {
                format!(
                    "{}={text} {reason} ({})",
                    setting.variable,
                    self.origin(setting)
                )
            }
            Refusal::Nearly(name) => {
                let expected = self.expected(setting, &quoted(text));
                format!("{expected}; did you mean {name}?")
            }
            Refusal::Malformed if setting.form == Form::Secret => {
                let Setting {
                    variable, expects, ..
                } = setting;
                format!("{variable} must be {expects} ({})", self.origin(setting))
            }
            Refusal::Malformed => self.expected(setting, &quoted(text)),
        }
    }

    fn expected(&self, setting: &Setting, it_is: &str) -> String {
        let Setting {
            variable, expects, ..
        } = setting;
        format!(
            "{variable} must be {expects}; it is {it_is} ({})",
            self.origin(setting)
        )
    }

    /// Values that are right one by one and wrong together.
    fn refuse_contradictions(&mut self, settings: &Settings) {
        let min = ("CACHE_TTL_MIN", settings.ttl_min);
        let max = ("CACHE_TTL_MAX", settings.ttl_max);
        let default = (
            "CACHE_DEFAULT_TIMEOUT",
            Some(settings.default_ttl.unwrap_or(NEVER)),
        );
        // With no room between the limits the default is outside them whatever it is.
        let found = match self.longer(min, max) {
            Some(crossed) => vec![crossed],
            None => [self.longer(min, default), self.longer(default, max)]
                .into_iter()
                .flatten()
                .collect(),
        };
        self.problems.extend(found);

        // A default that somebody wrote down contradicts nothing: the file that shows all of them is full of these.
        let set = |variable: &'static str| {
            let text = by_variable(variable).map(|setting| (self.text(setting), setting.default));
            !self.wrong.contains(&variable)
                && matches!(text, Some((Ok(Some(text)), default)) if default != Some(&*text))
        };
        let mut found = settings.redis.contradictions(set);
        found.extend(settings.memcached.contradictions(set));
        found.extend(database::contradictions(set));
        self.problems.extend(found);
    }

    fn longer(&self, less: Limit, more: Limit) -> Option<String> {
        let ((less, short), (more, long)) = ((less.0, less.1?), (more.0, more.1?));
        if short <= long
            || [less, more]
                .iter()
                .any(|variable| self.wrong.contains(variable))
        {
            return None;
        }
        let show = |variable, ttl: Duration| {
            let origin =
                by_variable(variable).map_or_else(String::new, |setting| self.origin(setting));
            match ttl {
                NEVER => format!("0, never ({origin})"),
                _ => format!("{} s ({origin})", ttl.as_secs()),
            }
        };
        Some(format!(
            "{less} is {}, longer than {more}, {}",
            show(less, short),
            show(more, long)
        ))
    }
}

fn origin(metadata: Option<&Metadata>) -> String {
    match metadata.map(|metadata| (&metadata.source, &metadata.name)) {
        Some((Some(Source::File(path)), _)) => format!("set in {}", path.display()),
        Some((_, name)) => format!("set in {name}"),
        None => "set in the figment given".to_owned(),
    }
}

/// `text` in quotes, on one line and of bounded length.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_LEN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
