//! The one list of the bytecode's instructions.

/// Calls `$callback!` with the whole list and `$arg`s before it.
macro_rules! for_each_op {
    ($callback:ident $($arg:tt)*) => {
        $callback! {
            $($arg)*

            // Instructions with handlers of their own: name, operands as printed.
            plain {
                Copy: [Def(A), Slot(B)],
                /// Two copies, to neighbouring slots.
                Copy2: [Def(A), Slot(B), Slot(C)],
                CopyWide: [Def(A), Slot(B)],
                Imm32: [Def(A), ImmBC],
                /// Zero-extended.
                Imm32U: [Def(A), LowBC],
                Imm64: [Def(A), Word(1)],
                ImmWide: [Def(A), Word(1), Word(2)],
                /// Copies slots in ascending order: destination, source, number.
                CopySpan: [Low(1), High(1), Low(2)],
                /// Copies two slots, so that a vector is copied whole, from a wide slot, one beyond 65,535.
                LoadWideSlot: [Def(A), Low(1)],
                /// Copies slots to wide ones: destination, number.
                StoreWideSlot: [Slot(A), Low(1), High(1)],
                /// Moves the frame pointer by slots, around calls whose arguments are in wide slots.
                ShiftFrame: [ImmBC],
                Unreachable: [],
                Br: [JumpBC],
                BrNonzero: [Slot(A), JumpBC],
                BrNonzeroAcc: [JumpBC],
                BrZero: [Slot(A), JumpBC],
                BrZeroAcc: [JumpBC],
                BrTable: [Slot(A), Table],
                /// `a` is the slot of the frame's header, as in the next two.
                Return: [Slot(A)],
                ReturnCopy: [Slot(A), Slot(B)],
                ReturnImm: [Slot(A), ImmBC],
                /// Jumps past its clauses; `a` is their number.
                Try: [JumpBC, Clauses],
                Throw: [LowBC, Low(1), High(1)],
                ThrowRef: [Slot(A)],
                Exit: [],
                ReturnCrossInstance: [],
                /// Adds its weight to the function's counter: the first instruction of a function, and of a loop, if hot functions
                /// are compiled.
                CountCall: [ImmA, FuncBC],
                CountLoop: [ImmA, FuncBC, Low(1)],
                /// Takes the price of the segment that follows from the store's fuel.
                Charge: [LowBC],
                /// The only instruction of a function that has native code: runs that and returns. `a` is the slot of the frame's
                /// header; two words follow, the address of the trampoline into native code and that of the function's entry.
                Native: [Slot(A), FuncBC],
                /// Goes on in baseline code at an address.
                Baseline: [Word(1)],
                Call: [Slot(A), FuncBC],
                CallImport: [Slot(A), FuncBC, Low(1)],
                CallIndirect: [Slot(A), Slot(B), Place(1), High(1), Low(2)],
                ReturnCall: [Slot(A), FuncLow(1), High(1)],
                ReturnCallImport: [Slot(A), FuncLow(1), High(1)],
                ReturnCallIndirect: [Slot(A), Slot(B), Place(1), High(1), Low(2)],
                CallRef: [Slot(A), Slot(B), Low(1)],
                ReturnCallRef: [Slot(A), Slot(B), High(1)],
                Select: [Def(A), Slot(B), Slot(C), Low(1)],
                SelectAcc: [Def(A), Slot(B), Slot(C)],
                SelectWide: [Def(A), Slot(B), Slot(C), Low(1)],
                GlobalGet: [Def(A), ImmBC],
                GlobalGetIndirect: [Def(A), ImmBC],
                /// The sum of a global and a number; `GlobalBump` also stores it to the global, `GlobalSetAdd` stores the sum of a
                /// slot and a number.
                GlobalGetAdd: [Def(A), ImmB, GlobalC],
                GlobalBump: [Def(A), ImmB, GlobalC],
                GlobalSetAdd: [Slot(A), ImmB, GlobalC],
                GlobalGetWide: [Def(A), PlaceBC],
                GlobalSet: [Slot(A), ImmBC],
                GlobalSetIndirect: [Slot(A), ImmBC],
                GlobalSetWide: [Slot(A), PlaceBC],
                /// A load and a store in one: addresses of destination and source, their offsets.
                I32Move: [Slot(A), Slot(B), OffsetC, Offset(1)],
                I64Move: [Slot(A), Slot(B), OffsetC, Offset(1)],
                /// The logarithm of the size of a page follows.
                MemorySize: [Def(A), PlaceBC, Low(1)],
                /// Whether addresses have 64 bits follows the index, as for `TableGrow`.
                MemoryGrow: [Def(A), Slot(B), Low(1), High(1)],
                MemoryFill: [Slot(A), Slot(B), Slot(C), Low(1)],
                MemoryCopy: [Slot(A), Slot(B), Slot(C), Low(1), High(1)],
                MemoryInit: [Slot(A), Slot(B), Slot(C), Low(1), High(1)],
                DataDrop: [ImmBC],
                /// Index and count; index, expected value, and in the high half of word 2 the timeout. The offset, and the index of
                /// the memory.
                MemoryAtomicNotify: [Def(A), Slot(B), Slot(C), Word(1), Low(2)],
                MemoryAtomicWait32: [Def(A), Slot(B), Slot(C), Word(1), Low(2), High(2)],
                MemoryAtomicWait64: [Def(A), Slot(B), Slot(C), Word(1), Low(2), High(2)],
                AtomicFence: [],
                TableGet: [Def(A), Slot(B), Place(1)],
                TableSet: [Slot(A), Slot(B), Place(1)],
                TableSize: [Def(A), PlaceBC],
                TableGrow: [Def(A), Slot(B), Slot(C), Low(1), High(1)],
                TableFill: [Slot(A), Slot(B), Slot(C), Low(1)],
                TableCopy: [Slot(A), Slot(B), Slot(C), Low(1), High(1)],
                TableInit: [Slot(A), Slot(B), Slot(C), Low(1), High(1)],
                ElemDrop: [ImmBC],
                RefFunc: [Def(A), FuncBC],
                RefAsNonNull: [Slot(A)],
                /// Wide arithmetic: the operands are in consecutive slots from the given one on, and so are the results.
                I64Add128: [Low(1)],
                I64Sub128: [Low(1)],
                I64MulWideS: [Low(1)],
                I64MulWideU: [Low(1)],
                Shuffle: [Def(A), Slot(B), Slot(C), Word(1), Word(2)],
                /// The GC proposal. Fields are named by how they are stored: as so many bits, a reference, or the number of a
                /// function.
                /// Reads: the reference, the field's offset; writes: the reference, the value, the offset.
                StructGet8S: [Def(A), Slot(B), OffsetC],
                StructGet8U: [Def(A), Slot(B), OffsetC],
                StructGet16S: [Def(A), Slot(B), OffsetC],
                StructGet16U: [Def(A), Slot(B), OffsetC],
                StructGet32: [Def(A), Slot(B), OffsetC],
                StructGet64: [Def(A), Slot(B), OffsetC],
                StructGetWide: [Def(A), Slot(B), OffsetC],
                /// Type and field follow, here and in the next, which reads any field that has too large an offset for those
                /// above. `c` tells whether it is sign-extended.
                StructGetFar: [Def(A), Slot(B), ImmC, Low(1), High(1)],
                StructSet8: [Slot(A), Slot(B), OffsetC],
                StructSet16: [Slot(A), Slot(B), OffsetC],
                StructSet32: [Slot(A), Slot(B), OffsetC],
                StructSet64: [Slot(A), Slot(B), OffsetC],
                StructSetWide: [Slot(A), Slot(B), OffsetC],
                StructSetRef: [Slot(A), Slot(B), OffsetC],
                /// Any field, of any offset: type and field follow.
                StructSetFar: [Slot(A), Slot(B), Low(1), High(1)],
                /// The first operand's slot, which may be wide, and the type.
                StructNew: [Def(A), Low(1), High(1)],
                StructNewDefault: [Def(A), LowBC],
                /// The array, the index; for writes, the value.
                ArrayGet8S: [Def(A), Slot(B), Slot(C)],
                ArrayGet8U: [Def(A), Slot(B), Slot(C)],
                ArrayGet16S: [Def(A), Slot(B), Slot(C)],
                ArrayGet16U: [Def(A), Slot(B), Slot(C)],
                ArrayGet32: [Def(A), Slot(B), Slot(C)],
                ArrayGet64: [Def(A), Slot(B), Slot(C)],
                ArrayGetWide: [Def(A), Slot(B), Slot(C)],
                ArrayGetFunc: [Def(A), Slot(B), Slot(C), Low(1)],
                ArraySet8: [Slot(A), Slot(B), Slot(C)],
                ArraySet16: [Slot(A), Slot(B), Slot(C)],
                ArraySet32: [Slot(A), Slot(B), Slot(C)],
                ArraySet64: [Slot(A), Slot(B), Slot(C)],
                ArraySetWide: [Slot(A), Slot(B), Slot(C)],
                ArraySetRef: [Slot(A), Slot(B), Slot(C)],
                ArraySetFunc: [Slot(A), Slot(B), Slot(C)],
                ArrayLen: [Def(A), Slot(B)],
                /// The operands are in consecutive slots from the first number on; the type follows, and then another type, a
                /// segment or a number of elements.
                ArrayNew: [Def(A), Low(1), High(1)],
                ArrayNewDefault: [Def(A), Slot(B), Low(1)],
                ArrayNewFixed: [Def(A), Low(1), High(1), Low(2)],
                ArrayNewData: [Def(A), Low(1), High(1), Low(2)],
                ArrayNewElem: [Def(A), Low(1), High(1), Low(2)],
                ArrayFill: [Low(1), High(1)],
                ArrayCopy: [Low(1), High(1), Low(2)],
                ArrayInitData: [Low(1), High(1), Low(2)],
                ArrayInitElem: [Low(1), High(1), Low(2)],
                RefI31: [Def(A), Slot(B)],
                I31GetS: [Def(A), Slot(B)],
                I31GetU: [Def(A), Slot(B)],
                /// Tests of a reference: `c` is the result for null. Objects: the offset of the type's descriptor in the context,
                /// and the number of its supertypes; functions: the type.
                RefTestI31: [Def(A), Slot(B), ImmC],
                RefTestEq: [Def(A), Slot(B), ImmC],
                RefTestStruct: [Def(A), Slot(B), ImmC],
                RefTestArray: [Def(A), Slot(B), ImmC],
                RefTestFinal: [Def(A), Slot(B), ImmC, Low(1)],
                RefTestObject: [Def(A), Slot(B), ImmC, Low(1), High(1)],
                RefTestFunc: [Def(A), Slot(B), ImmC, Low(1)],
                /// The same as casts, which change nothing: `b` tells whether null passes. The last three look at null only, or at nothing.
                RefCastI31: [Slot(A), ImmB],
                RefCastEq: [Slot(A), ImmB],
                RefCastStruct: [Slot(A), ImmB],
                RefCastArray: [Slot(A), ImmB],
                RefCastFinal: [Slot(A), ImmB, Low(1)],
                RefCastObject: [Slot(A), ImmB, Low(1), High(1)],
                RefCastFunc: [Slot(A), ImmB, Low(1)],
                RefCastNonNull: [Slot(A)],
                RefCastNull: [Slot(A)],
                RefCastNothing: [Slot(A)],
            }

            // Comparisons; each also as a conditional branch.
            compare {
                I32Eq(a, b: u32) { a == b } I32Ne(a, b: u32) { a != b }
                I32LtS(a, b: i32) { a < b } I32LtU(a, b: u32) { a < b }
                I32GtS(a, b: i32) { a > b } I32GtU(a, b: u32) { a > b }
                I32LeS(a, b: i32) { a <= b } I32LeU(a, b: u32) { a <= b }
                I32GeS(a, b: i32) { a >= b } I32GeU(a, b: u32) { a >= b }
                I64Eq(a, b: u64) { a == b } I64Ne(a, b: u64) { a != b }
                I64LtS(a, b: i64) { a < b } I64LtU(a, b: u64) { a < b }
                I64GtS(a, b: i64) { a > b } I64GtU(a, b: u64) { a > b }
                I64LeS(a, b: i64) { a <= b } I64LeU(a, b: u64) { a <= b }
                I64GeS(a, b: i64) { a >= b } I64GeU(a, b: u64) { a >= b }
                F32Eq(a, b: f32) { a == b } F32Ne(a, b: f32) { a != b }
                F32Lt(a, b: f32) { a < b } F32Gt(a, b: f32) { a > b }
                F32Le(a, b: f32) { a <= b } F32Ge(a, b: f32) { a >= b }
                F64Eq(a, b: f64) { a == b } F64Ne(a, b: f64) { a != b }
                F64Lt(a, b: f64) { a < b } F64Gt(a, b: f64) { a > b }
                F64Le(a, b: f64) { a <= b } F64Ge(a, b: f64) { a >= b }
            }

            // Conditions that only branches test: negated float comparisons, which hold for NaN, and whether two numbers have
            // bits in common.
            tested {
                I32Common(a, b: u32) { a & b != 0 } I32Apart(a, b: u32) { a & b == 0 }
                F32NotLt(a, b: f32) { !(a < b) } F32NotGt(a, b: f32) { !(a > b) }
                F32NotLe(a, b: f32) { !(a <= b) } F32NotGe(a, b: f32) { !(a >= b) }
                F64NotLt(a, b: f64) { !(a < b) } F64NotGt(a, b: f64) { !(a > b) }
                F64NotLe(a, b: f64) { !(a <= b) } F64NotGe(a, b: f64) { !(a >= b) }
            }

            // Two operands and a result of one type. `true` if the operands may be swapped.
            binary {
                I32Add(a, b: u32) true { numeric::i32_add(a, b) } I32Sub(a, b: u32) false { numeric::i32_sub(a, b) }
                I32Mul(a, b: u32) true { numeric::i32_mul(a, b) }
                I32DivS(a, b: u32) false { numeric::i32_div_s(a, b)? }
                I32DivU(a, b: u32) false { numeric::i32_div_u(a, b)? }
                I32RemS(a, b: u32) false { numeric::i32_rem_s(a, b)? }
                I32RemU(a, b: u32) false { numeric::i32_rem_u(a, b)? }
                I32And(a, b: u32) true { a & b } I32Or(a, b: u32) true { a | b } I32Xor(a, b: u32) true { a ^ b }
                I32Shl(a, b: u32) false { numeric::i32_shl(a, b) }
                I32ShrS(a, b: u32) false { numeric::i32_shr_s(a, b) }
                I32ShrU(a, b: u32) false { numeric::i32_shr_u(a, b) }
                I32Rotl(a, b: u32) false { numeric::i32_rotl(a, b) }
                I32Rotr(a, b: u32) false { numeric::i32_rotr(a, b) }
                I64Add(a, b: u64) true { numeric::i64_add(a, b) } I64Sub(a, b: u64) false { numeric::i64_sub(a, b) }
                I64Mul(a, b: u64) true { numeric::i64_mul(a, b) }
                I64DivS(a, b: u64) false { numeric::i64_div_s(a, b)? }
                I64DivU(a, b: u64) false { numeric::i64_div_u(a, b)? }
                I64RemS(a, b: u64) false { numeric::i64_rem_s(a, b)? }
                I64RemU(a, b: u64) false { numeric::i64_rem_u(a, b)? }
                I64And(a, b: u64) true { a & b } I64Or(a, b: u64) true { a | b } I64Xor(a, b: u64) true { a ^ b }
                I64Shl(a, b: u64) false { numeric::i64_shl(a, b) }
                I64ShrS(a, b: u64) false { numeric::i64_shr_s(a, b) }
                I64ShrU(a, b: u64) false { numeric::i64_shr_u(a, b) }
                I64Rotl(a, b: u64) false { numeric::i64_rotl(a, b) }
                I64Rotr(a, b: u64) false { numeric::i64_rotr(a, b) }
                F32Add(a, b: f32) false { numeric::f32_add(a, b) } F32Sub(a, b: f32) false { numeric::f32_sub(a, b) }
                F32Mul(a, b: f32) false { numeric::f32_mul(a, b) } F32Div(a, b: f32) false { numeric::f32_div(a, b) }
                F32Min(a, b: f32) false { numeric::f32_min(a, b) } F32Max(a, b: f32) false { numeric::f32_max(a, b) }
                F32Copysign(a, b: f32) false { numeric::f32_copysign(a, b) }
                F64Add(a, b: f64) false { numeric::f64_add(a, b) } F64Sub(a, b: f64) false { numeric::f64_sub(a, b) }
                F64Mul(a, b: f64) false { numeric::f64_mul(a, b) } F64Div(a, b: f64) false { numeric::f64_div(a, b) }
                F64Min(a, b: f64) false { numeric::f64_min(a, b) } F64Max(a, b: f64) false { numeric::f64_max(a, b) }
                F64Copysign(a, b: f64) false { numeric::f64_copysign(a, b) }
            }

            // `i64.extend_i32_u` and the reinterpretations are missing: they leave a slot as it is.
            unary {
                I32Clz(a: u32) -> u32 { numeric::i32_clz(a) } I32Ctz(a: u32) -> u32 { numeric::i32_ctz(a) }
                I32Popcnt(a: u32) -> u32 { numeric::i32_popcnt(a) }
                I32Extend8S(a: u32) -> u32 { numeric::i32_extend8_s(a) }
                I32Extend16S(a: u32) -> u32 { numeric::i32_extend16_s(a) }
                I64Clz(a: u64) -> u64 { numeric::i64_clz(a) } I64Ctz(a: u64) -> u64 { numeric::i64_ctz(a) }
                I64Popcnt(a: u64) -> u64 { numeric::i64_popcnt(a) }
                I64Extend8S(a: u64) -> u64 { numeric::i64_extend8_s(a) }
                I64Extend16S(a: u64) -> u64 { numeric::i64_extend16_s(a) }
                I64Extend32S(a: u64) -> u64 { numeric::i64_extend32_s(a) }
                I32WrapI64(a: u64) -> u32 { numeric::i32_wrap_i64(a) }
                I64ExtendI32S(a: u32) -> u64 { numeric::i64_extend_i32_s(a) }
                F32Abs(a: f32) -> f32 { numeric::f32_abs(a) } F32Neg(a: f32) -> f32 { numeric::f32_neg(a) }
                F32Ceil(a: f32) -> f32 { numeric::f32_ceil(a) } F32Floor(a: f32) -> f32 { numeric::f32_floor(a) }
                F32Trunc(a: f32) -> f32 { numeric::f32_trunc(a) }
                F32Nearest(a: f32) -> f32 { numeric::f32_nearest(a) }
                F32Sqrt(a: f32) -> f32 { numeric::f32_sqrt(a) }
                F64Abs(a: f64) -> f64 { numeric::f64_abs(a) } F64Neg(a: f64) -> f64 { numeric::f64_neg(a) }
                F64Ceil(a: f64) -> f64 { numeric::f64_ceil(a) } F64Floor(a: f64) -> f64 { numeric::f64_floor(a) }
                F64Trunc(a: f64) -> f64 { numeric::f64_trunc(a) }
                F64Nearest(a: f64) -> f64 { numeric::f64_nearest(a) }
                F64Sqrt(a: f64) -> f64 { numeric::f64_sqrt(a) }
                I32TruncF32S(a: f32) -> u32 { numeric::i32_trunc_f32_s(a)? }
                I32TruncF32U(a: f32) -> u32 { numeric::i32_trunc_f32_u(a)? }
                I32TruncF64S(a: f64) -> u32 { numeric::i32_trunc_f64_s(a)? }
                I32TruncF64U(a: f64) -> u32 { numeric::i32_trunc_f64_u(a)? }
                I64TruncF32S(a: f32) -> u64 { numeric::i64_trunc_f32_s(a)? }
                I64TruncF32U(a: f32) -> u64 { numeric::i64_trunc_f32_u(a)? }
                I64TruncF64S(a: f64) -> u64 { numeric::i64_trunc_f64_s(a)? }
                I64TruncF64U(a: f64) -> u64 { numeric::i64_trunc_f64_u(a)? }
                I32TruncSatF32S(a: f32) -> u32 { numeric::i32_trunc_sat_f32_s(a) }
                I32TruncSatF32U(a: f32) -> u32 { numeric::i32_trunc_sat_f32_u(a) }
                I32TruncSatF64S(a: f64) -> u32 { numeric::i32_trunc_sat_f64_s(a) }
                I32TruncSatF64U(a: f64) -> u32 { numeric::i32_trunc_sat_f64_u(a) }
                I64TruncSatF32S(a: f32) -> u64 { numeric::i64_trunc_sat_f32_s(a) }
                I64TruncSatF32U(a: f32) -> u64 { numeric::i64_trunc_sat_f32_u(a) }
                I64TruncSatF64S(a: f64) -> u64 { numeric::i64_trunc_sat_f64_s(a) }
                I64TruncSatF64U(a: f64) -> u64 { numeric::i64_trunc_sat_f64_u(a) }
                F32ConvertI32S(a: u32) -> f32 { numeric::f32_convert_i32_s(a) }
                F32ConvertI32U(a: u32) -> f32 { numeric::f32_convert_i32_u(a) }
                F32ConvertI64S(a: u64) -> f32 { numeric::f32_convert_i64_s(a) }
                F32ConvertI64U(a: u64) -> f32 { numeric::f32_convert_i64_u(a) }
                F64ConvertI32S(a: u32) -> f64 { numeric::f64_convert_i32_s(a) }
                F64ConvertI32U(a: u32) -> f64 { numeric::f64_convert_i32_u(a) }
                F64ConvertI64S(a: u64) -> f64 { numeric::f64_convert_i64_s(a) }
                F64ConvertI64U(a: u64) -> f64 { numeric::f64_convert_i64_u(a) }
                F32DemoteF64(a: f64) -> f32 { numeric::f32_demote_f64(a) }
                F64PromoteF32(a: f32) -> f64 { numeric::f64_promote_f32(a) }
            }

            // The unit in memory, and the value that it becomes.
            load {
                I32Load(x: u32) -> u32 { x } I64Load(x: u64) -> u64 { x }
                F32Load(x: f32) -> f32 { x } F64Load(x: f64) -> f64 { x }
                I32Load8S(x: u8) -> u32 { x as i8 as u32 } I32Load8U(x: u8) -> u32 { x.into() }
                I32Load16S(x: u16) -> u32 { x as i16 as u32 } I32Load16U(x: u16) -> u32 { x.into() }
                I64Load8S(x: u8) -> u64 { x as i8 as u64 } I64Load8U(x: u8) -> u64 { x.into() }
                I64Load16S(x: u16) -> u64 { x as i16 as u64 } I64Load16U(x: u16) -> u64 { x.into() }
                I64Load32S(x: u32) -> u64 { x as i32 as u64 } I64Load32U(x: u32) -> u64 { x.into() }
                V128Load(x: Wide) -> V128 { narrow(x) }
                V128Load8x8S(x: u64) -> V128 { simd::v128_load8x8_s(x) }
                V128Load8x8U(x: u64) -> V128 { simd::v128_load8x8_u(x) }
                V128Load16x4S(x: u64) -> V128 { simd::v128_load16x4_s(x) }
                V128Load16x4U(x: u64) -> V128 { simd::v128_load16x4_u(x) }
                V128Load32x2S(x: u64) -> V128 { simd::v128_load32x2_s(x) }
                V128Load32x2U(x: u64) -> V128 { simd::v128_load32x2_u(x) }
                V128Load8Splat(x: u8) -> V128 { simd::i8x16_splat(x.into()) }
                V128Load16Splat(x: u16) -> V128 { simd::i16x8_splat(x.into()) }
                V128Load32Splat(x: u32) -> V128 { simd::i32x4_splat(x) }
                V128Load64Splat(x: u64) -> V128 { simd::i64x2_splat(x) }
                V128Load32Zero(x: u32) -> V128 { simd::v128_load32_zero(x) }
                V128Load64Zero(x: u64) -> V128 { simd::v128_load64_zero(x) }
            }

            // The value, and the unit that is written.
            store {
                I32Store(x: u32) -> u32 { x } I64Store(x: u64) -> u64 { x }
                F32Store(x: f32) -> f32 { x } F64Store(x: f64) -> f64 { x }
                I32Store8(x: u32) -> u8 { x as u8 } I32Store16(x: u32) -> u16 { x as u16 }
                I64Store8(x: u64) -> u8 { x as u8 } I64Store16(x: u64) -> u16 { x as u16 }
                I64Store32(x: u64) -> u32 { x as u32 } V128Store(x: V128) -> Wide { widen(x) }
            }

            // Atomic instructions: the unit in memory. Values are in slots, with zeros above.
            atomic_load {
                I32AtomicLoad u32; I64AtomicLoad u64; I32AtomicLoad8U u8; I32AtomicLoad16U u16; I64AtomicLoad8U u8;
                I64AtomicLoad16U u16; I64AtomicLoad32U u32;
            }
            atomic_store {
                I32AtomicStore u32; I64AtomicStore u64; I32AtomicStore8 u8; I32AtomicStore16 u16; I64AtomicStore8 u8;
                I64AtomicStore16 u16; I64AtomicStore32 u32;
            }
            atomic_rmw {
                I32AtomicRmwAdd fetch_add u32; I64AtomicRmwAdd fetch_add u64; I32AtomicRmw8AddU fetch_add u8;
                I32AtomicRmw16AddU fetch_add u16; I64AtomicRmw8AddU fetch_add u8; I64AtomicRmw16AddU fetch_add u16;
                I64AtomicRmw32AddU fetch_add u32;
                I32AtomicRmwSub fetch_sub u32; I64AtomicRmwSub fetch_sub u64; I32AtomicRmw8SubU fetch_sub u8;
                I32AtomicRmw16SubU fetch_sub u16; I64AtomicRmw8SubU fetch_sub u8; I64AtomicRmw16SubU fetch_sub u16;
                I64AtomicRmw32SubU fetch_sub u32;
                I32AtomicRmwAnd fetch_and u32; I64AtomicRmwAnd fetch_and u64; I32AtomicRmw8AndU fetch_and u8;
                I32AtomicRmw16AndU fetch_and u16; I64AtomicRmw8AndU fetch_and u8; I64AtomicRmw16AndU fetch_and u16;
                I64AtomicRmw32AndU fetch_and u32;
                I32AtomicRmwOr fetch_or u32; I64AtomicRmwOr fetch_or u64; I32AtomicRmw8OrU fetch_or u8;
                I32AtomicRmw16OrU fetch_or u16; I64AtomicRmw8OrU fetch_or u8; I64AtomicRmw16OrU fetch_or u16;
                I64AtomicRmw32OrU fetch_or u32;
                I32AtomicRmwXor fetch_xor u32; I64AtomicRmwXor fetch_xor u64; I32AtomicRmw8XorU fetch_xor u8;
                I32AtomicRmw16XorU fetch_xor u16; I64AtomicRmw8XorU fetch_xor u8; I64AtomicRmw16XorU fetch_xor u16;
                I64AtomicRmw32XorU fetch_xor u32;
                I32AtomicRmwXchg swap u32; I64AtomicRmwXchg swap u64; I32AtomicRmw8XchgU swap u8;
                I32AtomicRmw16XchgU swap u16; I64AtomicRmw8XchgU swap u8; I64AtomicRmw16XchgU swap u16;
                I64AtomicRmw32XchgU swap u32;
            }
            atomic_cmpxchg {
                I32AtomicRmwCmpxchg u32; I64AtomicRmwCmpxchg u64; I32AtomicRmw8CmpxchgU u8; I32AtomicRmw16CmpxchgU u16;
                I64AtomicRmw8CmpxchgU u8; I64AtomicRmw16CmpxchgU u16; I64AtomicRmw32CmpxchgU u32;
            }

            load_lane {
                V128Load8Lane(v, lane, x: u8) { simd::i8x16_replace_lane(v, lane, x.into()) }
                V128Load16Lane(v, lane, x: u16) { simd::i16x8_replace_lane(v, lane, x.into()) }
                V128Load32Lane(v, lane, x: u32) { simd::i32x4_replace_lane(v, lane, x) }
                V128Load64Lane(v, lane, x: u64) { simd::i64x2_replace_lane(v, lane, x) }
            }

            store_lane {
                V128Store8Lane(v, lane) -> u8 { simd::i8x16_extract_lane_u(v, lane) as u8 }
                V128Store16Lane(v, lane) -> u16 { simd::i16x8_extract_lane_u(v, lane) as u16 }
                V128Store32Lane(v, lane) -> u32 { simd::i32x4_extract_lane(v, lane) }
                V128Store64Lane(v, lane) -> u64 { simd::i64x2_extract_lane(v, lane) }
            }

            splat {
                I8x16Splat i8x16_splat u32; I16x8Splat i16x8_splat u32; I32x4Splat i32x4_splat u32;
                I64x2Splat i64x2_splat u64; F32x4Splat f32x4_splat f32; F64x2Splat f64x2_splat f64;
            }

            extract {
                I8x16ExtractLaneS i8x16_extract_lane_s u32; I8x16ExtractLaneU i8x16_extract_lane_u u32;
                I16x8ExtractLaneS i16x8_extract_lane_s u32; I16x8ExtractLaneU i16x8_extract_lane_u u32;
                I32x4ExtractLane i32x4_extract_lane u32; I64x2ExtractLane i64x2_extract_lane u64;
                F32x4ExtractLane f32x4_extract_lane f32; F64x2ExtractLane f64x2_extract_lane f64;
            }

            replace {
                I8x16ReplaceLane i8x16_replace_lane u32; I16x8ReplaceLane i16x8_replace_lane u32;
                I32x4ReplaceLane i32x4_replace_lane u32; I64x2ReplaceLane i64x2_replace_lane u64;
                F32x4ReplaceLane f32x4_replace_lane f32; F64x2ReplaceLane f64x2_replace_lane f64;
            }

            // Vector instructions have the name of the function of `numeric::simd` that they call.
            vector_binary {
                I8x16Eq i8x16_eq; I8x16Ne i8x16_ne; I8x16LtS i8x16_lt_s;
                I8x16LtU i8x16_lt_u; I8x16GtS i8x16_gt_s; I8x16GtU i8x16_gt_u; I8x16LeS i8x16_le_s;
                I8x16LeU i8x16_le_u; I8x16GeS i8x16_ge_s; I8x16GeU i8x16_ge_u; I16x8Eq i16x8_eq; I16x8Ne i16x8_ne;
                I16x8LtS i16x8_lt_s; I16x8LtU i16x8_lt_u; I16x8GtS i16x8_gt_s; I16x8GtU i16x8_gt_u;
                I16x8LeS i16x8_le_s; I16x8LeU i16x8_le_u; I16x8GeS i16x8_ge_s; I16x8GeU i16x8_ge_u;
                I32x4Eq i32x4_eq; I32x4Ne i32x4_ne; I32x4LtS i32x4_lt_s; I32x4LtU i32x4_lt_u; I32x4GtS i32x4_gt_s;
                I32x4GtU i32x4_gt_u; I32x4LeS i32x4_le_s; I32x4LeU i32x4_le_u; I32x4GeS i32x4_ge_s;
                I32x4GeU i32x4_ge_u; I64x2Eq i64x2_eq; I64x2Ne i64x2_ne; I64x2LtS i64x2_lt_s; I64x2GtS i64x2_gt_s;
                I64x2LeS i64x2_le_s; I64x2GeS i64x2_ge_s; F32x4Eq f32x4_eq; F32x4Ne f32x4_ne; F32x4Lt f32x4_lt;
                F32x4Gt f32x4_gt; F32x4Le f32x4_le; F32x4Ge f32x4_ge; F64x2Eq f64x2_eq; F64x2Ne f64x2_ne;
                F64x2Lt f64x2_lt; F64x2Gt f64x2_gt; F64x2Le f64x2_le; F64x2Ge f64x2_ge; V128And v128_and;
                V128AndNot v128_andnot; V128Or v128_or; V128Xor v128_xor; I8x16NarrowI16x8S i8x16_narrow_i16x8_s;
                I8x16NarrowI16x8U i8x16_narrow_i16x8_u; I8x16Add i8x16_add; I8x16AddSatS i8x16_add_sat_s;
                I8x16AddSatU i8x16_add_sat_u; I8x16Sub i8x16_sub; I8x16SubSatS i8x16_sub_sat_s;
                I8x16SubSatU i8x16_sub_sat_u; I8x16MinS i8x16_min_s; I8x16MinU i8x16_min_u; I8x16MaxS i8x16_max_s;
                I8x16MaxU i8x16_max_u; I8x16AvgrU i8x16_avgr_u; I16x8Q15MulrSatS i16x8_q15mulr_sat_s;
                I16x8NarrowI32x4S i16x8_narrow_i32x4_s; I16x8NarrowI32x4U i16x8_narrow_i32x4_u;
                I16x8Add i16x8_add; I16x8AddSatS i16x8_add_sat_s; I16x8AddSatU i16x8_add_sat_u;
                I16x8Sub i16x8_sub; I16x8SubSatS i16x8_sub_sat_s; I16x8SubSatU i16x8_sub_sat_u;
                I16x8Mul i16x8_mul; I16x8MinS i16x8_min_s; I16x8MinU i16x8_min_u; I16x8MaxS i16x8_max_s;
                I16x8MaxU i16x8_max_u; I16x8AvgrU i16x8_avgr_u; I16x8ExtMulLowI8x16S i16x8_extmul_low_i8x16_s;
                I16x8ExtMulHighI8x16S i16x8_extmul_high_i8x16_s; I16x8ExtMulLowI8x16U i16x8_extmul_low_i8x16_u;
                I16x8ExtMulHighI8x16U i16x8_extmul_high_i8x16_u; I32x4Add i32x4_add; I32x4Sub i32x4_sub;
                I32x4Mul i32x4_mul; I32x4MinS i32x4_min_s; I32x4MinU i32x4_min_u; I32x4MaxS i32x4_max_s;
                I32x4MaxU i32x4_max_u; I32x4DotI16x8S i32x4_dot_i16x8_s;
                I32x4ExtMulLowI16x8S i32x4_extmul_low_i16x8_s; I32x4ExtMulHighI16x8S i32x4_extmul_high_i16x8_s;
                I32x4ExtMulLowI16x8U i32x4_extmul_low_i16x8_u; I32x4ExtMulHighI16x8U i32x4_extmul_high_i16x8_u;
                I64x2Add i64x2_add; I64x2Sub i64x2_sub; I64x2Mul i64x2_mul;
                I64x2ExtMulLowI32x4S i64x2_extmul_low_i32x4_s; I64x2ExtMulHighI32x4S i64x2_extmul_high_i32x4_s;
                I64x2ExtMulLowI32x4U i64x2_extmul_low_i32x4_u; I64x2ExtMulHighI32x4U i64x2_extmul_high_i32x4_u;
                F32x4Add f32x4_add; F32x4Sub f32x4_sub; F32x4Mul f32x4_mul; F32x4Div f32x4_div;
                F32x4Min f32x4_min; F32x4Max f32x4_max; F32x4PMin f32x4_pmin; F32x4PMax f32x4_pmax;
                F64x2Add f64x2_add; F64x2Sub f64x2_sub; F64x2Mul f64x2_mul; F64x2Div f64x2_div;
                F64x2Min f64x2_min; F64x2Max f64x2_max; F64x2PMin f64x2_pmin; F64x2PMax f64x2_pmax;
                F32x4RelaxedMin f32x4_relaxed_min;
                F32x4RelaxedMax f32x4_relaxed_max; F64x2RelaxedMin f64x2_relaxed_min;
                F64x2RelaxedMax f64x2_relaxed_max; I16x8RelaxedQ15mulrS i16x8_relaxed_q15mulr_s;
                I16x8RelaxedDotI8x16I7x16S i16x8_relaxed_dot_i8x16_i7x16_s;
            }
            vector_unary {
                V128Not v128_not; I8x16Abs i8x16_abs; I8x16Neg i8x16_neg; I8x16Popcnt i8x16_popcnt;
                I16x8ExtAddPairwiseI8x16S i16x8_extadd_pairwise_i8x16_s;
                I16x8ExtAddPairwiseI8x16U i16x8_extadd_pairwise_i8x16_u; I16x8Abs i16x8_abs; I16x8Neg i16x8_neg;
                I16x8ExtendLowI8x16S i16x8_extend_low_i8x16_s; I16x8ExtendHighI8x16S i16x8_extend_high_i8x16_s;
                I16x8ExtendLowI8x16U i16x8_extend_low_i8x16_u; I16x8ExtendHighI8x16U i16x8_extend_high_i8x16_u;
                I32x4ExtAddPairwiseI16x8S i32x4_extadd_pairwise_i16x8_s;
                I32x4ExtAddPairwiseI16x8U i32x4_extadd_pairwise_i16x8_u; I32x4Abs i32x4_abs; I32x4Neg i32x4_neg;
                I32x4ExtendLowI16x8S i32x4_extend_low_i16x8_s; I32x4ExtendHighI16x8S i32x4_extend_high_i16x8_s;
                I32x4ExtendLowI16x8U i32x4_extend_low_i16x8_u; I32x4ExtendHighI16x8U i32x4_extend_high_i16x8_u;
                I64x2Abs i64x2_abs; I64x2Neg i64x2_neg; I64x2ExtendLowI32x4S i64x2_extend_low_i32x4_s;
                I64x2ExtendHighI32x4S i64x2_extend_high_i32x4_s; I64x2ExtendLowI32x4U i64x2_extend_low_i32x4_u;
                I64x2ExtendHighI32x4U i64x2_extend_high_i32x4_u; F32x4Ceil f32x4_ceil; F32x4Floor f32x4_floor;
                F32x4Trunc f32x4_trunc; F32x4Nearest f32x4_nearest; F32x4Abs f32x4_abs; F32x4Neg f32x4_neg;
                F32x4Sqrt f32x4_sqrt; F64x2Ceil f64x2_ceil; F64x2Floor f64x2_floor; F64x2Trunc f64x2_trunc;
                F64x2Nearest f64x2_nearest; F64x2Abs f64x2_abs; F64x2Neg f64x2_neg; F64x2Sqrt f64x2_sqrt;
                I32x4TruncSatF32x4S i32x4_trunc_sat_f32x4_s; I32x4TruncSatF32x4U i32x4_trunc_sat_f32x4_u;
                F32x4ConvertI32x4S f32x4_convert_i32x4_s; F32x4ConvertI32x4U f32x4_convert_i32x4_u;
                I32x4TruncSatF64x2SZero i32x4_trunc_sat_f64x2_s_zero;
                I32x4TruncSatF64x2UZero i32x4_trunc_sat_f64x2_u_zero;
                F64x2ConvertLowI32x4S f64x2_convert_low_i32x4_s; F64x2ConvertLowI32x4U f64x2_convert_low_i32x4_u;
                F32x4DemoteF64x2Zero f32x4_demote_f64x2_zero; F64x2PromoteLowF32x4 f64x2_promote_low_f32x4;
                I32x4RelaxedTruncF32x4S i32x4_relaxed_trunc_f32x4_s;
                I32x4RelaxedTruncF32x4U i32x4_relaxed_trunc_f32x4_u;
                I32x4RelaxedTruncF64x2SZero i32x4_relaxed_trunc_f64x2_s_zero;
                I32x4RelaxedTruncF64x2UZero i32x4_relaxed_trunc_f64x2_u_zero;
            }
            vector_ternary {
                V128Bitselect v128_bitselect;
                I8x16RelaxedLaneselect i8x16_relaxed_laneselect; I16x8RelaxedLaneselect i16x8_relaxed_laneselect;
                I32x4RelaxedLaneselect i32x4_relaxed_laneselect; I64x2RelaxedLaneselect i64x2_relaxed_laneselect;
                I32x4RelaxedDotI8x16I7x16AddS i32x4_relaxed_dot_i8x16_i7x16_add_s;
            }
            // Instructions whose function asks at run time what the processor can do.
            vector_swizzle { I8x16Swizzle i8x16_swizzle; I8x16RelaxedSwizzle i8x16_relaxed_swizzle; }
            vector_fused {
                F32x4RelaxedMadd f32x4_relaxed_madd; F32x4RelaxedNmadd f32x4_relaxed_nmadd;
                F64x2RelaxedMadd f64x2_relaxed_madd; F64x2RelaxedNmadd f64x2_relaxed_nmadd;
            }
            vector_shift {
                I8x16Shl i8x16_shl; I8x16ShrS i8x16_shr_s; I8x16ShrU i8x16_shr_u; I16x8Shl i16x8_shl;
                I16x8ShrS i16x8_shr_s; I16x8ShrU i16x8_shr_u; I32x4Shl i32x4_shl; I32x4ShrS i32x4_shr_s;
                I32x4ShrU i32x4_shr_u; I64x2Shl i64x2_shl; I64x2ShrS i64x2_shr_s; I64x2ShrU i64x2_shr_u;
            }
            vector_test {
                V128AnyTrue v128_any_true; I8x16AllTrue i8x16_all_true; I8x16Bitmask i8x16_bitmask;
                I16x8AllTrue i16x8_all_true; I16x8Bitmask i16x8_bitmask; I32x4AllTrue i32x4_all_true;
                I32x4Bitmask i32x4_bitmask; I64x2AllTrue i64x2_all_true; I64x2Bitmask i64x2_bitmask;
            }
        }
    };
}
pub(in crate::interp) use for_each_op;
