//! The table of faults, a file for each test binary in the folder that `scripts/test` names by `LARDER_TEST_FAULTS`, if it
//! does.

use std::{
    env,
    fs::{self, File},
    io::{Read, Seek, Write},
    path::PathBuf,
};

use super::Report;

/// Adds the report's row, in place of one of the same fault: a test that is tried again leaves what it saw last.
pub(super) fn note(report: &Report) {
    let Some(folder) = env::var_os("LARDER_TEST_FAULTS").filter(|folder| !folder.is_empty()) else {
        return;
    };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).unwrap();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(env!("CARGO_CRATE_NAME")))
        .unwrap();
    // Each test may be a process of its own.
    file.lock().unwrap();
    let mut rows = String::new();
    file.read_to_string(&mut rows).unwrap();
    let same = format!("| {} |", report.fault);
    let others = rows.lines().filter(|row| !row.starts_with(&same));
    let rows: String = others.map(|row| format!("{row}\n")).collect();
    file.set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(format!("{rows}{report}\n").as_bytes())
        .unwrap();
}
