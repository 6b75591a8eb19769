//! Requests to a cluster that follow a slot to where it has been moved, or is being moved.
//!
//! While a slot is moved its keys are one by one at the old node or at the new one. A command whose keys are not there is
//! refused and not carried out, and is sent again where the node says; those that were carried out are not, unless they
//! come after one that had to come before them.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Pipeline, Value};

use super::{cluster::Cluster, dial::Node, errors, link::Live, slots::Redirect};
use crate::Result;

/// So often commands are sent again before the slot counts as one that nobody has.
const ROUNDS: u32 = 24;

/// How long a command whose keys are apart waits for them to come together, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What has become of a command.
#[derive(Debug)]
enum Fate {
    /// It is yet to be carried out, by the node that has the slot.
    Open,
    /// It is yet to be carried out, by the node that the slot is moved to.
    Asked(Node),
    Done(Value),
}

/// A command of a request: its fate, and what it was answered before it had to be sent again.
#[derive(Debug)]
struct Step {
    fate: Fate,
    before: Option<Value>,
}

impl Cluster {
    /// The answers to commands on keys of one slot, and the connection to the node that has it in the end.
    pub(super) async fn send(
        &self,
        slot: u16,
        mut live: Arc<Live>,
        pipeline: Pipeline,
    ) -> Result<(Arc<Live>, Vec<Value>)> {
        // Where a redirection leaves the host out, it is that of the node that said it.
        let mut own = self.owner_of(slot);
        let values = live.ask_all(&pipeline).await?;
        if values.iter().any(is_down) {
            self.doubt();
        }
        if values
            .iter()
            .all(|value| Redirect::read(value, None).is_none())
        {
            return Ok((live, values));
        }
        let commands: Vec<_> = pipeline.cmd_iter().collect();
        let mut steps = steps(commands.len());
        let every: Vec<_> = (0..commands.len()).collect();
        let mut told = take(&mut steps, &commands, &every, values, own.as_ref());
        for round in 0..ROUNDS {
            if let Some(node) = told.moved.take() {
                if round > 1 {
                    // Nodes that disagree come to agree.
                    tokio::time::sleep(FIRST_PAUSE * round).await;
                }
                self.moved(slot, node);
                // What was to be asked for elsewhere is where the slot is.
                for step in &mut steps {
                    if matches!(step.fate, Fate::Asked(_)) {
                        step.fate = Fate::Open;
                    }
                }
                live = self.live(slot).await?;
            } else if told.is_apart {
                tokio::time::sleep((FIRST_PAUSE * (round + 1)).min(LONGEST_PAUSE)).await;
                // Perhaps it has been moved meanwhile.
                live = self.live(slot).await?;
            }
            own = self.owner_of(slot);
            let Some((run, target)) = next_run(&steps) else {
                return Ok((live, done(steps)));
            };
            told = match target {
                None => {
                    let mut again = Pipeline::with_capacity(run.len());
                    for &place in &run {
                        again.add_command(commands[place].clone());
                    }
                    let values = live.ask_all(&again).await?;
                    take(&mut steps, &commands, &run, values, own.as_ref())
                }
                Some(node) => {
                    let mut again = Pipeline::with_capacity(2 * run.len());
                    for &place in &run {
                        again.cmd("ASKING");
                        again.add_command(commands[place].clone());
                    }
                    let there = self.link_to(&node)?.live().await?;
                    let values = there.ask_all(&again).await?;
                    let values = values.into_iter().skip(1).step_by(2).collect();
                    take(&mut steps, &commands, &run, values, Some(&node))
                }
            };
        }
        Err(errors::on_the_move())
    }
}

/// What the answers said of the slot.
#[derive(Default)]
struct Told {
    moved: Option<Node>,
    is_apart: bool,
}

fn steps(count: usize) -> Vec<Step> {
    let open = || Step {
        fate: Fate::Open,
        before: None,
    };
    std::iter::repeat_with(open).take(count).collect()
}

/// Takes note of the answers to the commands in these places, which came from `node`, as far as is known.
fn take(
    steps: &mut [Step],
    commands: &[&Cmd],
    places: &[usize],
    values: Vec<Value>,
    node: Option<&Node>,
) -> Told {
    let mut told = Told::default();
    let mut refused = None;
    for (&place, value) in places.iter().zip(values) {
        let fate = match Redirect::read(&value, node) {
            None => Fate::Done(better(steps[place].before.take(), value)),
            Some(redirect) => {
                refused = refused.or(Some(place));
                match redirect {
                    Redirect::Ask(node) => Fate::Asked(node),
                    Redirect::Moved(node) => {
                        told.moved = Some(node);
                        Fate::Open
                    }
                    Redirect::TryAgain => {
                        told.is_apart = true;
                        Fate::Open
                    }
                }
            }
        };
        steps[place].fate = fate;
    }
    if let Some(refused) = refused {
        send_again(steps, commands, refused);
    }
    told
}

/// What came after a command that was refused and may be done twice is done again, because the order counts: a counter is
/// raised before its key is removed or put.
fn send_again(steps: &mut [Step], commands: &[&Cmd], refused: usize) {
    let later = steps.iter_mut().zip(commands).skip(refused + 1);
    for (step, _) in later.filter(|(_, command)| may_be_repeated(command)) {
        if let Fate::Done(_) = step.fate
            && let Fate::Done(value) = std::mem::replace(&mut step.fate, Fate::Open)
        {
            step.before = Some(value);
        }
    }
}

fn may_be_repeated(command: &Cmd) -> bool {
    let name = command.args_iter().next();
    let Some(redis::Arg::Simple(name)) = name else {
        return false;
    };
    matches!(
        name,
        b"SET" | b"UNLINK" | b"GET" | b"HSETEX" | b"HDEL" | b"HGET"
    )
}

/// Of two answers to one command the one that tells that something was done.
fn better(before: Option<Value>, now: Value) -> Value {
    match before {
        Some(before @ Value::Okay) => before,
        Some(Value::Int(count)) if count > 0 => Value::Int(count),
        _ => now,
    }
}

/// The next commands that go to one place, which is another node than the slot's own where one is named.
fn next_run(steps: &[Step]) -> Option<(Vec<usize>, Option<Node>)> {
    let mut run = Vec::new();
    let mut target = None;
    for (place, step) in steps.iter().enumerate() {
        let to = match &step.fate {
            Fate::Done(_) => continue,
            Fate::Open => None,
            Fate::Asked(node) => Some(node.clone()),
        };
        if run.is_empty() {
            target = to;
        } else if target != to {
            break;
        }
        run.push(place);
    }
    (!run.is_empty()).then_some((run, target))
}

fn done(steps: Vec<Step>) -> Vec<Value> {
    let values = steps.into_iter().filter_map(|step| match step.fate {
        Fate::Done(value) => Some(value),
        Fate::Open | Fate::Asked(_) => None,
    });
    values.collect()
}

/// Whether a node says that the cluster cannot serve.
fn is_down(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "CLUSTERDOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Value {
        let answer = format!("-{text}\r\n");
        redis::parse_redis_value(answer.as_bytes()).unwrap()
    }

    fn commands(names: &[&str]) -> Vec<Cmd> {
        names.iter().map(|name| redis::cmd(name)).collect()
    }

    #[test]
    fn what_comes_after_a_counter_that_was_not_raised_is_done_again() {
        let commands = commands(&["INCRBY", "UNLINK", "UNLINK", "EVALSHA", "GET"]);
        let commands: Vec<_> = commands.iter().collect();
        let mut steps = steps(5);
        let values = vec![
            refused("ASK 7 10.0.0.7:7001"),
            Value::Int(1),
            refused("ASK 7 10.0.0.7:7001"),
            Value::Int(1),
            Value::Nil,
        ];
        let told = take(&mut steps, &commands, &[0, 1, 2, 3, 4], values, None);
        assert!(told.moved.is_none() && !told.is_apart);
        // The counter first, by itself, because what follows goes elsewhere.
        let (run, node) = next_run(&steps).unwrap();
        assert_eq!((run, node.map(|node| node.port)), (vec![0], Some(7001)));
        take(&mut steps, &commands, &[0], vec![Value::Int(9)], None);
        assert_eq!(next_run(&steps).unwrap(), (vec![1], None));
        // It was removed the first time, and that is the answer.
        take(&mut steps, &commands, &[1], vec![Value::Int(0)], None);
        let (run, node) = next_run(&steps).unwrap();
        assert_eq!((run, node.map(|node| node.port)), (vec![2], Some(7001)));
        take(&mut steps, &commands, &[2], vec![Value::Int(1)], None);
        assert_eq!(next_run(&steps).unwrap(), (vec![4], None));
        take(&mut steps, &commands, &[4], vec![Value::Okay], None);
        assert!(next_run(&steps).is_none());
        let expected = [9, 1, 1, 1].map(Value::Int).into_iter();
        let expected: Vec<_> = expected.chain([Value::Okay]).collect();
        assert_eq!(done(steps), expected);
    }

    #[test]
    fn what_came_after_is_done_again_in_a_hash_too_and_what_adds_is_not() {
        let commands = commands(&["INCRBY", "HDEL", "HSETEX", "HGET", "HINCRBY"]);
        let commands: Vec<_> = commands.iter().collect();
        let mut steps = steps(5);
        let mut values = vec![refused("ASK 7 10.0.0.7:7001")];
        values.extend([1, 1, 1, 1].map(Value::Int));
        take(&mut steps, &commands, &[0, 1, 2, 3, 4], values, None);
        let is_open: Vec<_> = steps
            .iter()
            .map(|step| !matches!(step.fate, Fate::Done(_)))
            .collect();
        assert_eq!(is_open, [true, true, true, true, false]);
    }

    #[test]
    fn a_script_that_was_run_is_not_run_again() {
        let commands = commands(&["EVAL", "GET"]);
        let commands: Vec<_> = commands.iter().collect();
        let mut steps = steps(2);
        let values = vec![Value::Int(1), refused("MOVED 7 10.0.0.7:7001")];
        let told = take(&mut steps, &commands, &[0, 1], values, None);
        assert_eq!(told.moved.map(|node| node.port), Some(7001));
        assert_eq!(next_run(&steps).unwrap(), (vec![1], None));
    }

    #[test]
    fn keys_that_are_apart_are_waited_for() {
        let commands = commands(&["EVAL"]);
        let commands: Vec<_> = commands.iter().collect();
        let mut steps = steps(1);
        let values = vec![refused(
            "TRYAGAIN Multiple keys request during rehashing of slot",
        )];
        assert!(take(&mut steps, &commands, &[0], values, None).is_apart);
        assert_eq!(next_run(&steps).unwrap(), (vec![0], None));
    }
}
