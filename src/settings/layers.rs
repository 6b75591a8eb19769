//! Where settings come from: the file, then variables, as layers of one [`Figment`].

use std::{ffi::OsStr, fs, path::Path};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use super::{
    Settings, read,
    table::{self, CONFIG, PREFIX, SECTIONS, by_variable},
};
use crate::Result;

/// The layers that could be read, and a sentence for each thing that could not.
pub(super) struct Stack {
    figment: Figment,
    problems: Vec<String>,
}

impl Stack {
    pub(super) fn settings(self) -> Result<Settings> {
        read::settings(&self.figment, self.problems)
    }
}

/// The file that a variable names, under the variables themselves, which come from `origin`.
pub(super) fn stack<N, V>(
    variables: impl IntoIterator<Item = (N, V)>,
    origin: &'static str,
) -> Stack
where
    N: AsRef<str>,
    V: AsRef<OsStr>,
{
    let mut problems = Vec::new();
    let mut file = None;
    let mut known = Dict::new();
    for (name, value) in variables {
        let (name, value) = (name.as_ref(), value.as_ref());
        if value.is_empty() {
            continue;
        }
        let setting = by_variable(name);
        if setting.is_none() && name != CONFIG {
            problems.extend(unknown(name, origin));
            continue;
        }
        match (value.to_str(), setting) {
            (None, _) => problems.push(format!("{name} must be UTF-8 (set in {origin})")),
            (Some(text), Some(setting)) => _ = known.insert(setting.key(), Value::from(text)),
            (Some(path), None) => file = Some(path.to_owned()),
        }
    }

    let mut figment = Figment::new();
    if let Some(path) = file {
        match read_file(Path::new(&path)) {
            Ok(dict) => {
                figment = figment.merge(Layer(Metadata::from("file", Path::new(&path)), dict))
            }
            Err(problem) => problems.push(problem),
        }
    }
    Stack {
        figment: figment.merge(Layer(Metadata::named(origin), known)),
        problems,
    }
}

/// Values exactly as they were given; figment's own environment provider would guess types from texts.
struct Layer(Metadata, Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.0.clone()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}

/// A sentence about a variable that is no setting, if it was surely meant to be one.
fn unknown(name: &str, origin: &str) -> Option<String> {
    if !name.starts_with(PREFIX) {
        return None;
    }
    let (known, edits) = table::meant(name)?;
    if SECTIONS.iter().any(|section| name.starts_with(section)) {
        return Some(format!(
            "{name} is not a setting of larder (set in {origin}); did you mean {known}?"
        ));
    }
    if edits <= 2 {
        tracing::warn!("{name} is not a setting of larder; did you mean {known}?");
    }
    None
}

fn read_file(path: &Path) -> Result<Dict, String> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("CACHE_CONFIG names {shown}, which cannot be read: {error}"))?;
    Toml::from_str(&text).map_err(|error| {
        // The parser's own message shows the line, and a secret may stand on it.
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = &text.as_bytes()[..start];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = before
            .iter()
            .rev()
            .take_while(|&&byte| byte != b'\n')
            .count()
            + 1;
        format!(
            "CACHE_CONFIG names {shown}, which is not TOML at line {line}, column {column}; texts \
             need quotes there"
        )
    })
}
