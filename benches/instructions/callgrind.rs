//! Callgrind: how it is run, and what is read from the profiles that it writes.

use std::{
    fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
};

use crate::Result;

/// The functions of the C library that make an allocation.
const ALLOCATORS: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "aligned_alloc",
    "posix_memalign",
];

/// What was spent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Costs {
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            allocations: self.allocations - other.allocations,
        }
    }

    pub(crate) fn divided(self, by: u64) -> Self {
        Self {
            instructions: self.instructions / by as f64,
            allocations: self.allocations / by as f64,
        }
    }
}

/// The function within which callgrind counts. It writes a profile whenever this one returns.
#[inline(never)]
pub(crate) fn measured_repetitions(run: &mut dyn FnMut(u64), count: u64) {
    run(count);
    // Something has to be left to do, or the call above becomes a jump and this function ends before it.
    black_box(count);
}

pub(crate) fn is_there() -> bool {
    let version = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

pub(crate) fn arguments(profile: &Path) -> [String; 4] {
    [
        "--tool=callgrind".to_owned(),
        "--toggle-collect=*measured_repetitions*".to_owned(),
        // Callgrind heeds only the last option of those with one and the same pattern.
        "--dump-after=*callgrind*measured_repetitions*".to_owned(),
        format!("--callgrind-out-file={}", profile.display()),
    ]
}

/// Reads the profile of one call of [`measured_repetitions`]; they are numbered from 1.
pub(crate) fn read(profile: &Path, number: u32) -> Result<Costs> {
    let path = format!("{}.{number}", profile.display());
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let summary = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let instructions = summary
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| format!("{path} has no summary"))?;
    Ok(Costs {
        instructions,
        allocations: allocations(&text),
    })
}

/// How often allocators were called, but for the calls that they make of each other.
///
/// A profile gives a function's name where it first names its number, as in `cfn=(7) malloc`; `calls=` then tells how
/// often the function of the last `fn=` called that of the last `cfn=`.
fn allocations(profile: &str) -> f64 {
    let mut allocators = Vec::new();
    let (mut caller, mut callee) = ("", "");
    let mut sum = 0.0;
    for line in profile.lines() {
        let Some((what, rest)) = line.split_once('=') else {
            continue;
        };
        match what {
            "fn" | "cfn" => {
                let (number, name) = rest.split_once(' ').unwrap_or((rest, ""));
                if ALLOCATORS.contains(&name) {
                    allocators.push(number);
                }
                *if what == "fn" {
                    &mut caller
                } else {
                    &mut callee
                } = number;
            }
            "calls" if allocators.contains(&callee) && !allocators.contains(&caller) => {
                let calls = rest.split(' ').next().and_then(|calls| calls.parse().ok());
                sum += calls.unwrap_or(0.0);
            }
            _ => {}
        }
    }
    sum
}
