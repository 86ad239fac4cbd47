//! What running code costs in fuel: the one price list, and the cut of a body into segments that are paid for at once.
//!
//! | what | units |
//! |---|---|
//! | entering a function | 1, and 1 for each 64 locals that it declares |
//! | `nop`, `drop`, `block`, `loop`, `else`, `catch`, `catch_all`, `end`, `delegate`, `return`, `unreachable` | 0 |
//! | any other instruction | 1 |
//! | `memory.fill`, `.copy`, `.init` | 1 more for each whole 64 bytes |
//! | `memory.grow` that succeeds | 1 more for each 64 bytes that are new |
//! | `table.fill`, `.copy`, `.init` | 1 more for each whole 8 elements |
//! | `struct.new`, `.new_default` | 1 more for each whole 64 bytes of the structure |
//! | `array.new` and its like, `array.fill`, `.copy`, `.init_data`, `.init_elem` | 1 more for each whole 64 bytes of elements |
//! | `table.grow` that succeeds | 1 more for each whole 8 elements that are new |
//! | a host function that WebAssembly code calls | 1, and 1 for each slot of its parameters and results |
//!
//! The first three rows are wasmtime's, but for the locals. A *segment* is a run of instructions that control enters at
//! its start only, and leaves at its end unless it traps. It is paid for as a whole before any of it runs. Every engine
//! asks [`Segments`] where segments begin and emits a charge there, so all count alike.

use wasmparser::{Catch, FunctionBody, Operator};

use super::layout::Layout;
use super::nesting::{begins_arm, ends_block, opens_block};

/// Entering a function, whatever it does.
const ENTRY: u32 = 1;

/// Locals that are declared for one unit: they may have to be zeroed.
const LOCALS_PER_UNIT: u32 = 64;

/// Bytes that instructions on whole memories move for one unit.
const BYTES_PER_UNIT: u64 = 64;

/// Elements that instructions on whole tables move for one unit.
const ELEMENTS_PER_UNIT: u64 = 8;

/// The price of moving or making bytes.
pub(crate) fn of_bytes(bytes: u64) -> u64 {
    bytes / BYTES_PER_UNIT
}

/// The price of moving or making elements of tables.
pub(crate) fn of_elements(elements: u64) -> u64 {
    elements / ELEMENTS_PER_UNIT
}

/// The price of the call of a host function with so many slots of parameters and results.
pub(crate) fn of_host_call(slots: usize) -> u64 {
    u64::from(ENTRY) + slots as u64
}

/// The price of an instruction, without what depends on its operands. `layouts` are those of the module's types.
fn of_operator(op: &Operator<'_>, layouts: &[Option<Layout>]) -> u32 {
    match op {
        Operator::StructNew { struct_type_index: ty } | Operator::StructNewDefault { struct_type_index: ty } => {
            match layouts.get(*ty as usize) {
                Some(Some(Layout::Struct(layout))) => 1 + of_bytes(layout.size.into()) as u32,
                _ => 1,
            }
        }
        Operator::Nop
        | Operator::Drop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Else
        | Operator::Catch { .. }
        | Operator::CatchAll
        | Operator::End
        | Operator::Delegate { .. }
        | Operator::Return
        | Operator::Unreachable => 0,
        _ => 1,
    }
}

/// The segments of a function's body that cost something, in order.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Byte offset in the module of the first instruction, and the price.
    all: Vec<(u32, u32)>,
    /// How many of them [`Segments::starting_at`] has passed.
    passed: usize,
}

impl Segments {
    /// Cuts a body, which need not be valid: if it is not, some segments at its end may be missing. `layouts` are those of the
    /// types of its module.
    pub fn of(body: &FunctionBody<'_>, layouts: &[Option<Layout>]) -> Self {
        Segments { all: Cut::new(body).run(body, layouts), passed: 0 }
    }

    /// The price of the segment that begins with the instruction at this offset, if one does. Offsets must be asked for in
    /// ascending order.
    pub fn starting_at(&mut self, offset: u32) -> Option<u32> {
        while let Some((start, price)) = self.all.get(self.passed) {
            match start.cmp(&offset) {
                std::cmp::Ordering::Less => self.passed += 1,
                std::cmp::Ordering::Equal => return Some(*price),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

/// A construct whose `end` has not come yet.
struct Label {
    is_loop: bool,
    /// Whether it is an `if` whose `else` has not come: without one, control arrives at its end from its start.
    is_if: bool,
    /// Whether a branch leads to its label, or the end of a first arm to its end.
    is_target: bool,
}

/// The state of cutting a body.
struct Cut {
    segments: Vec<(u32, u32)>,
    labels: Vec<Label>,
    /// Price of the current segment so far.
    price: u32,
    /// Set while instructions can't be reached: the number of constructs that were opened since.
    dead: Option<usize>,
}

impl Cut {
    fn new(body: &FunctionBody<'_>) -> Self {
        let groups = body.get_locals_reader().into_iter().flatten().flatten();
        let locals = groups.fold(0u32, |sum, (count, _)| sum.saturating_add(count));
        Cut { segments: Vec::new(), labels: Vec::new(), price: ENTRY + locals / LOCALS_PER_UNIT, dead: None }
    }

    fn run(mut self, body: &FunctionBody<'_>, layouts: &[Option<Layout>]) -> Vec<(u32, u32)> {
        let Ok(mut operators) = body.get_operators_reader() else { return self.segments };
        self.open(false, false);
        let mut start = None;
        while !operators.eof() {
            // What can't be read does not validate, so no engine gets further.
            let Ok((op, offset)) = operators.read_with_offset() else { break };
            if self.skips(&op) {
                continue;
            }
            let first = *start.get_or_insert(offset as u32);
            self.price = self.price.saturating_add(of_operator(&op, layouts));
            if self.ends_segment(&op) {
                if self.price > 0 {
                    self.segments.push((first, std::mem::take(&mut self.price)));
                }
                start = None;
            }
        }
        if let Some(first) = start.filter(|_| self.price > 0) {
            self.segments.push((first, self.price));
        }
        self.segments
    }

    fn open(&mut self, is_loop: bool, is_if: bool) {
        self.labels.push(Label { is_loop, is_if, is_target: false });
    }

    /// Notes a branch to the label at a depth.
    fn branch(&mut self, depth: u32) {
        if let Some(label) = self.labels.iter_mut().rev().nth(depth as usize) {
            label.is_target = true;
        }
    }

    /// Whether an instruction is passed over because it can't be reached.
    fn skips(&mut self, op: &Operator<'_>) -> bool {
        let Some(depth) = &mut self.dead else { return false };
        if opens_block(op) {
            *depth += 1;
        } else if *depth == 0 {
            return !ends_block(op) && !begins_arm(op);
        } else if ends_block(op) {
            *depth -= 1;
        }
        true
    }

    /// Follows the structure through an instruction; whether it is the last one of its segment.
    fn ends_segment(&mut self, op: &Operator<'_>) -> bool {
        match op {
            Operator::Block { .. } | Operator::Try { .. } => {
                self.open(false, false);
                false
            }
            Operator::Loop { .. } => {
                self.open(true, false);
                true
            }
            Operator::If { .. } => {
                self.open(false, true);
                true
            }
            Operator::Else | Operator::Catch { .. } | Operator::CatchAll => {
                let is_reached = self.dead.take().is_none();
                if let Some(label) = self.labels.last_mut() {
                    label.is_if = false;
                    label.is_target |= is_reached;
                }
                true
            }
            Operator::End | Operator::Delegate { .. } => {
                // Branches to a loop lead to its start.
                let merges = |label: Label| label.is_if || label.is_target && !label.is_loop;
                let is_merge = self.labels.pop().is_some_and(merges);
                if is_merge {
                    self.dead = None;
                }
                is_merge
            }
            Operator::TryTable { try_table } => {
                for catch in &try_table.catches {
                    let (Catch::One { label, .. }
                    | Catch::OneRef { label, .. }
                    | Catch::All { label }
                    | Catch::AllRef { label }) = *catch;
                    self.branch(label);
                }
                self.open(false, false);
                false
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth);
                self.leave()
            }
            Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => {
                self.branch(*relative_depth);
                true
            }
            Operator::BrTable { targets } => {
                targets.targets().flatten().for_each(|depth| self.branch(depth));
                self.branch(targets.default());
                self.leave()
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::Rethrow { .. }
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. } => self.leave(),
            // The callee may look at the fuel, and may not come back.
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. } => true,
            _ => false,
        }
    }

    /// After an instruction that never goes on to the next.
    fn leave(&mut self) -> bool {
        self.dead = Some(0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, Module};

    /// The segments of a module's only function: the price, and the byte within the body at which each begins.
    fn segments(body: &str) -> Vec<(u32, u32)> {
        let module = Module::new(&Engine::default(), format!("(module (func (param i32) {body}))")).unwrap();
        let body = module.0.facts.body(0).unwrap();
        let start = body.range().start as u32;
        Segments::of(&body, &[]).all.into_iter().map(|(at, price)| (at - start, price)).collect()
    }

    #[test]
    fn a_body_is_cut_where_control_can_enter_or_leave() {
        assert_eq!(segments(""), [(1, 1)]);
        // The loop's head is paid for with what is before it.
        assert_eq!(segments("(loop (br_if 0 (local.get 0)))"), [(1, 1), (3, 2)]);
        // What follows a block without a branch to it goes on with it.
        assert_eq!(segments("(block (drop (local.get 0))) (drop (local.get 0))"), [(1, 3)]);
        assert_eq!(
            segments("(block (br_if 0 (local.get 0)) (drop (local.get 0))) (drop (local.get 0))"),
            [(1, 3), (7, 1), (11, 1)]
        );
        // Nothing that follows a branch in its block costs, whatever is opened there.
        assert_eq!(segments("(block (br 0) (loop (if (local.get 0) (then) (else (br 1)))))"), [(1, 2)]);
    }

    #[test]
    fn segments_are_found_in_order() {
        let mut segments = Segments { all: vec![(3, 1), (8, 2), (9, 3)], passed: 0 };
        assert_eq!([1, 3, 5, 9, 10].map(|at| segments.starting_at(at)), [None, Some(1), None, Some(3), None]);
    }

    /// Bodies are cut before they are validated.
    #[test]
    fn a_body_that_is_not_valid_is_cut_too() {
        // Branches to labels that are not there, an end too many, an else without an if, an instruction cut off.
        for code in [
            &[0, 0x0c, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x0b][..],
            &[0, 0x0e, 1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x0b],
            &[0, 0x0b, 0x0b, 0x05, 0x0b, 0x0b],
            &[0, 0x05, 0x41],
            &[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f, 0x0b],
            &[],
        ] {
            let body = FunctionBody::new(wasmparser::BinaryReader::new(code, 0));
            let price: u64 = Segments::of(&body, &[]).all.iter().map(|(_, price)| u64::from(*price)).sum();
            assert!(price <= 2 + u64::from(u32::MAX / LOCALS_PER_UNIT), "{code:?}");
        }
    }
}
