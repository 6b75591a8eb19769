//! What visitors put into their requests.

use std::fmt;

use super::random::Random;

/// Where in a request an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Method,
    Host,
    Query,
    Cookie,
    Header,
    Body,
}

/// An input that a handler could go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// What the values of an input look like, so that what reads them takes them for real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Host,
    Url,
    Path,
    Address,
    Bearer,
    Forwarded,
    /// A marker in most requests, and a small number in the others.
    Parameter,
    OneOf(Vec<String>),
}

/// An input with the value that one visitor gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Given {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) value: String,
    /// The part of the value that is the visitor's alone.
    pub(super) marker: Option<String>,
}

impl Input {
    pub(super) fn new(place: Place, name: &str, shape: Shape) -> Self {
        let name = name.to_owned();
        Self { place, name, shape }
    }

    /// A value; `own` gives the same numbers for the same visitor of a round.
    pub(super) fn give(&self, own: &Random, random: &mut Random) -> Given {
        let mut own = own.with(format!("{:?} {}", self.place, self.name));
        let marker = own.marker();
        let with_marker = |value: String| (value, Some(marker.clone()));
        let (value, marker) = match &self.shape {
            Shape::OneOf(values) => (random.pick(values).clone(), None),
            Shape::Parameter if random.percent(30) => (random.pick(&["1", "2"]).to_string(), None),
            Shape::Text | Shape::Parameter => with_marker(marker.clone()),
            Shape::Host => with_marker(format!("{marker}.example")),
            Shape::Url => with_marker(format!("https://{marker}.example")),
            Shape::Path => with_marker(format!("/{marker}")),
            Shape::Bearer => with_marker(format!("Bearer {marker}")),
            Shape::Forwarded => with_marker(format!("host={marker}.example")),
            Shape::Address => {
                let mut byte = || 11 + own.below(240);
                let address = format!("10.{}.{}.{}", byte(), byte(), byte());
                (address.clone(), Some(address))
            }
        };
        Given {
            place: self.place,
            name: self.name.clone(),
            value,
            marker,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Method => write!(f, "method {}", self.value),
            Place::Host => f.write_str("host"),
            Place::Query => write!(f, "query parameter {}", self.name),
            Place::Cookie => write!(f, "cookie {}", self.name),
            Place::Header => write!(f, "header {}", self.name),
            Place::Body => f.write_str("body"),
        }
    }
}

/// The inputs that are tried in every test.
///
/// What only asks a cache for something (`Cache-Control`, conditions, `Range`) is not among them: it changes answers
/// without being about anybody.
pub(super) fn usual() -> Vec<Input> {
    let mut inputs = vec![Input::new(Place::Host, "host", Shape::Host)];
    for name in ["q", "page", "lang", "callback", "utm_source"] {
        inputs.push(Input::new(Place::Query, name, Shape::Parameter));
    }
    for name in ["sid", "session", "theme"] {
        inputs.push(Input::new(Place::Cookie, name, Shape::Text));
    }
    let shapes = [
        ("authorization", Shape::Bearer),
        ("x-forwarded-host", Shape::Host),
        ("x-host", Shape::Host),
        ("x-forwarded-server", Shape::Host),
        ("forwarded", Shape::Forwarded),
        ("x-forwarded-prefix", Shape::Path),
        ("x-original-url", Shape::Path),
        ("x-rewrite-url", Shape::Path),
        ("origin", Shape::Url),
        ("referer", Shape::Url),
        ("x-forwarded-for", Shape::Address),
        ("x-real-ip", Shape::Address),
        ("true-client-ip", Shape::Address),
        ("user-agent", Shape::Text),
        ("x-api-key", Shape::Text),
        ("x-user-id", Shape::Text),
        ("x-tenant-id", Shape::Text),
    ];
    for (name, shape) in shapes {
        inputs.push(Input::new(Place::Header, name, shape));
    }
    let choices: [(&str, &[&str]); 11] = [
        (
            "accept",
            &[
                "text/html",
                "application/json",
                "text/plain",
                "image/webp,*/*;q=0.1",
            ],
        ),
        (
            "accept-encoding",
            &["gzip", "br", "identity", "gzip;q=0.5, br"],
        ),
        (
            "accept-language",
            &["en", "de", "fr-CH, fr;q=0.9", "ja, en;q=0.1"],
        ),
        ("x-forwarded-proto", &["http", "https"]),
        ("x-forwarded-scheme", &["http", "https"]),
        ("x-forwarded-port", &["80", "443", "8443"]),
        ("x-http-method-override", &["POST", "PUT", "DELETE"]),
        ("x-requested-with", &["XMLHttpRequest"]),
        ("save-data", &["on"]),
        ("sec-ch-ua-mobile", &["?1", "?0"]),
        ("sec-fetch-mode", &["navigate", "cors"]),
    ];
    for (name, values) in choices {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        inputs.push(Input::new(Place::Header, name, Shape::OneOf(values)));
    }
    inputs
}
