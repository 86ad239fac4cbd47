//! On-stack replacement (OSR): code that takes over the interpreter's frame of a function at the head of a loop.
//!
//! The whole body is lowered as for any function. In addition, the entry loads the locals from the frame, and an edge goes from
//! there to the header of each loop that is to be entered, loading its operands on the way. There are two kinds of such code.
//! Code for one loop can only be entered there: nothing leads to the function's start, and Cranelift removes what is reached
//! only from it. Or the code is an ordinary function as well, and an argument tells where it is entered.
//!
//! In SSA form that is not enough: an operand below a loop on the stack may come from the code before the loop or from the
//! entry. So the constructs around such a loop, and the loop itself, store the operands below them in variables of the builder
//! when they are opened, and read these again at their header and after their labels, where both values can arrive. All other
//! constructs are entered only at their start, and need nothing.

use std::collections::{HashMap, HashSet};

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, JumpTableData, Type, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};
use wasmparser::{FunctionBody, Operator as Op};

use super::{HIDDEN_PARAMS, Lower};
use crate::error::{Error, Result};
use crate::interp::FrameLayout;
use crate::jit::abi;
use crate::module::nesting::{ends_block, opens_block};
use crate::module::types::ValType;

/// The most operands that are saved and read again, for all constructs of a function together.
const MAX_OPERANDS_READ: usize = 1 << 20;
/// The most saved operands times blocks, see `MAX_LOCAL_TABLES`.
const MAX_TABLES: usize = 1 << 26;

/// The state of lowering a function that can be entered at loops.
pub(super) struct Osr {
    /// The constructs around the loops and the loops themselves, by byte offset.
    around: HashSet<u32>,
    frame: Value,
    /// Whether results are written to the frame's first slots, because the code is no ordinary function.
    pub results_to_frame: bool,
    /// For each loop that has not been lowered yet, by byte offset: the block for the loads of its operands and the edge to it.
    entries: HashMap<u32, Block>,
    /// First slot of the operand stack.
    operands: u32,
    /// The variables in which the open constructs have saved operands, from the bottom of the stack.
    saved: Vec<(Variable, Type)>,
    operands_read: usize,
}

/// Facts about a body that its lowering needs in advance.
pub(super) struct Scan {
    around: HashSet<u32>,
    /// The locals that are read from the first of the loops on, or from the outermost one around it.
    read: HashSet<u32>,
}

impl Scan {
    /// Looks for the `loop`s at byte `offsets`.
    ///
    /// # Errors
    /// [`Resource`](crate::ErrorKind::Resource) if one is not there.
    pub fn new(body: &FunctionBody<'_>, offsets: &[u32]) -> Result<Self> {
        let refused = |error: wasmparser::BinaryReaderError| Error::resource(format!("cannot be compiled: {error}"));
        let mut operators = body.get_operators_reader().map_err(refused)?;
        let offsets: HashSet<u32> = offsets.iter().copied().collect();
        let mut open: Vec<(u32, bool)> = Vec::new();
        let (mut around, mut found) = (HashSet::new(), 0);
        let (mut loops, mut read) = (0usize, HashSet::new());
        while !operators.eof() {
            let (op, at) = operators.read_with_offset().map_err(refused)?;
            match op {
                _ if opens_block(&op) => {
                    let is_loop = matches!(op, Op::Loop { .. });
                    loops += usize::from(is_loop);
                    open.push((at as u32, is_loop));
                    if is_loop && offsets.contains(&(at as u32)) {
                        found += 1;
                        // If a construct is in the set already, so are those around it.
                        open.iter().rev().take_while(|(at, _)| around.insert(*at)).for_each(drop);
                    }
                }
                _ if ends_block(&op) => {
                    let (_, is_loop) = open.pop().unwrap_or_default();
                    loops -= usize::from(is_loop);
                    if loops == 0 && found == 0 {
                        // No loop to be entered leads back to what has been read so far.
                        read.clear();
                    }
                }
                Op::LocalGet { local_index } if loops > 0 || found > 0 => {
                    read.insert(local_index);
                }
                _ => {}
            }
        }
        if found < offsets.len() {
            return Err(Error::resource("no loop to be entered at this offset"));
        }
        Ok(Scan { around, read })
    }
}

impl Osr {
    /// Whether a loop to be entered has not been lowered.
    pub fn is_not_entered(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// The hidden argument of an ordinary function that is to be entered at a loop has bit 63 set, the number of the loop
/// in the bits from this one, and the frame's address below. In ordinary calls it is the address of an instance or the index of
/// a function, both below 2^48 on both architectures.
const LOOP_SHIFT: u32 = 48;

/// The hidden argument that enters an ordinary function at loop `number` of those it was compiled for.
pub(crate) fn hidden_argument(frame: *mut u64, number: u16) -> u64 {
    debug_assert!(usize::from(number) < MAX_LOOPS && frame as u64 >> LOOP_SHIFT == 0);
    1 << 63 | u64::from(number) << LOOP_SHIFT | frame as u64
}

/// The most loops that a function can be entered at.
pub(crate) const MAX_LOOPS: usize = 1 << 10;

impl Lower<'_, '_> {
    /// Emits the entry of code that can only be entered at one loop, and begins the function's start, to which nothing leads.
    /// The locals are declared already; the first `params` of them are parameters.
    pub(super) fn enter_at_loop(
        &mut self,
        offset: u32,
        scan: Scan,
        layout: FrameLayout,
        params: usize,
        locals: &[ValType],
    ) {
        self.compute_at_entry();
        let frame = self.parameter(HIDDEN_PARAMS);
        let (entry, start) = (self.builder.create_block(), self.builder.create_block());
        let operands = self.load_locals(&scan, frame, layout, params, true, locals);
        self.ins().jump(entry, &[]);
        self.builder.seal_block(entry);
        self.begin(start, scan, frame, HashMap::from([(offset, entry)]), operands);
    }

    /// Emits the entry of an ordinary function that can be entered at loops too, and begins its start. The locals are
    /// declared already, and the parameters, which are `params`, defined.
    pub(super) fn enter_at_loops(
        &mut self,
        offsets: &[u32],
        scan: Scan,
        layout: FrameLayout,
        params: usize,
        locals: &[ValType],
    ) {
        self.compute_at_entry();
        let hidden = self.parameter(HIDDEN_PARAMS - 1);
        let (load, start) = (self.builder.create_block(), self.builder.create_block());
        let at_loop = self.ins().icmp_imm_s(IntCC::SignedLessThan, hidden, 0);
        self.builder.set_cold_block(load);
        self.ins().brif(at_loop, load, &[], start, &[]);
        self.builder.seal_block(load);
        self.builder.switch_to_block(load);
        let frame = self.ins().band_imm_s(hidden, (1 << LOOP_SHIFT) - 1);
        let operands = self.load_locals(&scan, frame, layout, params, false, locals);
        let number = self.ins().ushr_imm_u(hidden, i64::from(LOOP_SHIFT));
        let number = self.ins().band_imm_s(number, MAX_LOOPS as i64 - 1);
        let number = self.ins().ireduce(types::I32, number);
        let blocks: Vec<Block> = offsets.iter().map(|_| self.builder.create_block()).collect();
        let calls: Vec<_> = blocks.iter().map(|block| self.builder.func.dfg.block_call(*block, [])).collect();
        let table = self.builder.create_jump_table(JumpTableData::new(calls[0], &calls));
        self.ins().br_table(number, table);
        for block in &blocks {
            self.builder.set_cold_block(*block);
            self.builder.seal_block(*block);
        }
        self.begin(start, scan, frame, offsets.iter().copied().zip(blocks).collect(), operands);
        self.osr.as_mut().expect("just begun").results_to_frame = false;
    }

    /// Computes what loops need, where all paths begin: what is computed before a loop is not there if it is entered.
    fn compute_at_entry(&mut self) {
        self.interrupt();
        if !self.module.memories.is_empty() {
            self.memory_base(0);
        }
        self.computed.keep();
    }

    /// Loads from the frame the locals that the scan found to be read; of parameters, which are the first `params`, only if
    /// `with_params`. Returns the slot of the first operand.
    fn load_locals(
        &mut self,
        scan: &Scan,
        frame: Value,
        layout: FrameLayout,
        params: usize,
        with_params: bool,
        locals: &[ValType],
    ) -> u32 {
        let (mut param, mut local) = (0, layout.locals);
        for (index, ty) in locals.iter().enumerate() {
            let is_param = index < params;
            let slot = FrameLayout::place(if is_param { &mut param } else { &mut local }, ty);
            if scan.read.contains(&(index as u32)) && (with_params || !is_param) {
                let value = abi::load_slot(&mut self.builder, abi::value_type(ty), frame, slot);
                self.builder.def_var(Self::local(index as u32), value);
            }
        }
        local
    }

    fn begin(&mut self, start: Block, scan: Scan, frame: Value, entries: HashMap<u32, Block>, operands: u32) {
        self.builder.seal_block(start);
        self.builder.switch_to_block(start);
        self.osr = Some(Osr {
            around: scan.around,
            frame,
            results_to_frame: true,
            entries,
            operands,
            saved: Vec::new(),
            operands_read: 0,
        });
    }

    /// The interpreter's frame, if results are written there.
    pub(super) fn result_frame(&self) -> Option<Value> {
        self.osr.as_ref().filter(|osr| osr.results_to_frame).map(|osr| osr.frame)
    }

    /// Before a construct with `params` parameters is opened: if it is a loop to be entered or around one, saves the operands
    /// below the parameters, and returns how many were saved before.
    pub(super) fn save_operands(&mut self, params: usize) -> Option<usize> {
        let osr = self.osr.as_mut()?;
        if !osr.around.contains(&self.offset) {
            return None;
        }
        let before = osr.saved.len();
        let height = self.stack.len() - params;
        osr.operands_read += height - before.min(height);
        self.too_large |= osr.operands_read > MAX_OPERANDS_READ
            || height.saturating_mul(self.builder.func.dfg.num_blocks()) > MAX_TABLES;
        if self.too_large {
            return None;
        }
        // The operands that a construct around this one has saved have not changed since.
        for index in osr.saved.len()..height {
            let value = self.canonical(self.stack[index]);
            self.stack[index] = value;
            let ty = self.builder.func.dfg.value_type(value);
            let variable = self.builder.declare_var(ty);
            self.builder.def_var(variable, value);
            self.osr.as_mut().expect("it was there").saved.push((variable, ty));
        }
        Some(before)
    }

    /// When a construct is closed: forgets the operands that were saved for it; `before` is what
    /// [`save_operands`](Self::save_operands) returned.
    pub(super) fn forget_saved(&mut self, before: Option<usize>) {
        if let (Some(osr), Some(before)) = (&mut self.osr, before) {
            osr.saved.truncate(before);
        }
    }

    /// Reads the lowest `count` operands, which are saved, for the code that follows. What was computed before is not computed
    /// on the paths from the entries.
    pub(super) fn read_operands(&mut self, count: usize) {
        self.computed.clear();
        let Some(osr) = &mut self.osr else { return };
        osr.operands_read += count;
        let tables = osr.saved.len().saturating_mul(self.builder.func.dfg.num_blocks());
        self.too_large |= osr.operands_read > MAX_OPERANDS_READ || tables > MAX_TABLES;
        if self.too_large {
            return;
        }
        for (operand, (variable, _)) in self.stack.iter_mut().zip(&osr.saved[..count]) {
            *operand = self.builder.use_var(*variable);
        }
    }

    /// When a loop has been opened whose operands were saved: emits the edge to its header if it is to be entered.
    pub(super) fn enter_loop(&mut self, header: Block, params: &[ValType], loads_lengths: bool) {
        let Some(osr) = &mut self.osr else { return };
        let Some(entry) = osr.entries.remove(&self.offset) else { return };
        let (frame, mut slot) = (osr.frame, osr.operands);
        self.builder.switch_to_block(entry);
        // A body has at most 7.6 million bytes, so all offsets of slots fit 31 bits.
        let mut load = |builder: &mut FunctionBuilder<'_>, ty: Type| {
            let value = abi::load_slot(builder, ty, frame, slot);
            slot += ty.bytes().div_ceil(8);
            value
        };
        for (variable, ty) in &osr.saved {
            let value = load(&mut self.builder, *ty);
            self.builder.def_var(*variable, value);
        }
        let params = params.iter().map(|ty| BlockArg::Value(load(&mut self.builder, abi::value_type(ty))));
        let args: Vec<BlockArg> = params.collect();
        if loads_lengths {
            self.load_length_anew(0);
        }
        self.ins().jump(header, &args);
        self.forget_proofs();
    }
}
