//! Rounds of several contenders in turn, each with so many operations under way, on one thread.

use std::{
    fs,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, task::LocalSet};

/// How many operations are under way at one time.
const IN_FLIGHT: [usize; 3] = [1, 64, 512];

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(400);

/// One operation, told its number.
pub(crate) type Operation = Rc<dyn Fn(usize) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Somebody who can do the operation; the first of several is what the others are compared with.
pub(crate) struct Contender {
    name: &'static str,
    operation: Operation,
}

pub(crate) fn contender<F>(
    name: &'static str,
    operation: impl Fn(usize) -> F + 'static,
) -> Contender
where
    F: Future<Output = ()> + 'static,
{
    Contender {
        name,
        operation: Rc::new(move |number| Box::pin(operation(number))),
    }
}

/// Operations in a second, and microseconds of the client's processor for each.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    cpu: f64,
}

pub(crate) fn on_one_thread(work: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("the system has threads"), work);
}

/// Measures each with each number of operations under way, and prints what came out.
pub(crate) async fn compare(title: &str, contenders: Vec<Contender>) {
    compare_at(&IN_FLIGHT, title, contenders).await;
}

/// The same with other numbers of operations under way.
pub(crate) async fn compare_at(numbers: &[usize], title: &str, contenders: Vec<Contender>) {
    let columns = [
        "in flight",
        "ops/s",
        "x first",
        "CPU us/op",
        "more than first",
    ];
    let mut table = Table::new(title, &columns);
    for &in_flight in numbers {
        let mut samples = vec![Vec::new(); contenders.len()];
        for _ in 0..ROUNDS {
            for (contender, samples) in contenders.iter().zip(&mut samples) {
                samples.push(round(&contender.operation, in_flight).await);
            }
        }
        let medians: Vec<_> = samples.iter().map(|samples| median(samples)).collect();
        let first = medians[0];
        for (contender, found) in contenders.iter().zip(medians) {
            let cells = [
                in_flight.to_string(),
                format!("{:.0}", found.rate),
                format!("{:.2}", found.rate / first.rate),
                format!("{:.2}", found.cpu),
                format!("{:+.2}", found.cpu - first.cpu),
            ];
            table.row(contender.name, &cells);
        }
    }
    table.print();
}

async fn round(operation: &Operation, in_flight: usize) -> Sample {
    let (begun, worked) = (Instant::now(), worked());
    let end = begun + ROUND;
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let operation = operation.clone();
            tokio::task::spawn_local(async move {
                let mut done = 0_usize;
                while Instant::now() < end {
                    operation(task * 7919 + done).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.expect("no operation panics");
    }
    let done = done as f64;
    Sample {
        rate: done / begun.elapsed().as_secs_f64(),
        cpu: (self::worked() - worked).as_secs_f64() * 1e6 / done,
    }
}

/// The time that this thread has had a processor.
fn worked() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn median(samples: &[Sample]) -> Sample {
    let middle = |of: fn(&Sample) -> f64| {
        let mut sorted: Vec<_> = samples.iter().map(of).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Sample {
        rate: middle(|sample| sample.rate),
        cpu: middle(|sample| sample.cpu),
    }
}

/// A table as Markdown has them.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new(title: &str, columns: &[&str]) -> Self {
        let rule = "---|".repeat(columns.len() + 1);
        Self(format!(
            "\n| {title} | {} |\n|{rule}\n",
            columns.join(" | ")
        ))
    }

    pub(crate) fn row(&mut self, name: &str, cells: &[String]) {
        self.0 += &format!("| {name} | {} |\n", cells.join(" | "));
    }

    pub(crate) fn print(&self) {
        println!("{}", self.0);
    }
}
