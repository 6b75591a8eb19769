//! Which parameters of a query are in the key, and in which order.

use std::fmt;

use smallvec::SmallVec;

/// Which parameters of the query are part of a key; all of them, as they are, unless a policy says otherwise.
///
/// What is left out must not matter to the handler: two requests that differ in nothing else get the same response.
/// Names are compared as handlers read them, percent-encoding and `+` decoded; what is kept goes into the key as it
/// was sent. Where a name could be read in two ways it is kept: `page[]` counts as `page` for [`Only`](Self::Only) and
/// not for [`Ignore`](Self::Ignore), and a parameter with a semicolon in it is never left out by either.
///
/// # Examples
///
/// ```
/// use larder::{CachePolicy, QueryKey};
///
/// let paged = CachePolicy::new().query(QueryKey::only(["page", "size"]));
/// let tracked = CachePolicy::new().query(QueryKey::ignore(["utm_source", "utm_medium", "fbclid"]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryKey {
    /// All parameters.
    #[default]
    All,
    /// No parameter: the handler does not look at the query.
    None,
    /// These parameters and no others.
    Only(Vec<String>),
    /// All parameters but these.
    Ignore(Vec<String>),
}

impl QueryKey {
    /// These parameters and no others.
    pub fn only(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Only(names.into_iter().map(Into::into).collect())
    }

    /// All parameters but these.
    pub fn ignore(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Ignore(names.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for QueryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("query"),
            Self::None => f.write_str("no query"),
            Self::Only(names) => write!(f, "query of only {}", names.join(", ")),
            Self::Ignore(names) => write!(f, "query without {}", names.join(", ")),
        }
    }
}

/// How the query of a request becomes that of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryRule {
    pub(crate) key: QueryKey,
    /// By name; parameters of one name stay in their order, in which they may matter.
    pub(crate) sort: bool,
}

impl QueryRule {
    /// Whether queries are left as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.key == QueryKey::All && !self.sort
    }

    /// Whether a parameter is in the key: `name=value`, as it was sent.
    pub(crate) fn keeps(&self, parameter: &str) -> bool {
        let name = name_of(parameter);
        let is = |known: &String| decoded(name).eq(known.bytes());
        let is_of = |known: &String| stem(name).eq(known.bytes());
        // Some read a semicolon as the end of a parameter, and what follows as another.
        let is_one = !parameter.contains(';');
        match &self.key {
            QueryKey::All => true,
            QueryKey::None => false,
            QueryKey::Only(names) => !is_one || names.iter().any(|known| is(known) || is_of(known)),
            QueryKey::Ignore(names) => !is_one || !names.iter().any(is),
        }
    }

    /// Writes the query that the key has, with the question mark before it, and says whether something was left out.
    ///
    /// No two queries that differ in what is kept, or in an order that is, are written alike.
    pub(crate) fn write(&self, query: &str, mut write: impl FnMut(&str)) -> bool {
        let mut parameters: SmallVec<[&str; 16]> = SmallVec::new();
        let mut drops = false;
        for parameter in query.split('&') {
            match self.keeps(parameter) {
                true => parameters.push(parameter),
                false => drops |= !parameter.is_empty(),
            }
        }
        if self.sort && !query.contains(';') {
            parameters.sort_by(|one, other| stem(name_of(one)).cmp(stem(name_of(other))));
        }
        for (at, parameter) in parameters.iter().enumerate() {
            write(if at == 0 { "?" } else { "&" });
            write(parameter);
        }
        drops
    }
}

impl fmt::Display for QueryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        f.write_str(if self.sort { ", sorted" } else { "" })
    }
}

fn name_of(parameter: &str) -> &[u8] {
    let name = parameter.split('=').next().unwrap_or_default();
    name.as_bytes()
}

/// What a name means to those who read `a[]` and `a[b]` as parts of `a`.
fn stem(name: &[u8]) -> impl Iterator<Item = u8> {
    decoded(name).take_while(|&byte| byte != b'[')
}

/// A name as `application/x-www-form-urlencoded` has it; what is no percent-encoding is left as it is.
fn decoded(name: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (byte, after) = percent(rest)?;
        let is_space = rest.first() == Some(&b'+');
        rest = after;
        Some(if is_space { b' ' } else { byte })
    })
}

/// The first byte of a percent-encoded text, and what follows.
pub(super) fn percent(text: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| Some(char::from(byte).to_digit(16)? as u8);
    if let [b'%', high, low, after @ ..] = text
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        return Some((high << 4 | low, after));
    }
    let (&first, after) = text.split_first()?;
    Some((first, after))
}

#[cfg(test)]
mod tests;
