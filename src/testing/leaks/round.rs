//! One round: a new service, and visitors who ask it by turns and at the same time.

use super::{
    LeakTest,
    answer::{Answer, Field, PERSONAL},
    ask::{Ask, Visitor},
    input::{Given, Input, Place, Shape},
    judge::{Crossed, Evidence, Pair, judge},
    leak::{HowToRepeat, Leak},
    random::Random,
    report::{LeakReport, PathReport},
    served::{Served, both},
    shrink::shrink,
};

/// Requests of a round beside those that try its input.
const OTHERS: usize = 5;
/// So many earlier requests are suspected of one answer.
const SUSPECTS: usize = 2;

/// The input that a round is about, and where.
#[derive(Clone, Copy)]
pub(super) struct Focus<'a> {
    pub(super) path: &'a str,
    pub(super) input: &'a Input,
}

pub(super) struct Round<'a> {
    test: &'a LeakTest,
    number: usize,
    random: Random,
    served: Served,
    seen: Vec<(Ask, Answer)>,
    report: &'a mut LeakReport,
}

impl<'a> Round<'a> {
    pub(super) fn new(test: &'a LeakTest, number: usize, report: &'a mut LeakReport) -> Self {
        Self {
            test,
            number,
            random: Random::new(test.seed).with(number.to_string()),
            served: (test.make)(),
            seen: Vec::new(),
            report,
        }
    }

    pub(super) async fn run(mut self, focus: Focus<'_>) -> Result<(), Leak> {
        let mut visitors: Vec<_> = self.test.visitors.iter().collect();
        self.random.shuffle(&mut visitors);
        let (one, other) = (visitors[0], visitors[1]);
        // A visitor who comes back has the same cookies in all requests.
        let has_cookies = self.random.percent(30);
        let mut ask = |visitor, is_with: bool| {
            let mut ask = Ask::new(visitor, focus.path);
            if is_with {
                ask = ask.with(self.give(visitor, focus.input));
            }
            if has_cookies {
                ask = self.with_cookies(ask);
            }
            ask
        };
        let first = [ask(one, true), ask(other, false)];
        let then = [ask(other, true), ask(one, false)];
        match self.random.below(4) {
            0 => self.send_together(first.into()).await?,
            1 => {
                self.send_by_turns(first.into_iter().rev().collect())
                    .await?
            }
            _ => self.send_by_turns(first.into()).await?,
        }
        self.send_by_turns(then.into()).await?;
        for _ in 0..OTHERS {
            let visitor = *self.random.pick(&visitors);
            let ask = self.any(visitor, focus.path);
            self.pause().await;
            if self.random.percent(25) {
                let visitor = *self.random.pick(&visitors);
                let beside = self.any(visitor, &ask.path);
                self.send_together([ask, beside].into()).await?;
            } else {
                self.send_by_turns([ask].into()).await?;
            }
        }
        Ok(())
    }

    /// The input with a value of this visitor, the same one all through the round where it is the visitor's own.
    fn give(&mut self, visitor: &Visitor, input: &Input) -> Given {
        let own = Random::new(self.test.seed).with(format!("{} {}", self.number, visitor.name));
        input.give(&own, &mut self.random)
    }

    fn with_cookies(&mut self, mut ask: Ask) -> Ask {
        let test = self.test;
        for input in test
            .inputs
            .iter()
            .filter(|input| input.place == Place::Cookie)
        {
            let given = self.give(&ask.visitor, input);
            ask = ask.with(given);
        }
        ask
    }

    /// Any request, more often than not for `path` and with little in it, so that it meets others in the cache.
    fn any(&mut self, visitor: &Visitor, path: &str) -> Ask {
        let test = self.test;
        let path = match self.random.percent(60) {
            true => path,
            false => self.random.pick(&test.paths),
        };
        let mut ask = Ask::new(visitor, path);
        for input in &test.inputs {
            // What is in the key by itself keeps requests from meeting.
            let chance = match input.place {
                Place::Method => 3,
                Place::Host | Place::Query => 4,
                Place::Cookie => 15,
                Place::Header => 5,
                Place::Body => 0,
            };
            if self.random.percent(chance) {
                let given = self.give(visitor, input);
                ask = ask.with(given);
            }
        }
        self.with_body(ask)
    }

    /// What changes something says by what.
    fn with_body(&mut self, ask: Ask) -> Ask {
        let body = Input::new(Place::Body, "body", Shape::Text);
        let given = self.give(&ask.visitor, &body);
        ask.with(given)
    }

    async fn pause(&mut self) {
        if !self.test.pauses.is_zero() && self.random.percent(30) {
            let part = self.random.below(1000) as u32;
            tokio::time::sleep(self.test.pauses * part / 1000).await;
        }
    }

    async fn send_by_turns(&mut self, asks: Vec<Ask>) -> Result<(), Leak> {
        for ask in asks {
            let ask = self.with_body(ask);
            let answer = (self.served)(ask.request()).await;
            self.seen.push((ask, answer));
            self.check(self.seen.len() - 1, false).await?;
        }
        Ok(())
    }

    async fn send_together(&mut self, asks: Vec<Ask>) -> Result<(), Leak> {
        let asks: Vec<_> = asks.into_iter().map(|ask| self.with_body(ask)).collect();
        let answering = asks.iter().map(|ask| (self.served)(ask.request()));
        let answering: Vec<_> = answering.collect();
        let Ok([one, other]) = <[_; 2]>::try_from(answering) else {
            return Ok(());
        };
        let (one, other) = both(one, other).await;
        self.seen.extend(asks.into_iter().zip([one, other]));
        let end = self.seen.len();
        self.check(end - 2, true).await?;
        self.check(end - 1, true).await
    }

    /// Looks at an answer with all the others of the round.
    async fn check(&mut self, at: usize, together: bool) -> Result<(), Leak> {
        let (ask, answer) = &self.seen[at];
        let of_path = self.report.paths.entry(ask.path.clone()).or_default();
        of_path.requests += 1;
        of_path.hits += usize::from(answer.is_hit());
        let strangers = self.strangers(at);
        let with_marker: Vec<_> = strangers
            .iter()
            .filter_map(|&from| Some((from, marker_of(&self.seen[from].0, ask, answer)?)))
            .collect();
        let suspects = with_marker.iter().map(|(from, _)| *from);
        if let Some(leak) = self.try_pairs(suspects, at, together).await {
            return Err(leak);
        }
        let is_safe = |(from, _): &(usize, _)| self.seen[*from].0.is_safe();
        if !with_marker.iter().all(is_safe) {
            self.of_path(at).state += 1;
        } else if let Some((from, (field, given))) = with_marker.into_iter().next()
            && let Some(leak) = self.unrepeated(from, at, field, given).await
        {
            return Err(leak);
        }
        let (ask, answer) = &self.seen[at];
        let alone = (self.test.make)()(ask.request()).await;
        let differs = differs(answer, &alone);
        let shares = |from: &usize| {
            let first = &self.seen[*from].1;
            shares_a_field(first, answer, &alone) || shares_a_line(first, answer)
        };
        let suspects: Vec<_> = strangers.into_iter().filter(shares).collect();
        if let Some(leak) = self.try_pairs(suspects.into_iter(), at, together).await {
            return Err(leak);
        }
        self.of_path(at).unexplained += usize::from(differs);
        Ok(())
    }

    fn of_path(&mut self, at: usize) -> &mut PathReport {
        let path = self.seen[at].0.path.clone();
        self.report.paths.entry(path).or_default()
    }

    /// The requests of other visitors, the earliest first: that one most likely stored what the others got.
    fn strangers(&self, at: usize) -> Vec<usize> {
        let name = |at: usize| &self.seen[at].0.visitor.name;
        let all = 0..self.seen.len();
        all.filter(|&from| name(from) != name(at)).collect()
    }

    /// Sends each suspect and the request to services of their own, and makes the first pair that shows it again as
    /// small as it gets.
    async fn try_pairs(
        &self,
        suspects: impl Iterator<Item = usize>,
        at: usize,
        together: bool,
    ) -> Option<Leak> {
        for from in suspects.take(SUSPECTS) {
            let mut pair = Pair {
                one: self.seen[from].0.clone(),
                other: self.seen[at].0.clone(),
                together: false,
            };
            let mut evidence = self.judge(&pair).await;
            if evidence.is_none() && together {
                pair.together = true;
                evidence = self.judge(&pair).await;
            }
            if let Some(evidence) = evidence {
                let still = async |pair: &Pair| self.judge(pair).await;
                let (mut pair, mut evidence) = shrink(pair, evidence, still).await;
                // What a visitor sent, seen with another one, shows best what is wrong.
                let turned = pair.turned();
                if let Crossed::Answer = evidence.crossed
                    && let Some(seen) = self.judge(&turned).await
                    && let Crossed::Given(_) = seen.crossed
                {
                    (pair, evidence) = (turned, seen);
                }
                return Some(Leak::crossed(&pair, &evidence, &self.how(true)));
            }
        }
        None
    }

    /// What crossed in this pair and is not allowed to.
    async fn judge(&self, pair: &Pair) -> Option<Evidence> {
        let evidence = judge(&*self.test.make, pair).await?;
        let leak = Leak::crossed(pair, &evidence, &self.how(true));
        (!self.test.is_allowed(&leak)).then_some(evidence)
    }

    /// A marker crossed, in a way that takes more than two requests.
    async fn unrepeated(&self, from: usize, at: usize, field: Field, given: Given) -> Option<Leak> {
        let (one, first) = &self.seen[from];
        let (other, second) = &self.seen[at];
        let pair = Pair {
            one: one.clone(),
            other: other.clone(),
            together: false,
        };
        let evidence = Evidence {
            field,
            crossed: Crossed::Given(given),
            answers: (first.clone(), second.clone()),
            alone: (self.test.make)()(other.request()).await,
        };
        let leak = Leak::crossed(&pair, &evidence, &self.how(false));
        (!self.test.is_allowed(&leak)).then_some(leak)
    }

    fn how(&self, by_itself: bool) -> HowToRepeat {
        HowToRepeat {
            seed: self.test.seed,
            round: self.number,
            by_itself,
        }
    }
}

/// What of the request `from` is in the answer to `ask`.
fn marker_of(from: &Ask, ask: &Ask, answer: &Answer) -> Option<(Field, Given)> {
    from.given.iter().find_map(|given| {
        let marker = given.marker.as_deref()?;
        let field = answer.place_of(marker)?;
        (!ask.to_string().contains(marker)).then(|| (field, given.clone()))
    })
}

fn differs(answer: &Answer, alone: &Answer) -> bool {
    let mut fields = answer.fields();
    fields.extend(alone.fields());
    let differ = |field| answer.get(&field) != alone.get(&field);
    fields.into_iter().any(differ)
}

/// Whether two visitors got the same where a service that nobody has asked before answers otherwise.
fn shares_a_field(first: &Answer, second: &Answer, alone: &Answer) -> bool {
    let mut fields = second.fields();
    fields.extend(first.fields());
    fields.into_iter().any(|field| {
        let got = second.get(&field);
        got == first.get(&field) && got != alone.get(&field)
    })
}

/// Whether two visitors got a line that may have been made for one alone.
fn shares_a_line(first: &Answer, second: &Answer) -> bool {
    PERSONAL.iter().any(|name| {
        let lines = first.lines(name);
        second.lines(name).iter().any(|line| lines.contains(line))
    })
}
