//! Structures, arrays and numbers in references: their types, and instructions on them. What a body has of them on its stack is
//! `anyref`; each instruction casts first, mostly such that a failure is no trap.

use wasm_encoder::{
    AbstractHeapType, ArrayType, BlockType, CompositeInnerType, CompositeType, FieldType, HeapType, Instruction as I,
    RefType, StorageType, StructType, SubType, TypeSection, ValType,
};

use super::{Body, Generator, encoded};
use crate::value::Type::{self, Any, Extern, I32};

/// A structure's or array's type.
#[derive(Clone)]
pub struct Shape {
    is_array: bool,
    fields: Vec<Field>,
    supertype: Option<usize>,
    is_final: bool,
    /// Types of the recursive group that begins here; 0 if none does.
    group: usize,
}

#[derive(Clone, Copy)]
struct Field {
    storage: Storage,
    is_mutable: bool,
}

#[derive(Clone, Copy)]
enum Storage {
    I8,
    I16,
    Type(Type),
    /// A reference to a shape, or null.
    Shape(usize),
}

/// How many elements `array.new` makes at most.
const ELEMENTS: i32 = 15;

/// The types of a module.
pub fn shapes(module: &mut Generator) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    for _ in 0..1 + module.below(3) {
        let (start, count) = (shapes.len(), 1 + module.below(5));
        for i in 0..count {
            let mut field = || {
                let storage = match module.below(6) {
                    0 => Storage::I8,
                    1 => Storage::I16,
                    2 => Storage::Shape(module.below(start + count)),
                    _ => Storage::Type(module.some_type()),
                };
                Field { storage, is_mutable: !module.once_in(4) }
            };
            let mut own = vec![field()];
            own.extend((1..5).map(|_| field()));
            let supertype = match module.below(shapes.len() + 1) {
                0 => None,
                other => Some(other - 1).filter(|other| !shapes[*other].is_final),
            };
            let (is_array, fields) = match supertype.map(|of| shapes[of].clone()) {
                Some(of) if of.is_array => (true, of.fields),
                Some(of) => {
                    own.truncate(module.below(3));
                    (false, [of.fields, own].concat())
                }
                None if module.once_in(2) => (true, vec![own[0]]),
                None => {
                    own.truncate(module.below(6));
                    (false, own)
                }
            };
            let is_final = module.once_in(3);
            shapes.push(Shape { is_array, fields, supertype, is_final, group: if i == 0 { count } else { 0 } });
        }
    }
    shapes
}

/// Adds the types to a module's.
pub fn encode(shapes: &[Shape], types: &mut TypeSection) {
    let mut rest = shapes;
    while let Some(first) = rest.first() {
        let (group, after) = rest.split_at(first.group);
        types.ty().rec(group.iter().map(subtype).collect::<Vec<_>>());
        rest = after;
    }
}

fn subtype(shape: &Shape) -> SubType {
    let field = |field: &Field| FieldType {
        element_type: match field.storage {
            Storage::I8 => StorageType::I8,
            Storage::I16 => StorageType::I16,
            other => StorageType::Val(other.unpacked()),
        },
        mutable: field.is_mutable,
    };
    let inner = if shape.is_array {
        CompositeInnerType::Array(ArrayType(field(&shape.fields[0])))
    } else {
        CompositeInnerType::Struct(StructType { fields: shape.fields.iter().map(field).collect() })
    };
    SubType {
        is_final: shape.is_final,
        supertype_idxs: shape.supertype.into_iter().map(|index| index as u32).collect(),
        composite_type: CompositeType { inner, shared: false, descriptor: None, describes: None },
    }
}

impl Storage {
    /// What instructions read of it.
    fn unpacked(self) -> ValType {
        match self {
            Storage::I8 | Storage::I16 => ValType::I32,
            Storage::Type(ty) => encoded(ty),
            Storage::Shape(index) => ValType::Ref(reference(concrete(index), true)),
        }
    }

    /// The type that a body has of it on its stack.
    fn on_stack(self) -> Type {
        match self {
            Storage::I8 | Storage::I16 => I32,
            Storage::Type(ty) => ty,
            Storage::Shape(_) => Any,
        }
    }

    fn is_packed(self) -> bool {
        matches!(self, Storage::I8 | Storage::I16)
    }
}

fn concrete(index: usize) -> HeapType {
    HeapType::Concrete(index as u32)
}

fn abstract_type(ty: AbstractHeapType) -> HeapType {
    HeapType::Abstract { shared: false, ty }
}

fn reference(heap_type: HeapType, nullable: bool) -> RefType {
    RefType { nullable, heap_type }
}

impl Body<'_> {
    fn some_shape(&mut self, is_array: bool) -> Option<usize> {
        let shapes = &self.module.shapes;
        let fitting: Vec<usize> = (0..shapes.len()).filter(|i| shapes[*i].is_array == is_array).collect();
        (!fitting.is_empty()).then(|| fitting[self.module.below(fitting.len())])
    }

    fn some_heap_type(&mut self) -> HeapType {
        const ABSTRACT: [AbstractHeapType; 6] = [
            AbstractHeapType::Any,
            AbstractHeapType::Eq,
            AbstractHeapType::I31,
            AbstractHeapType::Struct,
            AbstractHeapType::Array,
            AbstractHeapType::None,
        ];
        if self.module.once_in(2) {
            abstract_type(ABSTRACT[self.module.below(ABSTRACT.len())])
        } else {
            concrete(self.module.below(self.module.shapes.len()))
        }
    }

    /// An operand of a type, which is only on the machine's stack.
    fn operand(&mut self, ty: Type) {
        self.push(ty);
        self.pop(1);
    }

    /// An index or a length below a power of two.
    fn number(&mut self, mask: i32) {
        self.operand(I32);
        if !self.module.once_in(60) {
            self.emit(&I::I32Const(mask));
            self.emit(&I::I32And);
        }
    }

    /// An operand that is a reference to the type, or null.
    fn of_type_or_null(&mut self, ty: HeapType) {
        let result = reference(ty, true);
        self.emit(&I::Block(BlockType::Result(ValType::Ref(result))));
        self.operand(Any);
        let nullable = self.module.once_in(2);
        self.emit(&I::BrOnCast {
            relative_depth: 0,
            from_ref_type: RefType::ANYREF,
            to_ref_type: reference(ty, nullable),
        });
        self.emit(&I::Drop);
        self.emit(&I::RefNull(ty));
        self.emit(&I::End);
    }

    /// A value for a field or an element.
    fn content(&mut self, storage: Storage) {
        match storage {
            Storage::Shape(index) => match self.module.below(4) {
                0 => self.emit(&I::RefNull(concrete(index))),
                1 => self.default_of(index),
                _ => self.of_type_or_null(concrete(index)),
            },
            other => self.operand(other.on_stack()),
        }
    }

    /// An object of zeros.
    fn default_of(&mut self, index: usize) {
        if self.module.shapes[index].is_array {
            self.number(ELEMENTS);
            self.emit(&I::ArrayNewDefault(index as u32));
        } else {
            self.emit(&I::StructNewDefault(index as u32));
        }
    }

    /// Instructions with a reference that is not null, if there is one of the type; they leave `result`. Otherwise there is another
    /// value, or, seldom, a trap.
    fn with(&mut self, ty: HeapType, result: Option<Type>, instructions: impl FnOnce(&mut Self)) {
        if self.module.once_in(30) {
            self.operand(Any);
            let null = self.module.once_in(2);
            self.emit(&if null { I::RefCastNullable(ty) } else { I::RefCastNonNull(ty) });
            instructions(self);
        } else {
            let block = result.map_or(BlockType::Empty, |ty| BlockType::Result(encoded(ty)));
            self.emit(&I::Block(block));
            self.emit(&I::Block(BlockType::Result(ValType::Ref(RefType::ANYREF))));
            self.operand(Any);
            self.emit(&I::BrOnCastFail {
                relative_depth: 0,
                from_ref_type: RefType::ANYREF,
                to_ref_type: reference(ty, false),
            });
            instructions(self);
            self.emit(&I::Br(1));
            self.emit(&I::End);
            self.emit(&I::Drop);
            if let Some(ty) = result {
                self.operand(ty);
            }
            self.emit(&I::End);
        }
        self.stack.extend(result);
    }

    /// An instruction on structures, arrays or numbers in references.
    pub(super) fn aggregate(&mut self) {
        match self.module.below(16) {
            0 | 1 => self.new_structure(),
            2 | 3 => self.new_array(),
            4..7 => self.structure(),
            7..10 => self.array(),
            10 => self.arrays(),
            11 => self.convert(),
            12 => {
                self.need(&[I32]);
                self.pop(1);
                self.emit(&I::RefI31);
                self.stack.push(Any);
            }
            13 => {
                let signed = self.module.once_in(2);
                self.with(abstract_type(AbstractHeapType::I31), Some(I32), |body| {
                    body.emit(&if signed { I::I31GetS } else { I::I31GetU });
                });
            }
            14 => {
                let ty = self.some_heap_type();
                let null = self.module.once_in(2);
                self.need(&[Any]);
                self.emit(&if null { I::RefTestNullable(ty) } else { I::RefTestNonNull(ty) });
                self.pop(1);
                self.stack.push(I32);
            }
            _ => {
                for _ in 0..2 {
                    let ty = match self.some_heap_type() {
                        HeapType::ANY => abstract_type(AbstractHeapType::Eq),
                        other => other,
                    };
                    self.of_type_or_null(ty);
                }
                self.emit(&I::RefEq);
                self.stack.push(I32);
            }
        }
    }

    fn new_structure(&mut self) {
        let Some(index) = self.some_shape(false) else { return };
        if self.module.once_in(4) {
            self.default_of(index);
        } else {
            for field in self.module.shapes[index].fields.clone() {
                self.content(field.storage);
            }
            self.emit(&I::StructNew(index as u32));
        }
        self.stack.push(Any);
    }

    fn new_array(&mut self) {
        let Some(index) = self.some_shape(true) else { return };
        let storage = self.module.shapes[index].fields[0].storage;
        let ty = index as u32;
        let is_bytes = !matches!(storage.unpacked(), ValType::Ref(_));
        match self.module.below(6) {
            0 => self.default_of(index),
            1 if is_bytes => {
                self.number(7);
                self.number(3);
                self.emit(&I::ArrayNewData { array_type_index: ty, array_data_index: 1 });
            }
            1 if matches!(storage, Storage::Type(Type::Func)) => {
                self.number(1);
                self.number(3);
                self.emit(&I::ArrayNewElem { array_type_index: ty, array_elem_index: 1 });
            }
            2 => {
                self.content(storage);
                self.number(ELEMENTS);
                self.emit(&I::ArrayNew(ty));
            }
            _ => {
                let array_size = 4 + self.module.below(5) as u32;
                for _ in 0..array_size {
                    self.content(storage);
                }
                self.emit(&I::ArrayNewFixed { array_type_index: ty, array_size });
            }
        }
        self.stack.push(Any);
    }

    /// A structure's field, read or written.
    fn structure(&mut self) {
        let Some(index) = self.some_shape(false) else { return };
        let count = self.module.shapes[index].fields.len();
        if count == 0 {
            return;
        }
        let field_index = self.module.below(count) as u32;
        let Field { storage, is_mutable } = self.module.shapes[index].fields[field_index as usize];
        let struct_type_index = index as u32;
        if is_mutable && self.module.once_in(2) {
            return self.with(concrete(index), None, |body| {
                body.content(storage);
                body.emit(&I::StructSet { struct_type_index, field_index });
            });
        }
        let signed = self.module.once_in(2);
        self.with(concrete(index), Some(storage.on_stack()), |body| {
            body.emit(&match (storage.is_packed(), signed) {
                (false, _) => I::StructGet { struct_type_index, field_index },
                (true, false) => I::StructGetU { struct_type_index, field_index },
                (true, true) => I::StructGetS { struct_type_index, field_index },
            });
        });
    }

    /// An array's element, read or written, or its length.
    fn array(&mut self) {
        let Some(index) = self.some_shape(true) else { return };
        let Field { storage, is_mutable } = self.module.shapes[index].fields[0];
        let ty = index as u32;
        match self.module.below(5) {
            0 => self.with(abstract_type(AbstractHeapType::Array), Some(I32), |body| body.emit(&I::ArrayLen)),
            1 | 2 if is_mutable => self.with(concrete(index), None, |body| {
                body.number(3);
                body.content(storage);
                body.emit(&I::ArraySet(ty));
            }),
            _ => {
                let signed = self.module.once_in(2);
                self.with(concrete(index), Some(storage.on_stack()), |body| {
                    body.number(3);
                    body.emit(&match (storage.is_packed(), signed) {
                        (false, _) => I::ArrayGet(ty),
                        (true, false) => I::ArrayGetU(ty),
                        (true, true) => I::ArrayGetS(ty),
                    });
                });
            }
        }
    }

    /// Many elements of an array written.
    fn arrays(&mut self) {
        let Some(index) = self.some_shape(true) else { return };
        let Field { storage, is_mutable } = self.module.shapes[index].fields[0];
        if !is_mutable {
            return;
        }
        let ty = index as u32;
        let is_bytes = !matches!(storage.unpacked(), ValType::Ref(_));
        let way = self.module.below(4);
        self.with(concrete(index), None, |body| {
            body.number(3);
            match way {
                0 => {
                    body.content(storage);
                    body.number(3);
                    body.emit(&I::ArrayFill(ty));
                }
                1 if is_bytes => {
                    body.number(7);
                    body.number(3);
                    body.emit(&I::ArrayInitData { array_type_index: ty, array_data_index: 1 });
                }
                1 if matches!(storage, Storage::Type(Type::Func)) => {
                    body.number(1);
                    body.number(3);
                    body.emit(&I::ArrayInitElem { array_type_index: ty, array_elem_index: 1 });
                }
                _ => {
                    // Rather from one that there is than from null.
                    if body.module.once_in(2) {
                        body.default_of(index);
                    } else {
                        body.of_type_or_null(concrete(index));
                    }
                    body.number(1);
                    body.number(3);
                    body.emit(&I::ArrayCopy { array_type_index_dst: ty, array_type_index_src: ty });
                }
            }
        });
    }

    /// A reference that becomes one of the host's, or was one.
    fn convert(&mut self) {
        if !self.module.values.contains(&Extern) {
            return;
        }
        if self.module.once_in(2) {
            self.need(&[Any]);
            self.pop(1);
            self.emit(&I::ExternConvertAny);
            self.stack.push(Extern);
        } else {
            self.need(&[Extern]);
            self.pop(1);
            self.emit(&I::AnyConvertExtern);
            self.stack.push(Any);
        }
    }
}
