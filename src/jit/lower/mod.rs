//! WebAssembly to Cranelift's IR, one function at a time.
//!
//! One walk over a validated body drives a [`FunctionBuilder`]. The operand stack holds CLIF values, locals are the
//! builder's variables, structured control is a stack of [`control::ControlFrame`]s, so nesting costs no native stack. Each
//! category of instructions has its file, named as in the interpreter.
//!
//! What may be here: what each instruction means in CLIF. What may not: machine code, and anything that outlives the
//! function being lowered.

mod atomic;
mod call;
mod cast;
pub(super) mod computed;
mod control;
mod exception;
mod fuel;
mod gc;
mod known;
mod libcall;
mod memory;
#[cfg(any(test, debug_assertions))]
mod movable;
mod numeric;
pub(super) mod osr;
mod pressure;
mod reference;
mod simd;
mod survey;
mod table;
pub(super) mod trap;
mod variable;

use std::collections::HashMap;

use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{
    AliasRegion, AliasRegionData, Block, BlockArg, Endianness, GlobalValueData, InstBuilder, MemFlagsData, SigRef,
    SourceLoc, Type, Value, types,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FuncInstBuilder, FunctionBuilder, FunctionBuilderContext, Variable};
use wasmparser::Operator as Op;

use super::artifact::Workspace;
use super::{Effort, abi, bounds};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::interp::FrameLayout;
use crate::module::ModuleFacts;
use crate::module::layout::Storage;
use crate::module::offsets::Location;
use crate::module::types::{FuncType, ValType};
use crate::vm::context::{VMContext, VMInterrupt};
use computed::Change;

/// The most CLIF values of a function: with more, Cranelift takes minutes and gigabytes. This is 50 times what the largest
/// functions of compilers and interpreters need.
const MAX_VALUES: usize = 2_000_000;
/// The most arguments of branches and calls, of which SSA construction may make one per local and branch.
const MAX_ARGUMENTS: usize = 16_000_000;
/// The most entries (of 4 bytes) in the builder's tables of variables. There is one for each variable, as long as the number of
/// the last block that uses it; a hostile function with many locals and many blocks could make them 100 GB.
const MAX_LOCAL_TABLES: u64 = 1 << 27;

/// Only functions whose bodies have fewer bytes are optimised by Cranelift for the sake of their loops and divisions.
///
/// Measured with clang, which takes 11.3 s to compile if all is optimised: 9.8 s without a limit, 8.9 s with this one,
/// 8.7 s if nothing is optimised; the code takes the same time. Kernels, which are smaller, would take up to 1.25 times as
/// long.
const SMALL: usize = 4 << 10;

/// Lowers a defined function of `module` into `context.func`: signature of [`abi::signature`], locations that are byte
/// offsets in the module, trap codes of [`abi::trap_code`]. For [`Plan::Loop`] it is a function of one `i64`, the address of
/// the interpreter's frame, and writes the results to that frame's first slots.
///
/// Returns what the compiler is to do at the best tiers. Cranelift's optimisations take a quarter of the time of compiling. What
/// they give to most code, `computed` has done already. They pay in small functions that are entered at loops, or have loops
/// without calls, from which they move what does not change, or constant divisors; and for objects and vectors.
///
/// # Errors
/// [`Resource`](crate::ErrorKind::Resource) if the function is too large to be compiled in bounded time, or the plan names an
/// offset at which no reachable loop begins; the interpreter can still run it.
pub(crate) fn function(
    module: &ModuleFacts,
    config: &Config,
    isa: &dyn TargetIsa,
    defined: u32,
    plan: Plan<'_>,
    workspace: &mut Workspace,
) -> Result<Effort> {
    let Workspace { context, builder: builder_context } = workspace;
    context.clear();
    context.func.signature = match plan {
        Plan::Function | Plan::FunctionWithLoops { .. } => abi::signature(isa, module.defined_type(defined)),
        Plan::Loop { .. } => abi::signature(isa, &FuncType::of([ValType::I64], [])),
    };
    let mut lower = Lower::new(module, config, isa, FunctionBuilder::new(&mut context.func, builder_context));
    lower.is_small = module.bodies[defined as usize].len() < SMALL;
    lower.optimise = lower.is_small && !matches!(plan, Plan::Function);
    let result = lower.body(defined, plan, config.consume_fuel);
    lower.builder.seal_all_blocks();
    let mut effort = if lower.optimise { Effort::Optimise } else { Effort::Allocate };
    if result.is_ok() {
        lower.builder.finalize(isa.frontend_config());
        super::nan::fix(&mut context.func);
        if pressure::is_high(&context.func) {
            effort = Effort::Least;
        }
        #[cfg(any(test, debug_assertions))]
        movable::check(&context.func);
    } else {
        drop(lower);
        *builder_context = FunctionBuilderContext::new();
        context.clear();
    }
    result.map(|()| effort)
}

fn too_large() -> Error {
    Error::resource("function too large to be compiled")
}

/// How a function is to be compiled; `wide_slots` tells whether the interpreter's frame has scratch slots.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan<'a> {
    /// To be called.
    Function,
    /// To be called, or entered at the loops at these offsets, of which there is at least one.
    FunctionWithLoops { offsets: &'a [u32], wide_slots: bool },
    /// To be entered at the loop at this offset, and never called.
    Loop { offset: u32, wide_slots: bool },
}

/// Parameters that every function has before those of its type: its context, and one for the lazy-compile trampoline and the
/// host.
const HIDDEN_PARAMS: usize = 2;

/// Kinds of memory that never overlap, for Cranelift's alias analysis.
#[derive(Clone, Copy)]
pub(super) enum Region {
    /// Lengths of memories; base addresses never change.
    MemoryLength,
    /// Bases and lengths of tables.
    TableHeader,
    /// Elements of tables.
    TableElement,
    /// Code pointers, which are replaced as code gets ready.
    Code,
    /// The store's fuel.
    Fuel,
    /// The bytes of a memory. Two imported memories may be one.
    Memory(u32),
    /// A global's cell. Two imported globals may be one.
    Global(u32),
    /// The cursor and the limit of the store's heap.
    Allocation,
    /// Whether a collection of the store's heap marks.
    Marking,
    /// Headers of objects in the heap, and descriptors. What is read there never changes.
    ObjectHeader,
    /// Fields of structures, by their offset.
    Field(u32),
    /// Elements of arrays.
    Element(Storage),
    /// The functions that have a number in the heap.
    FuncTable,
}

/// The function being lowered.
pub(super) struct Lower<'m, 'b> {
    pub(super) module: &'m ModuleFacts,
    pub(super) builder: FunctionBuilder<'b>,
    isa: &'m dyn TargetIsa,
    /// The block whose parameters are the function's.
    entry: Block,
    /// Whether code traps by instructions that cause signals.
    signals: bool,
    /// The operand stack. A vector has the lanes that the instruction before left it with, and the result of a comparison
    /// has 8 bits until it is used as an `i32`.
    stack: Vec<Value>,
    frames: Vec<control::ControlFrame<'m>>,
    /// The `try_table`s around the current instruction.
    handlers: Vec<exception::ExceptionHandler>,
    /// Whether the current instruction can be reached; nothing is emitted for those that cannot.
    reachable: bool,
    /// Blocks opened since code became unreachable.
    skipped: usize,
    /// Byte offset of the current instruction.
    offset: u32,
    /// Set when a limit is exceeded, as only hostile functions do. What is lowered from then on is wrong, and thrown away.
    too_large: bool,
    /// For each local one more than the number of the last block that uses it, and the sum of these; see
    /// [`MAX_LOCAL_TABLES`].
    local_tables: (Vec<u32>, u64),
    /// Set if the function can be entered at a loop.
    osr: Option<osr::Osr>,
    /// Set if the code consumes fuel.
    fuel: Option<fuel::Fuel>,
    /// The function's own context.
    pub(super) vmctx: Value,
    pub(super) bounds: bounds::Bounds,
    /// What the loops do that have not been lowered yet.
    loops: std::vec::IntoIter<survey::LoopFacts>,
    /// Whether the body is smaller than `SMALL`.
    is_small: bool,
    /// What [`function`] returns.
    optimise: bool,
    /// The types of parameters and locals.
    local_types: Vec<ValType>,
    known: known::Known,
    computed: computed::Computed,
    /// The index of each type that a type of the module refers to, by its number; made when it is first needed.
    type_indices: Option<HashMap<u32, u32>>,
    signatures: HashMap<u32, SigRef>,
    libcall_signatures: HashMap<i32, SigRef>,
    scratch: Vec<BlockArg>,
}

impl<'m, 'b> Lower<'m, 'b> {
    fn new(
        module: &'m ModuleFacts,
        config: &Config,
        isa: &'m dyn TargetIsa,
        mut builder: FunctionBuilder<'b>,
    ) -> Lower<'m, 'b> {
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let vmctx = builder.block_params(entry)[0];
        let mut lower = Lower {
            module,
            builder,
            isa,
            entry,
            signals: config.signals_based_traps,
            stack: Vec::new(),
            frames: Vec::new(),
            handlers: Vec::new(),
            reachable: true,
            skipped: 0,
            offset: 0,
            too_large: false,
            local_tables: (Vec::new(), 0),
            osr: None,
            fuel: None,
            vmctx,
            bounds: bounds::Bounds::new(config, isa),
            loops: Vec::new().into_iter(),
            is_small: false,
            optimise: false,
            local_types: Vec::new(),
            known: known::Known::default(),
            computed: computed::Computed::default(),
            type_indices: None,
            signatures: HashMap::new(),
            libcall_signatures: HashMap::new(),
            scratch: Vec::new(),
        };
        if lower.signals {
            lower.limit_stack();
        } else {
            lower.check_stack();
        }
        lower
    }

    fn body(&mut self, defined: u32, plan: Plan<'_>, consumes_fuel: bool) -> Result<()> {
        let refused = |error: wasmparser::BinaryReaderError| Error::resource(format!("cannot be compiled: {error}"));
        let module = self.module;
        let body = module.body(defined)?;
        self.loops = survey::survey(&body).map_err(refused)?.into_iter();
        let ty = module.defined_type(defined);
        let mut locals = ty.params().to_vec();
        for local in body.get_locals_reader().map_err(refused)? {
            let (count, ty) = local.map_err(refused)?;
            locals.resize(locals.len() + count as usize, ValType::from_wasmparser(ty, &module.sigs));
        }
        // Locals that are no parameters are not defined here: the builder gives zero for a variable that was never set.
        for ty in &locals {
            self.builder.declare_var(abi::value_type(ty));
        }
        self.local_tables.0 = vec![0; locals.len()];
        if consumes_fuel {
            self.start_charging(&body);
        }
        let params = ty.params().len();
        if let Plan::Function | Plan::FunctionWithLoops { .. } = plan {
            for index in 0..params {
                let value = self.parameter(index + HIDDEN_PARAMS);
                self.builder.def_var(Self::local(index as u32), value);
            }
        }
        match plan {
            Plan::Function => {}
            Plan::FunctionWithLoops { offsets, wide_slots } => {
                let scan = osr::Scan::new(&body, offsets)?;
                self.enter_at_loops(offsets, scan, FrameLayout::new(ty, wide_slots), params, &locals);
            }
            Plan::Loop { offset, wide_slots } => {
                let scan = osr::Scan::new(&body, &[offset])?;
                self.enter_at_loop(offset, scan, FrameLayout::new(ty, wide_slots), params, &locals);
            }
        }
        self.local_types = locals;
        self.open_function(ty);
        let mut operators = body.get_operators_reader().map_err(refused)?;
        let mut countdown = 0u32;
        while !operators.eof() {
            let (op, offset) = operators.read_with_offset().map_err(refused)?;
            self.offset = offset as u32;
            self.builder.set_srcloc(SourceLoc::new(self.offset));
            self.operator(&op)?;
            if self.too_large {
                return Err(too_large());
            }
            match countdown {
                0 => {
                    self.check_size()?;
                    countdown = 1000;
                }
                _ => countdown -= 1,
            }
        }
        if self.osr.as_ref().is_some_and(osr::Osr::is_not_entered) {
            return Err(Error::resource("the loop to be entered is never reached"));
        }
        self.check_size()
    }

    /// A parameter of the function being lowered, hidden ones included.
    fn parameter(&self, index: usize) -> Value {
        self.builder.block_params(self.entry)[index]
    }

    fn check_size(&self) -> Result<()> {
        let dfg = &self.builder.func.dfg;
        if dfg.num_values() > MAX_VALUES || dfg.value_lists.capacity() > MAX_ARGUMENTS {
            return Err(too_large());
        }
        Ok(())
    }

    fn operator(&mut self, op: &Op<'m>) -> Result<()> {
        if !self.reachable {
            self.skip(op);
            return Ok(());
        }
        self.charge();
        if !(self.variable(op)
            || self.numeric(op)
            || self.memory(op)
            || self.control(op)
            || self.call(op)
            || self.table(op)
            || self.reference(op)
            || self.exception(op))
        {
            if self.gc(op) || self.cast(op) || self.simd(op) {
                self.optimise = true;
                return Ok(());
            }
            if self.atomic(op) {
                self.changed(Change::Memory);
                return Ok(());
            }
            return Err(Error::resource(format!("no lowering for {op:?}")));
        }
        Ok(())
    }

    /// Has the prologue compare the stack pointer with `vmctx.interrupt.stack_limit`.
    fn limit_stack(&mut self) {
        let func = &mut *self.builder.func;
        let flags = func.dfg.mem_flags.insert_unchecked(CONSTANT);
        let vmctx = func.create_global_value(GlobalValueData::VMContext);
        let load = |base, offset| GlobalValueData::Load {
            base,
            offset: Offset32::new(offset),
            global_type: types::I64,
            flags,
        };
        let interrupt = func.create_global_value(load(vmctx, VMContext::INTERRUPT));
        func.stack_limit = Some(func.create_global_value(load(interrupt, VMInterrupt::STACK_LIMIT)));
    }

    /// Whether code traps by instructions that cause signals.
    pub(super) fn signals(&self) -> bool {
        self.signals
    }

    pub(super) fn ins(&mut self) -> FuncInstBuilder<'_, 'b> {
        self.builder.ins()
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    pub(super) fn pop(&mut self) -> Value {
        let value = self.pop_condition();
        self.unless_bool(value)
    }

    /// Pops an `i32` of which it only matters whether it is zero: the value may have 8 bits.
    fn pop_condition(&mut self) -> Value {
        self.stack.pop().expect("validation balanced the stack")
    }

    /// The value as an `i32` if it is CLIF's 8-bit bool, which is 0 or 1.
    fn unless_bool(&mut self, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == types::I8 { self.ins().uextend(types::I32, value) } else { value }
    }

    fn pop2(&mut self) -> (Value, Value) {
        let second = self.pop();
        (self.pop(), second)
    }

    fn pop3(&mut self) -> (Value, Value, Value) {
        let third = self.pop();
        let (first, second) = self.pop2();
        (first, second, third)
    }

    /// Replaces the topmost value by the result of `make`.
    fn unary(&mut self, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value) -> Value) -> bool {
        let x = self.pop();
        let result = make(self.ins(), x);
        self.push(result);
        true
    }

    /// Replaces the two topmost values by the result of `make`.
    fn binary(&mut self, make: impl FnOnce(FuncInstBuilder<'_, 'b>, Value, Value) -> Value) -> bool {
        let (x, y) = self.pop2();
        let result = make(self.ins(), x, y);
        self.push(result);
        true
    }

    /// Pops a vector as lanes of type `ty`.
    fn pop_vector(&mut self, ty: Type) -> Value {
        let x = self.pop();
        self.as_vector(x, ty)
    }

    fn as_vector(&mut self, x: Value, ty: Type) -> Value {
        if self.builder.func.dfg.value_type(x) == ty { x } else { self.ins().bitcast(ty, LANES, x) }
    }

    /// The value cast to its canonical type, [`abi::value_type`], which variables and parameters of blocks and functions have.
    fn canonical(&mut self, x: Value) -> Value {
        if self.builder.func.dfg.value_type(x).is_vector() {
            self.as_vector(x, types::I8X16)
        } else {
            self.unless_bool(x)
        }
    }

    /// Makes the topmost `count` values canonical where they are.
    fn canonical_top(&mut self, count: usize) {
        for index in self.stack.len() - count..self.stack.len() {
            self.stack[index] = self.canonical(self.stack[index]);
        }
    }

    /// Pops an index or a length, as 64 bits.
    fn widened_pop(&mut self) -> Value {
        let x = self.pop();
        self.widened(x)
    }

    /// Pushes the size of a memory or table, which has the width of its addresses.
    fn push_size(&mut self, size: Value, is_64: bool) {
        let size = if is_64 { size } else { self.ins().ireduce(types::I32, size) };
        self.push(size);
    }

    /// Pushes CLIF's 8-bit bool, which becomes the `i32` that Wasm has when it is popped.
    fn push_bool(&mut self, x: Value) -> bool {
        self.push(x);
        true
    }

    /// Flags of an access to `region` that cannot trap.
    pub(super) fn flags(&mut self, region: Region) -> MemFlagsData {
        MemFlagsData::trusted().with_alias_region(Some(self.region(region)))
    }

    fn region(&mut self, region: Region) -> AliasRegion {
        let offsets = &self.module.offsets;
        let user_id = match region {
            Region::MemoryLength => 0,
            Region::TableHeader => 1,
            Region::TableElement => 2,
            Region::Code => 3,
            Region::Memory(index) if index < offsets.imported_memories => 4,
            Region::Global(index) if index < offsets.imported_globals => 5,
            Region::Fuel => 6,
            Region::Allocation => 7,
            Region::ObjectHeader => 8,
            Region::FuncTable => 9,
            Region::Marking => 10,
            Region::Element(storage) => 0x10 + storage as u32,
            Region::Field(offset) => 0x800 + offset.min(0x1ff),
            Region::Memory(index) => 0x100 + index.min(0xff),
            // Not one for each of many globals: Cranelift numbers sets of flags with 16 bits.
            Region::Global(index) => 0x200 + index.min(0x3ff),
        };
        let regions = &mut self.builder.func.dfg.alias_regions;
        if let Some(region) = regions.get(user_id) {
            return region;
        }
        let description = match region {
            Region::MemoryLength => "memory length".into(),
            Region::TableHeader => "table header".into(),
            Region::TableElement => "table element".into(),
            Region::Code => "code pointer".into(),
            Region::Memory(index) if index < offsets.imported_memories => "imported memory".into(),
            Region::Global(index) if index < offsets.imported_globals => "imported global".into(),
            Region::Fuel => "fuel".into(),
            Region::Allocation => "allocation".into(),
            Region::ObjectHeader => "object header".into(),
            Region::FuncTable => "function table".into(),
            Region::Marking => "marking".into(),
            Region::Element(storage) => format!("elements {storage:?}").into(),
            Region::Field(offset) => format!("field at {}", offset.min(0x1ff)).into(),
            Region::Memory(index) => format!("memory {index}").into(),
            Region::Global(index) => format!("global {index}").into(),
        };
        regions.insert(AliasRegionData { user_id, description })
    }

    /// Base and offset of an object of the context, imported or not.
    pub(super) fn locate(&mut self, place: Location) -> (Value, i32) {
        match place {
            Location::Inline(offset) => (self.vmctx, offset),
            Location::Pointer(offset) => (self.load_constant(self.vmctx, offset), 0),
        }
    }

    /// Loads a pointer that does not change while the instance lives.
    pub(super) fn load_constant(&mut self, base: Value, offset: i32) -> Value {
        self.ins().load(types::I64, CONSTANT, base, offset)
    }

    /// The builder's variable of a local, which is about to be used.
    fn use_local(&mut self, index: u32) -> Variable {
        let block = self.builder.current_block().map_or(0, |block| block.as_u32() + 1);
        let (tables, sum) = &mut self.local_tables;
        let table = &mut tables[index as usize];
        *sum += u64::from(block.saturating_sub(*table));
        *table = block.max(*table);
        self.too_large |= *sum > MAX_LOCAL_TABLES;
        Self::local(index)
    }

    fn local(index: u32) -> Variable {
        Variable::from_u32(index)
    }
}

/// Flags of loads that Cranelift may merge, move and hoist, even before checks. Their address must be the context or
/// have been loaded from there by such loads; [`movable`] checks that in tests.
const CONSTANT: MemFlagsData = MemFlagsData::trusted().with_readonly().with_can_move();

/// Casts between vectors: lanes are numbered from the lowest byte.
const LANES: MemFlagsData = MemFlagsData::new().with_endianness(Endianness::Little);
