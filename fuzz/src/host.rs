//! The host's side of a module: what its functions answer, the same for every engine.

use crate::value::{Outcome, Type, Value};

/// Calls that are noted; more are answered only.
const NOTED: usize = 200;

/// What a host function gives for one result.
pub enum Answer {
    /// The argument of that number.
    Argument(usize),
    Value(Value),
}

/// What host functions have seen.
#[derive(Default)]
pub struct Host {
    /// Import and arguments of each call, or results of a call that the host made.
    pub log: Vec<(usize, Vec<Value>)>,
    /// Units of the runtime's own fuel that were left at each call.
    pub units_left: Vec<u64>,
    count: u32,
    /// Calls of the host into the module that have not ended.
    depth: u32,
}

/// How a call of the host into the module goes on.
pub enum Reentry {
    /// The host function fails as the call did.
    PassOn,
    Ignore,
}

impl Host {
    /// The number of the module's function that import `import` calls first, if it calls one.
    pub fn enter(&mut self, import: usize) -> Option<usize> {
        let enters = import % 4 == 3 && self.depth < 2 && self.count.is_multiple_of(2);
        self.depth += u32::from(enters);
        enters.then_some(self.count as usize / 2)
    }

    /// Ends what `enter` began.
    pub fn leave(&mut self, import: usize, outcome: &Outcome) -> Reentry {
        self.depth -= 1;
        self.count = self.count.wrapping_add(1);
        match outcome {
            Outcome::Values(values) => self.note(import, values.clone()),
            // Memory and stack are short for the caller too, but not in the same place on all engines.
            Outcome::Limit | Outcome::Error(_) => return Reentry::PassOn,
            Outcome::Trap(_) | Outcome::Exception | Outcome::Host if self.count.is_multiple_of(2) => {
                return Reentry::PassOn;
            }
            Outcome::Trap(_) | Outcome::Exception | Outcome::Host => self.note(import, Vec::new()),
        }
        Reentry::Ignore
    }

    /// Notes the runtime's own fuel.
    pub fn note_units(&mut self, left: u64) {
        if self.units_left.len() < NOTED {
            self.units_left.push(left);
        }
    }

    fn note(&mut self, import: usize, values: Vec<Value>) {
        if self.log.len() < NOTED {
            self.log.push((import, values));
        }
    }

    /// The answers of import `import`; `None` if it fails, which some do now and then.
    pub fn call(&mut self, import: usize, args: Vec<Value>, params: &[Type], results: &[Type]) -> Option<Vec<Answer>> {
        self.count = self.count.wrapping_add(1);
        self.note(import, args);
        if import % 5 == 4 && self.count.is_multiple_of(3) {
            return None;
        }
        let answer = |(i, ty): (u32, &Type)| {
            let fitting = params.iter().position(|param| param == ty);
            match fitting {
                Some(argument) if !(self.count + i).is_multiple_of(3) => Answer::Argument(argument),
                _ => Answer::Value(Value::sample(*ty, self.count.wrapping_add(i))),
            }
        };
        Some((0..).zip(results).map(answer).collect())
    }
}
