//! The table of what was counted, beside the goals.

use crate::{Count, callgrind::Costs};

/// What a case is to stay within.
#[derive(Clone, Copy)]
enum Goal {
    /// Net instructions and allocations.
    AtMost(f64, f64),
    /// So many net instructions more than another case.
    More(f64, &'static str),
    /// The instructions of another case, give or take two in a hundred.
    Same(&'static str),
}

const GOALS: [(&str, Goal); 10] = [
    ("around 1 KiB", Goal::AtMost(2_600.0, 3.0)),
    ("around 64 KiB", Goal::Same("around 1 KiB")),
    ("around Vary", Goal::More(1_000.0, "around 1 KiB")),
    ("around 304", Goal::More(1_000.0, "around 1 KiB")),
    ("inside 1 KiB", Goal::AtMost(7_500.0, 16.0)),
    ("inside 64 KiB", Goal::Same("inside 1 KiB")),
    ("inside Vary", Goal::More(1_000.0, "inside 1 KiB")),
    ("inside 304", Goal::More(1_000.0, "inside 1 KiB")),
    ("plain 1 KiB", Goal::AtMost(2_600.0, 3.0)),
    ("Cache::get_shared", Goal::AtMost(450.0, 0.0)),
];

/// Prints a row for each case, and says whether every goal was met that could be told.
pub(crate) fn print(counts: &[Count]) -> bool {
    let net = |name: &str| {
        let count = counts.iter().find(|count| count.name == name);
        count.map(|count| count.net)
    };
    let bare = net("bare 1 KiB");
    println!("| case | Ir | net Ir | net allocations | net Ir, x bare | goal |");
    println!("|---|---|---|---|---|---|");
    let mut is_met = true;
    for count in counts {
        let ratio = bare.map_or(String::new(), |bare| {
            format!("{:.2}", count.net.instructions / bare.instructions)
        });
        let goal = GOALS.iter().find(|(name, _)| *name == count.name);
        let judged = goal.and_then(|(_, goal)| judge(*goal, count.net, net));
        is_met &= judged.as_ref().is_none_or(|(is_met, _)| *is_met);
        let told = judged.map_or(String::new(), |(is_met, text)| {
            format!("{text}: {}", if is_met { "met" } else { "**missed**" })
        });
        println!(
            "| {} | {:.0} | {:.0} | {:.1} | {ratio} | {told} |",
            count.name, count.gross.instructions, count.net.instructions, count.net.allocations,
        );
    }
    is_met
}

/// Whether a goal was met, and what it is; `None` where the case to compare with was not counted.
fn judge(goal: Goal, count: Costs, net: impl Fn(&str) -> Option<Costs>) -> Option<(bool, String)> {
    Some(match goal {
        Goal::AtMost(instructions, allocations) => (
            count.instructions <= instructions && count.allocations <= allocations,
            format!("≤ {instructions} Ir, ≤ {allocations} allocations"),
        ),
        Goal::More(instructions, base) => (
            count.instructions <= net(base)?.instructions + instructions,
            format!("≤ {base} + {instructions} Ir"),
        ),
        Goal::Same(base) => {
            let base_count = net(base)?.instructions;
            let ratio = count.instructions / base_count;
            (
                (ratio - 1.0).abs() <= 0.02,
                format!("{base} ± 2 %, is {:+.1} %", (ratio - 1.0) * 100.0),
            )
        }
    })
}
