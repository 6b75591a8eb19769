//! Instructions and allocations of each case, counted by valgrind. See the README beside this file.
//!
//! Run by `cargo bench`, this program runs itself once per case under callgrind. There a case is repeated a number of
//! times and then a greater number of times; the difference is free of everything that happens once.

use std::{
    error::Error,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

mod callgrind;
#[path = "../cases/http.rs"]
mod http_cases;
mod table;
#[path = "../cases/values.rs"]
mod values;

use callgrind::Costs;
use larder::MemoryPolicy;
use values::{Keys, Verb};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FEW: u64 = 100;
const MANY: u64 = 1_100;

/// Keys for the values: so few that chance in hashing hardly ever shows.
const KEYS: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        return run(name);
    }
    // As Criterion does: `cargo test --benches` only sees whether the cases run.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return names()
            .map(run)
            .find(|code| *code != ExitCode::SUCCESS)
            .unwrap_or_default();
    }
    let is_gate = arguments.iter().any(|argument| argument == "--gate");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if !callgrind::is_there() {
        println!("valgrind is missing, so no instructions are counted; install it to count them");
        return ExitCode::SUCCESS;
    }
    match measure(filter.map_or("", String::as_str)) {
        Ok(counts) => match table::print(&counts) {
            false if is_gate => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("counting failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What one repetition of a case costs.
pub(crate) struct Count {
    pub(crate) name: &'static str,
    pub(crate) gross: Costs,
    /// Without what making the request, or going through the keys, costs.
    pub(crate) net: Costs,
}

/// A case of the values by its name, and what makes it.
type ValuesCase = (&'static str, fn() -> values::Run);

const VALUES: [ValuesCase; 9] = [
    ("quick_cache get", || {
        values::quick_cache(Verb::GetShared, KEYS)
    }),
    ("moka get", || values::moka(Verb::GetShared, KEYS)),
    ("Cache::get_shared", || {
        values::larder(MemoryPolicy::S3Fifo, Verb::GetShared, KEYS)
    }),
    ("Cache::get_shared tiny-lfu", || {
        values::larder(MemoryPolicy::TinyLfu, Verb::GetShared, KEYS)
    }),
    ("Cache::get_shared lru", || {
        values::larder(MemoryPolicy::Lru, Verb::GetShared, KEYS)
    }),
    ("Cache::get", || {
        values::larder(MemoryPolicy::S3Fifo, Verb::Get, KEYS)
    }),
    ("Cache::get_or_load", || {
        values::larder(MemoryPolicy::S3Fifo, Verb::GetOrLoad, KEYS)
    }),
    ("Cache::put", || {
        values::larder(MemoryPolicy::S3Fifo, Verb::Put, KEYS)
    }),
    ("quick_cache insert", || {
        values::quick_cache(Verb::Put, KEYS)
    }),
];

fn names() -> impl Iterator<Item = &'static str> {
    let values = VALUES.iter().map(|(name, _)| *name);
    http_cases::CASES.iter().map(|case| case.name).chain(values)
}

/// Runs one case, under callgrind.
fn run(name: &str) -> ExitCode {
    if let Some(case) = http_cases::CASES.iter().find(|case| case.name == name) {
        let mut serving = (case.build)();
        repeat(&mut *serving.null);
        repeat(&mut *serving.run);
    } else if let Some((_, build)) = VALUES.iter().find(|(known, _)| *known == name) {
        let (keys, run) = (Keys::new(KEYS), build());
        run(10 * KEYS as u64);
        repeat(&mut |count| {
            keys.each(count, |key| {
                black_box(key);
            })
        });
        repeat(&mut |count| run(count));
    } else {
        eprintln!("there is no case {name:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn repeat(run: &mut dyn FnMut(u64)) {
    // The first profile also has the calls of the time before it, and is not read.
    for count in [FEW, FEW, MANY] {
        callgrind::measured_repetitions(run, count);
    }
}

fn measure(filter: &str) -> Result<Vec<Count>> {
    let profiles = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    fs::create_dir_all(&profiles)?;
    println!("profiles for callgrind_annotate: {}", profiles.display());
    names()
        .filter(|name| name.contains(filter))
        .map(|name| count(name, &profiles))
        .collect()
}

/// Counts one case in a process of its own, so that no case depends on what ran before it.
fn count(name: &'static str, profiles: &Path) -> Result<Count> {
    let profile = profiles.join(name.replace([' ', ':'], "-"));
    let status = Command::new("valgrind")
        .args(callgrind::arguments(&profile))
        .arg(std::env::current_exe()?)
        .args(["--case", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("case {name:?} under valgrind: {status}").into());
    }
    let dump = |number: u32| callgrind::read(&profile, number);
    let repetitions = MANY - FEW;
    let null = dump(3)?.minus(dump(2)?).divided(repetitions);
    let gross = dump(6)?.minus(dump(5)?).divided(repetitions);
    Ok(Count {
        name,
        gross,
        net: gross.minus(null),
    })
}
