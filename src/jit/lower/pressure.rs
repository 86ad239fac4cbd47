//! How many values of a function are needed at the same time.

use cranelift_codegen::entity::SecondaryMap;
use cranelift_codegen::ir::{Function, Opcode, Value};

/// The most values that Cranelift's better register allocator gets at once. Its time grows with the square of that number: 10,000
/// take two seconds, 50,000 minutes. Real programs have some hundreds.
const MOST: i32 = 2000;

/// Whether more than [`MOST`] values are needed at once: from where a value comes from to its last use, in the order of the code. The
/// way back of a loop is left out.
pub(super) fn is_high(func: &Function) -> bool {
    is_above(func, MOST)
}

fn is_above(func: &Function, most: i32) -> bool {
    if func.dfg.num_values() <= most as usize {
        return false;
    }
    // By value, one more than the number of the last instruction that uses it.
    let mut last: SecondaryMap<Value, u32> = SecondaryMap::with_capacity(func.dfg.num_values());
    let mut number = 0;
    for block in func.layout.blocks() {
        for inst in func.layout.block_insts(block) {
            number += 1;
            func.dfg.inst_values(inst).for_each(|value| last[func.dfg.resolve_aliases(value)] = number);
        }
    }
    // By instruction, how many values are used there for the last time.
    let mut ends = vec![0_i32; number as usize + 1];
    let (mut number, mut needed) = (0, 0);
    for block in func.layout.blocks() {
        needed += begin(func.dfg.block_params(block), number, &last, &mut ends);
        for inst in func.layout.block_insts(block) {
            number += 1;
            needed -= ends[number as usize];
            // Cranelift makes these anew wherever they are used.
            if !matches!(func.dfg.insts[inst].opcode(), Opcode::Iconst | Opcode::F32const | Opcode::F64const) {
                needed += begin(func.dfg.inst_results(inst), number, &last, &mut ends);
            }
            if needed > most {
                return true;
            }
        }
    }
    false
}

/// Counts those of some values that are used after instruction `number`, and notes where for the last time.
fn begin(values: &[Value], number: u32, last: &SecondaryMap<Value, u32>, ends: &mut [i32]) -> i32 {
    let mut count = 0;
    for value in values.iter().filter(|value| last[**value] > number) {
        ends[last[*value] as usize] += 1;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, types};
    use cranelift_codegen::isa::CallConv;
    use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

    use super::*;
    use crate::jit::{Tier, settings};

    /// A function that makes so many values, and then uses them, or each at once.
    fn function(count: i64, at_once: bool) -> Function {
        let mut func = Function::new();
        func.signature = Signature::new(CallConv::SystemV);
        func.signature.params.push(AbiParam::new(types::I64));
        let mut context = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut func, &mut context);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_all_blocks();
        let param = builder.block_params(entry)[0];
        let mut sum = param;
        let mut values = Vec::new();
        for n in 0..count {
            // Constants don't count.
            let constant = builder.ins().iconst(types::I64, n);
            let value = builder.ins().imul(param, constant);
            match at_once {
                true => sum = builder.ins().iadd(sum, value),
                false => values.push(value),
            }
        }
        for value in values {
            sum = builder.ins().iadd(sum, value);
        }
        builder.ins().return_(&[sum]);
        builder.finalize(settings::isa(Tier::Best, false).unwrap().frontend_config());
        func
    }

    #[test]
    fn values_that_are_needed_at_once_are_counted() {
        // The parameter as well; or the parameter, a value and the sum.
        for (count, at_once, most, expected) in
            [(100, false, 100, true), (100, false, 101, false), (100, true, 2, true), (100, true, 3, false)]
        {
            assert_eq!(is_above(&function(count, at_once), most), expected, "{count} {at_once} {most}");
        }
        assert!(is_high(&function(10_000, false)) && !is_high(&function(10_000, true)));
    }
}
