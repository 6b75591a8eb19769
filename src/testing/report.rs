use std::fmt;

/// What became of one behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a behaviour that failed is not reported otherwise"]
#[non_exhaustive]
pub enum Outcome {
    /// The backend does it.
    Passed,
    /// The backend does not declare the capability named here.
    Skipped(&'static str),
    /// The backend does not do it, for this reason.
    Failed(String),
}

/// The outcomes of a run of the suite; displayed, it is a table.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<(&'static str, Outcome)>,
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, outcome: Outcome) {
        self.rows.push((name, outcome));
    }

    /// The names of the behaviours that the backend has.
    pub fn passed(&self) -> impl Iterator<Item = &'static str> {
        let passed = self
            .rows
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Passed);
        passed.map(|(name, _)| *name)
    }

    /// The names of the behaviours that were left out, each with the capability that is not declared.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.rows
            .iter()
            .filter_map(|(name, outcome)| match outcome {
                Outcome::Skipped(missing) => Some((*name, *missing)),
                _ => None,
            })
    }

    /// The names of the behaviours that the backend lacks, each with the reason.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.rows
            .iter()
            .filter_map(|(name, outcome)| match outcome {
                Outcome::Failed(reason) => Some((*name, &**reason)),
                _ => None,
            })
    }
}

/// Outcomes of behaviours that were run one by one, or several at a time.
///
/// # Examples
///
/// ```
/// use larder::{Memory, testing::{Report, behaviours}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut outcomes = Vec::new();
/// for behaviour in behaviours().filter(|it| it.name().starts_with("a_counter")) {
///     outcomes.push((behaviour.name(), behaviour.run(&|| async { Memory::new() }).await));
/// }
/// let report = Report::from_iter(outcomes);
/// assert_eq!(report.failed().count(), 0);
/// # }
/// ```
impl FromIterator<(&'static str, Outcome)> for Report {
    fn from_iter<T: IntoIterator<Item = (&'static str, Outcome)>>(outcomes: T) -> Self {
        let rows = outcomes.into_iter().collect();
        Self { rows }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in self.passed() {
            writeln!(f, "passed   {name}")?;
        }
        for (name, missing) in self.skipped() {
            writeln!(f, "skipped  {name} (needs {missing})")?;
        }
        for (name, reason) in self.failed() {
            writeln!(f, "FAILED   {name}: {reason}")?;
        }
        let (passed, skipped) = (self.passed().count(), self.skipped().count());
        let failed = self.failed().count();
        write!(f, "{passed} passed, {skipped} skipped, {failed} failed")
    }
}
