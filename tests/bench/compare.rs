//! A case beside its partner, block by block.

use std::time::{Duration, Instant};

use super::backends::{self, Crew};
use super::cases::{Case, Pair};
use super::interval::Interval;
use super::options::{Bound, Options};
use super::processor::Program;
use super::record::{IN_MEMORY, Measured, Side};
use crate::storm::Outcome;
use crate::storm::backends::Ground;

/// The rows, and so many connections to them.
pub(crate) struct Place {
    connections: u32,
    ground: Box<dyn Ground>,
    crew: Box<dyn Crew>,
    client: Program,
    server: Option<Program>,
}

/// What a client did in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub(crate) operations: u64,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

/// What the clients did in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) operations: u64,
    pub(crate) time: Duration,
}

impl Block {
    /// It lasts from the first that begins to the last that ends.
    pub(crate) fn of(shifts: &[Shift]) -> Self {
        let begun = shifts.iter().map(|shift| shift.begun).min();
        let ended = shifts.iter().map(|shift| shift.ended).max();
        let time = ended.zip(begun).map(|(ended, begun)| ended - begun);
        Self {
            operations: shifts.iter().map(|shift| shift.operations).sum(),
            time: time.unwrap_or_default(),
        }
    }

    pub(crate) fn per_second(self) -> f64 {
        float(self.operations) / self.time.as_secs_f64()
    }
}

/// What is added up of the blocks of a case.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    operations: u64,
    time: Duration,
    client: u64,
    server: Option<u64>,
}

impl Sum {
    fn side(self) -> Side {
        let operations = float(self.operations);
        let seconds = self.time.as_secs_f64();
        Side {
            operations: self.operations,
            seconds,
            per_second: operations / seconds,
            client_cpu_us: float(self.client) / operations,
            server_cpu_us: self.server.map(|micros| float(micros) / operations),
        }
    }
}

impl Place {
    pub(crate) fn new(options: &Options, connections: u32) -> Outcome<Self> {
        let ground = options.backend.ground()?;
        let crew = backends::crew(options, ground.url(), connections)?;
        Ok(Self {
            connections,
            client: Program::client()?,
            server: Program::server(ground.url()),
            ground,
            crew,
        })
    }

    /// Measures. Afterwards the money is counted: an operation of which nothing is there ends the run.
    pub(crate) fn compare(&mut self, pair: Pair, options: &Options) -> Outcome<Measured> {
        let Pair { case, partner } = pair;
        let before = self.ground.money()?;
        let mut ratios = Vec::new();
        let (mut of_case, mut of_partner) = (Sum::default(), Sum::default());
        let (mut rest, mut added) = (Sum::default(), 0);
        for number in 0..=options.pairs {
            // The first blocks are not counted: statements are prepared and caches filled.
            let is_first = number == 0;
            let block = |case: &'static Case, sum: &mut Sum| self.block(case, options.bound, sum);
            let sums = match is_first {
                true => (&mut rest, &mut Sum::default()),
                false => (&mut of_case, &mut of_partner),
            };
            // A B, B A, A B: what grows steadily meets both alike.
            let (one, other) = if number % 2 == 0 {
                let one = block(case, sums.0)?;
                (one, block(partner, sums.1)?)
            } else {
                let other = block(partner, sums.1)?;
                (block(case, sums.0)?, other)
            };
            added += one.operations * u64::from(case.adds);
            added += other.operations * u64::from(partner.adds);
            if !is_first {
                ratios.push(one.per_second() / other.per_second());
            }
        }
        let gained = self.ground.money()? - before;
        if !options.is_in_memory && gained != i64::try_from(added)? {
            return Err(format!("{}: {gained} was gained, not {added}", case.name).into());
        }
        Ok(Measured {
            server: self.server_name(options)?,
            adapter: options.adapter().into(),
            connections: self.connections,
            case: case.name.into(),
            partner: partner.name.into(),
            pairs: options.pairs,
            interval: Interval::of(&ratios),
            of_case: of_case.side(),
            of_partner: of_partner.side(),
        })
    }

    fn block(&self, case: &'static Case, bound: Bound, sum: &mut Sum) -> Outcome<Block> {
        let client = self.client.micros()?;
        let server = self.server.map(Program::micros).transpose()?;
        let block = self.crew.work(case.what, bound.shared(self.connections))?;
        sum.operations += block.operations;
        sum.time += block.time;
        sum.client += self.client.micros()? - client;
        if let (Some(program), Some(before)) = (self.server, server) {
            let micros = program.micros()?.saturating_sub(before);
            sum.server = Some(sum.server.unwrap_or(0) + micros);
        }
        Ok(block)
    }

    fn server_name(&mut self, options: &Options) -> Outcome<String> {
        let mut name = self.ground.server()?;
        if options.is_in_memory {
            name += IN_MEMORY;
        }
        if let Some(note) = &options.note {
            name = format!("{name}, {note}");
        }
        Ok(name)
    }
}

/// How long it takes to measure this, about.
pub(crate) fn expected(options: &Options) -> Outcome<Duration> {
    let Bound::Time(block) = options.bound else {
        return Err("how long --ops take is not known: --expect needs --seconds".into());
    };
    let blocks = 2 * (options.pairs + 1);
    let each = block * blocks * u32::try_from(options.pairs_of_cases()?.len())?;
    // The rows and the connections are new.
    Ok((each + Duration::from_millis(500)) * u32::try_from(options.connections.len())?)
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::cases::{What, pairs};
    use super::*;
    use crate::storm::backends::Backend;

    /// What was done, and what came of it, without a database.
    #[derive(Clone, Default)]
    struct Taken {
        order: Arc<Mutex<Vec<What>>>,
        /// Each operation adds so many.
        adds: i64,
    }

    impl Crew for Taken {
        fn work(&self, what: What, _: Bound) -> Outcome<Block> {
            self.order.lock().expect("no panic").push(what);
            let time = Duration::from_millis(if what == What::Run { 200 } else { 100 });
            let operations = 1;
            Ok(Block { operations, time })
        }
    }

    impl Ground for Taken {
        fn url(&self) -> &'static str {
            ""
        }

        fn session(&self) -> String {
            String::new()
        }

        fn server(&mut self) -> Outcome<String> {
            Ok("a server".into())
        }

        fn money(&mut self) -> Outcome<i64> {
            let blocks = self.order.lock().expect("no panic").len();
            Ok(self.adds * i64::try_from(blocks)?)
        }

        fn connect(&mut self) {}

        fn interrupt(&mut self) -> Outcome<()> {
            Ok(())
        }
    }

    fn compare(adds: i64) -> (Outcome<Measured>, Vec<What>) {
        let taken = Taken {
            adds,
            ..Taken::default()
        };
        let mut place = Place {
            connections: 1,
            ground: Box::new(taken.clone()),
            crew: Box::new(taken.clone()),
            client: Program::client().expect("this process"),
            server: None,
        };
        let asked = ["op", "--pairs", "4", "--note", "noted"].map(String::from);
        let asked = super::super::options::read(asked.into());
        let Ok(super::super::options::Asked::Measure(options)) = asked else {
            panic!("{asked:?}")
        };
        let pairs = pairs(&["run1".into()], Backend::Sqlite).expect("a pair");
        let measured = place.compare(pairs[0], &options);
        let order = taken.order.lock().expect("no panic").clone();
        (measured, order)
    }

    #[test]
    fn a_case_and_its_partner_take_turns() {
        let (measured, order) = compare(1);
        let (run, bare) = (What::Run, What::Bare);
        let turns = [bare, run, run, bare, bare, run, run, bare];
        assert_eq!(order, [&[run, bare], &turns[..]].concat());
        let measured = measured.expect("figures");
        assert_eq!(measured.server, "a server, noted");
        // The first two blocks do not count.
        assert_eq!(measured.of_case.operations, 4);
        assert!((measured.interval.ratio - 0.5).abs() < 1e-9, "{measured:?}");
        assert!((measured.of_partner.per_second - 10.0).abs() < 1e-9);
        assert_eq!(measured.of_case.server_cpu_us, None);
    }

    #[test]
    fn a_block_lasts_from_the_first_beginning_to_the_last_end() {
        let begun = Instant::now();
        let shift = |operations, from, to| Shift {
            operations,
            begun: begun + Duration::from_millis(from),
            ended: begun + Duration::from_millis(to),
        };
        let block = Block::of(&[shift(3, 10, 20), shift(4, 5, 15), shift(3, 8, 30)]);
        assert_eq!(
            (block.operations, block.time),
            (10, Duration::from_millis(25))
        );
    }

    #[test]
    fn an_operation_that_was_not_carried_out_ends_the_run() {
        let (measured, _) = compare(0);
        let error = measured.expect_err("no money").to_string();
        assert_eq!(error, "run1: 0 was gained, not 10");
    }
}
