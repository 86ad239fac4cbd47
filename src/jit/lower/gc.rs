//! Structures, arrays and `i31` (specification 3.0, "Aggregate Instructions"): small objects are made and accessed inline, the
//! runtime does the rest.
//!
//! A reference is an offset in the heap, so the address of a part of an object is the heap's base, the reference, and a constant.
//! The addresses of elements are computed modulo 2^32: whatever an array's length is in a heap that a fault has overwritten,
//! they lead into the heap's reservation.
//!
//! A collection takes every word of the stack and the registers for a reference that is an offset or an address within an object.
//! Code may keep just the address of an element, without the header: that of an index that was checked lies within. Constants are
//! added last, so that no sum which code keeps lies before or behind the object.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};
use wasmparser::Operator as Op;

use super::known::Part;
use super::{CONSTANT, Lower, Region};
use crate::error::Trap;
use crate::jit::abi;
use crate::module::composite::{CompositeType, FieldType, StorageType};
use crate::module::fuel::of_bytes;
use crate::module::layout::{DESCRIPTOR, HEADER, LENGTH, MAX_STRUCT, Storage, array_size};
use crate::module::registry::RegisteredType;
use crate::module::types::{HeapType, Mutability, RefType, ValType};
use crate::vm::context::{VMContext, VMFuncRef, VMStore};
use crate::vm::gc::heap::START;

// An access through null faults, whatever the field's offset.
const _: () = assert!(MAX_STRUCT + 16 <= START);

/// The largest objects that are allocated inline, in bytes: a larger one seldom fits where the next small one goes.
const INLINE_BYTES: u32 = 512;

/// The most bytes that an `array.copy` moves without the look for requests that the runtime takes.
const SHORT_COPY: u32 = 16 << 10;

/// The most elements that are written inline where an array is made of one value.
const INLINE_ELEMENTS: u64 = 16;

impl<'m> Lower<'m, '_> {
    pub(super) fn gc(&mut self, op: &Op<'_>) -> bool {
        match *op {
            Op::StructNew { struct_type_index } => self.struct_new(struct_type_index),
            Op::StructNewDefault { struct_type_index } => {
                let object = self.new_struct(struct_type_index);
                self.push(object);
            }
            Op::StructGet { struct_type_index, field_index } | Op::StructGetU { struct_type_index, field_index } => {
                self.struct_get(struct_type_index, field_index, false);
            }
            Op::StructGetS { struct_type_index, field_index } => self.struct_get(struct_type_index, field_index, true),
            Op::StructSet { struct_type_index, field_index } => self.struct_set(struct_type_index, field_index),
            Op::ArrayNew { array_type_index } => self.array_new(array_type_index),
            Op::ArrayNewDefault { array_type_index } => {
                let length = self.pop();
                let array = self.new_array(array_type_index, length);
                self.push(array);
            }
            Op::ArrayNewFixed { array_type_index, array_size } => self.array_new_fixed(array_type_index, array_size),
            Op::ArrayNewData { array_type_index, array_data_index } => {
                let (offset, length) = self.pop2();
                let (ty, segment) = (self.index(array_type_index), self.index(array_data_index));
                let array = self.array_new_data(ty, segment, offset, length);
                self.made(array, array_type_index, Some(length));
                self.push(array);
            }
            Op::ArrayNewElem { array_type_index, array_elem_index } => {
                let (offset, length) = self.pop2();
                let (ty, segment) = (self.index(array_type_index), self.index(array_elem_index));
                let array = self.array_new_elem(ty, segment, offset, length);
                self.made(array, array_type_index, Some(length));
                self.push(array);
            }
            Op::ArrayGet { array_type_index } | Op::ArrayGetU { array_type_index } => {
                self.array_get(array_type_index, false);
            }
            Op::ArrayGetS { array_type_index } => self.array_get(array_type_index, true),
            Op::ArraySet { array_type_index } => self.array_set(array_type_index),
            Op::ArrayLen => {
                let array = self.pop();
                let length = self.array_length(array);
                self.push(length);
            }
            Op::ArrayFill { array_type_index } => {
                let length = self.pop();
                let value = self.pop();
                let (array, index) = self.pop2();
                let value = self.in_slot(self.element_type(array_type_index), value);
                let ty = self.index(array_type_index);
                self.array_fill(ty, array, index, value, length);
            }
            Op::ArrayCopy { array_type_index_dst, .. } => {
                let (from, from_index, length) = self.pop3();
                let to_index = self.pop();
                let to = self.pop_reference();
                self.copy_elements(array_type_index_dst, (to, to_index), (from, from_index), length);
            }
            Op::ArrayInitData { array_type_index, array_data_index } => {
                let (index, offset, length) = self.pop3();
                let array = self.pop();
                let (ty, segment) = (self.index(array_type_index), self.index(array_data_index));
                self.array_init_data(ty, segment, array, index, offset, length);
            }
            Op::ArrayInitElem { array_type_index, array_elem_index } => {
                let (index, offset, length) = self.pop3();
                let array = self.pop();
                let (ty, segment) = (self.index(array_type_index), self.index(array_elem_index));
                self.array_init_elem(ty, segment, array, index, offset, length);
            }
            Op::RefI31 => {
                let value = self.pop();
                let shifted = self.ins().ishl_imm_u(value, 1);
                let tagged = self.ins().bor_imm_s(shifted, 1);
                let reference = self.ins().uextend(types::I64, tagged);
                self.known.learn(reference, &RefType::new(false, HeapType::I31));
                self.push(reference);
            }
            Op::I31GetS => self.i31_get(true),
            Op::I31GetU => self.i31_get(false),
            // These leave the reference as it is.
            Op::AnyConvertExtern | Op::ExternConvertAny => {}
            _ => return false,
        }
        true
    }

    /// The base of the heap. It is there from instantiation on if the module has types of structures or arrays; otherwise it may
    /// be reserved while the function runs, but before there is a reference.
    pub(super) fn gc_base(&mut self) -> Value {
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = if self.module.offsets.has_gc_descriptors() { CONSTANT } else { MemFlagsData::trusted() };
        self.ins().load(types::I64, flags, store, VMStore::GC_BASE)
    }

    /// The address of an object.
    pub(super) fn object_address(&mut self, reference: Value) -> Value {
        let base = self.gc_base();
        self.ins().iadd(base, reference)
    }

    /// The offset, in the store's heap, of the descriptor of one of the module's types.
    pub(super) fn descriptor(&mut self, ty: u32) -> Value {
        let (vmctx, offset) = (self.vmctx, self.module.offsets.gc_descriptor(ty));
        self.ins().load(types::I32, CONSTANT, vmctx, offset)
    }

    /// The same value, if it is known already, or what `make` loads.
    pub(super) fn unchanging(&mut self, part: Part, make: impl FnOnce(&mut Self) -> Value) -> Value {
        let part = Part { reference: self.builder.func.dfg.resolve_aliases(part.reference), ..part };
        if let Some(value) = self.known.part(part) {
            return value;
        }
        let value = make(self);
        self.known.learn_part(part, value);
        value
    }

    /// Learns the type of a value of the operand stack, if that tells more than that it is a reference.
    pub(super) fn learn_type(&mut self, value: Value, ty: &ValType) {
        if let ValType::Ref(ty) = ty
            && (!ty.is_nullable() || ty.heap_type() != &ty.heap_type().top())
        {
            let value = self.builder.func.dfg.resolve_aliases(value);
            self.known.learn(value, ty);
        }
    }

    /// Learns the types of the topmost values of the operand stack.
    pub(super) fn learn_top(&mut self, types: &[ValType]) {
        let start = self.stack.len() - types.len();
        for (index, ty) in types.iter().enumerate() {
            self.learn_type(self.stack[start + index], ty);
        }
    }

    /// Pops a reference, under the name by which things are known of it.
    pub(super) fn pop_reference(&mut self) -> Value {
        let reference = self.pop();
        self.builder.func.dfg.resolve_aliases(reference)
    }

    fn struct_fields(&self, ty: u32) -> &'m [FieldType] {
        match &self.module.types[ty as usize] {
            CompositeType::Struct(ty) => ty.field_types(),
            _ => unreachable!("validation asks for a type of structures here"),
        }
    }

    fn element_type(&self, ty: u32) -> &'m FieldType {
        match &self.module.types[ty as usize] {
            CompositeType::Array(ty) => ty.element(),
            _ => unreachable!("validation asks for a type of arrays here"),
        }
    }

    fn struct_new(&mut self, ty: u32) {
        let (fields, layout) = (self.struct_fields(ty), self.module.struct_layout(ty));
        let values = self.stack.split_off(self.stack.len() - fields.len());
        let object = self.new_struct(ty);
        for ((place, field), value) in layout.fields.iter().zip(fields).zip(values) {
            if !self.is_zero(value) {
                let address = self.object_address(object);
                let flags = self.flags(Region::Field(place.offset));
                self.store_part(place.storage, flags, value, address, place.offset);
            }
            if let (Mutability::Const, StorageType::ValType(_)) = (field.mutability(), field.element_type()) {
                let value = self.canonical(value);
                self.known.learn_part(Part { reference: object, offset: place.offset, variant: 0 }, value);
            }
        }
        self.push(object);
    }

    /// A new structure whose fields are zero.
    fn new_struct(&mut self, ty: u32) -> Value {
        let size = self.module.struct_layout(ty).size;
        let object = if size <= INLINE_BYTES {
            let size = self.ins().iconst(types::I64, i64::from(size));
            self.allocate(
                size,
                |lower, address| {
                    // The length is zero.
                    let descriptor = lower.descriptor(ty);
                    let header = lower.ins().uextend(types::I64, descriptor);
                    let flags = lower.flags(Region::ObjectHeader);
                    lower.ins().store(flags, header, address, DESCRIPTOR as i32);
                },
                |lower| lower.allocate_struct(ty),
            )
        } else {
            self.allocate_struct(ty)
        };
        self.made(object, ty, None);
        object
    }

    fn allocate_struct(&mut self, ty: u32) -> Value {
        let ty = self.index(ty);
        self.struct_new_default(ty)
    }

    /// Notes what is known of a new object.
    fn made(&mut self, object: Value, ty: u32, length: Option<Value>) {
        let own = HeapType::Concrete(self.module.sigs[ty as usize].clone());
        self.known.learn(object, &RefType::new(false, own));
        if let Some(length) = length {
            self.known.learn_part(Part { reference: object, offset: LENGTH, variant: 0 }, length);
        }
    }

    /// Allocates `size` zeroed bytes at the heap's cursor, for which `finish` writes a header; where they don't fit, `slow` makes
    /// the object.
    fn allocate(
        &mut self,
        size: Value,
        finish: impl FnOnce(&mut Self, Value),
        slow: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::Allocation);
        let cursor = self.ins().load(types::I64, flags, store, VMStore::GC_CURSOR);
        let next = self.ins().iadd(cursor, size);
        let limit = self.ins().load(types::I64, flags, store, VMStore::GC_LIMIT);
        let is_full = self.ins().icmp(IntCC::UnsignedGreaterThan, next, limit);
        let [full, room, done] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.append_block_param(done, types::I64);
        self.builder.set_cold_block(full);
        self.ins().brif(is_full, full, [], room, []);
        self.builder.seal_block(room);
        self.builder.seal_block(full);
        self.builder.switch_to_block(full);
        let object = slow(self);
        self.ins().jump(done, &[BlockArg::Value(object)]);
        self.builder.switch_to_block(room);
        self.ins().store(flags, next, store, VMStore::GC_CURSOR);
        let address = self.object_address(cursor);
        finish(self, address);
        self.ins().jump(done, &[BlockArg::Value(cursor)]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        self.builder.block_params(done)[0]
    }

    /// Whether a value is the constant zero, or null.
    fn is_zero(&self, value: Value) -> bool {
        self.constant(value) == Some(0)
    }

    fn struct_get(&mut self, ty: u32, field: u32, signed: bool) {
        let (field_type, place) =
            (&self.struct_fields(ty)[field as usize], self.module.struct_layout(ty).fields[field as usize]);
        let object = self.pop_reference();
        let load = |lower: &mut Self| {
            let flags = lower.flags(Region::Field(place.offset));
            let flags = lower.checked(object, flags, Trap::NullStructReference);
            let address = lower.object_address(object);
            lower.load_part(field_type, place.storage, flags, address, place.offset, signed)
        };
        let value = match field_type.mutability() {
            Mutability::Const => {
                // A function is checked to be of the field's type, which may be another one in a supertype.
                let variant = if place.storage == Storage::Function { 1 + ty } else { signed.into() };
                self.unchanging(Part { reference: object, offset: place.offset, variant }, load)
            }
            Mutability::Var => load(self),
        };
        self.learn_type(value, field_type.element_type().unpack());
        self.push(value);
    }

    fn struct_set(&mut self, ty: u32, field: u32) {
        let place = self.module.struct_layout(ty).fields[field as usize];
        let value = self.pop();
        let object = self.pop_reference();
        // The number of a function is found only if there is an object to store it in.
        if place.storage == Storage::Function {
            self.trap_if_null(object, Trap::NullStructReference);
        }
        let flags = self.flags(Region::Field(place.offset));
        let flags = self.checked(object, flags, Trap::NullStructReference);
        let address = self.object_address(object);
        self.shade(place.storage, flags, address, place.offset);
        self.store_part(place.storage, flags, value, address, place.offset);
    }

    /// Whether a collection marks, as CLIF's bool: references in objects must not be overwritten then before they are marked.
    fn is_marking(&mut self) -> Value {
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::Marking);
        self.ins().load(types::I32, flags, store, VMStore::GC_MARKING)
    }

    /// Before a field or element is overwritten: has the reference marked that is there, if a collection marks.
    fn shade(&mut self, storage: Storage, flags: MemFlagsData, address: Value, offset: u32) {
        if storage == Storage::Reference {
            let is_marking = self.is_marking();
            self.rarely(is_marking, |lower| {
                let old = lower.ins().uload32(flags, address, offset as i32);
                lower.shade_reference(old);
            });
        }
    }

    /// Loads a field or element, packed ones extended by `signed`.
    fn load_part(
        &mut self,
        ty: &FieldType,
        storage: Storage,
        flags: MemFlagsData,
        address: Value,
        offset: u32,
        signed: bool,
    ) -> Value {
        let offset = offset as i32;
        match storage {
            Storage::I8 if signed => self.ins().sload8(types::I32, flags, address, offset),
            Storage::I8 => self.ins().uload8(types::I32, flags, address, offset),
            Storage::I16 if signed => self.ins().sload16(types::I32, flags, address, offset),
            Storage::I16 => self.ins().uload16(types::I32, flags, address, offset),
            Storage::Reference => self.ins().uload32(flags, address, offset),
            Storage::Bits32 | Storage::Bits64 => {
                let ty = abi::value_type(ty.element_type().unpack());
                self.ins().load(ty, flags, address, offset)
            }
            Storage::V128 => self.ins().load(types::I8X16, unaligned(flags), address, offset),
            Storage::Function => {
                let id = self.ins().load(types::I32, flags, address, offset);
                self.func_of_id(id, ty.element_type().unpack().unwrap_ref())
            }
        }
    }

    fn store_part(&mut self, storage: Storage, flags: MemFlagsData, value: Value, address: Value, offset: u32) {
        let offset = offset as i32;
        match storage {
            Storage::I8 => self.ins().istore8(flags, value, address, offset),
            Storage::I16 => self.ins().istore16(flags, value, address, offset),
            Storage::Reference => self.ins().istore32(flags, value, address, offset),
            Storage::Bits32 | Storage::Bits64 => self.ins().store(flags, value, address, offset),
            Storage::V128 => {
                let value = self.canonical(value);
                self.ins().store(unaligned(flags), value, address, offset)
            }
            Storage::Function => {
                let id = self.id_of_func(value);
                self.ins().store(flags, id, address, offset)
            }
        };
    }

    /// The number that stands for a function in the heap.
    fn id_of_func(&mut self, func: Value) -> Value {
        let [given, new, done] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.append_block_param(done, types::I32);
        self.builder.set_cold_block(new);
        let func = self.builder.func.dfg.resolve_aliases(func);
        if self.known.is_non_null(func) {
            self.ins().jump(given, &[]);
        } else {
            let none = self.ins().iconst(types::I32, 0);
            self.ins().brif(func, given, &[], done, &[BlockArg::Value(none)]);
        }
        self.builder.seal_block(given);
        self.builder.switch_to_block(given);
        let id = self.ins().load(types::I32, MemFlagsData::trusted(), func, VMFuncRef::GC_ID);
        self.ins().brif(id, done, &[BlockArg::Value(id)], new, &[]);
        self.builder.seal_block(new);
        self.builder.switch_to_block(new);
        let id = self.func_to_id(func);
        let id = self.ins().ireduce(types::I32, id);
        self.ins().jump(done, &[BlockArg::Value(id)]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        self.builder.block_params(done)[0]
    }

    /// The function with a number in the heap. Traps if that is none of this type, which no program can make it be: what a fault
    /// has left in the heap must not be called.
    fn func_of_id(&mut self, id: Value, ty: &RefType) -> Value {
        let [there, done] = std::array::from_fn(|_| self.builder.create_block());
        self.builder.append_block_param(done, types::I64);
        if ty.is_nullable() {
            let null = self.ins().iconst(types::I64, 0);
            self.ins().brif(id, there, &[], done, &[BlockArg::Value(null)]);
        } else {
            self.ins().jump(there, &[]);
        }
        self.builder.seal_block(there);
        self.builder.switch_to_block(there);
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let flags = self.flags(Region::FuncTable);
        let count = self.ins().load(types::I64, flags, store, VMStore::FUNC_COUNT);
        let table = self.ins().load(types::I64, flags, store, VMStore::FUNC_TABLE);
        let id = self.ins().uextend(types::I64, id);
        let is_outside = self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, id, count);
        self.trapnz(is_outside, Trap::CastFailure);
        let scaled = self.ins().ishl_imm_u(id, 3);
        let place = self.ins().iadd(table, scaled);
        let func = self.ins().load(types::I64, flags, place, 0);
        match ty.heap_type() {
            HeapType::Concrete(wanted) => {
                let index = self.type_index(wanted);
                // Not free to move: it must stay after the check that the reference is not null, or is itself that check.
                let flags = self.checked(func, MemFlagsData::trusted().with_readonly(), Trap::CastFailure);
                let differs = self.compare_func_type(IntCC::NotEqual, func, index, flags);
                self.trapnz(differs, Trap::CastFailure);
            }
            _ => self.trapz(func, Trap::CastFailure),
        }
        self.ins().jump(done, &[BlockArg::Value(func)]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
        self.builder.block_params(done)[0]
    }

    /// The first index of a type that a type of the module refers to.
    fn type_index(&mut self, ty: &RegisteredType) -> u32 {
        let sigs = &self.module.sigs;
        let indices = self.type_indices.get_or_insert_with(|| {
            // The first of equal ones is the last to be put in.
            (0..).zip(sigs).map(|(index, ty)| (ty.number(), index)).collect::<Vec<_>>().into_iter().rev().collect()
        });
        indices[&ty.number()]
    }

    /// The number of elements of an array; traps if the reference is null.
    fn array_length(&mut self, array: Value) -> Value {
        let array = self.builder.func.dfg.resolve_aliases(array);
        self.unchanging(Part { reference: array, offset: LENGTH, variant: 0 }, |lower| {
            let flags = lower.flags(Region::ObjectHeader);
            let flags = lower.checked(array, flags, Trap::NullArrayReference);
            let address = lower.object_address(array);
            lower.ins().load(types::I32, flags.with_readonly(), address, LENGTH as i32)
        })
    }

    /// The address of an element, to which [`HEADER`] is to be added; traps if there is none of that index.
    fn element_address(&mut self, array: Value, index: Value, storage: Storage) -> Value {
        let length = self.array_length(array);
        let is_outside = self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, index, length);
        self.trapnz(is_outside, Trap::ArrayOutOfBounds);
        self.known_element(array, index, storage)
    }

    /// The address of an element that is there.
    fn known_element(&mut self, array: Value, index: Value, storage: Storage) -> Value {
        let array = self.ins().ireduce(types::I32, array);
        let scaled = self.ins().ishl_imm_u(index, i64::from(storage.size_log2()));
        let sum = self.ins().iadd(array, scaled);
        let sum = self.ins().uextend(types::I64, sum);
        self.object_address(sum)
    }

    fn array_get(&mut self, ty: u32, signed: bool) {
        let index = self.pop();
        let array = self.pop_reference();
        let (element, storage) = (self.element_type(ty), self.module.array_storage(ty));
        let address = self.element_address(array, index, storage);
        let flags = self.flags(Region::Element(storage));
        let value = self.load_part(element, storage, flags, address, HEADER, signed);
        self.learn_type(value, element.element_type().unpack());
        self.push(value);
    }

    fn array_set(&mut self, ty: u32) {
        let value = self.pop();
        let index = self.pop();
        let array = self.pop_reference();
        let storage = self.module.array_storage(ty);
        let address = self.element_address(array, index, storage);
        let flags = self.flags(Region::Element(storage));
        self.shade(storage, flags, address, HEADER);
        self.store_part(storage, flags, value, address, HEADER);
    }

    /// `array.new`, with a value for all elements.
    fn array_new(&mut self, ty: u32) {
        let (value, length) = self.pop2();
        if self.is_zero(value) {
            let array = self.new_array(ty, length);
            self.push(array);
            return;
        }
        let storage = self.module.array_storage(ty);
        let array = match self.constant(length) {
            Some(count) if count <= INLINE_ELEMENTS => {
                let array = self.new_array(ty, length);
                self.store_elements(array, storage, &vec![value; count as usize]);
                array
            }
            _ => {
                let value = self.in_slot(self.element_type(ty), value);
                let index = self.index(ty);
                let array = self.array_new_filled(index, value, length);
                self.made(array, ty, Some(length));
                array
            }
        };
        self.push(array);
    }

    /// `array.copy`: a short one is checked inline, and only its bytes are moved by the runtime.
    fn copy_elements(&mut self, ty: u32, to: (Value, Value), from: (Value, Value), length: Value) {
        if self.fuel.is_some() {
            let ty = self.index(ty);
            self.array_copy(ty, to.0, to.1, from.0, from.1, length);
            return;
        }
        let storage = self.module.array_storage(ty);
        self.check_range(to, length);
        self.check_range(from, length);
        let wide = self.ins().uextend(types::I64, length);
        let bytes = self.ins().ishl_imm_u(wide, i64::from(storage.size_log2()));
        let mut is_long = self.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, bytes, i64::from(SHORT_COPY));
        if storage == Storage::Reference {
            // Only the runtime has those marked that are overwritten.
            let is_marking = self.is_marking();
            let is_marking = self.ins().ireduce(types::I8, is_marking);
            is_long = self.ins().bor(is_long, is_marking);
        }
        let [long, short, done] = std::array::from_fn(|_| self.builder.create_block());
        self.ins().brif(is_long, long, [], short, []);
        self.builder.seal_block(long);
        self.builder.seal_block(short);
        self.builder.switch_to_block(long);
        let ty = self.index(ty);
        self.array_copy(ty, to.0, to.1, from.0, from.1, length);
        self.ins().jump(done, &[]);
        self.builder.switch_to_block(short);
        let [to, from] = [to, from].map(|(array, index)| {
            let element = self.known_element(array, index, storage);
            self.ins().iadd_imm_s(element, i64::from(HEADER))
        });
        self.move_bytes(to, from, bytes);
        self.ins().jump(done, &[]);
        self.builder.seal_block(done);
        self.builder.switch_to_block(done);
    }

    /// Traps unless an array has `count` elements from an index on.
    fn check_range(&mut self, (array, index): (Value, Value), count: Value) {
        let length = self.array_length(array);
        let [length, index, count] = [length, index, count].map(|value| self.ins().uextend(types::I64, value));
        let end = self.ins().iadd(index, count);
        let is_outside = self.ins().icmp(IntCC::UnsignedGreaterThan, end, length);
        self.trapnz(is_outside, Trap::ArrayOutOfBounds);
    }

    fn array_new_fixed(&mut self, ty: u32, count: u32) {
        let values = self.stack.split_off(self.stack.len() - count as usize);
        let length = self.index(count);
        let array = self.new_array(ty, length);
        self.store_elements(array, self.module.array_storage(ty), &values);
        self.push(array);
    }

    /// Writes the elements of a new array, which are zero.
    fn store_elements(&mut self, array: Value, storage: Storage, values: &[Value]) {
        for (index, value) in (0..).zip(values) {
            if !self.is_zero(*value) {
                let address = self.object_address(array);
                let flags = self.flags(Region::Element(storage));
                self.store_part(storage, flags, *value, address, HEADER + (index << storage.size_log2()));
            }
        }
    }

    /// A new array of zeros or nulls.
    fn new_array(&mut self, ty: u32, length: Value) -> Value {
        let storage = self.module.array_storage(ty);
        let constant = self.constant(length).map(|length| array_size(storage, length as u32));
        let array = match constant {
            Some(size) if size <= INLINE_BYTES.into() && self.is_free(size) => {
                let size = self.ins().iconst(types::I64, size as i64);
                self.allocate_array(ty, size, length)
            }
            // The price of one that costs fuel is paid by the runtime.
            None if self.fuel.is_none() => {
                let most = (INLINE_BYTES - HEADER) >> storage.size_log2();
                let is_large = self.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, length, i64::from(most));
                let [large, small, done] = std::array::from_fn(|_| self.builder.create_block());
                self.builder.append_block_param(done, types::I64);
                self.ins().brif(is_large, large, [], small, []);
                self.builder.seal_block(large);
                self.builder.seal_block(small);
                self.builder.switch_to_block(large);
                let array = self.allocate_array_slowly(ty, length);
                self.ins().jump(done, &[BlockArg::Value(array)]);
                self.builder.switch_to_block(small);
                let wide = self.ins().uextend(types::I64, length);
                let bytes = self.ins().ishl_imm_u(wide, i64::from(storage.size_log2()));
                let mut size = self.ins().iadd_imm_s(bytes, i64::from(HEADER));
                if storage.size() < 8 {
                    let above = self.ins().iadd_imm_s(bytes, i64::from(HEADER) + 7);
                    size = self.ins().band_imm_s(above, -8);
                }
                let array = self.allocate_array(ty, size, length);
                self.ins().jump(done, &[BlockArg::Value(array)]);
                self.builder.seal_block(done);
                self.builder.switch_to_block(done);
                self.builder.block_params(done)[0]
            }
            _ => self.allocate_array_slowly(ty, length),
        };
        self.made(array, ty, Some(length));
        array
    }

    /// Whether making so many bytes costs no fuel besides that of the instruction.
    fn is_free(&self, bytes: u64) -> bool {
        self.fuel.is_none() || of_bytes(bytes) == 0
    }

    fn allocate_array(&mut self, ty: u32, size: Value, length: Value) -> Value {
        self.allocate(
            size,
            |lower, address| {
                let descriptor = lower.descriptor(ty);
                let flags = lower.flags(Region::ObjectHeader);
                lower.ins().store(flags, descriptor, address, DESCRIPTOR as i32);
                lower.ins().store(flags, length, address, LENGTH as i32);
            },
            |lower| lower.allocate_array_slowly(ty, length),
        )
    }

    fn allocate_array_slowly(&mut self, ty: u32, length: Value) -> Value {
        let ty = self.index(ty);
        self.array_new_default(ty, length)
    }

    /// The address of a slot, or two, with a value for the runtime.
    fn in_slot(&mut self, ty: &FieldType, value: Value) -> Value {
        let value = self.canonical(value);
        let ty = ty.element_type().unpack();
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * ty.slots() as u32, 3);
        let slot = self.builder.create_sized_stack_slot(slot);
        let address = self.ins().stack_addr(types::I64, slot, 0);
        abi::store_slots(&mut self.builder, std::slice::from_ref(ty), &[value], address);
        address
    }

    fn i31_get(&mut self, signed: bool) {
        let reference = self.pop_reference();
        self.trap_if_null(reference, Trap::NullI31Reference);
        let bits = self.ins().ireduce(types::I32, reference);
        let value = if signed { self.ins().sshr_imm_u(bits, 1) } else { self.ins().ushr_imm_u(bits, 1) };
        self.push(value);
    }
}

/// Flags of an access to a vector, which objects have at multiples of 8.
fn unaligned(flags: MemFlagsData) -> MemFlagsData {
    let plain = MemFlagsData::new().with_trap_code(flags.trap_code()).with_alias_region(flags.alias_region());
    if flags.readonly() { plain.with_readonly() } else { plain }
}
