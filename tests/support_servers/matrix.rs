//! What the behaviour suite found of each backend in each of its modes, for the table at the end of `scripts/test`.

use std::{env, fs, path::PathBuf};

use larder::testing::Report;

/// Judges as [`larder::testing::suite`] does, and notes the row in the folder that `scripts/test` names by
/// `LARDER_TEST_MATRIX`, if it does.
pub(crate) fn judge(backend: &str, mode: &str, report: &Report) {
    println!("{report}");
    let failed: Vec<_> = report.failed().collect();
    let counts = [
        report.passed().count(),
        report.skipped().count(),
        failed.len(),
    ];
    note(backend, mode, counts);
    assert!(failed.is_empty(), "{backend}, {mode}: {failed:#?}");
}

fn note(backend: &str, mode: &str, [passed, skipped, failed]: [usize; 3]) {
    let Some(folder) = env::var_os("LARDER_TEST_MATRIX").filter(|folder| !folder.is_empty()) else {
        return;
    };
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let row = format!("{backend}, {mode}\t{result}\t{passed}\t{skipped}\t{failed}\n");
    let name = row.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    fs::write(PathBuf::from(folder).join(name), row).unwrap();
}
