//! What `ref.test`, `ref.cast` and the branches on casts ask of a reference, for all engines.

use super::ModuleFacts;
use super::composite::CompositeType;

/// What a reference that is not null must refer to for a cast to succeed. Validation has made sure that the reference is
/// one of the target's hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CastTarget {
    /// Anything in the hierarchy.
    Any,
    /// There is no such object: only null can be cast.
    None,
    I31,
    /// An `i31`, a structure or an array.
    Eq,
    Struct,
    Array,
    /// A structure or array of the type with this index, or of a subtype of it unless it is final. `depth` is the number of
    /// its supertypes.
    Object {
        type_index: u32,
        depth: u32,
        is_final: bool,
    },
    /// A function of the type with this index, or of a subtype of it unless it is final.
    Func {
        type_index: u32,
        is_final: bool,
    },
}

impl CastTarget {
    /// The target of a cast to references to `ty`, in a module that this has validated in.
    pub fn of(module: &ModuleFacts, ty: wasmparser::HeapType) -> Self {
        use wasmparser::AbstractHeapType as Abstract;
        let type_index = match ty {
            wasmparser::HeapType::Abstract { ty, .. } => {
                return match ty {
                    Abstract::I31 => CastTarget::I31,
                    Abstract::Eq => CastTarget::Eq,
                    Abstract::Struct => CastTarget::Struct,
                    Abstract::Array => CastTarget::Array,
                    Abstract::None | Abstract::NoFunc | Abstract::NoExtern | Abstract::NoExn | Abstract::NoCont => {
                        CastTarget::None
                    }
                    Abstract::Any | Abstract::Func | Abstract::Extern | Abstract::Exn | Abstract::Cont => {
                        CastTarget::Any
                    }
                };
            }
            wasmparser::HeapType::Concrete(index) | wasmparser::HeapType::Exact(index) => {
                index.as_module_index().expect("types are read as they are written, by their index")
            }
        };
        let ty = &module.sigs[type_index as usize];
        let is_final = ty.is_final();
        match module.types[type_index as usize] {
            CompositeType::Func(_) => CastTarget::Func { type_index, is_final },
            CompositeType::Struct(_) | CompositeType::Array(_) => {
                CastTarget::Object { type_index, depth: ty.depth() as u32, is_final }
            }
        }
    }
}
