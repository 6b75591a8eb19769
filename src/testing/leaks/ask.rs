//! A request of a visitor, as something that can be taken apart.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST},
    request::Parts,
};

use super::input::{Given, Place};

/// What makes a request one of a visitor who has logged in.
pub(super) type Identity = Arc<dyn Fn(&mut Parts) + Send + Sync>;

/// Somebody who asks.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) name: String,
    pub(super) identity: Option<Identity>,
}

/// The host that visitors share when they give none of their own.
const SHARED_HOST: &str = "test.example";

#[derive(Clone)]
pub(super) struct Ask {
    pub(super) visitor: Visitor,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) given: Vec<Given>,
}

impl Ask {
    pub(super) fn new(visitor: &Visitor, path: &str) -> Self {
        Self {
            visitor: visitor.clone(),
            method: Method::GET,
            path: path.to_owned(),
            given: Vec::new(),
        }
    }

    /// With one input more; of two for the same place the first counts.
    pub(super) fn with(mut self, given: Given) -> Self {
        match given.place {
            Place::Method => {
                self.method = given.value.parse().unwrap_or(Method::GET);
                self.given.retain(|other| other.place != Place::Body);
            }
            Place::Body if self.is_safe() => {}
            _ if self.value(given.place, &given.name).is_none() => self.given.push(given),
            _ => {}
        }
        self
    }

    /// What the visitor gave there.
    pub(super) fn value(&self, place: Place, name: &str) -> Option<&str> {
        let mut given = self.given.iter();
        let given = given.find(|given| given.place == place && given.name == name)?;
        Some(&given.value)
    }

    /// RFC 9110 §9.2.1.
    pub(super) fn is_safe(&self) -> bool {
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(&self.method)
    }

    /// GET or HEAD, which the same stored response may answer.
    pub(super) fn is_reading(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.method)
    }

    pub(super) fn request(&self) -> Request<Bytes> {
        let mut uri = self.path.clone();
        let (mut cookies, mut body) = (Vec::new(), Bytes::new());
        let mut request = Request::new(Bytes::new());
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static(SHARED_HOST));
        for Given {
            place, name, value, ..
        } in &self.given
        {
            match place {
                Place::Method => {}
                Place::Host => {
                    headers.insert(HOST, field(value));
                }
                Place::Query => {
                    uri.push(if uri.contains('?') { '&' } else { '?' });
                    uri.extend([name, "=", value]);
                }
                Place::Cookie => cookies.push(format!("{name}={value}")),
                Place::Header => {
                    // The name was checked when it was taken.
                    if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                        headers.insert(name, field(value));
                    }
                }
                Place::Body => body = value.clone().into(),
            }
        }
        if !cookies.is_empty() {
            headers.insert(COOKIE, field(&cookies.join("; ")));
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri
            .parse()
            .expect("a path that was checked, and a query without spaces");
        *request.body_mut() = body;
        let (mut parts, body) = request.into_parts();
        if let Some(identity) = &self.visitor.identity {
            identity(&mut parts);
        }
        Request::from_parts(parts, body)
    }

    /// The same request with less in it, the larger steps first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut less = self.clone();
            change(&mut less);
            smaller.push(less);
        };
        if self.given.len() > 1 {
            push(&|less| less.given.clear());
        }
        if self.visitor.identity.is_some() {
            push(&|less| less.visitor.identity = None);
        }
        for at in 0..self.given.len() {
            push(&|less| {
                less.given.remove(at);
            });
        }
        if self.method != Method::GET {
            push(&|less| {
                less.method = Method::GET;
                less.given.retain(|given| given.place != Place::Body);
            });
        }
        smaller
    }
}

fn field(value: &str) -> HeaderValue {
    HeaderValue::from_str(value)
        .expect("values of the kit, and those that were checked, fit into a header")
}

/// As it goes over the wire in HTTP/1.1, with what the identity added.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.request();
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        writeln!(f, "{} {target} HTTP/1.1", request.method())?;
        for (name, value) in request.headers() {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        if !request.body().is_empty() {
            writeln!(f, "\n{}", String::from_utf8_lossy(request.body()))?;
        }
        Ok(())
    }
}
