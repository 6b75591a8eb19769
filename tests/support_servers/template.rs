//! The folder that a database begins with, made once and copied for every server: making one takes seconds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
};

/// Fills the folder `data`, which is not there yet, with a copy of the template `name`; `make` makes the first one.
pub(super) fn copy(name: &str, data: &Path, make: impl FnOnce(&Path)) {
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if template.exists() {
        return copy_folder(&template, data);
    }
    make(data);
    // Under a name of its own until it is whole; whoever is first is as good as any other.
    let own = PathBuf::from(format!("{}-{}", template.display(), process::id()));
    copy_folder(data, &own);
    if fs::rename(&own, &template).is_err() {
        drop(fs::remove_dir_all(&own));
    }
}

/// With owners and modes, where they can be kept.
fn copy_folder(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from).arg(to).stdin(Stdio::null());
    let status = copy.status().unwrap();
    assert!(status.success(), "{} was not copied", from.display());
}
