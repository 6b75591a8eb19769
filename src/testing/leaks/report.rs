use std::{collections::BTreeMap, fmt};

/// What a [`LeakTest`](super::LeakTest) did that found nothing; displayed, it is a table.
#[derive(Clone, Debug, Default)]
#[must_use = "what was never a hit was not tested, and only the report says so"]
pub struct LeakReport {
    pub(super) rounds: usize,
    pub(super) planned: usize,
    pub(super) paths: BTreeMap<String, PathReport>,
}

/// What became of the requests for one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PathReport {
    pub(super) requests: usize,
    pub(super) hits: usize,
    pub(super) state: usize,
    pub(super) unexplained: usize,
}

impl LeakReport {
    /// How many requests were sent to services that others had asked before.
    pub fn requests(&self) -> usize {
        self.paths.values().map(|path| path.requests).sum()
    }

    /// How many of them a cache answered, by its `Cache-Status` or an `Age`.
    pub fn hits(&self) -> usize {
        self.paths.values().map(|path| path.hits).sum()
    }

    /// How many rounds there were.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether every input was tried on every path; fewer [`rounds`](super::LeakTest::rounds) leave some out.
    pub fn is_complete(&self) -> bool {
        self.rounds >= self.planned
    }

    /// The paths that no cache ever answered for, and that nothing was tested of.
    pub fn paths_without_hits(&self) -> impl Iterator<Item = &str> {
        self.paths_where(|path| path.hits == 0)
    }

    /// The paths where a visitor saw what another one had put there by a request that changes something, such as a POST,
    /// and no cache was in it.
    pub fn paths_with_shared_state(&self) -> impl Iterator<Item = &str> {
        self.paths_where(|path| path.state > 0)
    }

    /// The paths whose answers differ for reasons of their own, such as time, counters and what was changed: there, what
    /// the service itself makes is compared by the words that stay the same.
    pub fn paths_that_differ(&self) -> impl Iterator<Item = &str> {
        self.paths_where(|path| path.unexplained > 0)
    }

    fn paths_where(&self, is: fn(&PathReport) -> bool) -> impl Iterator<Item = &str> {
        let paths = self.paths.iter().filter(move |(_, path)| is(path));
        paths.map(|(name, _)| name.as_str())
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "requests    hits  path")?;
        for (name, path) in &self.paths {
            write!(f, "{:>8} {:>7}  {name}", path.requests, path.hits)?;
            if path.hits == 0 {
                write!(f, " (never a hit: nothing was tested)")?;
            }
            if path.state > 0 {
                write!(f, " (shows what others have put there)")?;
            }
            writeln!(f)?;
        }
        write!(f, "{} requests in {} rounds", self.requests(), self.rounds)?;
        if !self.is_complete() {
            write!(
                f,
                " of the {} that try every input on every path",
                self.planned
            )?;
        }
        Ok(())
    }
}
