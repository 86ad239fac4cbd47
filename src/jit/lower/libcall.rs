//! Calls of the runtime's functions, through the table that the context points to.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, SigRef, Signature, Type, Value, types};

use super::Lower;
use crate::vm::context::{VMContext, VMStore};
use crate::vm::libcalls::{FAILED, LibcallType, Libcalls, for_each_libcall};

fn clif_type(ty: LibcallType) -> Type {
    match ty {
        LibcallType::I32 | LibcallType::Trap => types::I32,
        LibcallType::I64 | LibcallType::Size | LibcallType::Made => types::I64,
    }
}

macro_rules! libcalls {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ident),*) -> $result:ident;)*) => {
        /// One method for each runtime function, of its name.
        impl Lower<'_, '_> {
            $($(#[$doc])* pub(super) fn $name(&mut self, $($arg: Value),*) -> Value {
                self.libcall(offset_of!(Libcalls, $name) as i32, &[$(LibcallType::$ty),*], LibcallType::$result, &[$($arg),*])
            })*
        }
    };
}

for_each_libcall!(libcalls);

impl Lower<'_, '_> {
    /// Calls the function at an offset of the table, as [`call_runtime`](Self::call_runtime) does.
    fn libcall(&mut self, offset: i32, params: &[LibcallType], result: LibcallType, args: &[Value]) -> Value {
        let convention = self.isa.default_call_conv();
        let func = &mut *self.builder.func;
        let signature = *self.libcall_signatures.entry(offset).or_insert_with(|| {
            let mut signature = Signature::new(convention);
            signature.params.push(AbiParam::new(types::I64));
            signature.params.extend(params.iter().map(|ty| AbiParam::new(clif_type(*ty))));
            signature.returns.push(AbiParam::new(clif_type(result)));
            func.import_signature(signature)
        });
        let table = self.load_constant(self.vmctx, VMContext::LIBCALLS);
        let code = self.load_constant(table, offset);
        self.call_runtime(signature, code, args, result)
    }

    /// Waits in a shared memory, see [`VMStore::wait`].
    pub(super) fn atomic_wait(&mut self, args: [Value; 5]) -> Value {
        let mut signature = Signature::new(self.isa.default_call_conv());
        signature.params = vec![AbiParam::new(types::I64); 1 + args.len()];
        signature.returns = vec![AbiParam::new(types::I64)];
        let signature = self.builder.import_signature(signature);
        let store = self.load_constant(self.vmctx, VMContext::STORE);
        let code = self.load_constant(store, VMStore::WAIT);
        self.call_runtime(signature, code, &args, LibcallType::Size)
    }

    /// Calls a function of the runtime with the context and these arguments. If its result is a status, traps where that is not
    /// zero.
    fn call_runtime(&mut self, signature: SigRef, code: Value, args: &[Value], result: LibcallType) -> Value {
        let args: Vec<Value> = [self.vmctx].into_iter().chain(args.iter().copied()).collect();
        let call = self.ins().call_indirect(signature, code, &args);
        let value = self.builder.inst_results(call)[0];
        match result {
            LibcallType::Trap => self.check_status(value),
            LibcallType::Size => {
                let failed = self.ins().icmp_imm_s(IntCC::Equal, value, FAILED as i64);
                self.check_status(failed);
            }
            LibcallType::Made => {
                let is_none = self.ins().icmp_imm_u(IntCC::Equal, value, 0);
                self.check_status(is_none);
            }
            LibcallType::I32 | LibcallType::I64 => {}
        }
        self.reload_fuel();
        value
    }
}
